"""The XMPP server role: accepts Callbridges and clients, relays log-ins, routes."""
