"""The Callbridge role: finds the XMPP server, registers, and decides log-ins."""
