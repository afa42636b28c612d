"""What is said on the bus: frozen values, their names and their places. Imports nothing of ours."""
