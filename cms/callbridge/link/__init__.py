"""Steps 6 to 11 on the Callbridge: the link to an XMPP server."""
