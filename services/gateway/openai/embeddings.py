"""The OpenAI-shaped embeddings."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
