"""Simulated worlds: tools that are executed on a copy of a set's databases, so that what calls lead to can be compared."""
