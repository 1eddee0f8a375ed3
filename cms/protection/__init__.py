"""What strangers are held to: connections, guesses, and what counts as one source."""
