"""What is faster than the library that it stands on, and stands on its private parts."""
