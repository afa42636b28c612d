"""ModelScope-Agent's class form of a tool: `name`, `description`, `parameters`, `_local_call` and `_remote_call`.

The attributes, hooks and output wrappers are those of modelscope_agent 0.1 (2023), so a tool written for it needs other
imports only. As there, an argument that names an earlier image, sound or film is given to the tool as its wrapper; here
the name is the reference of what was kept (`payload:...`).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar

from pydantic import BaseModel, ValidationError

from schemas.tools import Effect, Idempotency, ToolCard, ToolResult
from tool_adapters.keeping import result_from, with_media
from tool_adapters.media import Audio, Image, Media, Video
from tool_adapters.python import answer, plan_on_run
from tool_adapters.threads import in_thread
from tool_adapters.tool import (
    CallContext,
    InvalidTool,
    Plan,
    Reconciled,
    ToolRefused,
    ToolUnavailable,
    checked_card,
    read_only,
    validate,
)


class Parameter(BaseModel):
    """One entry of `Tool.parameters`; `type` is a JSON Schema type, a string when not said."""

    name: str
    description: str
    required: bool = True
    type: str = "string"
    enum: tuple[str, ...] | None = None


class _Wrapper:
    """What modelscope_agent's output wrappers have beside the bytes."""

    data: bytes

    @property
    def raw_data(self) -> bytes:
        """The bytes; there, a Pillow image for images."""
        return self.data


class ImageWrapper(_Wrapper, Image):
    """A picture as modelscope_agent's tools return it: bytes, a path or a Pillow image."""


class AudioWrapper(_Wrapper, Audio):
    """A sound as modelscope_agent's tools return it: bytes or a path."""


class VideoWrapper(_Wrapper, Video):
    """A film as modelscope_agent's tools return it: bytes or a path."""


WRAPPERS: Mapping[type[Media], type[Media]] = {Image: ImageWrapper, Audio: AudioWrapper, Video: VideoWrapper}


class Tool:
    """Derive from it, set the class attributes and write `_local_call`.

    cfg: settings by tool name; for this tool `is_remote_tool`, `url` and `token` (default: environment
    variable MODELSCOPE_API_TOKEN). Raises InvalidTool for attributes that make no card.
    """

    name: ClassVar[str] = ""
    description: ClassVar[str] = ""
    parameters: ClassVar[Sequence[Mapping[str, object]]] = ()
    effect: ClassVar[Effect] = "read"
    idempotency: ClassVar[Idempotency] = "none"
    title: ClassVar[str] = ""
    examples: ClassVar[tuple[str, ...]] = ()
    tags: ClassVar[tuple[str, ...]] = ()
    timeout_s: ClassVar[float] = 30.0
    lane: ClassVar[str] = "builtin"

    def __init__(self, cfg: Mapping[str, Mapping[str, object]] | None = None) -> None:
        own = dict((cfg or {}).get(self.name, {}))
        self.is_remote_tool = bool(own.get("is_remote_tool", False))
        self.url = str(own.get("url", ""))
        self.token = str(own.get("token", "") or os.environ.get("MODELSCOPE_API_TOKEN", ""))
        self.card = self._card()
        if self.is_remote_tool and not self.url:
            raise InvalidTool(f"{self.name} is a remote tool without a url.", hint=f"set url in its settings: {self.name}")

    def __call__(self, *args: object, remote: bool = False, **kwargs: object) -> dict[str, object]:
        """Call it here and now: {"result": ...}."""
        if remote or self.is_remote_tool:
            return self._remote_call(*args, **kwargs)
        return self._local_call(*args, **kwargs)

    def _local_call(self, *args: object, **kwargs: object) -> dict[str, object]:
        raise ToolRefused(f"{self.name} has no local call.", code="NotImplemented", hint="write _local_call in the class")

    def _remote_call(self, *args: object, **kwargs: object) -> dict[str, object]:
        origin = asyncio.run(_post(self.name, self.url, self.token, self._remote_parse_input(*args, **kwargs)))
        return self._parse_output(origin)

    def _local_parse_input(self, *args: object, **kwargs: object) -> dict[str, object]:
        return kwargs

    def _remote_parse_input(self, *args: object, **kwargs: object) -> dict[str, object]:
        return kwargs

    def _parse_output(self, origin_result: object) -> dict[str, object]:
        return {"result": origin_result}

    def __str__(self) -> str:
        """Its name, description and parameters as JSON, as prompts of modelscope_agent show tools."""
        said = {"name": self.name, "description": self.description, "parameters": [dict(each) for each in self.parameters]}
        return json.dumps(said, ensure_ascii=False)

    def get_function(self) -> dict[str, object]:
        """The tool as OpenAI's function schema."""
        return {"name": self.name, "description": self.description, "parameters": self.card.parameters}

    async def plan(self, arguments: dict[str, object], context: CallContext) -> Plan:
        """Show the call itself; override it where the tool can look at the world."""
        if self.card.effect == "read":
            raise read_only(self.card)
        validate(self.card, arguments)
        return plan_on_run(self.card, arguments, context)

    async def call(self, arguments: dict[str, object], context: CallContext) -> ToolResult:
        """Run `_local_call` or `_remote_call` in a thread, and keep what is in its `result`."""
        validate(self.card, arguments)
        given = await with_media(arguments, frozenset(arguments), context)
        values = {name: _wrapped(value) for name, value in given.items()}
        told = await answer(self.card, context, lambda: in_thread(partial(self._invoke, values)))
        result: object = told["result"] if isinstance(told, dict) and set(told) == {"result"} else told
        return await result_from(self.card, result, context)

    async def reconcile(self, arguments: dict[str, object], context: CallContext) -> Reconciled:
        """Nobody can know; override it where the tool can ask."""
        return Reconciled("not_happened" if self.card.effect == "read" else "unknown")

    def _invoke(self, arguments: dict[str, object]) -> dict[str, object]:
        return self._remote_call(**arguments) if self.is_remote_tool else self._local_call(**arguments)

    def _card(self) -> ToolCard:
        try:
            entries = [Parameter.model_validate(entry) for entry in self.parameters]
            card = ToolCard(
                name=self.name,
                description=self.description,
                parameters=_schema(entries),
                effect=self.effect,
                idempotency=self.idempotency,
                title=self.title,
                examples=self.examples,
                tags=self.tags,
                timeout_s=self.timeout_s,
                lane=self.lane,
            )
        except ValidationError as error:
            raise InvalidTool(f"{type(self).__name__} cannot become a tool.", why=str(error)[:500]) from error
        return checked_card(card)


def _wrapped(value: object) -> object:
    """Media as its wrapper; other bytes stay a File."""
    wrapper = WRAPPERS.get(type(value))  # type: ignore[arg-type]  # a type is looked up
    return wrapper(value.data, media_type=value.media_type) if wrapper and isinstance(value, Media) else value


def _schema(entries: list[Parameter]) -> dict[str, object]:
    properties: dict[str, object] = {}
    for entry in entries:
        one: dict[str, object] = {"type": entry.type, "description": entry.description}
        if entry.enum:
            one["enum"] = list(entry.enum)
        properties[entry.name] = one
    return {
        "type": "object",
        "properties": properties,
        "required": [entry.name for entry in entries if entry.required],
        "additionalProperties": False,
    }


async def _post(name: str, url: str, token: str, body: dict[str, object]) -> object:
    """POST the input as JSON and read `Data` of the answer, as ModelScope's inference API has it."""
    import aiohttp

    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        async with aiohttp.ClientSession() as session, session.post(url, json=body, headers=headers) as response:
            if response.status in (429, 503):
                raise ToolUnavailable(f"{name} is busy.", why=f"HTTP {response.status} from its endpoint")
            if 400 <= response.status < 500:
                raise ToolRefused(f"{name} was refused.", code=f"HTTP{response.status}", why=(await response.text())[:300])
            response.raise_for_status()
            value = await response.json()
    except aiohttp.ClientConnectorError as error:
        raise ToolUnavailable(f"{name} could not be reached.", why=str(error)) from error
    if not isinstance(value, dict) or "Data" not in value:
        raise ToolRefused(f"{name} answered without Data.", code="InvalidAnswer")
    return value["Data"]
