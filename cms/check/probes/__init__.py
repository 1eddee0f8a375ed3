"""One probe for each part of the signal flow; each tells a lane what it found."""
