"""The rooms of the spaces (XEP-0045): who is in them, what is said, and who may do what."""
