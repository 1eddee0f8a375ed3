"""Contacts of the users: who is on whose list, and who may see whom (RFC 6121 2 and 3)."""
