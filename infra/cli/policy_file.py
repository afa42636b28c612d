"""Rules in a file of a person: YAML or JSON, with the line of whatever is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from schemas.canonical import checked
from schemas.errors import MilepostError, ProtocolError
from schemas.policy import Policy
from services.policy.validity import BadPolicy, Place, policy_of

LIMIT = 1024 * 1024
_EXAMPLES = "docs/policy.md has examples"


class BadPolicyFile(MilepostError):
    """A file holds no rules that can be put in force."""


class _Plain(yaml.SafeLoader):
    """YAML as 1.2 reads it: 22:00 is a text and no number to the base 60, `on` and `no` are words."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # as PyYAML keeps them


for _tag, _pattern, _firsts in (
    ("null", r"^(?:~|null|)$", ["~", "n", ""]),
    ("bool", r"^(?:true|false)$", ["t", "f"]),
    ("int", r"^-?(?:0|[1-9][0-9]*)$", list("-0123456789")),
    ("float", r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$", list("-0123456789")),
):
    _Plain.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _firsts)


def read_policy(file: Path) -> tuple[Policy, dict[str, object]]:
    """The rules of a file, checked, and as they stand there. Raises BadPolicyFile, which names lines and fields."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadPolicyFile(f"{file} cannot be read.", why=_reason(error), hint="check the path") from error
    if len(text) > LIMIT:
        raise BadPolicyFile(f"{file} is larger than {LIMIT // 2**20} MiB.", hint="a policy has at most 500 rules")
    root, values = _parsed(file, text)
    try:
        return policy_of(values), values
    except BadPolicy as error:
        placed = sorted((_line(root, fault.place), str(fault)) for fault in error.faults)
        faults = [f"line {line}, {fault}" for line, fault in placed[:10]]
        faults += [f"and {len(placed) - 10} more"] if len(placed) > 10 else []
        raise BadPolicyFile(
            f"The rules in {file} cannot be put in force.", why="\n       ".join(faults),
            hint=f"mend the file; {_EXAMPLES}",
        ) from error  # fmt: skip


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _parsed(file: Path, text: str) -> tuple[yaml.Node, dict[str, object]]:
    try:
        for event in yaml.parse(text, Loader=_Plain):
            if isinstance(event, yaml.AliasEvent):
                where = f" in line {event.start_mark.line + 1}" if event.start_mark else ""
                raise BadPolicyFile(f"{file} has an alias.", why=f"*{event.anchor}{where}", hint="write it out")
        root = yaml.compose(text, Loader=_Plain)
        if root is None:
            raise BadPolicyFile(f"{file} is empty.", hint=f"{_EXAMPLES}; no rules at all are written {{}}")
        for place, line in _doubled(root):
            raise BadPolicyFile(f"{file} says {place} twice.", why=f"the second time in line {line}", hint="remove one")
        _as_texts(root)
        values = _Plain("").construct_document(root)
        if not isinstance(values, dict):
            raise BadPolicyFile(
                f"{file} holds no rules.", why="it does not begin with fields such as rules: or limits:", hint=_EXAMPLES
            )
        checked(values)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        why = f"{where}{getattr(error, 'problem', None) or error}"
        raise BadPolicyFile(f"{file} is no YAML.", why=why, hint="check the indentation there") from error
    except (ProtocolError, RecursionError) as error:
        raise BadPolicyFile(f"{file} holds what JSON cannot.", why=str(error), hint=_EXAMPLES) from error
    return root, values


def _doubled(node: yaml.Node) -> Iterator[tuple[str, int]]:
    """Keys that stand twice in one mapping: YAML would take the last without a word."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield str(key.value), key.start_mark.line + 1
            seen.add(key.value)
            yield from _doubled(value)
    elif isinstance(node, yaml.SequenceNode):
        for each in node.value:
            yield from _doubled(each)


def _as_texts(node: yaml.Node, inside: bool = False) -> None:
    """What arguments are compared with is text, so `Period: 12` may be written without quotes."""
    if isinstance(node, yaml.ScalarNode) and inside:
        node.tag = "tag:yaml.org,2002:str"
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _as_texts(value, inside or key.value == "arguments")
    elif isinstance(node, yaml.SequenceNode):
        for each in node.value:
            _as_texts(each)


def _line(node: yaml.Node, place: Place) -> int:
    """The line of a place, or of what should hold it."""
    line = int(node.start_mark.line) + 1
    if not place:
        return line
    part, rest = place[0], place[1:]
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return _line(value, rest) if rest else int(key.start_mark.line) + 1
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return _line(node.value[part], rest)
    return line
