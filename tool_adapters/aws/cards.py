"""The operations of AWS as tool cards, from the models that botocore brings along: offline, of the version installed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from html import unescape
from typing import TYPE_CHECKING

from schemas.canonical import Json
from schemas.errors import MilepostError
from schemas.tools import Effect, ToolCard
from tool_adapters.described.api import CHANGES, GOES, ApiCall
from tool_adapters.described.companions import Known, look_of, words_of
from tool_adapters.names import tool_name
from tool_adapters.tool import InvalidTool

if TYPE_CHECKING:
    from botocore.model import OperationModel, ServiceModel, Shape

LANE = "aws-api"
SUMMARY, TEXT, PARAMETERS, DEPTH, CHOICES = 500, 160, 40, 3, 40
"""Characters of a summary and of a parameter's text; how many parameters, levels and choices a card has at most."""

READS = frozenset({
    "Describe", "List", "Get", "Head", "Search", "Query", "Scan", "Lookup", "Check", "Select", "Preview", "Estimate", "View",
    "Count", "Detect", "Validate", "Verify", "Discover", "Filter", "Simulate", "Compare", "Is", "Summarize",
})  # fmt: skip
DESTROYS = frozenset({
    "Delete", "Terminate", "Remove", "Release", "Revoke", "Deregister", "Purge", "Reset", "Destroy", "Execute", "Invoke",
    "Exec", "Unregister", "Discard", "Drop", "Empty", "Expire", "Retire", "Wipe", "Abort", "Kill",
})  # fmt: skip
ASKED = frozenset({
    "GetSecretValue", "BatchGetSecretValue", "GetParameter", "GetParameters", "GetParametersByPath", "GetPasswordData",
    "GetSessionToken", "GetFederationToken", "GetAuthorizationToken", "GetClusterCredentials", "GetRoleCredentials",
    "GetCredentialsForIdentity", "GetRandomPassword",
})  # fmt: skip
"""They change nothing and tell secrets: a person is asked."""
RUNS = frozenset({"SendCommand", "RunCommand", "StartAutomationExecution", "StartSession"})
"""They run what they are given, on somebody's machines."""

_TYPES: Mapping[str, dict[str, object]] = {
    "string": {"type": "string"}, "character": {"type": "string"}, "integer": {"type": "integer"}, "long": {"type": "integer"},
    "boolean": {"type": "boolean"}, "float": {"type": "number"}, "double": {"type": "number"}, "timestamp": {"type": "string"},
}  # fmt: skip
_TAG = re.compile(r"<[^>]+>")


class UnknownService(MilepostError):
    """botocore has no such service."""


def specs(services: Sequence[str], leave_out: frozenset[str] = frozenset()) -> Iterator[tuple[ToolCard, dict[str, Json]]]:
    """One operation each, named <service>_<Operation>: its card and how it is called (`ApiCall`).

    leave_out: names of tools. Raises InvalidTool without boto3, and UnknownService.
    """
    for service in services:
        model = service_model(service)
        known = {name: _known(service, model, model.operation_model(name)) for name in model.operation_names}
        for name, one in known.items():
            if tool_name(f"{service}_{name}") not in leave_out:
                call = one.call if one.is_read else one.call.model_copy(update={"look": look_of(one, known)})
                yield _card(model, model.operation_model(name), call), call.as_json()


def service_model(service: str) -> ServiceModel:
    """What botocore knows of a service. Raises InvalidTool without boto3, and UnknownService."""
    try:
        import botocore.session
        from botocore.exceptions import UnknownServiceError
    except ImportError as error:
        raise InvalidTool("boto3 is not installed.", hint="pip install 'milepost[aws]'") from error
    session = botocore.session.get_session()
    try:
        return session.get_service_model(service)
    except UnknownServiceError as error:
        names = session.get_available_services()
        near = difflib.get_close_matches(service, names, n=3, cutoff=0.4) or names[:5]
        raise UnknownService(
            f"AWS has no service {service}.", why=f"boto3 knows {len(names)} others", hint=f"such as {', '.join(near)}"
        ) from error


def effect_of(operation: str) -> Effect:
    """What an operation may change, from the verb of its name; where that does not tell, it counts as one that writes."""
    words = words_of(operation)
    verb = words[1] if words[0] in ("Batch", "Bulk") and len(words) > 1 else words[0]
    if verb in DESTROYS or operation in RUNS:
        return "destructive"
    return "read" if verb in READS and operation not in ASKED else "write"


def _known(service: str, model: ServiceModel, operation: OperationModel) -> Known:
    shape = operation.input_shape
    members: Mapping[str, Shape] = shape.members if shape else {}
    required = shape.required_members if shape else []
    parameters: dict[str, dict[str, object]] = {
        name: {"name": name, "required": name in required, "type": "RepeatList" if each.type_name == "list" else "String"}
        for name, each in members.items()
        if each.type_name in ("string", "list")
    }
    tokens = operation.idempotent_members or [name for name in ("ClientToken", "ClientRequestToken") if name in members]
    call = ApiCall(
        product=service, version=str(model.api_version), action=operation.name, token=tokens[0] if tokens else None,
        dry_run="DryRun" if "DryRun" in members else None,
    )  # fmt: skip
    return Known(call, parameters, effect_of(operation.name) == "read")


def _card(model: ServiceModel, operation: OperationModel, call: ApiCall) -> ToolCard:
    effect = effect_of(operation.name)
    exact = call.look is not None and (call.verb in CHANGES or (call.look.exact and call.verb in GOES))
    name = str(model.metadata.get("serviceAbbreviation") or model.metadata.get("serviceFullName") or model.service_name)
    summary = shortened(operation.documentation, SUMMARY) or " ".join(words_of(operation.name))
    deprecated = " (deprecated)" if operation.deprecated else ""
    hidden = {call.token, call.dry_run}
    return ToolCard(
        name=tool_name(f"{model.service_name}_{operation.name}"),
        description=f"{name}: {summary}{deprecated}",
        parameters=_object(operation.input_shape, hidden, DEPTH),
        effect=effect,
        idempotency="none" if effect == "read" else "key" if call.token else "query" if exact else "none",
        lane=LANE,
        tags=("aws", model.service_name, *(("deprecated",) if operation.deprecated else ())),
        timeout_s=30 if effect == "read" else 60,
        dry_run="none" if effect == "read" else "provider" if call.dry_run else "look" if call.look else "none",
    )


def _object(shape: Shape | None, hidden: set[str | None], depth: int) -> dict[str, object]:
    """Needed members first; of many only so many, and then others may be given as well."""
    members: Mapping[str, Shape] = shape.members if shape is not None else {}
    required = [name for name in (shape.required_members if shape is not None else []) if name not in hidden]
    names = [*required, *(name for name in members if name not in required and name not in hidden)]
    kept = names[: max(PARAMETERS if depth == DEPTH else PARAMETERS // 2, len(required))]
    schema: dict[str, object] = {"type": "object", "properties": {name: _property(members[name], depth - 1) for name in kept}}
    return schema | ({"required": required} if required else {}) | ({"additionalProperties": False} if kept == names else {})


def _property(shape: Shape, depth: int) -> dict[str, object]:
    schema = _schema(shape, depth)
    text = shortened(shape.documentation, TEXT) if depth > 0 else ""
    return schema | ({"description": text} if text else {})


def _schema(shape: Shape, depth: int) -> dict[str, object]:
    kind = shape.type_name
    if kind == "structure":
        return _object(shape, set(), depth) if depth > 0 else {"type": "object"}
    if kind == "list":
        return {"type": "array", "items": _schema(shape.member, depth - 1)} if depth > 0 else {"type": "array"}
    if kind == "map":
        return {"type": "object", "additionalProperties": _schema(shape.value, depth - 1) if depth > 0 else True}
    if kind == "blob":
        return {"type": "string", "description": "Text, or bytes as base64:..."}
    choices = shape.metadata.get("enum") if kind == "string" else None
    few = {"enum": list(choices)} if choices and len(choices) <= CHOICES else {}
    return {**_TYPES.get(kind, {}), **few}


def shortened(text: str, most: int) -> str:
    """Plain text of a piece of documentation, cut at the end of a sentence or a word."""
    text = " ".join(unescape(_TAG.sub(" ", text.replace("<p>", " ").split("<note>")[0])).split())
    text = re.sub(r" ([.,;:)])", r"\1", text)
    if len(text) <= most:
        return text
    cut = text[:most]
    end = cut.rfind(". ") + 1
    return (cut[:end] if end > most // 3 else cut.rsplit(" ", 1)[0]).strip()
