"""What is measured of a reply, and how many of them add up to a figure with its interval."""
