"""Steps 3 to 5: from a server address, or SRV, to the addresses to try, in order."""
