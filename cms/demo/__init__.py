"""The demonstration: both halves on loopback."""
