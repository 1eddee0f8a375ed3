"""How passwords are prepared, stored and proved."""
