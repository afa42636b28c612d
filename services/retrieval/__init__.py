"""Retrieval: which tools and which knowledge fit a request."""
