"""Bytes and stanzas: framing, limits, addresses, error replies.  Both roles use it."""
