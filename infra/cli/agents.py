"""Which agent a command speaks to: a file with its spec, and tools named on the command line."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ValidationError

from schemas.agent import AgentSpec
from schemas.canonical import Json, checked, read_json
from schemas.errors import MilepostError, ProtocolError

LIMIT = 1024 * 1024


class BadAgent(MilepostError):
    """A file holds no agent that can be used."""


def agent_from(file: Path | None, tools: Sequence[str] = ()) -> AgentSpec:
    """The agent of a TOML, YAML or JSON file, or the default one; tools: more that it always offers. Raises BadAgent."""
    spec = _read(file) if file else AgentSpec()
    more = tuple(dict.fromkeys((*spec.tools, *tools)))
    return spec.model_copy(update={"tools": more})


def _read(file: Path) -> AgentSpec:
    values = _values(file)
    for key in _unknown(values, AgentSpec):
        close = difflib.get_close_matches(key.split(".")[-1], [name.split(".")[-1] for name in _names(AgentSpec)], n=1)
        hint = f"did you mean {close[0]}?" if close else f"it may have {', '.join(AgentSpec.model_fields)}"
        raise BadAgent(f"The agent in {file} has a field {key} that no agent has.", hint=hint)
    try:
        return AgentSpec.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise BadAgent(f"The agent in {file} is not valid.", why=f"{place}: {fault['msg']}", hint=f"change {place}") from error


def _values(file: Path) -> Mapping[str, object]:
    try:
        raw = file.read_bytes()
        if file.suffix == ".toml":
            return tomllib.loads(raw.decode())
        values = _yaml(raw) if file.suffix in (".yaml", ".yml") else read_json(raw, limit=LIMIT)
    except OSError as error:
        raise BadAgent(f"{file} cannot be read.", why=error.strerror or str(error), hint="check the path") from error
    except (ProtocolError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        why = error.why or error.what if isinstance(error, ProtocolError) else str(error)
        hint = "an agent is a .toml, .yaml or .json file with fields such as instructions and tools"
        raise BadAgent(f"{file} holds no agent.", why=why, hint=hint) from error
    if not isinstance(values, dict):
        raise BadAgent(f"{file} holds no agent.", why="it is no JSON object")
    return values


def _yaml(raw: bytes) -> object:
    """Raises ProtocolError."""
    import yaml

    try:
        values: Json = yaml.safe_load(raw[:LIMIT])
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ProtocolError("The file is no YAML.", why=str(error)[:300]) from error
    return checked(values)


def _unknown(values: Mapping[str, object], kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Fields that nobody reads; in a list, too: a condition of a rule that is misspelt would be none, and the rule fit all."""
    fields = {field.alias or name: field for name, field in kind.model_fields.items()}
    for name, value in values.items():
        if name not in fields:
            yield prefix + name
            continue
        inner = _model(fields[name].annotation)
        for each in value if isinstance(value, list) else [value]:
            if inner is not None and isinstance(each, dict):
                yield from _unknown(each, inner, f"{prefix}{name}.")


def _model(annotation: object) -> type[BaseModel] | None:
    """The model that a field holds, alone, in a tuple, or beside None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for each in get_args(annotation) if (found := _model(each)) is not None), None)


def _names(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in kind.model_fields.items():
        yield prefix + name
        if (inner := _model(field.annotation)) is not None:
            yield from _names(inner, f"{prefix}{name}.")
