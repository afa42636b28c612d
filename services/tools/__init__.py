"""Tools: runs the calls that the conductor commands, each effect once."""
