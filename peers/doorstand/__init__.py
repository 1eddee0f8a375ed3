"""The door's pages with a session and a room that a test plays, and no meeting server."""
