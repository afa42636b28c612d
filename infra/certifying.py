"""Executing the generations of a run again: which model is brought for each, and what is said of those that have none here."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeAlias

from infra.settings import Settings
from infra.wiring import bring_model
from runtime.certifying import Asked, Checked, Condition, parting, says_the_same
from schemas.errors import MilepostError
from schemas.messages import Generation

if TYPE_CHECKING:
    from services.llm.onnx_model import OnnxModel

OnStep: TypeAlias = Callable[[Asked], None]
THREADS_A_CORE = 4
"""More threads than that are not begun because a log says so."""

_ELSEWHERE = {"script": "scripted", "own": "own", "none": "caller"}
"""Providers that are no model of a catalogue, and why nothing can be executed again."""


async def certify(
    settings: Settings, generations: Iterable[Asked], *, ask_again: bool = False, on_step: OnStep = lambda _: None
) -> list[Checked]:
    """Execute the generations of a run again, one after the other; a model is loaded once for those that it said in a row.

    ask_again: whether an endpoint elsewhere is asked what it would say now, which proves nothing. on_step: is told before each.
    """
    brought = _Brought(settings)
    found = []
    try:
        for asked in generations:
            on_step(asked)
            found.append(await _checked(brought, asked, ask_again))
    finally:
        await brought.close()
    return found


async def _checked(brought: _Brought, asked: Asked, ask_again: bool) -> Checked:
    from services.llm.recheck import recheck

    recorded = asked.generation
    if asked.copied:
        return Checked(asked, "copied")
    if asked.prompt is None:
        return Checked(asked, "no prompt")
    if _is_remote(recorded):
        return await _asked_again(brought, asked) if ask_again else Checked(asked, "uncertified", why="remote")
    if recorded.provider in _ELSEWHERE or not recorded.model:
        return Checked(asked, "uncertified", why=_ELSEWHERE.get(recorded.provider, "own"))
    try:
        return await recheck(await brought.model(recorded), asked)
    except MilepostError as error:
        return Checked(asked, "elsewhere" if recorded.certificate else "uncertified", why=_words(error))


async def _asked_again(brought: _Brought, asked: Asked) -> Checked:
    """What an endpoint says to the same prompt now."""
    recorded = asked.generation
    if asked.prompt is None:
        return Checked(asked, "no prompt")
    try:
        model = await bring_model(brought.settings, recorded.model)
        now = await model.generate(asked.prompt, on_text=lambda _: None)
    except MilepostError as error:
        return Checked(asked, "uncertified", why=_words(error))
    pairs = (("model", recorded.model_hash, now.model_hash), ("provider", recorded.provider, now.provider))
    others = tuple(Condition(*each) for each in pairs if each[1] != each[2])
    same = says_the_same(recorded, now)
    apart = None if same else parting(_said(recorded), _said(now))
    return Checked(asked, "uncertified", same=same, parting=apart, conditions=others, why="remote", now=now)


def _said(generation: Generation) -> str:
    from schemas.canonical import canonical

    calls = [f"{call.name} {canonical(call.arguments).decode()}" for call in generation.calls]
    return "\n".join([generation.text, *calls] if generation.text else calls)


def _is_remote(generation: Generation) -> bool:
    return generation.provider.startswith(("http://", "https://"))


def _words(error: MilepostError) -> str:
    return f"{error.what} {error.why}".strip()


class _Brought:
    """The model that spoke last, under the conditions of what it said."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._model: OnnxModel | None = None
        self._loaded: tuple[str, str, int | None] | None = None

    async def model(self, said: Generation) -> OnnxModel:
        """The model that said something, in the precision and with the threads of its certificate, if it has one.

        Raises what bring_model raises, and MilepostError for a model that is elsewhere here.
        """
        own, given = self.settings.model, said.certificate
        precision = given.precision if given else own.precision
        wanted = (said.model, precision, _threads(given.threads) if given else own.threads)
        if self._model is None or wanted != self._loaded:
            await self.close()
            changed = {"precision": precision, "threads": wanted[2], "streams": 1, "speculate": False}
            settings = self.settings.model_copy(update={"model": own.model_copy(update=changed)})
            self._model, self._loaded = await _local(settings, said.model), wanted
        return self._model

    async def close(self) -> None:
        """Give its memory back."""
        if self._model is not None:
            await asyncio.to_thread(self._model.close)
            self._model = None


async def _local(settings: Settings, name: str) -> OnnxModel:
    from infra.models.remote import remotes
    from services.llm.onnx_model import OnnxModel

    if name in remotes(settings.model.home):
        raise MilepostError(f"{name} is a remote model here.", why="the log has it from a model that ran on its own machine")
    model = await bring_model(settings, name)
    if not isinstance(model, OnnxModel):
        raise MilepostError(f"{name} is no model that runs here.")
    return model


def _threads(wanted: int) -> int:
    most = THREADS_A_CORE * (os.cpu_count() or 1)
    if not 1 <= wanted <= most:
        raise MilepostError(f"The certificate is of {wanted} threads.", why=f"this machine may have {most}")
    return wanted
