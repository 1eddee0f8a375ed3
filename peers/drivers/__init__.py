"""Small programs, each with a peer's library inside, that run in a process of their own."""
