"""Whether rules make sense: no field that nobody reads, zones that exist, names apart, limits that limit something."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ValidationError

from runtime.errors import Permanent
from schemas.policy import Hours, Limit, Policy, Rule, When

Place: TypeAlias = tuple[str | int, ...]

_PARTS: dict[type[BaseModel], dict[str, type[BaseModel]]] = {
    Policy: {"rules": Rule, "limits": Limit},
    Rule: {"when": When},
    Limit: {"when": When},
    When: {"hours": Hours, "outside_hours": Hours},
}
_WORDS = {"string_pattern_mismatch": {"from": "a time is written 09:00", "to": "a time is written 18:30"}}
_KINDS = {"tuple_type": "it is a list, such as [this] or [this, that]"}


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is wrong, and where: field names and positions, such as ("rules", 0, "when", "hours", "zone")."""

    place: Place
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"

    @property
    def path(self) -> str:
        """The place as people write it, such as rules[0].when.hours.zone."""
        return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.place).removeprefix(".")


class BadPolicy(Permanent):
    """Rules that cannot be put in force. faults: each of them and where it stands."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        more = f"; and {len(faults) - 5} more" if len(faults) > 5 else ""
        super().__init__(
            "These rules cannot be put in force.", why="; ".join(map(str, faults[:5])) + more,
            hint="mend them; docs/policy.md has examples",
        )  # fmt: skip
        self.faults = tuple(faults)


def policy_of(values: object) -> Policy:
    """A policy from JSON; a field that it does not have is a fault, since it would else be taken for no condition.

    Raises BadPolicy with all that is wrong.
    """
    found = list(_unknown(values, Policy, ()))
    try:
        policy = Policy.model_validate(values)
    except ValidationError as error:
        raise BadPolicy([*found, *(_said(fault["type"], fault["loc"], fault["msg"]) for fault in error.errors())]) from error
    found += faults(policy)
    if found:
        raise BadPolicy(found)
    return policy


def faults(policy: Policy) -> Iterator[Fault]:
    """All that is wrong with a policy that has the right form."""
    yield from rule_faults(policy.rules)
    yield from _twice(("limits",), [limit.name for limit in policy.limits])
    for place, limit in enumerate(policy.limits):
        yield from _limit_faults(("limits", place), limit)


def rule_faults(rules: Sequence[Rule]) -> Iterator[Fault]:
    """All that is wrong with rules."""
    yield from _twice(("rules",), [rule.name for rule in rules])
    for place, rule in enumerate(rules):
        yield from _when_faults(("rules", place, "when"), rule.when)
        if rule.then in ("deny", "dry_run") and (rule.four_eyes or rule.approvers):
            yield Fault(("rules", place, "then"), f"a rule that says {rule.then} asks nobody, so it has no approvers")


def warnings(policy: Policy) -> list[str]:
    """What is likely not meant: rules behind one that fits every call."""
    for place, rule in enumerate(policy.rules[:-1]):
        if rule.when == When():
            behind = ", ".join(each.name for each in policy.rules[place + 1 :])
            return [f"rule {rule.name} fits every call: never reached are {behind}"]
    return []


def _unknown(values: object, model: type[BaseModel], place: Place) -> Iterator[Fault]:
    if isinstance(values, (list, tuple)):
        for position, each in enumerate(values):
            yield from _unknown(each, model, (*place, position))
    elif isinstance(values, Mapping):
        names = [field.alias or name for name, field in model.model_fields.items()]
        for name, value in values.items():
            if name not in names:
                close = difflib.get_close_matches(str(name), names, n=1)
                hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"
                yield Fault((*place, str(name)), f"there is no such field; {hint}")
            elif name in _PARTS.get(model, {}):
                yield from _unknown(value, _PARTS[model][name], (*place, name))


def _said(kind: str, place: Place, message: str) -> Fault:
    word = _WORDS.get(kind, {}).get(str(place[-1]) if place else "") or _KINDS.get(kind)
    if kind == "string_pattern_mismatch" and not word:
        word = "a name has letters, digits, - and _ only, and at most 64"
    return Fault(place, word or message.removeprefix("Value error, "))


def _limit_faults(place: Place, limit: Limit) -> Iterator[Fault]:
    yield from _when_faults((*place, "when"), limit.when)
    if limit.writes is None and limit.money is None:
        yield Fault(place, "a limit says how many writes, or how much money")
    if limit.money is not None and limit.currency is None:
        yield Fault((*place, "currency"), "a limit of money names its currency, such as CNY")


def _when_faults(place: Place, when: When) -> Iterator[Fault]:
    for name in ("hours", "outside_hours"):
        hours = getattr(when, name)
        if hours is None:
            continue
        try:
            ZoneInfo(hours.zone)
        except (ZoneInfoNotFoundError, OSError, ValueError):
            what = f"there is no time zone {hours.zone!r}; Asia/Shanghai, Europe/Paris and UTC are some"
            yield Fault((*place, name, "zone"), what)
        if not hours.days:
            yield Fault((*place, name, "days"), "hours on no day never come")


def _twice(place: Place, names: Sequence[str]) -> Iterator[Fault]:
    for position, name in enumerate(names):
        if name in names[:position]:
            yield Fault((*place, position, "name"), f"{name} is named twice")
