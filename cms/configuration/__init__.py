"""Configuration files, read strictly."""
