"""Reading answers whose shape nobody has described: the rows about a thing, their facts, a field wherever it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from schemas.canonical import canonical, digest
from tool_adapters.cloud import State

STATE_BYTES = 8 * 1024
STATUS = (
    "Status", "State", "TaskStatus", "JobStatus", "InvocationStatus", "InvokeStatus", "InstanceStatus", "DBInstanceStatus",
    "LoadBalancerStatus", "ClusterStatus", "LifecycleState", "BusinessStatus",
)  # fmt: skip
"""What answers call the status of a thing."""

_NOT_FACTS = frozenset({
    "requestid", "totalcount", "pagenumber", "pagesize", "nexttoken", "maxresults", "currenttime", "servertime",
})  # fmt: skip
_RESTLESS = ("percent", "progress", "usage", "utilization", "heartbeat", "lastaccess", "lastlogin", "lastactive", "remaining")


def rows_with(value: object, name: str, depth: int = 6) -> Iterator[Mapping[str, object]]:
    """The objects of an answer that have the name itself as a value, outermost first."""
    if isinstance(value, Mapping):
        if any(str(each) == name for each in value.values() if isinstance(each, str | int)):
            yield value
        inner = list(value.values())
    else:
        inner = value if isinstance(value, list) else []
    if depth:
        for each in inner:
            yield from rows_with(each, name, depth - 1)


def first(value: object, names: tuple[str, ...], depth: int = 4) -> object:
    """The first field of one of these names, breadth before depth."""
    level = [value]
    for _ in range(depth):
        below: list[object] = []
        for each in level:
            if isinstance(each, Mapping):
                named = {plain(str(key)): inner for key, inner in each.items()}
                for name in names:
                    found = named.get(plain(name))
                    if isinstance(found, Mapping) and names is STATUS:
                        found = found.get("Name")  # {"State": {"Code": 16, "Name": "running"}}
                    if isinstance(found, str | int | float) and not isinstance(found, bool):
                        return found
                below += each.values()
            elif isinstance(each, list):
                below += each
        level = below
    return None


def kept(row: Mapping[str, object]) -> State:
    """The facts of a row that a write may depend on: not what moves by itself, and not more than a state should carry."""
    facts = _steady(row)
    assert isinstance(facts, dict)
    if len(canonical(facts)) <= STATE_BYTES:
        return facts
    scalars = {name: value for name, value in facts.items() if not isinstance(value, dict | list)}
    rest = digest("facts", canonical(facts))
    small = dict(sorted(scalars.items(), key=lambda each: len(str(each[1])))[:40])
    return {**{name: value for name, value in small.items() if len(str(value)) <= 200}, "_all": rest}


def _steady(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _steady(each) for name, each in value.items() if not _restless(str(name))}
    if isinstance(value, list):
        return [_steady(each) for each in value]
    return value


def _restless(name: str) -> bool:
    word = plain(name)
    return word in _NOT_FACTS or any(each in word for each in _RESTLESS)


def plain(name: str) -> str:
    """A name without its marks and capitals."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def facts_of(state: State) -> Mapping[str, object]:
    """The facts of a state that was looked at."""
    facts = state.get("facts")
    return facts if isinstance(facts, Mapping) else {}


def differs(facts: Mapping[str, object], name: str, value: object) -> bool:
    """Whether a fact of an argument's name is there and is something else."""
    return name in facts and not isinstance(value, dict | list) and shown(facts[name]) != shown(value)


def shown(value: object) -> str:
    """A value as a person reads it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 500 else text[:500] + " ..."
