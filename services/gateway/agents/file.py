"""An agent in a file that people read, write and keep in git: YAML (or TOML, or JSON), and only what is not as usual.

Written: fields in one order, texts of several lines as blocks, so that a diff shows what was changed. Read again, it is the
same draft.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import PurePath
from typing import Literal, TypeAlias

from pydantic import Field, ValidationError

from schemas.agent import AgentSpec
from schemas.canonical import Json, checked, read_json
from schemas.errors import MilepostError, ProtocolError
from services.gateway.agents.draft import Draft, Suggestion
from services.gateway.agents.fields import first_unknown

LIMIT = 1024 * 1024
_WIDTH = 120
_HEAD = ("title", "description", "picture", "suggestions")
_BREAKS = re.compile(r"[\r\x85\u2028\u2029\ufeff]")
_LATE = ("instructions", "examples", "policy")  # what is long stands below

Form: TypeAlias = Literal["yaml", "toml", "json"]


class BadAgent(MilepostError):
    """A file holds no agent that can be used."""


class AgentFile(AgentSpec):
    """What may stand in such a file: an agent's spec, and what people see of it."""

    title: str = Field(default="", max_length=200)
    description: str = Field(default="", max_length=2000)
    picture: str = Field(default="", max_length=200_000)
    suggestions: tuple[Suggestion, ...] = Field(default=(), max_length=12)

    def draft(self) -> Draft:
        """The same as a draft."""
        spec = AgentSpec.model_construct(**{name: getattr(self, name) for name in AgentSpec.model_fields})
        return Draft(name=self.name, spec=spec, **{name: getattr(self, name) for name in _HEAD})


def form_of(name: str) -> Form:
    """The form of a file by its name; what says nothing is JSON."""
    suffix = PurePath(name).suffix.lower()
    return "toml" if suffix == ".toml" else "yaml" if suffix in (".yaml", ".yml") else "json"


def read_agent(raw: bytes, form: Form, called: str = "the file") -> Draft:
    """The agent that a file holds. Raises BadAgent, which names the field."""
    values = _values(raw, form, called)
    if found := first_unknown(values, AgentFile):
        hint = f"did you mean {found.close}?" if found.close else f"it may have {', '.join(AgentFile.model_fields)}"
        raise BadAgent(f"The agent in {called} has a field {found.field} that no agent has.", hint=hint)
    try:
        return AgentFile.model_validate(values).draft()
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        why, hint = f"{place}: {fault['msg']}", f"change {place}"
        raise BadAgent(f"The agent in {called} is not valid.", why=why, hint=hint) from error


def write_agent(draft: Draft) -> str:
    """The draft as YAML: only what differs from an agent of which nothing is said."""
    said: dict[str, object] = draft.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"spec"})
    spec = draft.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"name", "version"})
    late = {name: spec.pop(name) for name in _LATE if name in spec}
    values = {"name": draft.name, **{name: said[name] for name in _HEAD if name in said}, **spec, **late}
    return write_yaml(values)


def _values(raw: bytes, form: Form, called: str) -> Mapping[str, object]:
    values: object
    try:
        if form == "toml":
            return tomllib.loads(raw.decode())
        values = read_yaml(raw) if form == "yaml" else read_json(raw, limit=LIMIT)
    except (ProtocolError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        why = (error.why or error.what) if isinstance(error, ProtocolError) else str(error)
        hint = "an agent is a .toml, .yaml or .json file with fields such as instructions and tools"
        raise BadAgent(f"{called[:1].upper()}{called[1:]} holds no agent.", why=why, hint=hint) from error
    if not isinstance(values, dict):
        raise BadAgent(f"{called[:1].upper()}{called[1:]} holds no agent.", why="it is no JSON object")
    return values


# --- YAML as 1.2 reads it: 22:00 is a text and no number to the base 60, `on` and `no` are words -------


_PLAIN = (
    ("null", r"^(?:~|null|)$", ["~", "n", ""]),
    ("bool", r"^(?:true|false)$", ["t", "f"]),
    ("int", r"^-?(?:0|[1-9][0-9]*)$", list("-0123456789")),
    ("float", r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$", list("-0123456789")),
)

_DEEPEST = 32


def read_yaml(raw: bytes) -> Json:
    """What a YAML text says, as JSON could say it. Raises ProtocolError."""
    import yaml

    class Plain(yaml.CSafeLoader):
        yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  # as PyYAML keeps them

    for tag, pattern, firsts in _PLAIN:
        Plain.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), firsts)
    if len(raw) > LIMIT:
        raise ProtocolError("The file is too long.", why=f"it is too long: {len(raw)} bytes, {LIMIT} may be")
    try:
        text = raw.decode()
        depth = 0
        for event in yaml.parse(text, Loader=Plain):  # before it is put together: of too deep a text that would take for ever
            if isinstance(event, yaml.AliasEvent):
                raise ProtocolError("The file has an alias.", why="it has an alias (*name); write it out")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise ProtocolError("The file is nested too deep.", why=f"it is nested deeper than {_DEEPEST}")
        values: Json = yaml.load(text, Loader=Plain)  # a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ProtocolError("The file is no YAML.", why=f"it is no YAML: {str(error)[:300]}") from error
    return checked(values)


def write_yaml(values: Mapping[str, object]) -> str:
    """The values as YAML that both 1.1 and 1.2 read as the same."""
    import yaml

    class Readable(yaml.SafeDumper):
        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
            super().increase_indent(flow, False)

    def said(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        style = '"' if _BREAKS.search(text) else "|" if "\n" in text else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    for tag, pattern, firsts in _PLAIN:
        Readable.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), firsts)
    Readable.add_representer(str, said)
    text: str = yaml.dump(dict(values), Dumper=Readable, sort_keys=False, allow_unicode=True, width=_WIDTH)
    return text
