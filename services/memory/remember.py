"""The tool `remember`: an agent keeps a fact about the user it speaks with.

It is a write although it changes nothing outside: what is remembered is told to every later run, so a document that says
"remember that ..." must not get in unasked. An agent whose `approval` is "destructive" is trusted with it.
"""

from __future__ import annotations

from runtime.clock import Clock
from runtime.errors import Retryable
from schemas.canonical import canonical
from schemas.events import UserFact
from schemas.tools import Preview, ToolCard, ToolResult
from services.memory.facts import KEY_CHARACTERS, TEXT_CHARACTERS, FactRefused, fact_of
from services.memory.ports import FactStore
from tool_adapters.tool import (
    CallContext,
    InvalidArguments,
    OutcomeUnknown,
    Plan,
    Reconciled,
    ToolRefused,
    ToolUnavailable,
)

LANE = "memory"

_CARD = ToolCard(
    name="remember",
    title="Remember a fact about the user",
    description=(
        "Remembers a lasting fact about the user for later conversations, such as a name, a city or a preference. "
        "长期记住关于用户的一件事，例如姓名、城市或偏好。"
    ),
    parameters={
        "type": "object",
        "properties": {
            "key": {
                "type": "string", "minLength": 1, "maxLength": KEY_CHARACTERS,
                "description": "what it is about, in a word or two, such as city or favourite tea",
            },
            "text": {"type": "string", "minLength": 1, "maxLength": TEXT_CHARACTERS, "description": "the fact in a sentence"},
        },
        "required": ["key", "text"],
        "additionalProperties": False,
    },
    effect="write", idempotency="query", lane=LANE, tags=("memory",),
    examples=("Remember that I live in Hangzhou.", "请记住我对花生过敏。"),
)  # fmt: skip


class RememberTool:
    """The tool over a store of facts."""

    card = _CARD

    def __init__(self, facts: FactStore, clock: Clock) -> None:
        self._facts, self._clock = facts, clock

    async def plan(self, arguments: dict[str, object], context: CallContext) -> Plan:
        """What the key says now, and what it will say; once for each run."""
        fact, before = _fact(arguments, context), await self._now(arguments, context)
        rows = [("about", context.user), (fact.key, fact.text), *([("until now", before.text)] if before else [])]
        state = {"run": context.run, "user": context.user, "before": before.text if before else None}
        return Plan(Preview(summary=f"Remember about {context.user}: {fact.text}", rows=tuple(rows)), canonical(state).decode())

    async def call(self, arguments: dict[str, object], context: CallContext) -> ToolResult:
        """Keep it."""
        fact = _fact(arguments, context)
        try:
            await self._facts.remember(context.tenant, context.user, fact, self._clock.now())
        except FactRefused as error:
            raise ToolRefused(error.what, code="TooManyFacts", why=error.why, hint=error.hint) from error
        except Retryable as error:
            raise OutcomeUnknown(error.what, why=error.why) from error
        return ToolResult(text=f"Remembered: {fact.key}: {fact.text}")

    async def reconcile(self, arguments: dict[str, object], context: CallContext) -> Reconciled:
        """Whether the key says it."""
        fact, now = _fact(arguments, context), await self._now(arguments, context)
        if now is None or now.text != fact.text:
            return Reconciled("not_happened")
        return Reconciled("happened", ToolResult(text=f"Remembered: {fact.key}: {fact.text}"))

    async def _now(self, arguments: dict[str, object], context: CallContext) -> UserFact | None:
        key = _fact(arguments, context).key
        try:
            known = await self._facts.facts(context.tenant, context.user)
        except Retryable as error:
            raise ToolUnavailable(error.what, why=error.why) from error
        return next((fact for fact in known if fact.key == key), None)


def _fact(arguments: dict[str, object], context: CallContext) -> UserFact:
    try:
        return fact_of(str(arguments.get("key", "")), str(arguments.get("text", "")), context.run)
    except FactRefused as error:
        raise InvalidArguments(error.what, why=error.why, hint=error.hint) from error
