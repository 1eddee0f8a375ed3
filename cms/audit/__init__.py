"""
Checks of one's own set-up: certificates, DNS records, listeners, clock, file limits.

The XMPP server runs them at its start and logs what is wrong.  C{cms check --server}
runs the same and shows everything.
"""
