"""The fault catalogue brought about for real: what is wrong, and what must be said of it."""
