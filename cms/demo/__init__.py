"""The demonstration: both daemons on loopback."""
