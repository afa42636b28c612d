"""The models of a service: brought when asked for, and the next one when one cannot."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from runtime.errors import Permanent, Retryable
from schemas.errors import MilepostError
from schemas.messages import Generation, Message, Prompt
from services.llm import loading
from services.llm.engine import DeadlinePassed, EngineStopped, ModelBusy
from services.llm.model import ANYBODY, Terms, TextModel
from services.llm.models import Models, NoModel

PROMPT = Prompt(messages=(Message(role="user", content="hello"),))


class Speaker:
    """Says its name, or fails after a few words."""

    def __init__(self, name: str, failure: MilepostError | None = None) -> None:
        self.name, self.failure, self.asked = name, failure, 0

    async def generate(self, prompt: Prompt, *, on_text: Callable[[str], None], terms: Terms = ANYBODY) -> Generation:
        self.asked += 1
        on_text(f"I am {self.name}")
        if self.failure:
            raise self.failure
        return Generation(text=f"I am {self.name}", model=self.name)


def models_of(*speakers: Speaker) -> Models:
    known = {speaker.name: speaker for speaker in speakers}

    async def bring(name: str) -> TextModel:
        if name not in known:
            raise MilepostError(f"There is no model {name!r}.", hint="milepost models ls")
        return known[name]

    return Models(speakers[0].name, bring)


async def ask(models: Models, *names: str) -> tuple[Generation, list[str]]:
    heard: list[str] = []
    return await models.generate(names, PROMPT, on_text=heard.append, on_begin=lambda: heard.append("|")), heard


async def test_the_default_has_a_name_and_others_are_asked_by_theirs() -> None:
    models = models_of(Speaker("one"), Speaker("two"))
    assert (await ask(models, "default"))[0].text == "I am one"
    assert (await ask(models, "two"))[0].text == "I am two"


@pytest.mark.parametrize("failure", [Retryable("It is away."), Permanent("It is broken."), ModelBusy(3)])
async def test_the_next_one_speaks_when_one_cannot_and_the_record_says_so(failure: MilepostError) -> None:
    said, heard = await ask(models_of(Speaker("one", failure), Speaker("two")), "one", "two")
    assert said.text == "I am two"
    assert len(said.tried) == 1 and said.tried[0].startswith(f"one: {failure.what}")
    assert heard == ["|", "I am one", "|", "I am two"]


async def test_one_that_cannot_be_loaded_gives_way_too() -> None:
    said, _ = await ask(models_of(Speaker("one")), "missing", "one")
    assert said.text == "I am one" and "missing" in said.tried[0]


async def test_a_single_model_fails_with_its_own_error() -> None:
    with pytest.raises(Retryable, match="away"):
        await ask(models_of(Speaker("one", Retryable("It is away."))), "one")


async def test_when_none_can_speak_all_reasons_are_told() -> None:
    with pytest.raises(NoModel) as caught:
        await ask(models_of(Speaker("one", Permanent("Broken.")), Speaker("two", Retryable("Away."))), "one", "two")
    assert "one: Broken." in caught.value.why and "two: Away." in caught.value.why


async def test_when_the_last_is_busy_the_caller_comes_back() -> None:
    with pytest.raises(ModelBusy):
        await ask(models_of(Speaker("one", Permanent("Broken.")), Speaker("two", ModelBusy(3))), "one", "two")


async def test_a_passed_deadline_is_not_handed_on() -> None:
    second = Speaker("two")
    with pytest.raises(DeadlinePassed):
        await ask(models_of(Speaker("one", DeadlinePassed(began=True)), second), "one", "two")
    assert second.asked == 0


async def test_a_model_that_could_not_be_loaded_is_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0

    async def bring(name: str) -> TextModel:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise MilepostError("The disk is full.", hint="make room")
        return Speaker(name)

    models = Models("one", bring)
    for _ in range(2):
        with pytest.raises(Permanent, match="could not be loaded") as caught:
            await ask(models, "default")
        assert caught.value.why == "The disk is full." and caught.value.hint == "make room"
    assert tries == 1
    monkeypatch.setattr(loading, "AGAIN_S", -1.0)
    assert (await ask(models, "default"))[0].text == "I am one"


async def test_a_model_whose_engine_broke_is_brought_again() -> None:
    brought: list[Speaker] = []

    async def bring(name: str) -> TextModel:
        brought.append(Speaker(name, None if brought else EngineStopped()))
        return brought[-1]

    models = Models("one", bring)
    with pytest.raises(EngineStopped):
        await ask(models, "default")
    assert (await ask(models, "default"))[0].text == "I am one"
    assert len(brought) == 2
