"""Where users are looked up."""
