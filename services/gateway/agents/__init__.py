"""Agents that people keep: their versions, the files they are written in, and building one by talking."""
