"""What it costs to read, prove, replay and compare recorded runs."""
