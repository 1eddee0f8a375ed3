"""The log-in protocol that XMPP server and Callbridge speak over the link."""
