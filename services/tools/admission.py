"""Admission: what is checked before every call - the right to it, the tool, its card, its arguments and their secrets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from runtime.payloads import Payloads
from runtime.service import Context
from schemas.commands import CallTool, PlanCall
from schemas.events import Failure
from schemas.tools import Question, ToolCall
from services.tools.argument_secrets import Secrets, has_secrets, resolved
from services.tools.redaction import Redaction
from services.tools.shelf import Shelf
from tool_adapters.keeping import keeper, loader
from tool_adapters.tool import CallContext, Keep, Tool, ToolError, validate

OrderGate: TypeAlias = Callable[[PlanCall | CallTool, Context], Awaitable[Failure | None]]
"""Whether a run may give this order to this host at all: None, or what it is told. Asked first, before anything else."""


class Refused(Exception):
    """The gate lets the order not through."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.what)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Admitted:
    """A call that came through: the tool, its arguments with their secrets, and what is known of who calls."""

    tool: Tool
    call: ToolCall
    arguments: dict[str, object]
    context: CallContext
    hide: Redaction = field(default_factory=Redaction)

    @property
    def timeout_s(self) -> float:
        """Seconds that its card gives it."""
        return self.tool.card.timeout_s

    def asks(self, question: Question) -> Question:
        """What the tool asks a person, as it may be written down."""
        return self.hide.question(question)


class Admission:
    """What stands before the tools of one host."""

    def __init__(
        self, shelf: Shelf, lane: str, *, gate: OrderGate | None = None, payloads: Payloads | None = None,
        secrets: Secrets | None = None,
    ) -> None:  # fmt: skip
        self.shelf, self.lane = shelf, lane
        self._gate, self._payloads, self._secrets = gate, payloads, secrets or Secrets()

    async def admit(self, command: PlanCall | CallTool, context: Context) -> Admitted:
        """The call, if it may be made. Raises Refused and ToolError; nothing was called then."""
        refusal = await self._gate(command, context) if self._gate else None
        if refusal is not None:
            raise Refused(refusal)
        tool = await self.tool(context.tenant, command.call.name)
        if tool.card.model_copy(update={"lane": self.lane}).hash() != command.card_hash:
            raise ToolError(f"{command.call.name} has changed since the run saw it.", why="its card is another one now")
        arguments, known = self.arguments(tool, command.call.arguments)
        return Admitted(tool, command.call, arguments, self._context(tool, context), Redaction(known))

    async def tool(self, tenant: str, name: str) -> Tool:
        """A tenant's tool. Raises ToolError."""
        tool = await self.shelf.find(tenant, name)
        if tool is None:
            raise ToolError(f"This host has no tool {name}.", why=f"lane {self.lane}", hint="milepost tools ls")
        return tool

    def arguments(self, tool: Tool, given: dict[str, object]) -> tuple[dict[str, object], tuple[str, ...]]:
        """The arguments as the tool gets them, and the secrets in them. Raises InvalidArguments."""
        validate(tool.card, given)
        return resolved(tool.card.parameters, given, self._secrets) if has_secrets(tool.card.parameters) else (given, ())

    def keep(self, tenant: str, datakey: str | None) -> Keep | None:
        """Where bytes of a run are kept."""
        return keeper(self._payloads, tenant, datakey) if self._payloads else None

    def _context(self, tool: Tool, context: Context) -> CallContext:
        said = context.material.get("answers")
        said = said if isinstance(said, dict) else {}
        answers = {str(id): each if isinstance(each, dict) else None for id, each in said.items()}
        return CallContext(
            tenant=context.tenant, run=context.run, user=context.text("user"), timeout_s=tool.card.timeout_s,
            planned_state=context.text("state") or None, conversation=context.text("conversation"),
            agent=context.text("agent"), command=context.order.id, answers=answers,
            keep=self.keep(context.tenant, context.order.header.datakey),
            load=loader(self._payloads, context.tenant) if self._payloads else None,
        )  # fmt: skip
