"""Runs as files: written, read back, kept beside the log. docs/exports.md describes the format."""
