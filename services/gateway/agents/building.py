"""Building an agent by talking: what a person says becomes a patch of the form, which they accept or undo.

Each step is a run on the bus, recorded like any other, of an agent whose answer is held to a schema. What a small model leaves
out or makes up is mended (building_mending): demands that it forgot are put in with the person's own words, sentences that it
copied from what it was shown are dropped, and tools are only those that the catalogue finds.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeAlias

from pydantic import Field

from runtime.client import Client, answer_of
from runtime.state import RunState
from schemas.agent import AgentSpec, Budget, Recall
from schemas.canonical import Json
from schemas.errors import MilepostError
from schemas.ids import RunId
from schemas.messages import JsonOutput, Manner, Sampling
from schemas.tools import ToolCard, Value
from services.gateway.agents.building_mending import complete, different, examples, sentence, user_says, without
from services.gateway.agents.building_words import SAID, TOLD, Job, Language, language_of, names_of, schema, shown
from services.gateway.agents.draft import Draft

STEP_S = 120.0
BUILD, PREVIEW = "build-", "preview-"
"""So the ids of conversations begin in which an agent is built and tried; they are nobody's chats."""
NEAR, NEXT = 0.3, 0.7
"""A tool is offered to the builder with this score, and this share of the best one's."""
MOST_TOOLS = 6
_LOOK_S = 0.1

FindTools: TypeAlias = Callable[[str], Awaitable[Sequence[tuple[ToolCard, float]]]]


class Talk(Value):
    """What a person says to the builder, and the form as it is. model: who builds."""

    words: str = Field(min_length=1, max_length=4000)
    draft: Draft
    model: str = Field(default="default", max_length=200)


class Patch(Value):
    """What is to be other in the form; None: that stays as it is."""

    name: str | None = None
    title: str | None = None
    description: str | None = None
    instructions: str | None = None
    suggestions: tuple[str, ...] | None = None
    tools: tuple[str, ...] | None = None

    @property
    def nothing(self) -> bool:
        """Whether the form stays as it is."""
        return self == Patch()

    def news(self, draft: Draft) -> Patch:
        """The patch without what is in the form already."""
        has: Mapping[str, object] = {
            "title": draft.title, "description": draft.description, "instructions": draft.spec.instructions,
            "suggestions": draft.suggestions, "tools": draft.spec.tools,
        }  # fmt: skip
        return self.model_copy(update={name: None for name, value in has.items() if getattr(self, name) == value})


class Step(Value):
    """A run of the builder that has begun. what: its job."""

    what: Job
    run: RunId


class Built(Value):
    """What a turn came to. said: to the person, in their language; trouble: why nothing came of it."""

    patch: Patch = Patch()
    said: str
    trouble: str = ""


class BuilderFailed(MilepostError):
    """The model gave the builder nothing that can be used."""


def builder(job: Job, language: Language, model: str = "default", tools: tuple[str, ...] = ()) -> AgentSpec:
    """The agent that does one job of building."""
    return AgentSpec(
        name="agent-builder", instructions=TOLD[job, language], model=model, tool_k=0, collections=(), knowledge_k=0,
        recall=Recall(similar=0, facts=0, summary=False), examples=shown(job, language),
        budget=Budget(steps=1, calls=0, history_tokens=0, deadline_s=STEP_S), sampling=Sampling(max_tokens=500),
        manner=Manner(calls="never", output=JsonOutput(json_schema=schema(job, language, tools))),
    )  # fmt: skip


class Building:
    """One turn of talking. find: the catalogue's tools for a text, with scores."""

    def __init__(self, client: Client, find: FindTools, talk: Talk) -> None:
        self._client, self._find, self._talk = client, find, talk
        self._language = language_of(talk.words)
        self._steps: list[Step] = []
        self._run: RunId | None = None

    async def go(self) -> AsyncIterator[Step | Built]:
        """The steps as they begin, then what they came to. Who stops listening stops the run under way."""
        work = asyncio.create_task(self._built())
        told = 0
        try:
            while True:
                done, _ = await asyncio.wait({work}, timeout=_LOOK_S)
                while told < len(self._steps):
                    told += 1
                    yield self._steps[told - 1]
                if done:
                    yield work.result()
                    return
        finally:
            work.cancel()
            if self._run is not None:
                with suppress(MilepostError):
                    await self._client.cancel(self._run, reason="nobody builds any more")

    async def _built(self) -> Built:
        draft, language = self._talk.draft, self._language
        try:
            if not draft.spec.instructions.strip():
                return self._told(await self._first())
            patch = (await self._changed()).news(draft)
        except MilepostError as error:
            return Built(said=SAID["failed", language], trouble=error.why or error.what)
        if not patch.nothing:
            return self._told(patch)
        own = self._instructed(patch, "add", sentence(self._talk.words, language))
        return Built(patch=own, said=SAID["nothing" if own.nothing else "own words", language])

    def _told(self, patch: Patch) -> Built:
        names = names_of((name for name, value in patch if value is not None), self._language)
        tools = SAID["tools", self._language].format(tools=", ".join(patch.tools)) if patch.tools else ""
        return Built(patch=patch, said=SAID["done", self._language].format(fields=names) + tools + SAID["try", self._language])

    # --- from nothing -----------------------------------------------------------------------------

    async def _first(self) -> Patch:
        """Fields that a person filled in stay theirs."""
        words, language, draft = self._talk.words, self._language, self._talk.draft
        cards = await self._fitting(words)
        told = await self._ask("profile", f"{'要求：' if language == 'zh' else 'Wanted: '}{words}")
        title, description = _text(told, "title"), _text(told, "description")
        names = await self._chosen(cards, f"{title}. {words}")
        known = examples([card for card in cards if card.name in names], language)
        suggestions = known if len(known) > 2 else (*known, *await self._suggested(title, description))
        tools = tuple(dict.fromkeys((*draft.spec.tools, *names)))
        return Patch(
            name=_text(told, "name"), title=title if not draft.title else None,
            description=description if not draft.description else None,
            instructions=complete(_text(told, "instructions"), words, language),
            suggestions=different((*draft.suggestions, *suggestions), most=max(4, len(draft.suggestions))) or None,
            tools=tools if tools != draft.spec.tools else None,
        )  # fmt: skip

    async def _fitting(self, text: str) -> list[ToolCard]:
        """Cards that are near enough to be meant."""
        found = await self._find(text)
        best = max((score for _, score in found), default=0.0)
        return [card for card, score in found if score >= max(NEAR, NEXT * best)][:MOST_TOOLS]

    async def _chosen(self, cards: Sequence[ToolCard], task: str) -> tuple[str, ...]:
        """Those that the model takes, where there is a choice."""
        names = tuple(card.name for card in cards)
        if len(names) < 2:
            return names
        lines = "\n".join(f"- {card.name}: {card.description.splitlines()[0][:120]}" for card in cards)
        with suppress(BuilderFailed):
            told = await self._ask("tools", f"{lines}\n\n{task}", names)
            return tuple(name for name in names if name in _texts(told, "tools"))
        return names

    async def _suggested(self, title: str, description: str) -> tuple[str, ...]:
        head = "助手：" if self._language == "zh" else "Assistant: "
        with suppress(BuilderFailed):
            told = await self._ask("suggestions", f"{head}{title}. {description}")
            return user_says(_texts(told, "suggestions"), self._talk.words, self._language)
        return ()

    # --- what is there, otherwise -------------------------------------------------------------------

    async def _changed(self) -> Patch:
        draft, words = self._talk.draft, self._talk.words
        heads = ("助手：", "修改：") if self._language == "zh" else ("Assistant: ", "Change: ")
        told = await self._ask("change", f"{heads[0]}{draft.title or draft.name}. {heads[1]}{words}")
        changes, patch = told.get("changes"), Patch()
        for each in changes if isinstance(changes, list) else []:
            if isinstance(each, Mapping):
                patch = await self._with(patch, _text(each, "field"), _text(each, "op"), _text(each, "text"))
        return patch

    async def _with(self, patch: Patch, field: str, op: str, text: str) -> Patch:
        """The patch with one change more; what is removed must be there."""
        draft = self._talk.draft
        if field in ("title", "description"):
            return patch.model_copy(update={field: text}) if op != "remove" and text else patch
        if field == "tools":
            return await self._with_tools(patch, op, text)
        if field == "suggestions":
            before = patch.suggestions if patch.suggestions is not None else draft.suggestions
            after = without(before, text) if op == "remove" else different((*before, text), most=12)
            return patch.model_copy(update={"suggestions": after}) if after != before else patch
        return self._instructed(patch, op, text)

    async def _with_tools(self, patch: Patch, op: str, text: str) -> Patch:
        had = patch.tools if patch.tools is not None else self._talk.draft.spec.tools
        if op == "remove":
            near = difflib.get_close_matches(text, had, n=1, cutoff=0.4)
            return patch.model_copy(update={"tools": tuple(each for each in had if each not in near)}) if near else patch
        found = [card.name for card in await self._fitting(text) if card.name not in had]
        return patch.model_copy(update={"tools": (*had, *found[:2])}) if found else patch

    def _instructed(self, patch: Patch, op: str, text: str) -> Patch:
        """Instructions are gone on with, not written anew: nothing that stands there is lost but what is asked to go."""
        had = patch.instructions if patch.instructions is not None else self._talk.draft.spec.instructions
        if op == "remove":
            kept = "\n".join(without(had.rstrip().split("\n"), text))
            return patch.model_copy(update={"instructions": kept}) if kept.strip() and kept != had else patch
        if not text or text in had:
            return patch
        return patch.model_copy(update={"instructions": f"{had.rstrip()}\n{text}"})

    # --- asking -------------------------------------------------------------------------------------

    async def _ask(self, job: Job, task: str, tools: tuple[str, ...] = ()) -> Mapping[str, Json]:
        """The JSON that the model answers with. Raises BuilderFailed."""
        spec = builder(job, self._language, self._talk.model, tools)
        asked = await self._client.ask(task, agent=spec, conversation=f"{BUILD}{secrets.token_hex(8)}")
        self._run = asked.run
        self._steps.append(Step(what=job, run=asked.run))
        try:
            async with asyncio.timeout(STEP_S):
                state = await self._end(asked.run)
            self._run = None
            told = json.loads(answer_of(state))
        except (TimeoutError, ValueError, MilepostError) as error:
            why = (error.why or error.what) if isinstance(error, MilepostError) else "its answer was cut, or took too long"
            raise BuilderFailed("The model gave nothing that can be used.", why=why) from error
        if not isinstance(told, dict):
            raise BuilderFailed("The model gave nothing that can be used.")
        return told

    async def _end(self, run: RunId) -> RunState:
        state = RunState(run=run)
        async for update in self._client.follow(run):
            state = update.state
        return state


def _text(told: Mapping[str, Json], name: str) -> str:
    found = told.get(name)
    return found.strip() if isinstance(found, str) else ""


def _texts(told: Mapping[str, Json], name: str) -> tuple[str, ...]:
    found = told.get(name)
    return tuple(each for each in found if isinstance(each, str)) if isinstance(found, list) else ()
