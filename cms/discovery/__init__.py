"""Steps 3 to 5: from a server address, or SRV, to places to try, in order."""
