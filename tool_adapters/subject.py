"""A tool that answers on a subject by itself, in any language (schemas/bus_tools.py): asked, read strictly, never trusted.

What it does to the world its card says, which a person or the catalogue has taken in; the ledger, the gate and the log stay
on this side. A plain text for an answer is enough: whoever answers with JSON says what each part of it is.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Literal

from pydantic import ValidationError

from runtime.bus import Bus
from runtime.errors import NobodyAnswers, Unreachable
from runtime.payloads import is_ref
from schemas import subjects
from schemas.bus_tools import ToolAnswer, ToolFault, ToolRequest
from schemas.canonical import canonical, read_json
from schemas.errors import MilepostError, ProtocolError
from schemas.tools import Part, Preview, ToolCard, ToolResult
from tool_adapters.keeping import kept, within
from tool_adapters.media import File, media_of
from tool_adapters.python import plan_on_run
from tool_adapters.tool import (
    CallContext,
    InvalidResult,
    OutcomeUnknown,
    Plan,
    Reconciled,
    ToolError,
    ToolRefused,
    ToolUnavailable,
    read_only,
    validate,
)

ANSWER_BYTES = 1024 * 1024
_DATA = re.compile(r"data:([\w.+-]+/[\w.+-]+)?;base64,")

Want = Literal["call", "plan", "reconcile"]


class SubjectTool:
    """A card whose calls are asked on `mp.tool.{tenant}.{name}`; the tenant's own answerer goes before a shared one."""

    def __init__(self, card: ToolCard, bus: Bus) -> None:
        self.card = card
        self._bus = bus

    async def plan(self, arguments: dict[str, object], context: CallContext) -> Plan:
        """What it says it would do, if its card says that it looks; without that, the call itself."""
        if self.card.effect == "read":
            raise read_only(self.card)
        validate(self.card, arguments)
        shown = plan_on_run(self.card, arguments, context)
        if self.card.dry_run == "none":
            return shown
        said = self._read(await self._asked("plan", arguments, context))
        if said.fault and said.fault.kind == "unasked":
            return shown
        self._check(said)
        preview = said.preview or (Preview(summary=said.text[:2000]) if said.text else shown.preview)
        return Plan(preview, canonical(said.state).decode() if said.state is not None else shown.state)

    async def call(self, arguments: dict[str, object], context: CallContext) -> ToolResult:
        """Have it done. Whatever a write answers that cannot be read leaves in doubt whether it happened."""
        validate(self.card, arguments)
        raw = await self._asked("call", arguments, context)
        try:
            said = self._read(raw)
        except InvalidResult as error:
            raise self._doubtful(error) from error
        self._check(said)
        try:
            return within(await self._result(said, arguments, context), context)
        except ToolError as error:
            if self.card.effect == "read":
                raise
            return ToolResult(text=f"{self.card.name} was done. Its answer could not be kept: {error.what}")

    async def reconcile(self, arguments: dict[str, object], context: CallContext) -> Reconciled:
        """What it says happened, if its card says that it can be asked."""
        if self.card.effect == "read":
            return Reconciled("not_happened")
        if self.card.idempotency != "query":
            return Reconciled("unknown")
        said = self._read(await self._asked("reconcile", arguments, context))
        if said.fault and said.fault.kind in ("unasked", "unknown"):
            return Reconciled("unknown")
        self._check(said)
        if said.outcome != "happened":
            return Reconciled(said.outcome or "unknown")
        return Reconciled("happened", within(await self._result(said, arguments, context), context))

    async def _asked(self, want: Want, arguments: dict[str, object], context: CallContext) -> bytes:
        question = ToolRequest(
            want=want, tool=self.card.name, arguments=arguments, tenant=context.tenant, run=context.run, user=context.user,
            conversation=context.conversation, write_key=context.write_key, planned_state=context.planned_state,
            timeout_s=context.timeout_s,
        )  # fmt: skip
        raw = question.model_dump_json().encode()
        try:
            try:
                return await self._bus.ask(subjects.tool(context.tenant, self.card.name), raw, context.timeout_s)
            except NobodyAnswers:
                return await self._bus.ask(subjects.tool("*", self.card.name), raw, context.timeout_s)
        except NobodyAnswers as error:
            subject = subjects.tool("*", self.card.name)
            raise ToolUnavailable(
                f"Nobody answers for {self.card.name}.", why=f"no process listens on {subject}", hint="start the tool again"
            ) from error
        except MilepostError as error:
            raise self._lost(want, error) from error

    def _lost(self, want: Want, error: MilepostError) -> ToolError:
        """No answer, or an error of the client that answers: a write that was sent may have happened."""
        if want == "call" and self.card.effect != "read":
            return OutcomeUnknown(f"{self.card.name} did not say whether it was done.", why=error.why or error.what)
        if isinstance(error, Unreachable):
            return ToolUnavailable(f"{self.card.name} did not answer.", why=error.why or error.what)
        return ToolRefused(f"{self.card.name} failed.", code="Failed", why=f"{error.what} {error.why}".strip())

    def _read(self, raw: bytes) -> ToolAnswer:
        """The answer; text that is no JSON object is all it says. Raises InvalidResult."""
        if len(raw) > ANSWER_BYTES:
            raise InvalidResult(f"{self.card.name} answered {len(raw):,} bytes, the limit is {ANSWER_BYTES:,}.")
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise InvalidResult(
                f"{self.card.name} answered with bytes that are no UTF-8.", why=str(error)[:200],
                hint='give bytes as a part: {"parts": [{"kind": "image", "ref": "data:image/png;base64,..."}]}',
            ) from error  # fmt: skip
        said = _object(text)
        if said is None:
            return ToolAnswer(text=text.strip())
        if stray := sorted(said.keys() - ToolAnswer.model_fields.keys()):
            raise InvalidResult(
                f"{self.card.name} answered an object with {', '.join(stray)[:200]}.", why="an answer has other fields",
                hint='put it into {"result": {...}}; see docs/any-language.md',
            )  # fmt: skip
        try:
            return ToolAnswer.model_validate(said)
        except ValidationError as error:
            first = error.errors()[0]
            why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
            raise InvalidResult(f"{self.card.name} answered what cannot be read.", why=why[:500]) from error

    def _check(self, said: ToolAnswer) -> None:
        """Raises the fault that it answers with."""
        fault = said.fault
        if fault is None:
            return
        if fault.kind == "unknown" and self.card.effect != "read":
            raise OutcomeUnknown(fault.what, why=fault.why)
        if fault.kind in ("unavailable", "unknown"):
            raise ToolUnavailable(fault.what, why=fault.why, retry_after_s=fault.retry_after_s)
        raise ToolRefused(fault.what, code=_code(fault), why=fault.why)

    async def _result(self, said: ToolAnswer, arguments: dict[str, object], context: CallContext) -> ToolResult:
        if said.parts:
            parts = [await self._part(part, arguments, context) for part in said.parts]
            return ToolResult(text=said.text or "\n".join(_shown(part) for part in parts), parts=tuple(parts))
        if said.result is not None:
            result = within(said.result, context)
            return result.model_copy(update={"text": said.text}) if said.text else result
        return within(said.text or "done", context)

    async def _part(self, part: Part, arguments: dict[str, object], context: CallContext) -> Part:
        """A part whose bytes are kept here: they come as a data address (RFC 2397), or were an argument's."""
        if part.ref is None or part.ref.startswith(("https://", "http://")):
            return part
        if is_ref(part.ref) and part.ref in _texts(arguments):
            return part
        if (found := _DATA.match(part.ref)) is None:
            raise InvalidResult(
                f"{self.card.name} answered with a reference that leads nowhere.", why=part.ref[:100],
                hint="give bytes as data:image/png;base64,..., or an https address",
            )  # fmt: skip
        try:
            data = base64.b64decode(part.ref[found.end() :], validate=True)
        except binascii.Error as error:
            raise InvalidResult(f"{self.card.name} answered bytes that are no base64.", why=str(error)) from error
        media_type = found[1] or part.media_type
        media = File(data, media_type=media_type, name=part.name) if media_type else media_of(data, name=part.name)
        return await kept(media, context, part.kind)

    def _doubtful(self, error: InvalidResult) -> ToolError:
        if self.card.effect == "read":
            return error
        return OutcomeUnknown(f"{self.card.name} did not say readably whether it was done.", why=error.what, hint=error.hint)


def _object(text: str) -> dict[str, object] | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        said = read_json(text, limit=ANSWER_BYTES)
    except ProtocolError:
        return None
    return said if isinstance(said, dict) else None


def _code(fault: ToolFault) -> str:
    return fault.code or ("Unasked" if fault.kind == "unasked" else "Refused")


def _shown(part: Part) -> str:
    if part.text is not None:
        return part.text
    if part.json_value is not None:
        return canonical(part.json_value).decode()
    named = f" {part.name}," if part.name else ""
    return f"{part.kind}{named} {part.media_type or ''}: {part.ref}".replace("  ", " ")


def _texts(value: object) -> Iterable[str]:
    """Every text in JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
