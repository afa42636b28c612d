"""How the outside world becomes a tool: the port, and one adapter for each kind of thing that can be called."""
