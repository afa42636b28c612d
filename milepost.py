"""Milepost for your own code: `from milepost import Agent, Client, tool`.

Everything here is defined elsewhere; this module only gathers it.
"""

from __future__ import annotations

import importlib.util as _importlib_util
from pathlib import Path as _Path


def _refuse_shadows() -> None:
    """A folder of the caller's own with one of our import names would be imported in place of ours: say so."""
    ours = _Path(__file__).resolve().parent
    for name in ("schemas", "runtime", "services", "tool_adapters", "infra"):
        spec = _importlib_util.find_spec(name)
        places = [_Path(place).resolve() for place in (spec.submodule_search_locations or ())] if spec else []
        if ours / name not in places:
            found = places[0] if places else "nothing"
            raise ImportError(
                f"Python finds {found} where Milepost's own package {name!r} should be.\n"
                f"Why: a folder named {name}/ stands earlier on the import path, usually beside your script.\n"
                f"Next: rename that folder, or start your script with `python -P` from elsewhere."
            )


_refuse_shadows()

from infra.agent import Agent, Approval, Item, Result, Stack, Step, Text, ToolQuestion
from runtime.client import Client
from runtime.service import Service, Worker
from schemas.agent import AgentSpec, Budget
from schemas.errors import MilepostError
from schemas.events import Passage
from schemas.messages import ChoiceOutput, Generation, JsonOutput, Manner, Message, Prompt, RegexOutput, Sampling
from schemas.tools import Part, Preview, ToolCall, ToolCard, ToolResult
from services.llm.own import LLM
from tool_adapters.langchain import from_langchain
from tool_adapters.media import Audio, File, Image, Table, Video
from tool_adapters.modelscope import Tool
from tool_adapters.python import tool
from tool_adapters.retriever import retriever
from tool_adapters.tool import (
    CallContext,
    NeedsAnswer,
    OutcomeUnknown,
    Plan,
    Reconciled,
    ToolError,
    ToolRefused,
    ToolUnavailable,
)

__all__ = [
    "LLM",
    "Agent",
    "AgentSpec",
    "Approval",
    "Audio",
    "Budget",
    "CallContext",
    "ChoiceOutput",
    "Client",
    "File",
    "Generation",
    "Image",
    "Item",
    "JsonOutput",
    "Manner",
    "Message",
    "MilepostError",
    "NeedsAnswer",
    "OutcomeUnknown",
    "Part",
    "Passage",
    "Plan",
    "Preview",
    "Prompt",
    "Reconciled",
    "RegexOutput",
    "Result",
    "Sampling",
    "Service",
    "Stack",
    "Step",
    "Table",
    "Text",
    "Tool",
    "ToolCall",
    "ToolCard",
    "ToolError",
    "ToolQuestion",
    "ToolRefused",
    "ToolResult",
    "ToolUnavailable",
    "Video",
    "Worker",
    "from_langchain",
    "retriever",
    "tool",
]
