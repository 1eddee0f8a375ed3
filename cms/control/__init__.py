"""
The way into a daemon on this host: its socket in the state directory.

Only the owner of that directory, or root, can ask.
"""
