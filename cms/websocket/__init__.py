"""XMPP over WebSocket (RFC 7395): each frame is one element."""
