"""Data sets as folders: recorded runs and public sets written down, mixed, counted and shown."""
