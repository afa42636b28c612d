"""What a log gives of the generations in it, and what executing them again is worth."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from runtime.certifying import Asked, Checked, asked_in, attestation, conditions, judged, overall, parting, said_of_attestation
from runtime.log import Stored
from schemas.events import AnswerCopied, Generated
from schemas.messages import Certificate, Generation, Usage
from tests.support.builders import RunUnderTest
from tests.support.forked_run import ForkUnderTest, original_of
from tests.support.two_runs import asked

CERTIFICATE = Certificate(engine="library 1", machine="x86", precision="int8", threads=2, chunk=256, tokens_hash="t")
SAID = Generation(
    text="It is noon.", model="tiny", model_hash="m", tokenizer_hash="k", usage=Usage(prompt_tokens=9), certificate=CERTIFICATE
)


def generations(run: RunUnderTest) -> list[Asked]:
    return asked_in(run.id, run.log)


def test_every_generation_comes_with_the_prompt_that_was_asked() -> None:
    run = asked()
    first, second = generations(run)
    assert [run.log[each.number - 1].fact.id for each in (first, second)] == [first.event, second.event]
    assert first.prompt and second.prompt
    assert [each.prompt.hash() for each in (first, second) if each.prompt] == [
        first.command.prompt_hash, second.command.prompt_hash,
    ]  # fmt: skip
    assert [message.content for message in second.prompt.messages if message.role == "tool"] == ["noon"]


def edited(run: RunUnderTest, number: int, part: str = "generation", **changes: object) -> list[Stored]:
    """The log with a part of one Generated changed, as somebody might do who has a file."""
    log = list(run.log)
    fact = log[number - 1].fact
    assert isinstance(fact.body, Generated)
    body = fact.body.model_copy(update={part: getattr(fact.body, part).model_copy(update=changes)})
    log[number - 1] = Stored(replace(fact, body=body), number)
    return log


def test_a_prompt_is_not_made_up_where_the_log_gives_another_one() -> None:
    run = asked()
    first, _ = generations(run)
    other = first.generation.calls[0].model_copy(update={"arguments": {"zone": "south"}})
    again = asked_in(run.id, edited(run, first.number, calls=(other,)))
    assert again[0].prompt == first.prompt
    assert again[1].prompt is None
    again = asked_in(run.id, edited(run, first.number, "command", prompt_hash="0" * 32))
    assert again[0].prompt is None


def test_what_a_fork_copied_is_no_generation_of_its_own() -> None:
    run = asked()
    _, second = generations(run)
    fork = ForkUnderTest(original_of(run), second.number)
    found = generations(fork)
    assert [each.copied for each in found] == [isinstance(fork.log[each.number - 1].fact.body, AnswerCopied) for each in found]
    assert found and all(each.copied for each in found)


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"threads": 1}, "threads"), ({"engine": "library 2"}, "engine"), ({"machine": "arm"}, "machine"),
        ({"precision": "int4"}, "precision"), ({"chunk": 64}, "chunk"),
    ],
)  # fmt: skip
def test_under_other_conditions_nothing_is_a_match_nor_a_difference(change: dict[str, object], differs: str) -> None:
    here = SAID.model_copy(update={"certificate": CERTIFICATE.model_copy(update=change)})
    assert judged(SAID, here) == "elsewhere"
    assert [each.name for each in conditions(SAID, here)] == [differs]


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"model_hash": "n"}, "model"), ({"tokenizer_hash": "l"}, "tokenizer"), ({"cut": ("1 earlier turn",)}, "cut"),
        ({"usage": Usage(prompt_tokens=8)}, "prompt tokens"),
    ],
)  # fmt: skip
def test_nor_with_another_model_or_prompt(change: dict[str, object], differs: str) -> None:
    here = SAID.model_copy(update=change)
    assert judged(SAID, here) == "elsewhere"
    assert [each.name for each in conditions(SAID, here)] == [differs]


def test_a_reply_that_had_less_room_is_not_said_to_be_another_one() -> None:
    other = CERTIFICATE.model_copy(update={"tokens_hash": "u"})
    cut = SAID.model_copy(update={
        "text": "It is", "finish": "length", "certificate": other, "usage": Usage(prompt_tokens=9, completion_tokens=2),
    })  # fmt: skip
    whole = SAID.model_copy(update={"usage": Usage(prompt_tokens=9, completion_tokens=4)})
    assert [(each.name, each.recorded, each.here) for each in conditions(cut, whole)] == [("context", "11", "13")]
    assert judged(cut, whole) == judged(whole, cut) == "elsewhere"
    assert judged(cut.model_copy(update={"text": "Is it"}), whole) == "different"
    assert judged(cut.model_copy(update={"finish": "stop"}), whole) == "different"


def test_a_match_is_the_same_tokens_and_the_same_reply() -> None:
    other_tokens = SAID.model_copy(update={"certificate": CERTIFICATE.model_copy(update={"tokens_hash": "u"})})
    assert judged(SAID, SAID.model_copy(update={"total_ms": 5.0})) == "match"
    assert judged(SAID, other_tokens) == "different"
    assert judged(SAID, SAID.model_copy(update={"text": "It is one."})) == "different"
    assert judged(SAID.model_copy(update={"certificate": None}), SAID) == "uncertified"


def test_one_step_that_is_not_certified_leaves_a_run_unattested() -> None:
    step = generations(asked())[0]
    match, other, free = (Checked(step, verdict) for verdict in ("match", "different", "uncertified"))
    assert overall([match, match, Checked(step, "copied")]) == "match"
    assert overall([match, free]) == "unattested"
    assert overall([match, free, other]) == "different"
    assert overall([]) == overall([Checked(step, "copied")]) == "unattested"


def test_an_attestation_says_what_was_executed_and_a_change_of_it_is_another_one() -> None:
    run = asked()
    checked = [Checked(each, "match") for each in generations(run)]
    stated = attestation(run.id, "acme", checked, receipt="r", at=datetime.now(UTC), by="milepost 1", key="k")
    assert (stated.result, [step.event for step in stated.steps]) == ("match", [each.asked.number for each in checked])
    assert said_of_attestation(stated) != said_of_attestation(stated.model_copy(update={"receipt": "s"}))


def test_two_texts_part_where_their_first_characters_differ() -> None:
    found = parting("It is noon.", "It is one.")
    assert (found.before, found.recorded, found.now) == ("It is ", "noon.", "one.")
