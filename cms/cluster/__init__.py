"""
Several nodes as one service: who is there, and what they say to each other.

It is imported only where F{xmpp.toml} has C{[cluster]}, and knows nothing of XMPP: what nodes
send each other are bytes.  docs/design/cluster.md has the reasons.
"""
