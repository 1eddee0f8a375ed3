"""The HTTP administration: a face on both daemons, which it knows only by its interfaces."""
