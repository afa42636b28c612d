"""What one version of the rules changes in the one before, in lines that people read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from schemas.canonical import canonical
from schemas.policy import Limit, Policy, Rule


def differences(old: Policy, new: Policy) -> list[str]:
    """One line for each thing that is new (+), gone (-) or changed (~)."""
    return [
        *_changed("rule", {each.name: each for each in old.rules}, {each.name: each for each in new.rules}),
        *_moved(old.rules, new.rules),
        *_changed("limit", {each.name: each for each in old.limits}, {each.name: each for each in new.limits}),
        *([f"~ ungrounded: {old.ungrounded} -> {new.ungrounded}"] if old.ungrounded != new.ungrounded else []),
    ]


def _changed(kind: str, old: Mapping[str, Rule | Limit], new: Mapping[str, Rule | Limit]) -> Iterator[str]:
    for name in old:
        if name not in new:
            yield f"- {kind} {name}"
    for name, now in new.items():
        if name not in old:
            yield f"+ {kind} {name}: {_said(now)}"
        elif old[name] != now:
            before, after = _fields(old[name]), _fields(now)
            fields = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
            said = ", ".join(f"{key} {_text(before.get(key))} -> {_text(after.get(key))}" for key in fields)
            yield f"~ {kind} {name}: {said}"


def _moved(old: Sequence[Rule], new: Sequence[Rule]) -> Iterator[str]:
    before = [rule.name for rule in old if rule.name in {each.name for each in new}]
    after = [rule.name for rule in new if rule.name in before]
    if before != after:
        yield f"~ order of rules: {', '.join(after)}"


def _said(each: Rule | Limit) -> str:
    return f"then {each.then}" if isinstance(each, Rule) else f"beyond {each.beyond}"


def _fields(each: Rule | Limit) -> dict[str, object]:
    said: dict[str, object] = each.model_dump(mode="json")
    return said | {"when": each.when.model_dump(mode="json", by_alias=True, exclude_defaults=True)}


def _text(value: object) -> str:
    return "nothing" if value in (None, "", [], {}) else canonical(value).decode()
