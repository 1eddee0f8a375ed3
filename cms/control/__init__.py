"""
Access to a daemon on this host, by its socket in the state directory.

Only the owner of that directory and root can use it.
"""
