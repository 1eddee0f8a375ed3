"""The record on disk of log-ins and links: C{cms log}, and the page of it."""
