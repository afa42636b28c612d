"""What the door and the stack tell of themselves."""
