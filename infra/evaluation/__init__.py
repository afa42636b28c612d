"""Evaluation: models and agents are given a benchmark's items; what they say is kept, judged, reported and compared."""

LONGEST = 384
"""Tokens of a reply where nobody says how many; of 7,900 gold replies two have more, as SmolLM2 counts them."""
