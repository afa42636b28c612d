"""What a run asked or came to, in the words of MCP: questions for its client's person, results, texts of failure."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Sequence
from fnmatch import fnmatchcase

import mcp_types as types

from runtime.client import answer_of
from runtime.state import RunState
from schemas.agent import AgentSpec
from schemas.commands import AskPerson, RequestApproval
from schemas.errors import MilepostError
from schemas.events import ApprovalRefused, Failure, ToolFailed, ToolInDoubt, ToolReturned
from schemas.tools import Part, ToolCard
from tool_adapters.names import tool_name

INLINE_BYTES = 4 * 1024 * 1024
"""Bytes of one part that travel inside a result; larger ones are told by their reference."""

VALUE = 400

RUN = "io.github.milepost/run"
"""Under which name in `_meta` a result tells the run that it is of."""

Load = Callable[[str], Awaitable[bytes]]
"""The bytes of a payload's reference."""


def tool_of(card: ToolCard) -> types.Tool:
    """A card as a tool of the protocol; its hints are the operator's word."""
    return types.Tool(
        name=card.name, title=card.title or None, description=card.description, input_schema=card.parameters,
        annotations=types.ToolAnnotations(
            read_only_hint=card.effect == "read", destructive_hint=card.effect == "destructive",
            idempotent_hint=card.idempotency == "key" or None,
        ),
    )  # fmt: skip


def agent_tool(spec: AgentSpec) -> types.Tool:
    """An agent as a tool that takes a task."""
    can = f" It may use {', '.join(spec.tools[:8])}." if spec.tools else ""
    fields = {
        "task": {"type": "string", "minLength": 1, "description": "What it is to do or to answer."},
        "conversation": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$", "description": "To go on with an earlier one."},
    }
    return types.Tool(
        name=tool_name(spec.name), description=f"Ask the agent {spec.name} to do a task.{can}",
        input_schema={"type": "object", "properties": fields, "required": ["task"], "additionalProperties": False},
    )  # fmt: skip


def may_approve(asked: RequestApproval, user: str) -> bool:
    """Whether this user is one who may answer; anybody else's answer would not count."""
    return asked.not_by != user and (not asked.approvers or any(fnmatchcase(user, each) for each in asked.approvers))


def form_of(asked: RequestApproval | AskPerson, state: RunState) -> types.ElicitRequestFormParams:
    """The question to the client's person."""
    if isinstance(asked, AskPerson):
        fields: dict[str, object] = {"type": "object", "properties": {}}
        return types.ElicitRequestFormParams(message=asked.question.text, requested_schema=fields | asked.question.fields)
    plan = state.plan_of(asked)
    preview = plan.planned.preview if plan else None
    open_call = state.open_calls.get(asked.call.id)
    lines = [preview.summary if preview else asked.call.name]
    lines += [f"  {label}: {text}" for label, text in (preview.rows if preview else ())]
    if preview and preview.price:
        lines.append(f"price: {preview.price} {preview.currency or ''}".rstrip())
    lines.append(f"effect: {open_call.card.effect if open_call else 'write'}")
    lines += [f"  {name} = {_value(value)}" for name, value in asked.call.arguments.items()]
    lines += [f"why you are asked: {asked.why}"] if asked.why else []
    lines += [f"nobody named: {', '.join(asked.ungrounded)}"] if asked.ungrounded else []
    lines += [f"it was done before: {asked.before.at}, run {asked.before.run}"] if asked.before else []
    field = {"type": "boolean", "title": "Approve", "description": "Whether it may be done."}
    schema = {"type": "object", "properties": {"approve": field}, "required": ["approve"]}
    return types.ElicitRequestFormParams(message="\n".join(lines), requested_schema=schema)


def _value(value: object) -> str:
    """An argument on one line: what a tool shows of itself may leave it out."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= VALUE else f"{text[: VALUE - 1]}…"


def waits_text(state: RunState) -> str:
    """What to do about a run that waits for a person whom the client cannot ask."""
    asked = next(iter(state.approvals().values()), None)
    question = next(iter(state.questions()), None)
    if asked is None and question is not None:
        how = f"milepost approvals answer {state.run} {question} NAME=VALUE"
    else:
        how = f"milepost runs show {state.run}, then milepost runs approve {state.run}"
    what = f"{asked.call.name} waits for a person's approval." if asked else "A person has to answer a question first."
    return f"{what} This client cannot ask for it. At a terminal: {how}. Call the same again to get the result."


async def result_of(state: RunState, events: Sequence[object], load: Load, *, agent: bool) -> types.CallToolResult:
    """What a run came to: an agent's answer, or what its one call gave."""
    meta = {RUN: state.run}
    if agent:
        try:
            return types.CallToolResult(content=[types.TextContent(text=answer_of(state))], _meta=meta)
        except MilepostError as error:
            return failed(str(error), state.run)
    for event in reversed(events):
        if isinstance(event, ToolReturned):
            content = [each for part in event.result.parts for each in await _content(part, load)]
            structured = next((part.json_value for part in event.result.parts if isinstance(part.json_value, dict)), None)
            if not any(isinstance(each, types.TextContent) for each in content):
                content.insert(0, types.TextContent(text=event.result.text))
            return types.CallToolResult(content=content, structured_content=structured, _meta=meta)
        if isinstance(event, ToolFailed | ToolInDoubt):
            return failed(_told(event.failure), state.run)
        if isinstance(event, ApprovalRefused):
            return failed(f"{event.command.call.name} was refused by {event.by}. {event.reason}".strip(), state.run)
    try:
        return failed(answer_of(state), state.run)
    except MilepostError as error:
        return failed(str(error), state.run)


def failed(text: str, run: str = "") -> types.CallToolResult:
    """A result that says that it did not work, and why."""
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True, _meta={RUN: run} if run else None)


def _told(failure: Failure) -> str:
    return "\n".join(each for each in (failure.what, failure.why, failure.hint) if each)


async def _content(part: Part, load: Load) -> list[types.ContentBlock]:
    if part.ref is None:
        return [types.TextContent(text=part.text)] if part.text is not None else []
    name = part.name or part.kind
    link = types.ResourceLink(uri=part.ref, name=name, mime_type=part.media_type, size=part.size)
    if not part.ref.startswith("payload:") or (part.size or 0) > INLINE_BYTES:
        return [link]
    try:
        data = base64.b64encode(await load(part.ref)).decode()
    except MilepostError:
        return [link]
    media_type = part.media_type or "application/octet-stream"
    if part.kind == "image":
        return [types.ImageContent(data=data, mime_type=media_type)]
    if part.kind == "audio":
        return [types.AudioContent(data=data, mime_type=media_type)]
    return [types.EmbeddedResource(resource=types.BlobResourceContents(uri=part.ref, blob=data, mime_type=media_type))]
