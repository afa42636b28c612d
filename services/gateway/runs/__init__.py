"""Runs as doors show them: followed, folded into turns and lines, replayed, forked, compared; and what they ask people."""
