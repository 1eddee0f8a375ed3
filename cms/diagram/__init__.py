"""Diagrams of what daemons recorded."""
