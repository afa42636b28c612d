"""How fast tools are found, and how often the right ones."""
