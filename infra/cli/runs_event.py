"""One event of a run in full: what caused it, what it answers, what it says, and how the receipt counts it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from infra.cli.runs_lines import heading, numbers_of, print_told, spent
from infra.cli.show import console, local, plain, print_json
from infra.cli.words import language, say
from runtime.causes import causes_of
from runtime.merkle import leaf_hash
from runtime.numbering import numbered
from runtime.permalink import permalink
from runtime.receipts import leaf_of
from runtime.timeline import summary
from runtime.travel import NoSuchEvent
from schemas.envelope import Fact
from schemas.events import AnswerCopied, Answered
from schemas.sealing import Sealed

if TYPE_CHECKING:
    from infra.cli.reading import RunRead


def show_event(read: RunRead, number: int, *, as_json: bool) -> None:
    """Show event `number`. Raises NoSuchEvent."""
    listed = numbered(read.facts)
    index = next((index for index, (each, _) in enumerate(listed) if each == number), None)
    if index is None:
        raise NoSuchEvent(read.run, number, sum(each > 0 for each, _ in listed))
    told = _told(read, number, index)
    if as_json:
        print_json(told)
    else:
        _print(read, number, index, told)


def _told(read: RunRead, number: int, index: int) -> dict[str, object]:
    stored, raw = read.both[index]
    fact, numbers = stored.fact, numbers_of(read.facts)
    body = None if isinstance(fact.body, Sealed) else fact.body.model_dump(mode="json")
    return {
        "place": permalink(read.run, number), "run": read.run, "event": number, "id": fact.id, "type": fact.kind,
        "role": fact.role, "slot": fact.slot, "source": fact.header.source, "time": fact.time, "decider": fact.header.decider,
        "summary": summary(fact), "causes": [{"id": cause, "event": numbers.get(cause)} for cause in fact.causes],
        "answers": fact.slot if isinstance(fact.body, Answered) else None, "erased": body is None, "data": body,
        "bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest(),
        "leaf_hash": leaf_hash(leaf_of(number, fact.id, raw)).hex(),
    }  # fmt: skip


def _print(read: RunRead, number: int, index: int, told: dict[str, object]) -> None:
    facts = read.facts
    fact = facts[index].fact
    node = causes_of(facts).nodes[index]
    gap = say("gap", gap=spent(node.after)) if node.after is not None else ""
    since = spent(fact.time - facts[0].fact.time)
    print_told("event", f"{permalink(read.name, number)}  {fact.kind}")
    print_told("when", say("when line", at=local(fact.time), since=since, gap=gap))
    print_told("who", f"{fact.role}  ({fact.header.source})")
    print_told("slot", fact.slot)
    _print_causes(fact, node.under, numbers_of(facts), read.name)
    if isinstance(fact.body, AnswerCopied):
        print_told("copied", f"{fact.body.run}  {fact.body.event}")
    print_told("stored as", say("bytes", count=f"{told['bytes']:,}", sha=told["sha256"]))
    print_told("leaf", str(told["leaf_hash"]))
    if isinstance(fact.body, Sealed):
        print_told("says", say("erased"))
        return
    print_told("says", summary(fact, language()))
    console().print(plain(json.dumps(told["data"], ensure_ascii=False, indent=2)), soft_wrap=True)


def _print_causes(fact: Fact, under: int | None, numbers: dict[str, int], run: str) -> None:
    """The causes that it names; a person's answer names none, and stands under what made the run ask."""
    if not fact.causes:
        print_told("causes", permalink(run, under) if under else say("nothing"))
    for index, cause in enumerate(fact.causes):
        place = permalink(run, numbers[cause]) if cause in numbers else "?"
        console().print(heading("causes" if index == 0 else "") + plain(f"{place}  {cause}", ""), soft_wrap=True)
