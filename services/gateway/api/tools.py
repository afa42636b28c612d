"""The console's tools."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter()
