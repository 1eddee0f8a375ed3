"""State on disk: databases, small files, the folder that holds them."""
