"""A Python function as a tool: its type hints are the schema, its docstring the description."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Generic, ParamSpec, TypeVar, cast, get_args, get_type_hints, overload

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic_core import PydanticSerializationError

from schemas.canonical import canonical
from schemas.tools import Cost, DryRun, Effect, Idempotency, Preview, ToolCard, ToolResult
from tool_adapters.docstring import read_docstring
from tool_adapters.keeping import each_of, holds_media, result_from, with_media
from tool_adapters.media import Media
from tool_adapters.threads import in_thread
from tool_adapters.tool import (
    CallContext,
    InvalidArguments,
    InvalidTool,
    OutcomeUnknown,
    Plan,
    Reconciled,
    ToolError,
    ToolRefused,
    ToolUnavailable,
    checked_card,
    read_only,
    validate,
)

P = ParamSpec("P")
R = TypeVar("R")

Planner = Callable[[dict[str, object], CallContext], Awaitable[Plan]]
Reconciler = Callable[[dict[str, object], CallContext], Awaitable[Reconciled]]


class PythonTool(Generic[P, R]):
    """A function behind the Tool port; calling the object itself still calls the plain function.

    A parameter annotated `CallContext` is not shown to the model: it receives the call's context.
    A write without a planner is planned on its conversation: once for each conversation and arguments.
    """

    def __init__(
        self,
        function: Callable[P, R],
        card: ToolCard,
        arguments: type[BaseModel],
        context_parameter: str | None,
        planner: Planner | None = None,
        reconciler: Reconciler | None = None,
    ) -> None:
        self.card = checked_card(card)
        self.function = function
        self._arguments = arguments
        self._context_parameter = context_parameter
        self._planner = planner
        self._reconciler = reconciler
        self._media = frozenset(name for name, each in arguments.model_fields.items() if _takes_bytes(each.annotation))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    async def plan(self, arguments: dict[str, object], context: CallContext) -> Plan:
        """Ask the function's planner; without one, show the call itself."""
        if self.card.effect == "read":
            raise read_only(self.card)
        validate(self.card, arguments)
        if self._planner is not None:
            return await answer(self.card, context, lambda: self._planner_of(arguments, context), reading=True)
        return plan_on_run(self.card, arguments, context)

    async def call(self, arguments: dict[str, object], context: CallContext) -> ToolResult:
        """Run the function: a coroutine on the loop, anything else in a thread.

        References that stand for media and bytes are read before, and media that it gives back are kept after.
        """
        validate(self.card, arguments)
        values = self._values(await self._given(arguments, context))
        if self._context_parameter:
            values[self._context_parameter] = context
        result = await answer(self.card, context, lambda: _run(self.function, values))
        return await result_from(self.card, _plain(result), context)

    async def reconcile(self, arguments: dict[str, object], context: CallContext) -> Reconciled:
        """Ask the function's reconciler; without one nobody can know."""
        if self._reconciler is None:
            return Reconciled("not_happened" if self.card.effect == "read" else "unknown")
        ask = self._reconciler
        return await answer(self.card, context, lambda: ask(arguments, context), reading=True)

    async def _planner_of(self, arguments: dict[str, object], context: CallContext) -> Plan:
        assert self._planner is not None
        return await self._planner(arguments, context)

    def _values(self, arguments: dict[str, object]) -> dict[str, object]:
        try:
            model = self._arguments.model_validate(arguments)
        except ValidationError as error:
            first = error.errors()[0]
            raise InvalidArguments(
                f"{self.card.name} cannot be called with these arguments.",
                why=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            ) from error
        return {name: getattr(model, name) for name in model.model_fields_set}

    async def _given(self, arguments: dict[str, object], context: CallContext) -> dict[str, object]:
        """The arguments with what their references stand for."""
        given = await with_media(arguments, self._media, context)
        return {
            name: value.data if isinstance(value, Media) and _is_plain_bytes(self._arguments, name) else value
            for name, value in given.items()
        }


def _is_plain_bytes(arguments: type[BaseModel], name: str) -> bool:
    hint = arguments.model_fields[name].annotation
    return hint is bytes or bytes in get_args(hint)


def _takes_bytes(hint: object) -> bool:
    """Whether a parameter of this type may be given the bytes of an earlier result."""
    if isinstance(hint, type) and issubclass(hint, bytes | Media):
        return True
    return any(_takes_bytes(each) for each in get_args(hint))


def plan_on_run(card: ToolCard, arguments: dict[str, object], context: CallContext) -> Plan:
    """The plan of a write whose world cannot be looked at: it happens once for each conversation and arguments."""
    rows = tuple((name, value if isinstance(value, str) else canonical(value).decode()) for name, value in arguments.items())
    return Plan(
        Preview(summary=f"{card.name}: {card.description}"[:500], rows=rows),
        state=conversation_state(context),
    )


def conversation_state(context: CallContext) -> str:
    """The state of a plan that saw nothing of the world."""
    return canonical({"conversation": context.conversation or context.run}).decode()


async def answer(card: ToolCard, context: CallContext, ask: Callable[[], Awaitable[R]], *, reading: bool = False) -> R:
    """Await somebody else's code and translate whatever it raises into a ToolError, once.

    A write that raises anything but a ToolError is in doubt: it may have acted before it failed.
    """
    reading = reading or card.effect == "read"
    try:
        async with asyncio.timeout(context.timeout_s):
            return await ask()
    except ToolError:
        raise
    except Exception as error:
        why = f"{type(error).__name__}: {error}"[:500]
        if isinstance(error, TimeoutError):
            why = f"no answer in {context.timeout_s:g} s"
        if not reading:
            hint = "look whether it happened; raise ToolRefused in the tool to say that nothing was done"
            raise OutcomeUnknown(f"{card.name} failed while it was changing something.", why=why, hint=hint) from error
        if isinstance(error, OSError):
            raise ToolUnavailable(f"{card.name} could not be reached.", why=why) from error
        raise ToolRefused(f"{card.name} failed.", code=type(error).__name__, why=why) from error


@overload
def tool(function: Callable[P, R], /) -> PythonTool[P, R]: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    effect: Effect = "read",
    idempotency: Idempotency = "none",
    lane: str = "builtin",
    version: str = "1",
    title: str = "",
    examples: tuple[str, ...] = (),
    tags: tuple[str, ...] = (),
    timeout_s: float = 30.0,
    owner: str = "",
    dry_run: DryRun | None = None,
    undo: str | None = None,
    rate_per_min: int | None = None,
    cost: Cost | None = None,
    agents: tuple[str, ...] = (),
    plan: Planner | None = None,
    reconcile: Reconciler | None = None,
) -> Callable[[Callable[P, R]], PythonTool[P, R]]: ...


def tool(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    effect: Effect = "read",
    idempotency: Idempotency = "none",
    lane: str = "builtin",
    version: str = "1",
    title: str = "",
    examples: tuple[str, ...] = (),
    tags: tuple[str, ...] = (),
    timeout_s: float = 30.0,
    owner: str = "",
    dry_run: DryRun | None = None,
    undo: str | None = None,
    rate_per_min: int | None = None,
    cost: Cost | None = None,
    agents: tuple[str, ...] = (),
    plan: Planner | None = None,
    reconcile: Reconciler | None = None,
) -> PythonTool[P, R] | Callable[[Callable[P, R]], PythonTool[P, R]]:
    """Make a function a tool: `@tool`, or `@tool(effect="write", ...)` for one that changes something.

    effect: what it does to the world. idempotency: "key" promises that the function, given the same
    `CallContext.write_key` twice, acts once. plan: tells what a write would do, so that its card says dry_run "look".
    owner, undo, rate_per_min, cost, agents: as the card has them. Raises InvalidTool for a function without type hints.
    """

    def made(target: Callable[P, R]) -> PythonTool[P, R]:
        arguments, context_parameter = arguments_of(target)
        text = description or read_docstring(target.__doc__).summary
        if not text:
            raise InvalidTool(
                f"{target.__name__} has no docstring.",
                why="the model chooses tools by their description",
                hint="add one",
            )
        try:
            card = ToolCard(
                name=name or target.__name__,
                description=text,
                parameters=schema_of(arguments),
                effect=effect,
                idempotency=idempotency,
                lane=lane,
                version=version,
                title=title,
                examples=examples,
                tags=tags,
                timeout_s=timeout_s,
                owner=owner,
                dry_run=dry_run or ("look" if plan else "none"),
                undo=undo,
                rate_per_min=rate_per_min,
                cost=cost,
                agents=agents,
            )
        except ValidationError as error:
            raise InvalidTool(f"{target.__name__} cannot become a tool.", why=str(error)[:500]) from error
        return PythonTool(target, card, arguments, context_parameter, plan, reconcile)

    return made if function is None else made(function)


def arguments_of(function: Callable[..., object]) -> tuple[type[BaseModel], str | None]:
    """The function's parameters as a model, and the name of the one that takes the CallContext."""
    name = function.__name__
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception as error:
        raise InvalidTool(f"The type hints of {name} cannot be read.", why=str(error)[:200]) from error
    words = read_docstring(function.__doc__).parameters
    fields: dict[str, tuple[object, object]] = {}
    context_parameter = None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise InvalidTool(f"{name} has a parameter {parameter}, which cannot be given by name.")
        if parameter.name not in hints:
            raise InvalidTool(f"{parameter.name} of {name} has no type hint.", hint="write name: type")
        if hints[parameter.name] is CallContext:
            context_parameter = parameter.name
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], Field(default, description=words.get(parameter.name)))
    try:
        build = cast(Callable[..., type[BaseModel]], create_model)
        model = build(name, __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=False), **fields)
    except (PydanticSchemaGenerationError, PydanticUserError, NameError) as error:
        raise InvalidTool(f"The parameters of {name} have no JSON form.", why=str(error)[:300]) from error
    return model, context_parameter


def schema_of(model: type[BaseModel]) -> dict[str, object]:
    """The model's JSON Schema without the titles, which repeat the names."""
    try:
        schema = model.model_json_schema()
    except PydanticUserError as error:
        raise InvalidTool(f"The parameters of {model.__name__} have no JSON form.", why=str(error)[:300]) from error
    schema.pop("title", None)
    schema.setdefault("properties", {})
    return _untitled(schema)


def _untitled(schema: dict[str, object]) -> dict[str, object]:
    properties = schema.get("properties")
    if isinstance(properties, dict):
        for entry in properties.values():
            entry.pop("title", None)
    definitions = schema.get("$defs")
    if isinstance(definitions, dict):
        for entry in definitions.values():
            entry.pop("title", None)
            _untitled(entry)
    return schema


async def _run(function: Callable[..., object], values: dict[str, object]) -> object:
    if inspect.iscoroutinefunction(function):
        return await function(**values)
    result = await in_thread(partial(function, **values))
    return await result if inspect.isawaitable(result) else result


def _plain(result: object) -> object:
    if isinstance(result, ToolResult):
        return result
    if holds_media(result):
        return each_of(result, _plain)
    if isinstance(result, BaseModel):
        return result.model_dump(mode="json")
    if result is None:
        return "done"
    try:
        return TypeAdapter(type(result)).dump_python(result, mode="json")
    except (PydanticUserError, PydanticSchemaGenerationError, PydanticSerializationError, ValueError):
        return result  # result_of says what is wrong with it
