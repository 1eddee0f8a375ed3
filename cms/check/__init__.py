"""C{cms check}: walking the signal flow from outside."""
