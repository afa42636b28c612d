"""Shadows: a candidate is asked what live runs ask, beside what serves them, and its differences are kept."""
