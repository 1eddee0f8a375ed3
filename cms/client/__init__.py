"""An XMPP client, for commands and checks."""
