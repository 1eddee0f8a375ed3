"""How passwords are prepared, kept and proved."""
