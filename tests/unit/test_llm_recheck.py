"""Generations executed again: certified ones to the token, others with the measure of how close they were."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import pytest

from runtime.certifying import Asked, Checked
from schemas.commands import Generate
from schemas.messages import Generation, JsonOutput, Manner, Message, Prompt, Sampling
from schemas.tools import ToolCard
from services.llm import choice
from services.llm.build import build_text_model
from services.llm.guides import Written
from services.llm.onnx_model import OnnxModel
from services.llm.recheck import recheck
from services.llm.sampling import Sampler
from services.llm.scores import Logits, Scores
from services.llm.stream import Guide, Next
from tests.support.tiny_model import Tiny

CARD = ToolCard(
    name="renew", description="Renew a server.",
    parameters={"type": "object", "properties": {"months": {"type": "integer", "maximum": 99}}, "required": ["months"]},
)  # fmt: skip
PROMPT = Prompt(
    messages=(Message(role="system", content="Be brief. " * 9), Message(role="user", content="hello")),
    sampling=Sampling(max_tokens=40),
)
CERTIFIED = PROMPT.model_copy(update={"manner": Manner(certified=True)})
CALLING = PROMPT.model_copy(update={"tools": (CARD,), "call_margin": -1e6, "sampling": Sampling(max_tokens=80)})
CERTIFIED_CALL = CALLING.model_copy(update={"manner": Manner(certified=True)})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnnxModel]:
    """Exact enough that reading the same tokens otherwise changes next to nothing, and other tokens everything."""
    folder = tmp_path_factory.mktemp("exact")
    built = folder / "built"
    built.mkdir()
    build_text_model(
        Tiny.random("qwen2", tied=True).write(folder / "tiny.gguf"), built, name="tiny", sha256="0" * 64, precision="fp32"
    )
    model = OnnxModel.load(built, slots=1, threads=1)
    yield model
    model.close()


def as_asked(prompt: Prompt, generation: Generation) -> Asked:
    command = Generate(model="tiny", after=None, inputs=(), prompt_hash=prompt.hash(), sampling=prompt.sampling)
    return Asked(1, "e", command, generation, prompt)


async def said(model: OnnxModel, prompt: Prompt) -> Generation:
    return await model.generate(prompt, on_text=lambda _: None)


async def checked(model: OnnxModel, prompt: Prompt, **changes: object) -> Checked:
    """What was said, changed in the log, and executed again."""
    generation = (await said(model, prompt)).model_copy(update=changes)
    return await recheck(model, as_asked(prompt, generation))


@pytest.mark.parametrize("prompt", [CERTIFIED, CERTIFIED_CALL])
async def test_what_was_said_in_certified_mode_is_the_same_again(model: OnnxModel, prompt: Prompt) -> None:
    found = await checked(model, prompt)
    assert (found.verdict, found.same, found.parting, found.conditions, found.spread) == ("match", True, None, (), None)
    assert bool(prompt.tools) == bool(found.now and found.now.calls)


async def test_an_answer_that_was_changed_is_different_from_the_changed_token_on(model: OnnxModel) -> None:
    spoken = await model.speak(CERTIFIED, on_text=lambda _: None)
    text, tokens = spoken.generation.text, spoken.speech.said
    pieces = [model.vocabulary.decode([token]) for token in tokens]
    changed = next(number for number, piece in enumerate(pieces) if number > 9 and piece.isascii() and piece.isalpha())
    before = text[: len(model.vocabulary.decode(tokens[:changed]))]
    assert text.startswith(before + pieces[changed])
    found = await recheck(
        model, as_asked(CERTIFIED, spoken.generation.model_copy(update={"text": f"{before}~~{text[len(before) + 1 :]}"}))
    )
    assert (found.verdict, found.same) == ("different", False)
    assert found.parting
    assert (found.parting.token, found.parting.recorded[:2], found.parting.now) == (changed + 1, "~~", text[len(before) :][:40])


async def test_a_call_whose_argument_was_changed_is_different_there(model: OnnxModel) -> None:
    (call,) = (await said(model, CERTIFIED_CALL)).calls
    months = int(str(call.arguments["months"]))
    forged = call.model_copy(update={"arguments": {"months": 100 + months}})
    found = await checked(model, CERTIFIED_CALL, calls=(forged,))
    assert found.verdict == "different"
    assert found.parting
    assert found.parting.before.endswith('"months": ')
    assert (found.parting.recorded[:1], found.parting.now[: len(str(months))]) == ("1", str(months))


async def test_a_digest_of_other_tokens_is_different_though_every_word_is_the_same(model: OnnxModel) -> None:
    certificate = (await said(model, CERTIFIED)).certificate
    assert certificate
    found = await checked(model, CERTIFIED, certificate=certificate.model_copy(update={"tokens_hash": "0" * 32}))
    assert (found.verdict, found.same, found.parting) == ("different", True, None)


async def test_with_other_threads_nothing_is_attested(model: OnnxModel) -> None:
    certificate = (await said(model, CERTIFIED)).certificate
    assert certificate
    found = await checked(model, CERTIFIED, certificate=certificate.model_copy(update={"threads": 2}))
    assert found.verdict == "elsewhere"
    assert [(each.name, each.recorded, each.here) for each in found.conditions] == [("threads", "2", "1")]


class Kept:
    """A turn, and the logits that it chose by."""

    def __init__(self, turn: Guide) -> None:
        self.turn, self.logits = turn, list[Logits]()

    def follow(self, scores: Scores) -> Next:
        self.logits.append(scores.all().copy())
        return self.turn.follow(scores)


async def test_margins_are_those_of_the_logits(model: OnnxModel) -> None:
    found = await checked(model, PROMPT)
    guides: list[Kept] = []

    def kept(turn: Guide) -> Kept:
        guides.append(Kept(turn))
        return guides[-1]

    await model.speak(PROMPT, on_text=lambda _: None, certified=True, watched=kept)
    special = {model.vocabulary.special(name) for name in model.vocabulary.names} - {model.vocabulary.special("<|im_end|>")}
    margins = []
    for number, row in enumerate(guides[0].logits):
        words = [token for token in range(len(row)) if token not in special - {model.vocabulary.special("<|endoftext|>")}]
        best = np.sort(row[words])[::-1]
        margins.append((float(best[0] - best[1]), number))
    assert found.verdict == "uncertified"
    assert found.spread
    assert (found.spread.chosen, found.spread.drawn, found.spread.call) == (len(margins), False, None)
    assert found.spread.least == pytest.approx(min(margins)[0], abs=1e-6)
    assert 0 < found.spread.shift < 1e-3
    assert [each.token - 1 for each in found.spread.narrow] == [at for size, at in margins if size <= found.spread.shift]


@pytest.mark.parametrize(
    "prompt",
    [
        CALLING, CALLING.model_copy(update={"call_margin": 1e6}),
        PROMPT.model_copy(update={"manner": Manner(output=JsonOutput(json_schema={"type": "array", "maxItems": 3}))}),
        PROMPT.model_copy(update={"manner": Manner(constrained=False)}),
    ],
    ids=["a call", "no call", "an answer of a form", "whatever it will"],
)  # fmt: skip
async def test_every_kind_of_reply_can_be_measured(model: OnnxModel, prompt: Prompt) -> None:
    found = await checked(model, prompt)
    assert found.same
    assert found.spread
    assert found.spread.chosen > 0
    assert found.spread.least >= 0
    assert found.spread.shift < 1e-3
    assert math.isfinite(found.spread.shift)
    assert found.spread.turned <= len(found.spread.narrow)
    assert (found.spread.call is not None) == bool(prompt.tools)


@pytest.mark.parametrize(("margin", "cost"), [(-1e6, 1e9), (-4.0, 3.0)], ids=["when it is whole", "while its name is spelled"])
async def test_a_call_that_was_taken_back_is_read_again_as_it_was(
    model: OnnxModel, monkeypatch: pytest.MonkeyPatch, margin: float, cost: float
) -> None:
    monkeypatch.setattr(choice, "INVENTED", cost)
    found = await checked(model, CALLING.model_copy(update={"call_margin": margin}))
    assert found.now
    assert not found.now.calls
    assert found.spread
    assert found.spread.shift < 1e-3


async def test_choices_under_a_grammar_are_seen_though_nobody_need_ask_for_the_likeliest(
    model: OnnxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[int] = []
    choose = Written._choose

    def counted(call: Written, scores: Scores) -> int:
        chosen.append(choose(call, scores))
        return chosen[-1]

    monkeypatch.setattr(Written, "_choose", counted)
    prompt = PROMPT.model_copy(update={"manner": Manner(output=JsonOutput(json_schema={"type": "string"}))})
    await said(model, prompt)
    made = len(chosen)
    found = await checked(model, prompt)
    assert found.spread
    assert found.spread.chosen == made > 0


async def test_drawn_tokens_have_no_margin_and_come_again_from_their_seed(model: OnnxModel) -> None:
    prompt = PROMPT.model_copy(update={"sampling": Sampling(temperature=0.9, seed=7, max_tokens=20)})
    found = await checked(model, prompt)
    assert found.same
    assert found.spread
    assert (found.spread.drawn, found.spread.narrow, found.spread.turned) == (True, (), 0)


async def test_nobody_looks_on_where_nobody_is_asked_to(model: OnnxModel, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = await checked(model, CALLING)
    made: list[Sampler] = []
    initial = Sampler.__init__

    def counted(sampler: Sampler, sampling: Sampling) -> None:
        made.append(sampler)
        initial(sampler, sampling)

    monkeypatch.setattr(Sampler, "__init__", counted)
    plain = await said(model, CALLING)
    assert {type(sampler) for sampler in made} == {Sampler}
    assert watched.now
    assert plain.text == watched.now.text
    assert plain.calls == watched.now.calls


async def test_without_its_prompt_nothing_is_executed(model: OnnxModel) -> None:
    asked = as_asked(PROMPT, await said(model, PROMPT))
    with pytest.raises(ValueError, match="without its prompt"):
        await recheck(model, dataclasses.replace(asked, prompt=None))
