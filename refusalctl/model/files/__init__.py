"""Model files: from the name that a user types to a folder of weights."""
