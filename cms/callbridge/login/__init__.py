"""Step 12 on the Callbridge: how a log-in is decided."""
