"""MCP servers as tools: their listings, sessions with them, and calls."""
