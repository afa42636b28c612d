"""A planned write, for a program to put to its user."""

from __future__ import annotations

from schemas.canonical import JsonObject
from schemas.commands import RequestApproval
from services.gateway.openai.ids import mark_of
from services.gateway.openai.waiting import Waiting


def plan_of(waiting: Waiting, url: str, run: str) -> JsonObject:
    """tool, arguments, effect, price ("AMOUNT CURRENCY", or null), what would happen, what is doubtful, and where to look.

    unnamed: arguments that neither a person nor a result named. run: the one that the client began.
    """
    asked, open_call = waiting.command, waiting.open_call
    if not isinstance(asked, RequestApproval):
        raise TypeError("only approvals have a plan")
    preview = open_call.plan.planned.preview if open_call and open_call.plan else None
    return {
        "tool": asked.call.name, "arguments": asked.call.arguments, "effect": open_call.card.effect if open_call else "write",
        "price": f"{preview.price} {preview.currency or ''}".strip() if preview and preview.price else None, "run": run,
        "summary": preview.summary if preview else asked.call.name, "why": asked.why, "unnamed": list(asked.ungrounded),
        "expires": asked.expires.isoformat(), "link": f"{url}/runs/{run}#wait-{mark_of(waiting.id)}",
    }  # fmt: skip
