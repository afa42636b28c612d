"""Tools of LangChain as tools of ours: any `BaseTool` of langchain-core 1.x behind the Tool port.

Its schema for calls is the card's, without what LangChain injects. What it does to the world is the operator's word: a write
until somebody says `effect="read"`. See docs/langchain.md.
"""

from __future__ import annotations

import base64
import binascii
import inspect
import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeGuard, cast

from pydantic import BaseModel, ValidationError

from schemas.canonical import JsonObject
from schemas.tools import Effect, Idempotency, ToolCard, ToolResult
from tool_adapters.keeping import result_from
from tool_adapters.media import media_of
from tool_adapters.names import tool_name
from tool_adapters.python import Planner, Reconciler, answer, plan_on_run, schema_of
from tool_adapters.threads import in_thread
from tool_adapters.tool import (
    CallContext,
    InvalidArguments,
    InvalidResult,
    InvalidTool,
    Plan,
    Reconciled,
    ToolRefused,
    checked_card,
    read_only,
    validate,
)

if TYPE_CHECKING:
    from langchain_core.messages import ToolMessage
    from langchain_core.runnables import RunnableConfig
    from langchain_core.tools import BaseTool

DESCRIPTION = 4000


def is_langchain(value: object) -> TypeGuard[BaseTool]:
    """Whether it is a tool of LangChain; nothing is imported to find out."""
    module = sys.modules.get("langchain_core.tools")
    return module is not None and isinstance(value, module.BaseTool)


class LangchainTool:
    """A LangChain tool behind the Tool port.

    effect: what it does to the world, a write unless it is said. idempotency, plan, reconcile: as those of `@tool`.
    injected: values for arguments that LangChain hides from the model (`InjectedToolArg`); `InjectedToolCallId` is given
    the id of our command. Raises InvalidTool.
    """

    def __init__(
        self, tool: BaseTool, *, effect: Effect = "write", idempotency: Idempotency = "none", name: str | None = None,
        description: str | None = None, timeout_s: float = 60.0, tags: tuple[str, ...] = (), owner: str = "",
        injected: Mapping[str, object] | None = None, plan: Planner | None = None, reconcile: Reconciler | None = None,
    ) -> None:  # fmt: skip
        self._tool, self._planner, self._reconciler = tool, plan, reconcile
        self._injected = dict(injected or {})
        self._full = _model(tool)
        _check_injected(tool, self._full, self._injected)
        said = (description or tool.description or "").strip()
        try:
            card = ToolCard(
                name=tool_name(name or tool.name), description=said[:DESCRIPTION], parameters=_parameters(tool), effect=effect,
                idempotency=idempotency, timeout_s=timeout_s, tags=("langchain", *(tool.tags or ()), *tags), owner=owner,
                dry_run="look" if plan else "none",
            )  # fmt: skip
        except ValidationError as error:
            raise InvalidTool(f"{tool.name} cannot become a tool.", why=str(error)[:500]) from error
        self.card = checked_card(card)

    async def plan(self, arguments: dict[str, object], context: CallContext) -> Plan:
        """Ask the planner; without one, show the call itself."""
        if self.card.effect == "read":
            raise read_only(self.card)
        validate(self.card, arguments)
        planner = self._planner
        if planner is None:
            return plan_on_run(self.card, arguments, context)
        return await answer(self.card, context, lambda: planner(arguments, context), reading=True)

    async def call(self, arguments: dict[str, object], context: CallContext) -> ToolResult:
        """Invoke it: a coroutine on the loop, anything else in a thread. Its ToolException is ToolRefused."""
        validate(self.card, arguments)
        given = self._checked({**arguments, **self._injected}, context)
        said = await answer(self.card, context, lambda: self._invoke(given, context))
        if not _is_message(said):
            return await result_from(self.card, said, context)
        if said.status == "error":
            raise ToolRefused(f"{self.card.name} refused the call.", code="ToolException", why=_text(said.content)[:500])
        return await self._result(said, context)

    async def reconcile(self, arguments: dict[str, object], context: CallContext) -> Reconciled:
        """Ask the reconciler; without one nobody can know."""
        ask = self._reconciler
        if ask is None:
            return Reconciled("not_happened" if self.card.effect == "read" else "unknown")
        return await answer(self.card, context, lambda: ask(arguments, context), reading=True)

    def _checked(self, given: dict[str, object], context: CallContext) -> dict[str, object]:
        """The arguments, if its own model takes them; what that refuses has not been tried. Raises InvalidArguments."""
        if self._full is not None:
            whole = {**dict.fromkeys(_call_ids(self._full), context.command), **given}
            try:
                self._full.model_validate(whole)
            except ValidationError as error:
                first = error.errors()[0]
                why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
                raise InvalidArguments(f"{self.card.name} cannot be called with these arguments.", why=why) from error
        return given

    async def _invoke(self, given: dict[str, object], context: CallContext) -> object:
        from langchain_core.tools import ToolException

        tool = self._tool
        call: dict[str, object] = {
            "name": tool.name, "args": given, "id": context.command or context.run or "by-hand", "type": "tool_call"
        }  # fmt: skip
        said = {"tenant": context.tenant, "user": context.user, "run": context.run, "write_key": context.write_key}
        config = cast("RunnableConfig", {"metadata": said, "configurable": {"thread_id": context.conversation}})
        try:
            if _is_async(tool):
                return await tool.ainvoke(call, config)
            return await in_thread(partial(tool.invoke, call, config))
        except ToolException as error:
            raise ToolRefused(f"{self.card.name} refused the call.", code="ToolException", why=str(error)[:500]) from error

    async def _result(self, said: ToolMessage, context: CallContext) -> ToolResult:
        """What the model is to read, and what stands behind it for programs if that can be kept."""
        result = await result_from(self.card, _content(said.content), context)
        if said.artifact is None:
            return result
        try:
            behind = await result_from(self.card, said.artifact, context)
        except InvalidResult:
            return result  # an artifact may be any object of the program's own
        refs = [f"{part.kind}: {part.ref}" for part in behind.parts if part.ref]
        return ToolResult(text="\n".join((result.text, *refs)), parts=(*result.parts, *behind.parts))


from_langchain = LangchainTool
"""A LangChain tool as a tool of ours; `LangchainTool` is what ModelScope-Agent calls it."""


# --- schemas ------------------------------------------------------------------------------------------


def _model(tool: BaseTool) -> type[BaseModel] | None:
    """The model of all its arguments, those that are injected too; None for one that is described by JSON Schema or older."""
    if isinstance(tool.args_schema, dict) or _takes_one_text(tool):
        return None
    model = tool.get_input_schema()
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def _takes_one_text(tool: BaseTool) -> bool:
    """LangChain's oldest form: a function of one string."""
    from langchain_core.tools import Tool

    return isinstance(tool, Tool) and tool.args_schema is None


def _parameters(tool: BaseTool) -> JsonObject:
    if _takes_one_text(tool):
        return {"type": "object", "properties": tool.args, "required": list(tool.args), "additionalProperties": False}
    schema = tool.tool_call_schema
    if isinstance(schema, dict):
        parameters = {key: value for key, value in schema.items() if key not in ("title", "description")}
        return {"type": "object", "properties": {}, **parameters}
    if not issubclass(schema, BaseModel):
        raise InvalidTool(f"The arguments of {tool.name} are a model of pydantic 1.", hint="write args_schema with pydantic 2")
    parameters = schema_of(schema)
    parameters.pop("description", None)
    return {**parameters, "additionalProperties": False} if "additionalProperties" not in parameters else parameters


def _check_injected(tool: BaseTool, full: type[BaseModel] | None, injected: Mapping[str, object]) -> None:
    """Whoever calls from here must be able to give what LangChain would inject. Raises InvalidTool."""
    schema = tool.tool_call_schema
    if full is None or isinstance(schema, dict) or not issubclass(schema, BaseModel):
        return
    hidden = full.model_fields.keys() - schema.model_fields.keys()
    needed = {name for name in hidden - _call_ids(full) if full.model_fields[name].is_required()} - injected.keys()
    if needed:
        raise InvalidTool(
            f"{tool.name} needs {', '.join(sorted(needed))}, which LangChain injects and a model is not to give.",
            hint=f"from_langchain(tool, injected={{{sorted(needed)[0]!r}: ...}})",
        )  # fmt: skip


def _call_ids(full: type[BaseModel]) -> frozenset[str]:
    from langchain_core.tools import InjectedToolCallId

    return frozenset(
        name for name, each in full.model_fields.items()
        if any(mark is InjectedToolCallId or isinstance(mark, InjectedToolCallId) for mark in each.metadata)
    )  # fmt: skip


def _is_async(tool: BaseTool) -> bool:
    """Whether it has a coroutine of its own; else LangChain would run it in the loop's threads, which are few."""
    from langchain_core.tools import BaseTool, StructuredTool, Tool

    if isinstance(tool, StructuredTool | Tool):
        return tool.coroutine is not None
    return type(tool)._arun is not BaseTool._arun and inspect.iscoroutinefunction(type(tool)._arun)


# --- results ------------------------------------------------------------------------------------------


def _is_message(value: object) -> TypeGuard[ToolMessage]:
    from langchain_core.messages import ToolMessage

    return isinstance(value, ToolMessage)


def _content(content: object) -> object:
    """Text, or blocks of a message as text, media and JSON."""
    if not isinstance(content, list):
        return content
    blocks = [_block(each) for each in content]
    return blocks[0] if len(blocks) == 1 else blocks


def _block(block: object) -> object:
    """A block as LangChain 1 writes it (`base64`, `mime_type`), or as earlier ones and OpenAI did (`image_url`, `data`)."""
    if not isinstance(block, dict):
        return block
    if block.get("type") == "text":
        return str(block.get("text", ""))
    url = block.get("image_url")
    address = url.get("url") if isinstance(url, dict) else url
    data = block.get("base64") or (block.get("data") if block.get("source_type") == "base64" else None)
    if isinstance(address, str) and address.startswith("data:"):
        data = address.partition("base64,")[2]
    if not isinstance(data, str) or not data:
        return block
    try:
        return media_of(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError):
        return block


def _text(content: object) -> str:
    return content if isinstance(content, str) else str(content)
