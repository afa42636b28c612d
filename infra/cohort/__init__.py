"""Cohorts: many recorded runs driven again with one thing swapped, and what that changes."""
