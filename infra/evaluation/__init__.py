"""Evaluation: models and agents are given a benchmark's items; what they say is kept, judged, reported and compared."""
