"""The envelope of every fact and command: CloudEvents 1.0 in structured JSON.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md with the extension attributes
tenant, run, causes, slot, origin, schemaversion, decider, traceparent and datakey.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Generic, Literal, TypeAlias, TypeVar

import orjson
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from schemas.canonical import checked, read_json
from schemas.commands import COMMANDS, AnyCommand, Command, Role
from schemas.errors import ProtocolError
from schemas.events import EVENTS, Answered, AnyEvent, CancelRequested, Event, StepFailed
from schemas.ids import CommandId, EventId, RunId, Token, event_id
from schemas.sealing import PLAIN, SEALED, ContentType, Sealed

MAX_BYTES = 8 * 1024 * 1024
TYPE_PREFIX = "io.milepost."
VERSION = "1"
# Version 1 had other margins between answer and call, version 2 another prompt and a memory of turns alone; their runs go
# on with them. Version 3 knew no rules for writes, no questions of tools, and nothing of arguments from nowhere.
DECIDERS = ("1", "2", "3", "4")
DECIDER = "4"
LAST_MOMENT = datetime(9000, 1, 1, tzinfo=UTC)  # a deadline after it must still be a date

_BY_TYPE: dict[str, type[Event] | type[Command]] = {
    **{f"{TYPE_PREFIX}{cls.__name__}.v{VERSION}": cls for cls in EVENTS},
    **{f"{TYPE_PREFIX}{cls.__name__}.v{VERSION}": cls for cls in COMMANDS},
}


class UnknownType(ProtocolError):
    """The message is well-formed and of a type this version does not know; it is parked, not refused."""


class Header(BaseModel):
    """The attributes of a message, without its data. datakey: the key that its content is kept under; None: in the clear."""

    model_config = ConfigDict(frozen=True, extra="allow")

    specversion: Literal["1.0"] = "1.0"
    id: str = Field(pattern=r"^[0-9a-f]{32}$")
    source: str = Field(min_length=1, max_length=256)
    type: str = Field(min_length=1, max_length=128)
    subject: Token
    time: AwareDatetime = Field(lt=LAST_MOMENT)
    datacontenttype: ContentType = PLAIN
    tenant: Token
    run: str = Field(pattern=r"^[0-9]{6}-[0-9a-f]{32}$")
    causes: str = ""
    origin: str = "system"
    schemaversion: str = VERSION
    decider: str = DECIDER
    traceparent: str | None = None
    datakey: Token | None = None


BodyT = TypeVar("BodyT", bound=Event | Command)


@dataclass(frozen=True, slots=True)
class Envelope(Generic[BodyT]):
    """One message: its header and its body. `slot` (CloudEvents `subject`) is its place in the run."""

    header: Header
    body: BodyT
    material: dict[str, object] = field(default_factory=dict)

    @property
    def id(self) -> EventId:
        return EventId(self.header.id)

    @property
    def run(self) -> RunId:
        return RunId(self.header.run)

    @property
    def tenant(self) -> str:
        return self.header.tenant

    @property
    def slot(self) -> str:
        return self.header.subject

    @property
    def role(self) -> str:
        """The role that speaks, as `source` (/milepost/ROLE/INSTANCE) says."""
        return role_of(self.header.source)

    @property
    def kind(self) -> str:
        """The name of what it says, such as RunRequested; also when its content is sealed."""
        return self.header.type.removeprefix(TYPE_PREFIX).partition(".")[0]

    @property
    def time(self) -> datetime:
        return self.header.time

    @property
    def causes(self) -> tuple[str, ...]:
        return tuple(self.header.causes.split())


Fact: TypeAlias = Envelope[AnyEvent | Sealed]
Order: TypeAlias = Envelope[AnyCommand]


def source_of(role: Role, instance: str) -> str:
    """The CloudEvents source of a process."""
    return f"/milepost/{role}/{instance}"


@lru_cache(maxsize=1024)  # processes that speak are few
def role_of(source: str) -> str:
    """The role in a source; ProtocolError if the source has another form."""
    parts = source.split("/")
    if len(parts) != 4 or parts[1] != "milepost":
        raise ProtocolError(f"{source!r} is no source of Milepost.")
    return parts[2]


def type_of(body: Event | Command | type[Event] | type[Command]) -> str:
    """The CloudEvents type of a body, such as io.milepost.RunRequested.v1."""
    cls = body if isinstance(body, type) else type(body)
    return f"{TYPE_PREFIX}{cls.__name__}.v{VERSION}"


def new_fact(
    event: AnyEvent, *, run: RunId, tenant: str, slot: str, source: str, time: datetime,
    causes: Iterable[str] = (), decider: str = DECIDER, traceparent: str | None = None, datakey: str | None = None,
) -> Fact:  # fmt: skip
    """A fact in its slot; its id is derived from where it stands."""
    header = Header(
        id=event_id(run, tenant, role_of(source), slot), source=source, type=type_of(event), subject=slot, time=time,
        tenant=tenant, run=run,
        causes=" ".join(causes), origin=event.origin, decider=decider, traceparent=traceparent, datakey=datakey,
    )  # fmt: skip
    return Envelope(header, event)


def new_order(
    command: AnyCommand, *, id: CommandId, run: RunId, tenant: str, source: str, time: datetime, causes: Iterable[str],
    material: dict[str, object] | None = None, decider: str = DECIDER, traceparent: str | None = None,
    datakey: str | None = None,
) -> Order:  # fmt: skip
    """A command on its way. material: content its references stand for, so that a service need not read the log."""
    header = Header(
        id=id, source=source, type=type_of(command), subject=id, time=time, tenant=tenant, run=run,
        causes=" ".join(causes),
        decider=decider, traceparent=traceparent, datakey=datakey,
    )  # fmt: skip
    return Envelope(header, command, material or {})


def encode(envelope: Fact | Order | Envelope[Sealed]) -> bytes:
    """The bytes that go on the bus and into the log. Raises ProtocolError for what a reader would refuse."""
    message = envelope.header.model_dump(mode="json", exclude_none=True) | _content(envelope)
    checked(message)
    return orjson.dumps(message)


def encode_content(envelope: Fact | Order) -> bytes:
    """What a message says, without its header. Raises ProtocolError for what a reader would refuse."""
    content = _content(envelope)
    checked(content)  # type: ignore[arg-type]  # JSON, as the models write it
    return orjson.dumps(content)


def _content(envelope: Fact | Order | Envelope[Sealed]) -> dict[str, object]:
    content: dict[str, object] = {"data": envelope.body.model_dump(mode="json")}
    if envelope.material:
        content["material"] = envelope.material
    return content


def decode(raw: bytes) -> Fact | Order | Envelope[Sealed]:
    """Read one message strictly; sealed content stays sealed.

    Raises UnknownType for a type of a newer version and ProtocolError for everything else that is wrong.
    """
    message = read_json(raw, limit=MAX_BYTES)
    if not isinstance(message, dict):
        raise ProtocolError("The message is no JSON object.")
    data, material = message.pop("data", None), message.pop("material", {})
    try:
        header = Header.model_validate(message)
    except ValidationError as error:
        raise ProtocolError("The message is no envelope of Milepost.", why=_reasons(error)) from error
    return _said(header, data, material, sealed=header.datacontenttype == SEALED)


def decode_content(header: Header, raw: bytes) -> Fact | Order:
    """What encode_content wrote, under the header that it was written for; as strict as decode."""
    message = read_json(raw, limit=MAX_BYTES)
    if not isinstance(message, dict):
        raise ProtocolError("The content is no JSON object.")
    return _said(header, message.get("data"), message.get("material", {}), sealed=False)  # type: ignore[return-value]


def _said(header: Header, data: object, material: object, *, sealed: bool) -> Fact | Order | Envelope[Sealed]:
    body_type = _type_of(header)
    if sealed:
        if header.datakey is None:
            raise ProtocolError("The content is sealed, and no key is named.")
        body_type = Sealed
    try:
        body = body_type.model_validate(data)
    except ValidationError as error:
        raise ProtocolError(f"The data is no {body_type.__name__}.", why=_reasons(error)) from error
    if not isinstance(material, dict):
        raise ProtocolError("The material of a command is no JSON object.")
    return Envelope(header, body, material)  # type: ignore[return-value]  # the registry pairs types with bodies


def _type_of(header: Header) -> type[Event] | type[Command]:
    body_type = _BY_TYPE.get(header.type)
    if body_type is None:
        raise UnknownType(f"The type {header.type!r} is unknown to this version.", hint="milepost --version")
    return body_type


def decode_fact(raw: bytes) -> Fact:
    """Read a fact, sealed or not; ProtocolError if the message is a command, or its id is not its slot's."""
    return checked_fact(decode(raw))


def checked_fact(envelope: Fact | Order | Envelope[Sealed]) -> Fact:
    """The message, if it is a fact that may stand where it stands; of a sealed one its place alone is known."""
    kind, body, role, slot = _type_of(envelope.header), envelope.body, envelope.role, envelope.slot
    if not issubclass(kind, Event) or not isinstance(body, Event):
        raise ProtocolError(f"{envelope.header.type} is no event.")
    if envelope.id != event_id(envelope.run, envelope.tenant, role, slot):
        raise ProtocolError("The event's id is not the id of its place.")
    if kind.slot not in ("", slot):
        raise ProtocolError(f"{envelope.kind} may not stand in the slot {slot!r}.")
    if not isinstance(body, Sealed) and role not in speakers(body):
        raise ProtocolError(f"{role} may not state {envelope.kind}.")
    return envelope  # type: ignore[return-value]  # an event, as just seen


def speakers(event: Event) -> frozenset[str]:
    """The roles that may state an event: who was asked, or whom the event belongs to."""
    if isinstance(event, CancelRequested):
        return frozenset({"client", "memory", "recorder"})  # the recorder calls off a fork that cannot be
    if isinstance(event, StepFailed):  # the conductor states it for a command that cannot be sent
        return frozenset({event.command.role, event.role})
    return frozenset({event.command.role if isinstance(event, Answered) else event.role})


def decode_order(raw: bytes) -> Order:
    """Read a command that is not sealed; ProtocolError if the message is something else."""
    return checked_order(decode(raw))


def checked_order(envelope: Fact | Order | Envelope[Sealed]) -> Order:
    """The message, if it is a command that can be read."""
    if not isinstance(envelope.body, Command):
        raise ProtocolError(f"{envelope.header.type} is no command that can be read.")
    return envelope


def _reasons(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'message'}: {item['msg']}" for item in error.errors()[:3]
    )
