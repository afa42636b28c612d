"""The Synadia Agent Protocol for NATS, version 0.3, over our runs: prompts in, chunks out. What carries them is a port.

https://github.com/synadia-ai/synadia-agent-sdk-docs/blob/main/core-protocol.md: subjects
agents.{prompt|status|hb}.{agent}.{owner}.{session}, a reply of typed chunks {"type", "data"} that ends with an empty message.
Ours beside it, and ignored by whoever does not know them: what `Milepost-*` headers say (or the envelope's fields conversation,
key and user), and a `cancel` endpoint.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import orjson
from pydantic import Field, ValidationError

from runtime.errors import Permanent
from runtime.speech import Delta
from schemas.canonical import digest, read_json
from schemas.errors import ProtocolError
from schemas.ids import Text, Token
from schemas.tools import Value

PROTOCOL = "0.3"
SERVICE = "agents"
AGENT = "milepost"
BEAT_S = 30
RUN, CONVERSATION, KEY, USER = "Milepost-Run", "Milepost-Conversation", "Milepost-Key", "Milepost-User"
ATTACHMENTS = 16
PIECE = 100_000
"""Characters of one response chunk at most: a message has a megabyte."""

_TOKEN = re.compile(r"[a-z0-9_-]{1,63}")
_PROMPT_BYTES = 8 * 1024 * 1024


class BadPrompt(ProtocolError):
    """A prompt does not follow the protocol, or asks for what is not to be had: error 400."""


class NoAnswer(Permanent):
    """A run ended without an answer: error 500."""


# --- who answers, and where ---


def token_of(name: str) -> str:
    """A name as a token of the protocol's subjects: itself, or lower-case with a mark, so that no two names share one."""
    return name if _TOKEN.fullmatch(name) else f"{name.lower()[:54]}-{digest('agent token', name)[:8]}"


@dataclass(frozen=True, slots=True)
class Station:
    """Where one agent of one tenant answers. title and description: for whoever lists the agents."""

    tenant: str
    name: str
    title: str = ""
    description: str = ""

    def subject(self, verb: str) -> str:
        """The subject of a verb: prompt, status, hb or cancel."""
        return f"{SERVICE}.{verb}.{AGENT}.{token_of(self.tenant)}.{token_of(self.name)}"

    @property
    def metadata(self) -> dict[str, str]:
        """What the service says of itself in $SRV.INFO."""
        said = {"agent": AGENT, "owner": token_of(self.tenant), "session": token_of(self.name), "protocol_version": PROTOCOL}
        return said | {"name": self.name} | ({"title": self.title} if self.title else {})

    def beat(self, instance: str, now: datetime) -> bytes:
        """A heartbeat, and the answer of the status endpoint."""
        return orjson.dumps({
            "agent": AGENT, "owner": token_of(self.tenant), "session": token_of(self.name), "instance_id": instance,
            "ts": now.strftime("%Y-%m-%dT%H:%M:%SZ"), "interval_s": BEAT_S,
        })  # fmt: skip


# --- what comes in ---


class Attachment(Value):
    """A file of a prompt; content: base64 as RFC 4648 has it."""

    filename: str = Field(min_length=1, max_length=255)
    content: str

    def data(self) -> bytes:
        """Its bytes. Raises BadPrompt."""
        try:
            return base64.b64decode(self.content, validate=True)
        except binascii.Error as error:
            raise BadPrompt(f"The content of {self.filename} is no base64.", why=str(error)) from error


class Prompt(Value):
    """What somebody wants of an agent. conversation: to go on with one; key: the same key is the same run; user: its user."""

    prompt: Text
    attachments: tuple[Attachment, ...] = Field(default=(), max_length=ATTACHMENTS)
    conversation: Token | None = None
    key: str | None = Field(default=None, min_length=1, max_length=200)
    user: Token | None = None


_HOW = 'send text, or {"prompt": "..."}'


def read_prompt(data: bytes, headers: Mapping[str, str] | None = None) -> Prompt:
    """A request: plain text, or the protocol's envelope. Our headers stand above fields of the same meaning.

    Raises BadPrompt.
    """
    said: dict[str, object]
    try:
        if data.lstrip()[:1] == b"{":
            envelope = read_json(data, limit=_PROMPT_BYTES)
            known = envelope if isinstance(envelope, dict) else {}
            said = {name: value for name, value in known.items() if name in Prompt.model_fields and value is not None}
        else:
            said = {"prompt": data.decode()}
        for name, header in (("conversation", CONVERSATION), ("key", KEY), ("user", USER)):
            if header in (headers or {}):
                said[name] = (headers or {})[header]
        found = Prompt.model_validate(said)
    except (ProtocolError, UnicodeDecodeError) as error:
        raise BadPrompt("The prompt cannot be read.", why=str(error), hint=_HOW) from error
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise BadPrompt("The prompt does not fit.", why=f"{where}: {fault['msg']}", hint=_HOW) from error
    if not found.prompt.strip():
        raise BadPrompt("The prompt is empty.", hint=_HOW)
    return found


# --- what goes out ---

Question = Callable[[str], bytes]
"""A query chunk, by the subject on which its answer is awaited."""


class Exchange(Protocol):
    """How the chunks of one prompt reach its caller. The port."""

    async def send(self, data: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Give the caller a chunk. Raises Unreachable."""
        ...

    async def ask(self, question: Question) -> bytes:
        """Give the caller a query, and wait for the one message that answers it. Raises Unreachable."""
        ...


def chunk(kind: str, data: object) -> bytes:
    """A typed chunk of a reply."""
    return orjson.dumps({"type": kind, "data": data})


ACK = chunk("status", "ack")


def query(id: str, text: str, reply_subject: str) -> bytes:
    """A question to the caller's person, answered by one message to the subject."""
    return chunk("query", {"id": id, "reply_subject": reply_subject, "prompt": text})


class Spoken:
    """What of a run's text the caller has: nothing twice, and what a later beginning says otherwise as a new paragraph."""

    def __init__(self) -> None:
        self._command, self._attempt, self._text, self._sent = "", 0, "", ""
        self._done: set[str] = set()
        self._any = False

    def hear(self, delta: Delta) -> str:
        """What is to be sent of a piece."""
        if delta.command in self._done:
            return ""
        if delta.command != self._command:
            self._done.add(self._command)
            self._command, self._attempt, self._text, self._sent = delta.command, 0, "", ""
        if delta.attempt != self._attempt:
            self._attempt, self._text = delta.attempt, ""
        self._text += delta.text
        return self._new(self._text)

    def end(self, answer: str) -> str:
        """What is still to be sent of a run's answer."""
        return self._new(answer)

    def _new(self, text: str) -> str:
        if self._sent.startswith(text):
            return ""  # a new beginning that has not said more yet
        follows = text.startswith(self._sent)
        new = text[len(self._sent) :] if follows else text
        apart = self._any and not (self._sent and follows)
        self._sent, self._any = text, True
        return f"\n\n{new}" if apart else new
