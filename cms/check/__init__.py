"""Walking the signal flow from outside: the demonstration and its client."""
