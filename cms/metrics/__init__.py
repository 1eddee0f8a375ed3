"""Prometheus: what each role's C{metrics.py} is made of.  No protocol module knows of it."""
