"""`make bench`: the XMPP server beside Prosody and ejabberd, on loopback."""
