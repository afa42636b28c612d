"""The models that speak in a cohort: another one, or those that the runs were recorded with; all at hand before it begins."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from infra.cohort.answering import Speak
from infra.cohort.swap import Swap
from runtime.errors import Busy
from schemas.commands import Generate
from schemas.messages import Generation, Prompt
from services.llm.model import Terms
from services.llm.models import DEFAULT, Models

if TYPE_CHECKING:
    from infra.settings import Settings
    from services.llm.model import TextModel

REMOTE_AT_ONCE = 16
LOCAL_AT_ONCE = 4
PAUSE_S = 0.2


async def speaker(swap: Swap, settings: Settings, named: Iterable[str]) -> tuple[Speak, int]:
    """Who answers Generate, and how many runs it serves side by side. named: the models that the runs name.

    Brings every model that may be asked, which may take minutes. Raises UnknownModel, and what goes wrong on the way.
    """
    from services.llm.scripted import ScriptedModel

    if swap.script is not None:
        return _speak(Models.of(ScriptedModel(swap.script)), swap), REMOTE_AT_ONCE
    if swap.llm is None and settings.model.scripted:
        return _speak(Models.of(ScriptedModel.load(settings.model.scripted)), swap), REMOTE_AT_ONCE
    default = settings.model.name if swap.llm in (None, DEFAULT) else str(swap.llm)
    wanted = {default} if swap.llm else {default if name == DEFAULT else name for name in named}
    return await _brought(swap, settings, default, wanted)


async def _brought(swap: Swap, settings: Settings, default: str, wanted: set[str]) -> tuple[Speak, int]:
    from infra.models.remote import remotes
    from infra.wiring import bring_model

    brought: dict[str, TextModel] = {name: await bring_model(settings, name) for name in sorted(wanted)}

    async def bring(name: str) -> TextModel:
        return brought[name] if name in brought else await bring_model(settings, name)

    elsewhere = wanted <= remotes(settings.model.home).keys()
    return _speak(Models(default, bring), swap), settings.model.streams or (REMOTE_AT_ONCE if elsewhere else LOCAL_AT_ONCE)


def _speak(models: Models, swap: Swap) -> Speak:
    async def speak(command: Generate, prompt: Prompt, label: str) -> Generation:
        names: Sequence[str] = (DEFAULT,) if swap.llm else (command.model, *command.fallback)
        while True:
            try:
                return await models.generate(names, prompt, on_text=_unheard, on_begin=_unbegun, terms=Terms(label, batch=True))
            except Busy:
                await asyncio.sleep(PAUSE_S)

    return speak


def _unheard(text: str) -> None:
    """Nobody listens: the whole answer is all that counts."""


def _unbegun() -> None:
    """Nobody waits for the first word."""
