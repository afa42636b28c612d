"""One turn told as it happens: what changes of it, the text as it is written, and the runs below it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

from runtime.children import children_of
from runtime.client import Client
from runtime.speech import Delta, hear_text, read_busy
from schemas import subjects
from schemas.canonical import Json, JsonObject
from schemas.ids import RunId
from services.gateway.principal import Principal
from services.gateway.runs.following import followed
from services.gateway.runs.turn import TurnFold

Told = tuple[str, JsonObject]
"""An event's name and what it says."""


class Telling:
    """Follows a run and those it waits for. What one who listens slowly has not taken yet is told together."""

    def __init__(self, client: Client, who: Principal, run: RunId) -> None:
        self._client, self._who, self._run = client, who, run
        self._folds: dict[RunId, TurnFold] = {}
        self._told: dict[RunId, dict[str, Json]] = {}
        self._texts: dict[str, list[Delta]] = {}
        self._busy: JsonObject | None = None
        self._some = asyncio.Event()
        self._tasks: dict[RunId, asyncio.Task[None]] = {}

    async def events(self) -> AsyncIterator[Told]:
        """`turn`: the fields that are new, at first all; `text`: what follows from an offset on; `busy`; `end`, the last one.

        Raises Unreachable, Erased.
        """
        bus, tenant = self._client.bus, self._client.tenant
        try:
            async with (
                hear_text(bus, tenant, self._run, self._text),
                bus.hear(subjects.busy(tenant, self._run, "*"), self._heard_busy),
            ):
                self._begin(self._run)
                while True:
                    await self._some.wait()
                    self._some.clear()
                    for each in self._news():
                        yield each
                    for task in self._tasks.values():
                        if task.done():
                            task.result()
                    if self._folds[self._run].state.phase == "ended":
                        yield "end", {"run": self._run}
                        return
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _begin(self, run: RunId) -> None:
        self._folds[run] = TurnFold(run)
        self._tasks[run] = asyncio.create_task(self._follow(run))
        self._tasks[run].add_done_callback(lambda _: self._some.set())

    async def _follow(self, run: RunId) -> None:
        fold = self._folds[run]
        async with aclosing(followed(self._client, run)) as batches:  # type: ignore[type-var]  # a generator
            async for facts in batches:
                fold.add(facts)
                self._some.set()
                if fold.state.phase == "ended":
                    return
                for child in children_of(fold.state).values():
                    if child not in self._folds:
                        self._begin(child)

    def _text(self, delta: Delta) -> None:
        pieces = self._texts.setdefault(delta.command, [])
        last = pieces[-1] if pieces else None
        if last and last.attempt == delta.attempt and last.offset + len(last.text) == delta.offset:
            pieces[-1] = replace(last, text=last.text + delta.text)
        else:
            pieces.append(delta)
        self._some.set()

    async def _heard_busy(self, subject: str, data: bytes) -> None:
        self._busy = {"run": self._run, "retry_after_s": read_busy(data, subject.rsplit(".", 1)[-1]).retry_after_s}
        self._some.set()

    def _news(self) -> list[Told]:
        news: list[Told] = [("turn", new) for run in self._folds if (new := self._new(run))]
        texts, self._texts = self._texts, {}
        for step, pieces in texts.items():
            news += [("text", {"run": self._run, "step": step, "offset": each.offset, "text": each.text}) for each in pieces]
        busy, self._busy = self._busy, None
        return [*news, ("busy", busy)] if busy else news

    def _new(self, run: RunId) -> JsonObject:
        """The fields of a turn that are not as they were told, {} if all are; of its items those after the first `after`."""
        turn = self._folds[run].turn(self._who)
        if turn is None:
            return {}
        now: dict[str, Json] = turn.model_dump(mode="json")
        before = self._told.get(run, {})
        self._told[run] = now
        new = {name: value for name, value in now.items() if name not in before or before[name] != value}
        if "items" in new:
            had, has = _listed(before.get("items")), _listed(now["items"])
            kept = next(
                (n for n, (one, other) in enumerate(zip(had, has, strict=False)) if one != other), min(len(had), len(has))
            )
            new |= {"items": has[kept:], "after": kept}
        return {"run": run, **new} if new else {}


def _listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
