"""Documents on their way in: which files are meant, what is new of them, and the way to the retrieval service."""
