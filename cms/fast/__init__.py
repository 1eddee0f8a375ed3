"""
What stands on private parts of a library, and only that: docs/design/private-parts.md.

Each module names what it needs (L{cms.fast.needs}) and does without where it is missing.
"""
