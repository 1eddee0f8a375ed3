"""Administration: a face on both roles, which it knows only through small interfaces."""
