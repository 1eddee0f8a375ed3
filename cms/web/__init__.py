"""HTTP within bounds, for whatever a daemon serves; it knows nothing of what that is."""
