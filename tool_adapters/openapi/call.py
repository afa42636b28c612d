"""How an operation is called: the part of an imported tool that the model does not see. Plain values, stored as JSON."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field

from schemas.tools import DryRun, Effect, Idempotency, Value

Place: TypeAlias = Literal["path", "query", "header", "cookie"]
Style: TypeAlias = Literal["simple", "label", "matrix", "form", "spaceDelimited", "pipeDelimited", "deepObject"]
BodyKind: TypeAlias = Literal["json", "form", "multipart", "text", "bytes"]


class Parameter(Value):
    """An argument and where it goes. as_json: its value is sent as JSON text; slashes: it may be more than one path segment."""

    argument: str
    name: str
    place: Place
    style: Style = "form"
    explode: bool = True
    as_json: bool = False
    slashes: bool = False


class Body(Value):
    """What is sent. files: properties that are sent as files; styles: of form fields that are not spelt in the usual way."""

    kind: BodyKind
    media_type: str
    argument: str = "body"
    files: tuple[str, ...] = ()
    styles: dict[str, Style] = Field(default_factory=dict)


class Look(Value):
    """The operation that tells the state of what a write is about."""

    path: str
    parameters: tuple[Parameter, ...] = ()


class Paging(Value):
    """argument: says where a page begins. fields: of an answer, dotted; the first that is there tells where the next begins."""

    argument: str
    fields: tuple[str, ...]


class Call(Value):
    """An operation.

    server: where it stands if not where the others do. security: alternatives, each a set of schemes that are all needed; None:
    the document says nothing. key_header: takes the write key; match: an If-Match header is taken; dry_run: name and value of
    the query parameter with which the API only tries. expects: media types of what is answered.
    """

    method: str
    path: str
    server: str | None = None
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    security: tuple[tuple[str, ...], ...] | None = None
    paging: Paging | None = None
    key_header: str | None = None
    match: bool = False
    dry_run: tuple[str, str] | None = None
    look: Look | None = None
    expects: tuple[str, ...] = ()


class Scheme(Value):
    """How an API wants to know who asks. place and name: of an API key; scheme: of http (`basic`, `bearer`); token_url and
    scopes: of OAuth 2 client credentials."""

    type: Literal["apiKey", "http", "oauth2", "openIdConnect"]
    place: Literal["header", "query", "cookie"] = "header"
    name: str = ""
    scheme: str = ""
    token_url: str = ""
    scopes: tuple[str, ...] = ()


class Settings(Value):
    """What a source of kind openapi knows. document: where it was read; auth: references to secrets by the name of a scheme
    (or `bearer`, `basic`, `header:NAME`, `query:NAME`, `cookie:NAME`, `oauth2:TOKEN_URL`); allow: `host:port` places that are
    not public; the rest is as it was given to the import, to do it again."""

    document: str = ""
    server: str
    auth: dict[str, str] = Field(default_factory=dict)
    schemes: dict[str, Scheme] = Field(default_factory=dict)
    allow: tuple[str, ...] = ()
    given_server: str = ""
    variables: dict[str, str] = Field(default_factory=dict)
    prefix: str = ""
    effects: dict[str, object] = Field(default_factory=dict)


class Override(Value):
    """What an operator, or `x-milepost` in a document, says of an operation. plan: the operationId of the read that tells the
    state it is planned on; empty: none."""

    effect: Effect | None = None
    idempotency: Idempotency | None = None
    dry_run: DryRun | None = None
    undo: str | None = None
    plan: str | None = None
    timeout_s: float | None = Field(default=None, gt=0, le=3600)
    rate_per_min: int | None = Field(default=None, gt=0)
