"""What requests of both APIs have in common: how much they may hold, tools, forms of answers, and what is refused.

Fields that clients send for other servers' sake, and that change nothing of an answer, are taken and not looked at; what
would change it and is not done here is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from runtime.steps import CALLER_LANE
from schemas.canonical import MAX_INTEGER, JsonObject
from schemas.errors import ProtocolError
from schemas.ids import checked_token
from schemas.messages import JsonOutput, Output
from schemas.tools import ToolCard, ToolName
from services.gateway.openai.spoken import PARTS, TEXT, Unfit

TOOLS = 128
LONGEST_ANSWER = 8192
"""Tokens: a client that allows more gets as many."""
CONVERSATION = "conversation"

Words = Annotated[str, StringConstraints(max_length=TEXT)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Label = Annotated[str, StringConstraints(max_length=512)]
Metadata = Annotated[dict[Annotated[str, StringConstraints(max_length=64)], Label], Field(max_length=16)]
Temperature = Annotated[float | None, Field(ge=0, le=2)]
TopP = Annotated[float | None, Field(ge=0, le=1)]
Tokens = Annotated[int | None, Field(ge=1, le=MAX_INTEGER)]
Seed = Annotated[int | None, Field(ge=-MAX_INTEGER, le=MAX_INTEGER)]


class Strict(BaseModel):
    """A request whose every field is known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Lenient(BaseModel):
    """What clients send back as they got it, with fields of many servers."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Piece(Lenient):
    """A part of a message."""

    type: Name
    text: Words | None = None
    refusal: Words | None = None


Content = Words | Annotated[list[Piece], Field(max_length=PARTS)] | None

_TEXTS = frozenset({"text", "input_text", "output_text"})


def text_of(content: str | Sequence[Piece] | None) -> str:
    """The words of a message. Raises Unfit for pictures, sound and files."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for piece in content:
        if piece.type in _TEXTS:
            texts.append(piece.text or "")
        elif piece.type == "refusal":
            texts.append(piece.refusal or piece.text or "")
        else:
            raise Unfit(
                f"A message has a part of type {piece.type}.", why="models here read text alone",
                hint="documents go into knowledge with POST /v1/files",
            )  # fmt: skip
    return "\n".join(texts)


class Function(Lenient):
    """A tool of the client's own."""

    name: ToolName
    description: Annotated[str, StringConstraints(max_length=4000)] | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None

    def card(self) -> ToolCard:
        """As the model is offered it; whatever it does, its client does."""
        parameters = self.parameters or {"type": "object", "properties": {}}
        if parameters.get("type", "object") != "object":
            raise Unfit(f"The parameters of {self.name} are no object.", hint='"type": "object", with properties')
        return ToolCard(
            name=self.name, description=self.description or self.name, parameters={"type": "object", **parameters},
            lane=CALLER_LANE, owner="the client",
        )  # fmt: skip


def output_of(kind: Literal["text", "json_object", "json_schema"], schema: JsonObject | None) -> Output | None:
    """What an answer must look like. Raises Unfit for a form without its schema."""
    if kind == "text":
        return None
    if kind == "json_object":
        return JsonOutput(json_schema={"type": "object"})
    if schema is None:
        raise Unfit("The form of the answer has no schema.", hint="json_schema needs a schema")
    return JsonOutput(json_schema=schema)


def sampling_of(
    temperature: float | None, top_p: float | None, longest: int | None, seed: int | None = None, top_k: int | None = None
) -> JsonObject:
    """What the client sets of it. A top_p of 0 means the likeliest token alone."""
    given = {
        "temperature": temperature, "top_p": None if top_p is None else max(top_p, 1e-6), "seed": seed, "top_k": top_k,
        "max_tokens": None if longest is None else min(longest, LONGEST_ANSWER),
    }  # fmt: skip
    return {name: value for name, value in given.items() if value is not None}


def conversation_of(name: str) -> str:
    """The name of a conversation that Milepost remembers. Raises Unfit."""
    try:
        return checked_token(name, "conversation")
    except ProtocolError as error:
        raise Unfit(error.what, why=error.why, hint=error.hint) from error


def refuse(name: str, why: str, hint: str = "leave it out") -> None:
    """Raises Unfit for a field that asks for what is not done."""
    raise Unfit(f"{name} is not supported.", why=why, hint=hint)
