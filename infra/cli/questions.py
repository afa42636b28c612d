"""Asking a person what a tool wants to know: the fields of a flat JSON Schema, one by one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from infra.cli.keyboard import ask_line, forget_typed
from infra.cli.show import clean, console, plain
from infra.cli.words import say
from schemas.commands import AskPerson
from schemas.errors import MilepostError

_TRUE, _FALSE = frozenset({"y", "yes", "true", "1", "是", "对"}), frozenset({"n", "no", "false", "0", "否", "不"})
_SECRET = "password"


class WrongAnswer(MilepostError):
    """An answer does not fit what the tool asks for."""


def fields_of(asked: AskPerson) -> dict[str, Mapping[str, object]]:
    """The fields that are asked for, by name."""
    fields = asked.question.fields.get("properties")
    if not isinstance(fields, Mapping):
        return {}
    return {str(name): field if isinstance(field, Mapping) else {} for name, field in fields.items()}


def secret_field(asked: AskPerson) -> str | None:
    """A field that asks for a secret, which nobody may type here: what is answered stands in the log."""
    fields = fields_of(asked).items()
    return next((name for name, field in fields if field.get("format") == _SECRET or field.get("writeOnly") is True), None)


async def answered(asked: AskPerson) -> dict[str, object] | None:
    """What the person at the terminal answers; None if they would not. Raises EOFError when no more is typed."""
    out, secret = console(), secret_field(asked)
    out.print(plain(say("asks", tool=asked.call.name), "bold yellow"))
    out.print(plain(asked.question.text))
    if secret:
        out.print(plain(say("secret", name=secret), "bold red"))
        out.print(plain(say("secret hint"), "green"))
        return None
    forget_typed()
    if (await _line(say("decline"))).strip().lower() in _FALSE:
        return None
    content: dict[str, object] = {}
    for name, field in fields_of(asked).items():
        value = await _field(asked, name, field)
        if value is not None:
            content[name] = value
    return content


def given(asked: AskPerson, pairs: Sequence[str]) -> dict[str, object]:
    """An answer from NAME=VALUE pairs, as a command line gives them. Raises WrongAnswer."""
    fields, content = fields_of(asked), dict[str, object]()
    secret = secret_field(asked)
    if secret:
        raise WrongAnswer(say("secret", name=secret), hint=say("secret hint"))
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name not in fields:
            raise WrongAnswer(
                f"{pair!r} answers nothing.", why=f"asked for: {', '.join(fields) or 'nothing'}", hint="NAME=VALUE"
            )
        content[name] = _checked(asked, name, text, fields[name])
    content = {**{name: field["default"] for name, field in fields.items() if "default" in field}, **content}
    wrong = _misfit(asked.question.fields, content)
    if wrong is not None:
        raise WrongAnswer(
            "The answer does not fit the question.", why=wrong.message[:300], hint="give each field as NAME=VALUE"
        )
    return content


def field_line(asked: AskPerson, name: str, field: Mapping[str, object]) -> str:
    """A field as it is asked for: its title, its type or choices, and what Enter alone means."""
    choices = _choices(field)
    notes = [say("one of", values=", ".join(map(_shown, choices)))] if choices else [str(field.get("type", ""))]
    if "default" in field:
        notes.append(say("default", value=_shown(field["default"])))
    else:
        notes.append(say("required") if _required(asked, name) else say("optional"))
    title = str(field.get("title") or field.get("description") or "")
    return clean(say("field", name=f"{name}{f' - {title}' if title else ''}", kind=f" ({', '.join(filter(None, notes))})"))


async def _field(asked: AskPerson, name: str, field: Mapping[str, object]) -> object:
    while True:
        text = (await _line(field_line(asked, name, field))).strip()
        if not text and "default" in field:
            return field["default"]
        if not text and not _required(asked, name):
            return None
        try:
            return _checked(asked, name, text, field)
        except WrongAnswer as error:
            console().print(plain(say("wrong", value=repr(text), why=error.why), "red"))


def _checked(asked: AskPerson, name: str, text: str, field: Mapping[str, object]) -> object:
    value = _read(text, field)
    wrong = _misfit(field, value)
    if wrong is not None or (text == "" and _required(asked, name)):
        why = wrong.message[:300] if wrong is not None else say("required")
        raise WrongAnswer(f"{name} cannot be {text!r}.", why=why, hint=field_line(asked, name, field))
    return value


def _misfit(schema: Mapping[str, object], value: object) -> ValidationError | None:
    """What is wrong with a value. A reference out of the schema is not followed: a tool wrote it, and it may lead anywhere."""
    try:
        wrong: ValidationError | None = best_match(Draft202012Validator(dict(schema), registry=Registry()).iter_errors(value))
        return wrong
    except Unresolvable as error:
        return ValidationError(f"the question refers to {error.ref[:200]}, which is not in it")


def _read(text: str, field: Mapping[str, object]) -> object:
    """The text as the field's type; as it stands where it is none, for the schema to refuse."""
    match field.get("type"):
        case "boolean" if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        case "integer" | "number" | "array" | "object" | "null":
            try:
                return json.loads(text)
            except ValueError:
                return text
        case _:
            return next((choice for choice in _choices(field) if _shown(choice) == text), text)


def _choices(field: Mapping[str, object]) -> list[object]:
    """The values of an enum, or of titled ones (oneOf with const)."""
    values = field.get("enum")
    if isinstance(values, Sequence) and not isinstance(values, str):
        return list(values)
    titled = field.get("oneOf")
    if isinstance(titled, Sequence) and not isinstance(titled, str):
        return [each["const"] for each in titled if isinstance(each, Mapping) and "const" in each]
    return []


def _required(asked: AskPerson, name: str) -> bool:
    required = asked.question.fields.get("required")
    return isinstance(required, Sequence) and name in required


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


async def _line(prompt: str) -> str:
    line = await ask_line(prompt)
    if line is None:
        raise EOFError
    return line
