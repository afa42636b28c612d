"""What an import keeps of one API: how it is called, and which other APIs show what it is about, and what it costs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

from pydantic import Field

from schemas.canonical import Json
from schemas.tools import Value

Place: TypeAlias = Literal["query", "form", "body", "path", "header", "host"]
Form: TypeAlias = Literal["one", "list", "json"]

CHANGES = frozenset({"Modify", "Update", "Set", "Rename"})
"""Verbs after which what was given can be seen in what is described."""
GOES = frozenset({"Delete", "Release", "Destroy", "Terminate", "Drop", "Remove"})
"""Verbs after which nothing is to be seen any more."""

_VERB = re.compile(r"[A-Z]?[a-z]+")


class Pages(Value):
    """How a list is read on: by the token of the answer before, or by counting pages. Names of parameters.

    needed: the API wants page and size to be said.
    """

    token: str | None = None
    number: str | None = None
    size: str | None = None
    needed: bool = False


class ApiCall(Value):
    """One API. places: of parameters that are not in the query, where it has one. texts: parameters that travel as JSON text.

    region, token, dry_run: the parameters for the region, the client token and the dry run, where it has them.
    look: how to see what a write would touch. price: how to ask what it costs. unsupported: why it cannot be called.
    """

    product: str
    version: str
    action: str
    method: str = "POST"
    path: str = ""
    places: dict[str, Place] = Field(default_factory=dict)
    texts: tuple[str, ...] = ()
    region: str | None = None
    token: str | None = None
    dry_run: str | None = None
    pages: Pages | None = None
    look: Companion | None = None
    price: Companion | None = None
    unsupported: str | None = None

    @property
    def verb(self) -> str:
        """Its first word."""
        match = _VERB.match(self.action)
        return match[0].capitalize() if match else self.action

    def as_json(self) -> dict[str, Json]:
        """As a spec keeps it: without what is not said."""
        said: dict[str, Json] = self.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
        return said


class Give(Value):
    """Which of the write's arguments (or fields of its answer) a companion gets, and in which form."""

    name: str
    form: Form = "one"


class Companion(Value):
    """Another API that belongs to a write.

    give: by the companion's parameter. about: the argument that names the resource. exact: the write is about nothing but it,
    so that a deleted one cannot be seen any more.
    """

    call: ApiCall
    give: dict[str, Give]
    about: str = ""
    exact: bool = False

    def arguments(self, given: Mapping[str, object]) -> dict[str, object]:
        """What it is called with, of those arguments of the write that are there."""
        found: dict[str, object] = {}
        for name, give in self.give.items():
            value = given.get(give.name)
            if value in (None, "", []):
                continue
            many = ids_in(value)
            found[name] = {"one": many[0], "list": many, "json": json.dumps(many)}[give.form]
        return found


ApiCall.model_rebuild()


def ids_in(value: object) -> list[object]:
    """One id, several, or several in JSON text."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return [value]
    return value if isinstance(value, list) else [value]
