"""The console's triggers."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
