"""Limits for peers that are not authenticated: connections and guesses, by address."""
