"""Runs as files: see infra.exports."""

from __future__ import annotations

from infra.exports.format import BadExport, CannotWrite
from infra.exports.reading import Export, load_export
from infra.exports.writing import Exported, exported, save_export, write_export

__all__ = ["BadExport", "CannotWrite", "Export", "Exported", "exported", "load_export", "save_export", "write_export"]
