"""What is said to a tool that answers on a subject by itself, in any language: JSON asked and JSON answered.

A tool that only reads has to know `call` alone. One that writes may also answer `plan` (what would it do?) and `reconcile`
(did it happen?); where it does not, a plan shows the call itself, and nobody can know.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from schemas.canonical import JsonObject
from schemas.tools import Part, Preview, Value


class ToolRequest(Value):
    """A question to a tool. want: to have it done, planned (nothing may change), or told whether it happened.

    write_key: the identity of the effect; the same key twice must have one effect if the card says idempotency "key".
    planned_state: what the plan answered. timeout_s: when nobody waits any more. capability: the signed right to this call.
    """

    want: Literal["call", "plan", "reconcile"]
    tool: str
    arguments: JsonObject = Field(default_factory=dict)
    tenant: str
    run: str
    user: str
    conversation: str = ""
    write_key: str | None = None
    planned_state: str | None = None
    timeout_s: float = 30.0
    capability: str | None = None


class ToolFault(Value):
    """Why it was not done. kind: `refused` (asking again says no again), `unavailable` (the same call may work later),
    `unknown` (it may have happened), `unasked` (the tool does not answer this kind of question)."""

    kind: Literal["refused", "unavailable", "unknown", "unasked"]
    what: str = Field(max_length=2000)
    why: str = Field(default="", max_length=2000)
    code: str = Field(default="", max_length=200)
    retry_after_s: float | None = None


class ToolAnswer(Value):
    """A tool's answer: to `call` text or result (any JSON) or parts; to `plan` preview and state; to `reconcile` outcome."""

    text: str | None = None
    result: object = None
    parts: tuple[Part, ...] = ()
    preview: Preview | None = None
    state: JsonObject | None = None
    outcome: Literal["happened", "not_happened", "unknown"] | None = None
    fault: ToolFault | None = None
