"""Any API of a cloud as an operation: how it is looked at, tried, sent, followed and recognised, by its description alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from schemas.tools import Preview, ToolCard, ToolResult
from tool_adapters.cloud import Arguments, Executed, Progress, State, changes, under_way
from tool_adapters.described.api import CHANGES, GOES, ApiCall, Companion, ids_in
from tool_adapters.described.facts import STATUS, differs, facts_of, first, kept, plain, rows_with, shown
from tool_adapters.described.told import told
from tool_adapters.tool import CallContext, Outcome, ToolError, ToolRefused, ToolUnavailable

SENT = 0.6
"""The share of a call's time that the request itself may take, where what it began is followed afterwards."""

_GONE = ("notfound", "notexist", "doesnotexist", "nosuch", "unknownresource")
_ENDED = frozenset({
    "finished", "finish", "success", "succeeded", "succeed", "successful", "completed", "complete", "done", "available",
    "failed", "fail", "failure", "error", "cancelled", "canceled", "timeout", "terminated", "aborted", "partialfailed",
})  # fmt: skip


class Provider(Protocol):
    """Whoever answers the APIs. Each raises what its errors mean: ToolRefused with the provider's code, ToolUnavailable, or,
    when writing, OutcomeUnknown."""

    def region_of(self, call: ApiCall, arguments: Mapping[str, object]) -> str:
        """Where a call goes."""
        ...

    async def ask(
        self, call: ApiCall, arguments: Mapping[str, object], *, timeout_s: float, token: str | None = None,
        dry_run: bool = False, writing: bool = False,
    ) -> object:  # fmt: skip
        """Ask once."""
        ...

    async def read(
        self, call: ApiCall, arguments: Mapping[str, object], context: CallContext
    ) -> tuple[object, tuple[str, ...]]:  # fmt: skip
        """An answer with the pages behind it, and what is to be said of them."""
        ...


class ApiOperation:
    """One API of a provider. jobs: how to ask after what an answer's field names. passed: codes that a dry run passes with."""

    def __init__(
        self, card: ToolCard, call: ApiCall, provider: Provider, jobs: Mapping[str, Companion], passed: frozenset[str]
    ) -> None:  # fmt: skip
        self._card, self._call, self._provider, self._jobs, self._passed = card, call, provider, jobs, passed

    async def look(self, arguments: Arguments, context: CallContext) -> State:
        """What the write is about, as its companion shows it; and its price."""
        state: State = {}
        if self._call.look is not None:
            state |= await self._seen(self._call.look, arguments, context)
        if self._call.price is not None:
            state |= await self._priced(self._call.price, arguments, context)
        return state

    async def preview(self, arguments: Arguments, state: State, context: CallContext) -> Preview:
        """The call itself, beside what is there now."""
        facts = facts_of(state)
        rows: list[tuple[str, str]] = [("api", f"{self._call.product} {self._call.version} {self._call.action}")]
        rows += [("region", self._provider.region_of(self._call, arguments))]
        if (look := self._call.look) is not None:
            rows.append(("now", _now(state, look)))
        rows += changes([(name, facts[name], shown(value)) for name, value in arguments.items() if differs(facts, name, value)])
        rows += [(name, shown(value)) for name, value in arguments.items() if not differs(facts, name, value)]
        if self._card.effect == "destructive":
            rows.append(("warning", "what it takes away may be gone for good"))
        price, currency = state.get("price"), state.get("currency")
        title = self._card.title.split(" / ")[0] or self._call.action
        return Preview(
            summary=f"{title} ({self._call.product} {self._call.action})", rows=tuple(rows),
            price=str(price) if price else None, currency=str(currency) if price and currency else None,
        )  # fmt: skip

    async def try_dry(self, arguments: Arguments, context: CallContext) -> None:
        """The API's DryRun, where it has one: of most it passes with an error, of some with an answer."""
        if self._call.dry_run is None:
            return
        try:
            await self._provider.ask(self._call, arguments, timeout_s=context.timeout_s, dry_run=True)
        except ToolRefused as error:
            if error.code not in self._passed and not error.code.lower().startswith("dryrun"):
                raise

    async def execute(self, arguments: Arguments, context: CallContext) -> Executed:
        """Send it once; a read goes on to the next pages."""
        writing = self._card.effect != "read"
        if not writing:
            answer, notes = await self._provider.read(self._call, arguments, context)
            return Executed(await told(answer, notes, context))
        answer = await self._provider.ask(
            self._call, arguments, timeout_s=context.timeout_s * SENT, token=context.write_key, writing=True
        )
        said = await told(answer, (), context)
        text = f"{self._call.action} succeeded.\n{said.text}"
        return Executed(said.model_copy(update={"text": text}), lambda: self._progress(arguments, answer, context))

    async def outcome(self, arguments: Arguments, planned: State, context: CallContext) -> tuple[Outcome, ToolResult | None]:
        """By what can be seen: what was to go is gone, or what was given is there. Where neither shows, it is unknown."""
        look = self._call.look
        if look is None:
            return "unknown", None
        now = await self._seen(look, arguments, context)
        before = {name: planned[name] for name in now if name in planned}
        outcome: Outcome = "unknown"
        if self._call.verb in GOES and look.exact and "unseen" not in now:
            outcome = "happened" if now["found"] is False else "not_happened" if now == before else "unknown"
        elif self._call.verb in CHANGES and now.get("found"):
            wanted = [(name, value) for name, value in arguments.items() if differs(facts_of(planned), name, value)]
            if wanted and not any(differs(facts_of(now), name, value) for name, value in wanted):
                outcome = "happened"
            elif wanted and now == before:
                outcome = "not_happened"
        if outcome != "happened":
            return outcome, None
        return outcome, ToolResult(text=f"{self._call.action} had succeeded; its answer was lost.\nNow: {_now(now, look)}.")

    # --- asking ---

    async def _companion(self, companion: Companion, given: Arguments, arguments: Arguments, context: CallContext) -> object:
        asked = companion.arguments(given)
        if (region := companion.call.region) and (own := arguments.get(self._call.region or "RegionId")):
            asked.setdefault(region, own)
        return await self._provider.ask(companion.call, asked, timeout_s=context.timeout_s)

    async def _seen(self, look: Companion, arguments: Arguments, context: CallContext) -> State:
        """found and facts; or unseen, with the code with which looking was refused."""
        about = ids_in(arguments.get(look.about))
        try:
            answer = await self._companion(look, arguments, arguments, context)
        except ToolRefused as error:
            code = error.code
            return {"found": False} if any(word in plain(code) for word in _GONE) else {"unseen": code}
        except ToolUnavailable:
            raise
        except ToolError as error:
            return {"unseen": type(error).__name__}
        rows = [row for one in about if (row := next(rows_with(answer, str(one)), None)) is not None]
        if not rows:
            return {"found": False}
        return {
            "found": True,
            "facts": kept(rows[0] if len(about) == 1 else {str(number): row for number, row in enumerate(rows)}),
        }

    async def _priced(self, price: Companion, arguments: Arguments, context: CallContext) -> State:
        try:
            answer = await self._companion(price, arguments, arguments, context)
        except ToolError:
            return {}  # a price that is not told keeps nobody from asking for the thing
        amount, currency = first(answer, ("TradePrice", "TradeAmount")), first(answer, ("Currency",))
        return {"price": f"{float(str(amount)):.2f}", "currency": str(currency or "")} if amount is not None else {}

    async def _progress(self, arguments: Arguments, answer: object, context: CallContext) -> Progress:
        """Of a job that the answer names, or of the thing itself."""
        if isinstance(answer, Mapping):
            named = {plain(str(name)): value for name, value in answer.items()}
            for field, job in self._jobs.items():
                if (name := named.get(plain(field))) not in (None, ""):
                    return await self._job(job, {field: name}, arguments, context)
        if self._call.look is None:
            return Progress()
        now = await self._seen(self._call.look, arguments, context)
        status = first(now.get("facts"), STATUS)
        if now.get("found") is None or (status is None and now.get("found")):
            return Progress()
        return Progress((f"Now: {_now(now, self._call.look)}.",), under_way(status))

    async def _job(self, job: Companion, given: Arguments, arguments: Arguments, context: CallContext) -> Progress:
        answer = await self._companion(job, given, arguments, context)
        (name,) = given.values()
        row = next(rows_with(answer, str(name)), answer if isinstance(answer, Mapping) else {})
        status = first(row, STATUS) or first(answer, STATUS)
        line = f"{job.about} {name}: {status if status is not None else 'its status is not told'}."
        word = plain(str(status))
        going = status is not None and word not in _ENDED
        unfinished = str(status) if going and (under_way(status) or word == "running") else None
        return Progress((line,), unfinished)


def _now(state: State, look: Companion) -> str:
    if "unseen" in state:
        return f"it could not be looked at ({look.call.action}: {state['unseen']})"
    if not state.get("found"):
        return f"{look.call.action} finds nothing of that id"
    facts = facts_of(state)
    names = [str(value) for name, value in facts.items() if _titles(name) and isinstance(value, str) and value][:2]
    status = first(facts, STATUS)
    return ", ".join(dict.fromkeys([*names, *([str(status)] if status is not None else [])])) or "it is there"


def _titles(name: str) -> bool:
    """Whether a field may hold the name of the thing itself."""
    word = plain(name)
    return word.endswith("name") and not any(other in word for other in ("dns", "device", "host", "key", "os", "zone", "image"))
