"""Users of LDAP directories: connections, search and bind, mapping, sync."""
