"""What the sets' own forms become examples with: files read with bounds, rows, cards of tools, conversations, arguments."""
