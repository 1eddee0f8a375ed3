"""What the two halves say to each other over the link."""
