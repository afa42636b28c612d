"""Look into one run: all of it, one event of it, what it was at some event, or as it happens."""

from __future__ import annotations

import gc
import json
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json, Run
from infra.cli.show import as_json, console, local, outcome, plain, print_json, use_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from infra.cli.reading import RunRead
    from infra.cli.runs_below import Below
    from infra.wiring import World
    from runtime.client import Client
    from runtime.log import Stored
    from runtime.state import RunState
    from schemas.events import RunSealed
    from schemas.tools import ToolCard
    from services.recorder.ports import RunSummary

Which = Annotated[str, typer.Argument(
    metavar="RUN[#N]|FILE",
    help="The run's id, or its first ten or more characters; #N for one event of it; or a file of `runs export`.",
    show_default=False,
)]  # fmt: skip
_FORKS = 20
_INDEX_S = 2.0


@dataclass(frozen=True, slots=True)
class _Seen:
    """A run and what stands around it. state: None where the facts alone tell all that is shown."""

    read: RunRead
    state: RunState | None
    below: Sequence[Below] = ()
    forks: Sequence[RunSummary] = field(default_factory=tuple)


def show(
    run: Which,
    tree: Annotated[bool, typer.Option("--tree", help="Order the events by cause.")] = False,
    at: Annotated[int | None, typer.Option("--at", min=1, help="The state after event N.", show_default=False)] = None,
    prompt: Annotated[bool, typer.Option("--prompt", help="With --at or #N: the prompt of that model's turn.")] = False,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Show a run: its events and when they came, one of them in full (RUN#N), or its state after one (--at N).

    With --json everything that is known of it; sealed content is opened.
    """
    from runtime.permalink import place_of

    use_json(json)
    place = place_of(run)
    number = at or place.event
    if number is None and not prompt:
        with _uncollected():
            _show_all(_seen(place.run, home), tree=tree)
        return
    read = _read(place.run, home)
    if prompt:
        from infra.cli.runs_at import show_prompt

        show_prompt(read, number or _last_turn(read), _models(home), as_json=as_json())
    elif at is not None:
        from infra.cli.runs_at import show_state

        show_state(read, at, as_json=as_json())
    else:
        from infra.cli.runs_event import show_event

        show_event(read, number or 1, as_json=as_json())


@contextmanager
def _uncollected() -> Iterator[None]:
    """Ten thousand events hold no cycles, and looking for some among them takes a third of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _read(name: str, home: Path | None) -> RunRead:
    from infra.cli.reading import read_runs

    return read_runs([name], home)[0]


def _last_turn(read: RunRead) -> int:
    """The number of the last turn of a model. Raises NoModelTurn; an erased run has none that can be read."""
    from runtime.numbering import numbered, said_in
    from runtime.travel import NoModelTurn
    from schemas.events import Generated

    turns = [number for number, stored in numbered(read.facts) if number and isinstance(said_in(stored.fact), Generated)]
    if not turns:
        raise NoModelTurn(read.run, 1, turns)
    return turns[-1]


def _models(home: Path | None) -> Path | None:
    """Where built models lie, if the settings can be read."""
    from infra.cli.options import settings_from
    from schemas.errors import MilepostError

    with suppress(MilepostError):
        return settings_from(home).settings.model.home
    return None


def _seen(name: str, home: Path | None) -> _Seen:
    from infra.cli.reading import names_file, read_file, read_run, speak

    if names_file(name):
        speak(home)
        read = read_file(name)
        return _Seen(read, _state(read))

    from infra.cli.client import connected, whole_log
    from infra.cli.runs_below import runs_below

    async def work(_: Client, world: World) -> _Seen:
        read = await read_run(world, name)
        state = _state(read)
        below = await runs_below(whole_log(world), state or _told_state(read), read.facts)
        return _Seen(read, state, below, await _forks(world, read))

    return connected(work, home)


async def _forks(world: World, read: RunRead) -> list[RunSummary]:
    """The forks of a run as the index lists them; none where it does not answer at once."""
    from infra.cli.client import ask_list
    from schemas.errors import MilepostError
    from services.recorder.ports import RunFilter, RunSummary

    which = RunFilter(tenant=world.settings.tenant, fork_of=read.run)
    with suppress(MilepostError):
        asked = {"which": which.model_dump(mode="json"), "limit": _FORKS}
        return [RunSummary.model_validate(each) for each in await ask_list(world, "recorder", "runs", asked, _INDEX_S)]
    return []


def _state(read: RunRead) -> RunState | None:
    """The state of a run that goes on, or whose content is gone; of one that has ended its facts tell all that is shown."""
    from schemas.events import TERMINAL

    if any(isinstance(stored.fact.body, TERMINAL) for stored in read.facts):
        return None
    from runtime.fold import fold

    return fold(read.run, read.facts).state


def _told_state(read: RunRead) -> RunState:
    """As much of a state as names the runs below: which tools were offered."""
    from runtime.numbering import said_in
    from runtime.state import RunState
    from schemas.events import RunRequested, ToolsSelected

    tools: list[ToolCard] = []
    for stored in read.facts:
        match said_in(stored.fact):
            case ToolsSelected(tools=found):
                tools.extend(each.card for each in found)
            case RunRequested(fork=fork) if fork and fork.tools:
                tools.extend(fork.tools)
    return RunState(run=read.run, tenant=read.facts[0].fact.tenant, tools=tuple(tools))


# --- as JSON --------------------------------------------------------------------------------------


def _show_all(seen: _Seen, *, tree: bool) -> None:
    if as_json():
        print_json(_told(seen))
    else:
        _print_run(seen, tree=tree)


def _told(seen: _Seen) -> dict[str, object]:
    from runtime.causes import causes_of
    from schemas.envelope import encode

    facts = seen.read.facts
    causes = causes_of(facts)
    children = [{"run": each.state.run, "depth": each.depth, "outcome": _word(each.state)} for each in seen.below]
    told: dict[str, object] = {"children": children} if children else {}
    if seen.forks:
        told["forks"] = [each.run for each in seen.forks]
    if causes.findings:
        told["findings"] = [{"event": each.event, "kind": each.kind, "cause": each.cause} for each in causes.findings]
    return {
        "run": seen.read.run, "outcome": _outcome(seen),
        "events": [_loads(encode(stored.fact)) for stored in facts],
        "timeline": [
            {"event": node.number or None, "under": node.under, "others": list(node.others),
             "after_ms": round(node.after.total_seconds() * 1000, 1) if node.after is not None else None}
            for node in causes.nodes
        ],
        "receipts": [each.receipt.model_dump(mode="json") for each in _receipts(facts)], **told,
    }  # fmt: skip


def _word(state: RunState) -> str:
    return "erased" if state.erased else state.outcome


def _outcome(seen: _Seen) -> str:
    from schemas.events import TERMINAL, RunCompleted, RunFailed

    if seen.state:
        return _word(seen.state)
    ended = next(stored.fact.body for stored in seen.read.facts if isinstance(stored.fact.body, TERMINAL))
    return "completed" if isinstance(ended, RunCompleted) else "failed" if isinstance(ended, RunFailed) else "cancelled"


def _receipts(facts: Sequence[Stored]) -> list[RunSealed]:
    from schemas.events import RunSealed

    return [stored.fact.body for stored in facts if isinstance(stored.fact.body, RunSealed)]


# --- for a person ---------------------------------------------------------------------------------


def _print_run(seen: _Seen, *, tree: bool) -> None:
    from infra.cli.runs_lines import print_timeline, print_told, print_tree
    from infra.cli.words import say
    from runtime.permalink import permalink

    out, read = console(), seen.read
    _print_head(seen)
    out.print()
    (print_tree if tree else print_timeline)(read.facts)
    if seen.below:
        _print_below(seen.below)
    if seen.state:
        _print_open(seen.state)
    out.print()
    for fork in seen.forks:
        print_told("forks", f"{fork.run}  {fork.status}  {fork.task[:100]}")
    _print_receipts(read.facts)
    out.print(plain(say("one event", place=permalink(read.name, 1)), "dim"), soft_wrap=True)


def _print_below(below: Sequence[Below]) -> None:
    from infra.cli.runs_below import line_of

    out = console()
    for each in below:
        out.print(line_of(each), no_wrap=True, overflow="ellipsis", crop=out.is_terminal)


def _print_head(seen: _Seen) -> None:
    from infra.cli.runs_lines import heading, print_told, spent
    from infra.cli.words import say
    from runtime.numbering import numbered
    from runtime.permalink import permalink
    from schemas.events import TERMINAL, RunCompleted, RunRequested

    out, facts = console(), seen.read.facts
    first = facts[0].fact
    out.print(heading("run") + plain(seen.read.run) + plain("  ") + outcome(_outcome(seen)))
    if seen.state and seen.state.erased:
        out.print(plain(say("was erased"), "dim"))
    request = next((stored.fact.body for stored in facts if isinstance(stored.fact.body, RunRequested)), None)
    if request:
        print_told("asked", say("asked line", at=local(first.time), user=request.user, agent=request.agent.name))
        if request.parent:
            root = say("first of them", run=request.parent.root) if request.parent.root != request.parent.run else ""
            print_told("asked by", say("run line", run=request.parent.run) + root)
        if fork := request.fork:
            changed = say("fork changed", what=", ".join(fork.changed)) if fork.changed else ""
            print_told("fork", say("fork line", place=permalink(fork.run, fork.at), by=fork.by or "?", changed=changed))
        print_told("in conversation", request.conversation)
        print_told("task", request.task)
    answer = next((stored.fact.body.answer for stored in facts if isinstance(stored.fact.body, RunCompleted)), None)
    if answer:
        print_told("answer", answer)
    counted = [stored.fact for number, stored in numbered(facts) if number]
    last = next((fact for fact in counted if isinstance(fact.body, TERMINAL)), counted[-1])
    print_told("took", say("took line", time=spent(last.time - first.time), events=len(counted)))


def _print_open(state: RunState) -> None:
    """What people are asked, and how they answer."""
    from infra.cli.approval import approval_card

    out = console()
    for id, approval in state.approvals().items():
        plan = state.plan_of(approval)
        out.print(approval_card(approval, plan.planned.preview if plan else None, state.open_calls.get(approval.call.id)))
        out.print(plain(f"milepost approvals approve {state.run} {id}", "magenta"))
    for id, question in state.questions().items():
        out.print(plain(f"{question.call.name}: {question.question.text}"))
        out.print(plain(f"milepost approvals answer {state.run} {id} NAME=VALUE", "magenta"))


def _print_receipts(facts: Sequence[Stored]) -> None:
    from infra.cli.runs_lines import print_told
    from infra.cli.words import say

    sealed = [each.receipt for each in _receipts(facts)]
    for receipt in sealed:
        key = "sealed" if receipt.part == 1 else "amended"
        words = {"number": receipt.number, "tenant": receipt.tenant, "key": receipt.key, "size": receipt.size}
        print_told("receipt", say(key, part=receipt.part, **words))
    counted = len(facts) - len(sealed)
    if not sealed:
        print_told("receipt", say("not sealed"))
    elif counted > sealed[-1].size:
        print_told("receipt", say("after seal", count=counted - sealed[-1].size))


def follow(run: Run, home: Home = None, json: Json = False) -> None:
    """Show the events of a run, and of those below it, as they come, until it ends; ctrl-C leaves it running."""
    from infra.cli.client import connected, find_run, whole_client
    from infra.cli.show import print_json_line
    from infra.cli.view import event_line
    from runtime.tree import follow_tree
    from schemas.envelope import encode

    use_json(json)

    async def work(client: Client, world: World) -> None:
        id, out, start = await find_run(world, run), console(), None
        reader = whole_client(client, world)
        await reader.state(id)  # a run that is not there would be waited for
        async for update in follow_tree(reader, id):
            start = start or update.stored.fact.time
            below = "" if update.state.run == id or not update.state.request else f"  {update.state.request.agent.name} "
            if as_json():
                print_json_line(_loads(encode(update.stored.fact)))
            else:
                line = plain(below, "cyan") + event_line(update.stored, start)
                out.print(line, no_wrap=True, overflow="ellipsis", crop=out.is_terminal)

    connected(work, home)


def _loads(raw: bytes) -> object:
    return json.loads(raw)
