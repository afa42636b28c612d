"""Evaluation: what a model did against what it should have done."""
