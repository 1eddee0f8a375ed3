"""Prometheus: the parts that each role's C{metrics.py} uses.  No protocol module imports it."""
