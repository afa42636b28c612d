"""Agents on the bus, for programs that speak the Synadia Agent Protocol."""
