"""Memory: what was said in a conversation, and whose turn it is."""
