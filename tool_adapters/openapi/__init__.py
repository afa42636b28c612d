"""OpenAPI documents as tool cards."""
