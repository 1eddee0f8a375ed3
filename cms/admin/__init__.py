"""The API and pages of both daemons, which it knows only by its interfaces."""
