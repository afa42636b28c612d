"""The spans of a run, read from its log: names and attributes as OpenTelemetry's conventions for generative AI have them.

https://opentelemetry.io/docs/specs/semconv/gen-ai/ ; what they have no name for begins with `milepost.`. What people, models
and tools said stands in no span unless it is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from runtime.causes import causes_of
from runtime.log import Stored
from runtime.numbering import said_in
from runtime.sealing import Erased
from runtime.tracing import Attribute, Kind, Place, Span, read, root_of, span_of, step_of, trace_of
from schemas.commands import (
    AnyCommand,
    AskPerson,
    CallTool,
    EndRun,
    Generate,
    JudgeCall,
    KeepGrant,
    PlanCall,
    RecallMemory,
    RequestApproval,
    RetrieveKnowledge,
    SelectTools,
    StartTimer,
    StoreTurn,
)
from schemas.envelope import Fact
from schemas.events import (
    TERMINAL,
    AnswerCopied,
    Answered,
    AnyEvent,
    ApprovalGranted,
    ApprovalRefused,
    CallJudged,
    EffectSettled,
    Generated,
    KnowledgeRetrieved,
    PersonAnswered,
    RunCompleted,
    RunFailed,
    RunRequested,
    RunSealed,
    StepFailed,
    ToolFailed,
    ToolInDoubt,
    ToolReturned,
    ToolsSelected,
    TurnQueued,
    TurnReleased,
)
from schemas.ids import RunId
from schemas.messages import Generation

PROVIDER = "milepost"
_FINISH = {"stop": "stop", "length": "length", "calls": "tool_calls"}

Attributes = dict[str, Attribute]


def spans_of(facts: Sequence[Stored], *, content: bool = False) -> list[Span]:
    """What a run's facts come to: its own span first, then one a step, in the log's order. content: with what was said.

    Raises Erased. A run without its request has none.
    """
    first = next((each.fact for each in facts if each.fact.kind == RunRequested.__name__), None)
    if first is None:
        return []
    request = first.body
    if not isinstance(request, RunRequested):
        raise Erased(f"run {first.run}")
    steps: list[Span] = []
    queued: Fact | None = None
    for node in causes_of(facts).nodes:
        fact, event = node.fact, said_in(node.fact)
        if isinstance(event, TurnQueued):
            queued = fact
        if isinstance(event, TurnReleased) and queued is not None:
            steps.append(_wait_for_turn(first, request, queued, fact))
        if isinstance(event, Answered) and not isinstance(event.command, EndRun):
            start = fact.time if node.after is None else min(fact.time, fact.time - node.after)
            steps.append(_step(first, request, fact, event, start, content))
    return [_whole(first, request, facts, content), *steps]


def _whole(first: Fact, request: RunRequested, facts: Sequence[Stored], content: bool) -> Span:
    own = [each.fact for each in facts if each.fact.kind not in (RunSealed.__name__, EffectSettled.__name__)]
    last = next((each for each in reversed(own) if isinstance(each.body, TERMINAL)), None)
    attributes: Attributes = {
        "gen_ai.operation.name": "invoke_agent", "gen_ai.provider.name": PROVIDER, "gen_ai.agent.name": request.agent.name,
        "gen_ai.conversation.id": request.conversation, "gen_ai.request.model": request.agent.model,
        "milepost.run.id": first.run, "milepost.tenant": first.tenant,
        "milepost.run.outcome": _outcome_of(last),
        **_usage([each.body.generation for each in own if isinstance(each.body, Generated)]),
    }  # fmt: skip
    if request.fork:
        attributes |= {"milepost.fork.run": request.fork.run, "milepost.fork.event": request.fork.at}
    if content:
        attributes["gen_ai.input.messages"] = _said("user", request.task)
        if last is not None and isinstance(last.body, RunCompleted):
            attributes["gen_ai.output.messages"] = _said("assistant", last.body.answer)
    caller = read(first.header.traceparent)
    return Span(
        f"invoke_agent {request.agent.name}", root_of(RunId(first.run), first.tenant, request), first.time,
        max(first.time, (last or own[-1]).time), "conductor", span_of(request.parent.command) if request.parent else None,
        "internal", attributes, (caller,) if caller else (),
        last.body.failure.type if last is not None and isinstance(last.body, RunFailed) else "",
    )  # fmt: skip


def _outcome_of(last: Fact | None) -> str:
    command = last.body.command if last is not None and isinstance(last.body, Answered) else None
    return command.outcome if isinstance(command, EndRun) else "open"


def _step(first: Fact, request: RunRequested, fact: Fact, event: Answered, start: datetime, content: bool) -> Span:
    command = event.command
    name, attributes = _named(command)
    attributes |= {"milepost.run.id": first.run, "milepost.event": fact.kind, **_outcome(event)}
    if isinstance(fact.body, AnswerCopied):
        attributes["milepost.copied_from"] = fact.body.run
    if content:
        attributes |= _content(event)
    failure = event.failure.type if isinstance(event, StepFailed | ToolFailed | ToolInDoubt) else ""
    kind: Kind = "client" if isinstance(command, Generate) else "internal"
    return Span(
        name, step_of(first.run, fact.slot, request), start, fact.time, command.role,
        root_of(RunId(first.run), first.tenant, request).span, kind, attributes, error=failure,
    )  # fmt: skip


def _named(command: AnyCommand) -> tuple[str, Attributes]:
    """The name of a command's span, and what the command says of itself."""
    match command:
        case Generate():
            drawn = command.sampling
            return f"chat {command.model}", {
                "gen_ai.operation.name": "chat", "gen_ai.provider.name": PROVIDER, "gen_ai.request.model": command.model,
                "gen_ai.request.temperature": drawn.temperature, "gen_ai.request.top_p": drawn.top_p,
                "gen_ai.request.top_k": drawn.top_k, "gen_ai.request.seed": drawn.seed,
                "gen_ai.request.max_tokens": drawn.max_tokens, "gen_ai.request.stream": True,
            }  # fmt: skip
        case CallTool() | PlanCall():
            does = isinstance(command, CallTool)
            return f"{'execute_tool' if does else 'plan_tool'} {command.call.name}", {
                "gen_ai.operation.name": "execute_tool" if does else "plan_tool", "gen_ai.tool.name": command.call.name,
                "gen_ai.tool.call.id": command.call.id, "gen_ai.tool.type": "function", "milepost.tool.lane": command.host,
                **({"milepost.tool.write": command.write_key is not None} if isinstance(command, CallTool) else {}),
            }  # fmt: skip
        case RetrieveKnowledge():
            source = ",".join(command.collections)
            return f"retrieval {source}".strip(), {"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": source}
        case SelectTools():
            return "retrieval tools", {"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": "tools"}
        case RecallMemory() | StoreTurn():
            operation = "search_memory" if isinstance(command, RecallMemory) else "upsert_memory"
            return operation, {"gen_ai.operation.name": operation, "gen_ai.conversation.id": command.conversation}
        case RequestApproval():
            return f"wait_approval {command.call.name}", {"gen_ai.tool.name": command.call.name}
        case AskPerson():
            return f"wait_answer {command.call.name}", {"gen_ai.tool.name": command.call.name}
        case JudgeCall():
            return f"judge {command.call.name}", {"gen_ai.tool.name": command.call.name, "milepost.effect": command.effect}
        case StartTimer():
            return f"wait_timer {command.purpose}", {}
        case KeepGrant():
            return f"keep_grant {command.call.name}", {"gen_ai.tool.name": command.call.name}
        case _:
            return command.kind, {}


def _outcome(event: AnyEvent | Answered) -> Attributes:
    """What came of a step, in figures and fixed words."""
    match event:
        case Generated():
            said = event.generation
            return {
                **_usage([said]), "gen_ai.response.model": said.model,
                "gen_ai.response.finish_reasons": (_FINISH[said.finish],),
                "gen_ai.response.time_to_first_chunk": said.first_token_ms / 1000,
                "milepost.generation.duration": said.total_ms / 1000, "milepost.generation.waited": said.waited_ms / 1000,
                "milepost.generation.calls": len(said.calls),
            }  # fmt: skip
        case ToolsSelected():
            return {"milepost.retrieval.found": len(event.tools), "milepost.retrieval.searched": event.searched}
        case KnowledgeRetrieved():
            return {"milepost.retrieval.found": len(event.passages)}
        case CallJudged():
            return {"milepost.policy.outcome": event.verdict.outcome, "milepost.policy.rule": event.verdict.rule or ""}
        case ApprovalGranted():
            return {"milepost.approval": "granted", "milepost.approval.scope": event.scope}
        case ApprovalRefused():
            return {"milepost.approval": "refused"}
        case PersonAnswered():
            return {"milepost.answer": "accepted" if event.accepted else "declined"}
        case ToolReturned():
            return {"milepost.tool.repeated": event.repeated}
        case ToolInDoubt():
            return {"milepost.tool.in_doubt": True}
        case _:
            return {}


def _content(event: Answered) -> Attributes:
    if isinstance(event, Generated):
        said = event.generation
        calls = [{"type": "tool_call", "id": each.id, "name": each.name, "arguments": each.arguments} for each in said.calls]
        return {"gen_ai.output.messages": _said("assistant", said.text, calls)}
    if isinstance(event, ToolReturned) and isinstance(event.command, CallTool):
        arguments = json.dumps(event.command.call.arguments, ensure_ascii=False)
        return {"gen_ai.tool.call.arguments": arguments, "gen_ai.tool.call.result": event.result.text}
    return {}


def _said(role: str, text: str, calls: Sequence[object] = ()) -> str:
    parts = [*([{"type": "text", "content": text}] if text else []), *calls]
    return json.dumps([{"role": role, "parts": parts}], ensure_ascii=False)


def _usage(said: Sequence[Generation]) -> Attributes:
    return {
        "gen_ai.usage.input_tokens": sum(each.usage.prompt_tokens for each in said),
        "gen_ai.usage.output_tokens": sum(each.usage.completion_tokens for each in said),
        "gen_ai.usage.cache_read.input_tokens": sum(each.usage.cached_tokens for each in said),
    }


def _wait_for_turn(first: Fact, request: RunRequested, queued: Fact, released: Fact) -> Span:
    place = Place(trace_of(first.run, request), span_of(released.id))
    parent = root_of(RunId(first.run), first.tenant, request).span
    end = max(queued.time, released.time)
    return Span("wait_turn", place, queued.time, end, "memory", parent, attributes={"milepost.run.id": first.run})
