"""Chats of messengers: who writes there, what was written, and how an answer gets back. The port of an adapter."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Literal, Protocol

from pydantic import ConfigDict, Field, StringConstraints

from schemas.ids import Token
from schemas.tools import Value
from services.gateway.ports.outside import Outside
from services.gateway.principal import DoorRole, NotSignedIn, Principal
from services.gateway.triggers.trigger import EnvironmentName

ChannelName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]{0,15}$")]
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]{0,31}")  # no dash: it parts a channel's name from a person's


class Person(Value):
    """Who somebody of the messenger is here. user: in whose name they speak; None: the one that is made of their id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: Token | None = None
    roles: tuple[DoorRole, ...] = ("operator",)


class Channel(Value):
    """A robot of a messenger, at /channels/TENANT/NAME. Its secrets are variables of the gateway's environment, by name.

    agent: who answers. people: by the messenger's own ids; whoever is not named has the roles of `others`. notify_*: a group's
    robot that is told when any run of the tenant waits for approval. language: of cards.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["dingtalk"] = "dingtalk"
    name: ChannelName = "dingtalk"
    secret_env: EnvironmentName
    agent: Token = "assistant"
    people: dict[Annotated[str, Field(max_length=200)], Person] = Field(default_factory=dict, max_length=5000)
    others: tuple[DoorRole, ...] = ("operator",)
    notify_token_env: EnvironmentName | None = None
    notify_secret_env: EnvironmentName | None = None
    language: Literal["zh", "en"] = "zh"
    enabled: bool = True


class KeptChannel(Value):
    """A channel as it is kept. version: counts its changes; by, at: the last one's."""

    tenant: Token
    version: int = Field(ge=1)
    by: str
    at: datetime
    channel: Channel


class Target(Value):
    """Where an answer goes. address: of the chat, good until `until`; at: whom to mention, by the messenger's id."""

    address: str = Field(max_length=2000)
    until: datetime
    at: str = ""
    nick: str = ""


class Message(Value):
    """What somebody wrote. id: the messenger's own; chat and person, too."""

    id: str = Field(min_length=1, max_length=200)
    chat: str = Field(min_length=1, max_length=200)
    person: str = Field(min_length=1, max_length=200)
    text: str = Field(max_length=20_000)
    at: datetime
    target: Target


class Card(Value):
    """Something to say in a chat: a title for the list of chats, and Markdown."""

    title: str
    text: str


class Messenger(Protocol):
    """An adapter: it knows one messenger's protocol, and nothing of runs."""

    def read(
        self, secret: str, headers: Mapping[str, str], query: Mapping[str, str], body: bytes, now: datetime, base: str = ""
    ) -> Sequence[Message]:
        """The messages that a request brings. base: stands in place of the messenger's own address, for tests.

        Raises NoChannel for a signature that is not good, ProtocolError for what is no message.
        """
        ...

    async def say(self, target: Target, card: Card, outside: Outside) -> None:
        """Say something in a chat. Raises Unreachable, NotSaid."""
        ...

    async def notify(self, token: str, secret: str, card: Card, now: datetime, outside: Outside) -> None:
        """Say something to the group of a robot of its own. Raises Unreachable, NotSaid."""
        ...


class NoChannel(NotSignedIn):
    """No channel of this name takes this request: there is none, or the signature is not its messenger's."""

    def __init__(self) -> None:
        super().__init__("no channel of this name knows this signature")
        self.what, self.hint = "The request is not let in.", "milepost channels show NAME"


def user_of(channel: Channel, person: str) -> str:
    """In whose name somebody of the messenger speaks: another id, another name."""
    named = channel.people.get(person)
    if named is not None and named.user is not None:
        return named.user
    plain = person if _PLAIN.fullmatch(person) else f"_{hashlib.sha256(person.encode()).hexdigest()[:24]}"
    prefix = channel.kind if channel.name == channel.kind else f"{channel.kind}-{channel.name}"
    return f"{prefix}-{plain}"


def principal_of(tenant: str, channel: Channel, person: str) -> Principal:
    """Somebody of the messenger, with the roles that the setting gives them."""
    named = channel.people.get(person)
    return Principal(tenant, user_of(channel, person), named.roles if named else channel.others, "channel", channel.name)


def conversation_of(channel: Channel, message: Message) -> str:
    """One for each person in each chat: nobody's words are another's."""
    sha = hashlib.sha256(f"{channel.kind} {channel.name} {message.chat}\0{message.person}".encode())
    return f"{channel.name}-{sha.hexdigest()[:32]}"
