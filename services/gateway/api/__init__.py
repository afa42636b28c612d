"""The console's own API, one file a page."""
