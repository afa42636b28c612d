"""The OpenAI-shaped API."""
