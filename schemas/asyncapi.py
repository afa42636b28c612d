"""The bus described for other people's programs: AsyncAPI 3.0, and the same as a page for people.

https://www.asyncapi.com/docs/reference/specification/v3.0.0. Everything is read from the models; what only subjects.py
knows (the places) stands here as data, and a test holds it against subjects.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TypeAlias, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from schemas import subjects
from schemas.bus_tools import ToolAnswer, ToolRequest
from schemas.commands import COMMANDS, AskPerson, Command, RequestApproval, Role
from schemas.envelope import VERSION, Header, type_of
from schemas.events import EVENTS, Answered, CancelRequested, Event
from schemas.policy import Revocation
from schemas.sealing import Sealed
from schemas.tools import Beat, Refusal, ToolCard

Json: TypeAlias = "Mapping[str, Json] | list[Json] | str | int | float | bool | None"
Object: TypeAlias = dict[str, Json]

ROLES: tuple[str, ...] = get_args(Role)
UNSENT: frozenset[str] = frozenset({"conductor", "person"})  # EndRun is answered where it is decided; people are asked


@dataclass(frozen=True, slots=True)
class Place:
    """A kind of subject: its address with named tokens, what is said there, and where it is kept."""

    name: str
    address: str
    says: str
    kept: str
    messages: tuple[str, ...] = field(default=())


def _orders() -> tuple[str, ...]:
    return tuple(command.__name__ for command in COMMANDS if command.role not in UNSENT)


PLACES = (
    Place(
        "facts", "mp.ev.{segment}.{partition}.{run}.{tenant}.{role}.{slot}",
        "What has happened. A slot takes one message for ever, so a command has one result and a run has one end.",
        "the stream RUNS_{segment}, for ever, fsynced before it is acknowledged", tuple(event.__name__ for event in EVENTS),
    ),
    Place(
        "commands", "mp.cmd.{role}.{lane}.{tenant}.{run}.{command}", "What a service is asked to do.",
        "the work queue COMMANDS, until it is done", _orders(),
    ),
    Place(
        "asks", "mp.ask.{tenant}.{run}.{command}",
        "A person is asked to approve a planned write, or what a tool wants to know; the log holds the truth.",
        "nowhere", ("RequestApproval", "AskPerson"),
    ),
    Place("deltas", "mp.delta.{tenant}.{run}.{command}", "Text as it is generated.", "nowhere", ("Delta",)),
    Place("missed", "mp.missed.{tenant}.{run}.{command}", "A listener missed text: say it again.", "nowhere", ("Missed",)),
    Place("busy", "mp.busy.{tenant}.{run}.{command}", "The model takes no more for now.", "nowhere", ("Busy",)),
    Place("stops", "mp.stop.{role}.{run}", "A run was cancelled: give up its work.", "nowhere", ("Stop",)),
    Place(
        "forgets", "mp.forget.{tenant}", "Data keys were destroyed: what was opened with them is dropped from memory.",
        "nowhere", ("Forget",),
    ),
    Place(
        "revokes", "mp.revoke.{tenant}", "Rights to call were taken back, or given again.", "nowhere", ("Revocation",),
    ),
    Place(
        "tools", "mp.tool.{tenant}.{tool}", "A call of a tool that answers by itself (request and reply), in any language.",
        "nowhere", ("ToolRequest", "ToolAnswer"),
    ),
    Place(
        "sources", "mp.sources.{tenant}", "Tools were imported or dropped: hosts look what there is to host.", "nowhere",
        ("SourcesChanged",),
    ),
    Place(
        "cards", "mp.card.{tenant}.{lane}.{tool}", "A tool and its host; an empty message takes it back.",
        "the stream CARDS, the last one of each", ("ToolCard",),
    ),
    Place("beats", "mp.beat.{lane}", "A host of tools lives; after 10 s of silence it is away.", "nowhere", ("Beat",)),
    Place(
        "refusals", "mp.refused.{tenant}.{lane}.{tool}", "The catalogue did not take a card, and why.", "nowhere",
        ("Refusal",),
    ),
    Place(
        "embedding", "mp.embedding.{process}", "Which texts a process gives vectors to, so that no other does.", "nowhere",
        ("Embedding",),
    ),
    Place(
        "services", "mp.svc.{role}.{verb}", "A question to a service (request and reply); errors come back in headers.",
        "nowhere", ("Question", "Answer"),
    ),
    Place(
        "cohortWork", "mp.cohort.work.{cohort}.{n}", "Recorded runs that are to be driven again with something swapped.",
        "the work queue COHORTS, until they are driven", ("CohortItem",),
    ),
    Place(
        "cohortDone", "mp.cohort.done.{cohort}.{n}", "What that came to: one result an item.",
        "the work queue COHORTS, until it is kept", ("CohortResults",),
    ),
    Place("dead", "mp.dead.{role}", "What nobody could read, as it came.", "the stream DEAD, the last 64 MiB", ("Dead",)),
)  # fmt: skip

TOKENS: dict[str, str] = {
    "segment": "The UTC month in which the run began, YYYYMM; the run id begins with it.",
    "partition": "0 to 15, from the run id: for locality only.",
    "run": "YYYYMM-<32 hex digits>, derived from tenant and idempotency key.",
    "tenant": "Whose run it is; in a card `_all` for a tool that every tenant sees.",
    "role": "Who speaks (facts) or is spoken to (commands, stops, services).",
    "slot": "The id of the command that the fact answers, or request, cancel, release, end.",
    "lane": "Which host of a role: `main`, or the host of a tool or a model.",
    "command": "The id of the command: 32 hex digits, derived from its cause and its canonical JSON.",
    "tool": "The tool's name.",
    "process": "The name of a process, its own.",
    "cohort": "16 hex digits: digest of its runs, of what is swapped, and of the code that drives them.",
    "n": "Which item of the cohort, from 0.",
    "verb": "What is asked, such as stats, runs, find_tools, add_document.",
}

_PLAIN: dict[str, tuple[str, Object | None]] = {
    "Delta": (
        "A piece of generated text. offset: characters of this attempt before it; a higher attempt replaces the text.",
        {
            "type": "object", "required": ["attempt", "offset", "text"],
            "properties": {
                "attempt": {"type": "integer", "minimum": 1}, "offset": {"type": "integer", "minimum": 0},
                "text": {"type": "string"},
            },
        },
    ),
    "Missed": (
        "How much a listener has; what follows is told again as deltas, until the fact holds the whole text.",
        {
            "type": "object", "required": ["attempt", "offset"],
            "properties": {"attempt": {"type": "integer", "minimum": 0}, "offset": {"type": "integer", "minimum": 0}},
        },
    ),
    "Busy": (
        "Back-pressure: the command is tried again after so many seconds. limit: requests that may wait.",
        {
            "type": "object", "required": ["retry_after_s", "limit"],
            "properties": {"retry_after_s": {"type": "number"}, "limit": {"type": "integer"}},
        },
    ),
    "Stop": ("An empty message: the subject says it all.", None),
    "Forget": (
        "The ids of the keys.",
        {
            "type": "object", "required": ["keys"],
            "properties": {"keys": {"type": "array", "items": {"type": "string"}}},
        },
    ),
    "ToolCard": ("What the model and the catalogue see of a tool.", {"$ref": "#/components/schemas/ToolCard"}),
    "Revocation": ("What was taken back; until in the past: given again.", {"$ref": "#/components/schemas/Revocation"}),
    "ToolRequest": ("What a tool is asked.", {"$ref": "#/components/schemas/ToolRequest"}),
    "ToolAnswer": ("What it answers.", {"$ref": "#/components/schemas/ToolAnswer"}),
    "SourcesChanged": ("An empty message: the subject says it all.", None),
    "Beat": ("A sign of life; an empty message is one too.", {"$ref": "#/components/schemas/Beat"}),
    "Refusal": ("What was refused and why.", {"$ref": "#/components/schemas/Refusal"}),
    "Embedding": ("SHA-256 digests of texts.", {"type": "array", "items": {"type": "string"}}),
    "Question": ("What is asked; every service answers the verb stats.", {"type": "object"}),
    "Answer": ("JSON, or an error: Nats-Service-Error-Code in the headers and {what, why, hint} as the body.", {}),
    "CohortItem": (
        "Runs of the log, and what is swapped (infra/cohort/swap.py).",
        {
            "type": "object", "required": ["cohort", "item", "tenant", "runs", "swap"],
            "properties": {
                "cohort": {"type": "string"}, "item": {"type": "integer", "minimum": 0}, "tenant": {"type": "string"},
                "runs": {"type": "array", "items": {"type": "string"}}, "swap": {"type": "object"},
            },
        },
    ),
    "CohortResults": (
        "A result a run (infra/cohort/driving.py); what it quotes of a sealed run is sealed, too.",
        {
            "type": "object", "required": ["cohort", "item", "by", "results"],
            "properties": {
                "cohort": {"type": "string"}, "item": {"type": "integer", "minimum": 0}, "by": {"type": "string"},
                "results": {"type": "array", "items": {"type": "object"}},
            },
        },
    ),
    "Dead": ("The bytes as they came, with the headers Milepost-Why and Milepost-Subject.", None),
}  # fmt: skip


# --- AsyncAPI -------------------------------------------------------------------------------------


def document() -> Object:
    """The AsyncAPI 3.0 document of this version."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Milepost", "version": f"{VERSION}.0.0", "license": {"name": "Apache-2.0"},
            "description": "Agents as services on NATS. Facts and commands are CloudEvents 1.0 in structured JSON.",
        },
        "defaultContentType": "application/json",
        "channels": {place.name: _channel(place) for place in PLACES},
        "operations": dict(_operations()),
        "components": {"messages": dict(_messages()), "schemas": _schemas()},
    }  # fmt: skip


def _channel(place: Place) -> Object:
    return {
        "address": place.address, "title": place.says.partition(".")[0], "description": f"{place.says} Kept: {place.kept}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in place.messages},
        "parameters": {token: _parameter(token) for token in tokens_of(place.address)},
    }  # fmt: skip


def _parameter(token: str) -> Object:
    return {"description": TOKENS[token], **({"enum": list(ROLES)} if token == "role" else {})}


def tokens_of(address: str) -> list[str]:
    """The named tokens of an address, in order."""
    return [part[1:-1] for part in address.split(".") if part.startswith("{")]


def _messages() -> Iterator[tuple[str, Json]]:
    bodies: tuple[type[Event] | type[Command], ...] = (*EVENTS, *COMMANDS)
    for body in bodies:
        yield body.__name__, {
            "name": type_of(body), "title": body.__name__, "summary": _doc(body), "contentType": "application/cloudevents+json",
            "payload": {"allOf": [{"$ref": "#/components/schemas/Header"}, _envelope(body)]},
        }  # fmt: skip
    for name, (summary, payload) in _PLAIN.items():
        yield name, {"name": name, "title": name, "summary": summary} | ({} if payload is None else {"payload": payload})


def _envelope(body: type[Event] | type[Command]) -> Object:
    data: Object = {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in (body.__name__, Sealed.__name__)]}
    properties: Object = {"type": {"const": type_of(body)}, "data": data}
    if issubclass(body, Command):
        properties["material"] = {"type": "object", "description": "Content that the command's references stand for."}
    return {"type": "object", "required": ["type", "data"], "properties": properties}


def _operations() -> Iterator[tuple[str, Json]]:
    yield "conductorSendsCommands", _operation("send", "commands", _orders(), "The conductor decides what is done next.")
    for command in COMMANDS:
        if command.role != "conductor":
            where = "asks" if command in (RequestApproval, AskPerson) else "commands"
            name = f"{command.role}Answers{command.__name__}"
            yield name, {
                **_operation("receive", where, [command.__name__], _doc(command)),
                "reply": {"channel": _channel_ref("facts"), "messages": _message_refs("facts", answers_to(command))},
            }  # fmt: skip
    for role in ROLES:
        said = [event.__name__ for event in EVENTS if role in stated_by(event) and not _answers_sent(event)]
        if said:
            yield f"{role}StatesFacts", _operation("send", "facts", said, f"What {role} states by itself.")
    yield "conductorStopsWork", _operation("send", "stops", ["Stop"], "A run was cancelled.")
    yield "llmTellsDeltas", _operation("send", "deltas", ["Delta"], "Whoever listens hears the text as it comes.")
    yield "llmHearsMissed", _operation("receive", "missed", ["Missed"], "Text under way is told again from an offset.")
    yield "llmTellsBusy", _operation("send", "busy", ["Busy"], "Back-pressure, told to whoever waits.")
    yield "memoryTellsForgets", _operation("send", "forgets", ["Forget"], "A person was forgotten: drop what is in memory.")
    yield "policyTellsRevokes", _operation("send", "revokes", ["Revocation"], "Hosts refuse from now on what was taken back.")
    yield "toolsAskTools", _operation("send", "tools", ["ToolRequest"], "A tool elsewhere is asked; it replies a ToolAnswer.")
    yield (
        "toolsTellSources",
        _operation("send", "sources", ["SourcesChanged"], "Every host looks at once."),
    )
    yield "toolsPublishCards", _operation("send", "cards", ["ToolCard"], "A host says which tools it has.")
    yield "toolsTellBeats", _operation("send", "beats", ["Beat"], "A host says that it lives, and how it does.")
    yield "retrievalTellsRefusals", _operation("send", "refusals", ["Refusal"], "Whoever published the card may hear why.")
    yield "retrievalTellsEmbedding", _operation("send", "embedding", ["Embedding"], "No text is embedded twice needlessly.")
    yield "retrievalReadsCards", _operation("receive", "cards", ["ToolCard"], "The catalogue is what the cards make up.")
    yield "servicesAnswerQuestions", _operation("receive", "services", ["Question"], "The answer goes to the reply subject.")
    yield "cohortsSendWork", _operation("send", "cohortWork", ["CohortItem"], "Whoever has a large cohort shares it out.")
    driving = _operation("receive", "cohortWork", ["CohortItem"], "A worker drives the runs of an item again.")
    reply: Object = {"channel": _channel_ref("cohortDone"), "messages": _message_refs("cohortDone", ["CohortResults"])}
    yield "workersDriveRuns", {**driving, "reply": reply}
    yield "servicesBuryMessages", _operation("send", "dead", ["Dead"], "What cannot be read is kept with the reason.")


def _operation(action: str, channel: str, messages: Iterable[str], summary: str) -> Object:
    return {
        "action": action,
        "channel": _channel_ref(channel),
        "summary": summary,
        "messages": _message_refs(channel, messages),
    }


def _channel_ref(channel: str) -> Object:
    return {"$ref": f"#/channels/{channel}"}


def _message_refs(channel: str, messages: Iterable[str]) -> list[Json]:
    return [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages]


@cache
def _schemas() -> Object:
    bodies: list[type[BaseModel]] = [*EVENTS, *COMMANDS, Sealed, ToolCard, Beat, Refusal, Revocation, ToolRequest, ToolAnswer]
    _, definitions = models_json_schema(
        [(Header, "validation"), *((body, "serialization") for body in bodies)], ref_template="#/components/schemas/{model}"
    )
    return {name: _tagged(schema) for name, schema in definitions["$defs"].items()}


def _tagged(schema: Json) -> Json:
    """Bodies told apart by their constant `kind`, which is always there; AsyncAPI knows no other discriminator."""
    if isinstance(schema, list):
        return [_tagged(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {name: _tagged(inner) for name, inner in schema.items() if name != "discriminator"}
    properties, required = plain.get("properties"), plain.get("required", [])
    if isinstance(properties, dict) and "kind" in properties and isinstance(required, list):
        plain["required"] = ["kind", *(each for each in required if each != "kind")]
    return plain


# --- what the models say --------------------------------------------------------------------------


def answers_to(command: type[Command]) -> list[str]:
    """The events that may answer a command, by the type of their field `command`."""
    return [event.__name__ for event in EVENTS if command in _answered(event)]


def stated_by(event: type[Event]) -> list[str]:
    """The roles that may state an event: who was asked, or whom it belongs to."""
    if event is CancelRequested:
        return ["client", "memory", "recorder"]
    answered = _answered(event)
    return sorted({command.role for command in answered} | ({event.role} if len(answered) != 1 else set()))


def _answered(event: type[Event]) -> tuple[type[Command], ...]:
    if not issubclass(event, Answered):
        return ()
    annotation = event.model_fields["command"].annotation
    return get_args(annotation) or (annotation,)


def _answers_sent(event: type[Event]) -> bool:
    """Whether it stands in the reply of an operation already."""
    return any(command.role != "conductor" for command in _answered(event))


def _doc(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__ or "").split("\n\n")[0].replace("\n", " ")


# --- the page -------------------------------------------------------------------------------------

_INTRO = f"""# Subjects and messages

Generated by `milepost asyncapi --markdown` from `schemas/`; a test holds it against the code. For programs:
`milepost asyncapi` prints the same as AsyncAPI 3.0. Every subject begins with `{subjects.ROOT}` and is built and parsed in
`schemas/subjects.py` alone.
"""


def markdown() -> str:
    """docs/subjects.md."""
    parts = [
        _INTRO,
        "## Subjects\n", _table(("subject", "what is said there", "kept"), _place_rows()),
        "## Tokens\n", "Every token matches `^[A-Za-z0-9_-]{1,64}$`.\n",
        _table(("token", "what it is"), ((f"`{name}`", text) for name, text in TOKENS.items())),
        "## Envelope\n", "Facts and commands are CloudEvents 1.0; `data` is the message, and a command may bring `material`.\n",
        _table(("attribute", "type", "needed"), _field_rows("Header")),
        "## Commands\n", "Each is answered by exactly one event.\n",
        _table(("command", "asked of", "what", "answered by"), _command_rows()),
        "## Events\n", "The slot is the id of the command that the event answers, or the one named here.\n",
        _table(("event", "stated by", "slot", "content from", "what"), _event_rows()),
        "## Fields\n", *_fields(),
    ]  # fmt: skip
    return "\n".join(parts).rstrip() + "\n"


def _place_rows() -> Iterator[tuple[str, ...]]:
    for place in PLACES:
        yield f"`{place.address}`", place.says, place.kept


def _command_rows() -> Iterator[tuple[str, ...]]:
    for command in COMMANDS:
        yield f"`{command.__name__}`", command.role, _doc(command), ", ".join(answers_to(command))


def _event_rows() -> Iterator[tuple[str, ...]]:
    for event in EVENTS:
        slot = f"`{event.slot}`" if event.slot else ""
        yield f"`{event.__name__}`", ", ".join(stated_by(event)), slot, event.origin, _doc(event)


def _fields() -> Iterator[str]:
    for name in sorted(_schemas()):
        rows = [row for row in _field_rows(name) if name == "Header" or row[0] != "`kind`"]
        if rows and name != "Header":
            yield f"### {name}\n"
            yield _table(("field", "type", "needed"), rows)


def _field_rows(name: str) -> list[tuple[str, ...]]:
    schema = _schemas()[name]
    properties, required = (schema.get("properties", {}), schema.get("required", [])) if isinstance(schema, dict) else ({}, [])
    if not isinstance(properties, dict) or not isinstance(required, list):
        return []
    return [(f"`{field}`", _type(about), "yes" if field in required else "") for field, about in properties.items()]


def _type(schema: Json) -> str:
    """A schema in a few words."""
    if not isinstance(schema, dict):
        return "any"
    match schema:
        case {"$ref": str(ref)}:
            return ref.rsplit("/", 1)[-1]
        case {"const": value}:
            return f"`{value}`"
        case {"enum": list(values)}:
            return " or ".join(f"`{value}`" for value in values)
        case {"anyOf": list(kinds)} | {"oneOf": list(kinds)}:
            return " or ".join(_type(kind) for kind in kinds)
        case {"type": "array", "prefixItems": list(items)}:
            return f"[{', '.join(_type(item) for item in items)}]"
        case {"type": "array", "items": items}:
            return f"list of {_type(items)}"
        case {"type": str(kind)}:
            form = schema.get("format")
            return str(form) if form else kind
    return "any"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"
