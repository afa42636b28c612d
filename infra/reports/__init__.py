"""Reports as HTML: one file each, which needs nothing else to be read."""
