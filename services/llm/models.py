"""The models of one llm service by name: each is brought when it is first asked for, and a fallback follows a failure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import structlog

from runtime.errors import Busy, Permanent
from schemas.errors import MilepostError
from schemas.messages import Generation, Prompt
from services.llm.engine import DeadlinePassed
from services.llm.loading import LoadingModel
from services.llm.model import ANYBODY, Terms, TextModel
from services.llm.tally import Tally

log = structlog.get_logger("services.llm")

Bring = Callable[[str], Awaitable[TextModel]]
DEFAULT = "default"


class NoModel(Permanent):
    """None of the models that an agent names could answer."""

    def __init__(self, tried: Sequence[str]) -> None:
        super().__init__(
            "No model could answer.", why="; ".join(tried), hint="milepost models ls, then change the agent's model or fallback"
        )
        self.tried = tuple(tried)


class Models:
    """Speaks through the first model of an order that can. default: what the name "default" stands for."""

    def __init__(self, default: str, bring: Bring) -> None:
        self.default = default
        self._bring = bring
        self._models: dict[str, LoadingModel] = {}
        self._said: dict[str, Tally] = {}

    @classmethod
    def of(cls, model: TextModel) -> Models:
        """One model that is there already, whatever name it is asked by."""

        async def bring(_: str) -> TextModel:
            return model

        return cls(model.name, bring)

    async def load(self) -> None:
        """Bring the default model before anybody asks."""
        await self._model(DEFAULT).load()

    def forget(self) -> None:
        """Drop what is kept of earlier prompts: a person in one of them is to be forgotten."""
        for model in self._models.values():
            model.forget()

    def stats(self) -> dict[str, object]:
        """What the loaded models tell of themselves, and what they have said in figures, by name."""
        told = {name: stats for name, model in self._models.items() if (stats := model.stats())}
        said = {name: tally.told() for name, tally in self._said.items()}
        return {**({"models": told} if told else {}), **({"said": said} if said else {})}

    async def generate(
        self, names: Sequence[str], prompt: Prompt, *, on_text: Callable[[str], None], on_begin: Callable[[], None],
        terms: Terms = ANYBODY,
    ) -> Generation:  # fmt: skip
        """What the first of the named models says that can; on_begin is called as each one's turn begins.

        A single model's own error is raised as it is. Of several, one that is busy or fails gives way to the next;
        when all of them do, raises the last one's back-pressure, or NoModel.
        """
        tried: list[str] = []
        for number, name in enumerate(names, start=1):
            on_begin()
            try:
                said = await self._model(name).generate(prompt, on_text=on_text, terms=terms)
            except DeadlinePassed:
                raise
            except MilepostError as error:
                if len(names) == 1 or (number == len(names) and isinstance(error, Busy)):
                    raise
                tried.append(f"{name}: {error.what} {error.why}".strip()[:300])
                log.warning("model gave way", model=name, why=error.what, last=number == len(names))
            else:
                self._said.setdefault(self._name(name), Tally()).add(said)
                return said.model_copy(update={"tried": tuple(tried)}) if tried else said
        raise NoModel(tried)

    def _model(self, name: str) -> LoadingModel:
        known = self._name(name)
        if known not in self._models:
            self._models[known] = LoadingModel(known, lambda: self._bring(known))
        return self._models[known]

    def _name(self, name: str) -> str:
        return self.default if name == DEFAULT else name
