"""What the graph's builder and its runner agree on: file names, and the names of the cache's inputs and outputs."""

from __future__ import annotations

from typing import Literal

GRAPH_FILE = "model.onnx"
DATA_FILE = "model.onnx.data"


def cache_names(side: Literal["past", "present"], layer: int) -> tuple[str, str]:
    """The names of a layer's keys and values on the way in (past) or out (present)."""
    return f"{side}.{layer}.key", f"{side}.{layer}.value"
