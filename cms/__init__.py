"""The open Callbridge and XMPP signalling pair; see docs/architecture.md."""

__version__ = "0.1.0"
