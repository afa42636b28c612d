"""Turns: what a model wants to write, led through a choice, a grammar or nothing, and read as a reply."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from schemas.messages import ChoiceOutput, JsonOutput, Manner, Message, Output, Prompt, RegexOutput, Sampling
from schemas.tools import ToolCard
from services.llm.guides import Answer
from services.llm.replies import Reply
from services.llm.scores import HostScores
from services.llm.tokenizer import Vocabulary, tokenizer_from
from services.llm.turns import Speech, Turns
from services.llm.weights import Weights
from services.llm.wire import WIRES
from tests.support.tiny_model import Tiny

RENEW = ToolCard(
    name="RenewInstance",
    description="Renew a subscription instance.",
    parameters={
        "type": "object",
        "properties": {
            "PeriodUnit": {"enum": ["Week", "Month"]},
            "Period": {"type": "integer", "minimum": 1},
            "InstanceId": {"type": "string"},
        },
        "required": ["InstanceId", "Period"],
    },
)
STOP = ToolCard(
    name="StopInstance",
    description="Stop an instance.",
    parameters={"type": "object", "properties": {"InstanceId": {"type": "string"}}, "required": ["InstanceId"]},
)
ARGUMENTS = {"InstanceId": "i-bp1 续费🙂", "Period": 3, "PeriodUnit": "Month"}


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    return Vocabulary(tokenizer_from(Weights(Tiny.random("qwen2", tied=True).write(path))))


class Desk:
    """Makes turns, and lets a typist write them: at each step its logits want what comes next in its text."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.end = vocabulary.special("<|im_end|>") or 0
        # Two rows more than tokens, as in models whose tables are padded.
        self.rows = len(vocabulary) + 2
        self.turns = Turns(vocabulary, [self.end], rows=self.rows)
        self.heard: list[str] = []

    def speech(
        self, *cards: ToolCard, wire: str = "json", margin: float = 0.0, longest: int = 400, constrained: bool = True,
        parallel: bool = False, output: Output | None = None, temperature: float = 0.0,
    ) -> Speech:  # fmt: skip
        manner = Manner(constrained=constrained, parallel=parallel, output=output)
        prompt = Prompt(
            messages=(Message(role="user", content="i-1 for 3 months"),), tools=cards, call_margin=margin, manner=manner,
            sampling=Sampling(temperature=temperature),
        )  # fmt: skip
        self.heard = []
        return self.turns.speech(prompt, WIRES[wire], longest=longest, on_text=self.heard.append)

    def logits(self, text: str, position: int) -> HostScores:
        wanted = [*self.vocabulary.encode(text), self.end]
        logits = np.zeros(self.rows, np.float32)
        logits[-1] = 1
        logits[self.vocabulary.encode('"}]')] = 5
        logits[wanted[min(position, len(wanted) - 1)]] = 20
        return HostScores(logits)

    def type(self, speech: Speech, text: str, *, skip: int = 0) -> Reply:
        """skip: how many tokens the turn says of itself before the typist's first."""
        step = speech.turn.follow(self.logits(text, 0))
        while step.tokens:
            step = speech.turn.follow(self.logits(text, max(len(speech.said) - skip, 0)))
        return speech.reply()


@pytest.fixture(scope="module")
def desk(vocabulary: Vocabulary) -> Desk:
    return Desk(vocabulary)


@pytest.mark.parametrize("wire", WIRES.values(), ids=WIRES)
@pytest.mark.parametrize("cards", [(RENEW,), (RENEW, STOP)])
def test_a_wanted_call_is_written_in_every_form(desk: Desk, wire: object, cards: tuple[ToolCard, ...]) -> None:
    form = WIRES[wire.name]  # type: ignore[attr-defined]
    line = "".join((form.opening, *form.body("RenewInstance", ARGUMENTS, RENEW), form.closing))
    reply = desk.type(desk.speech(*cards, wire=form.name), line)
    assert [(call.name, call.arguments) for call in reply.calls] == [("RenewInstance", ARGUMENTS)]
    assert (reply.text, reply.malformed, desk.heard) == ("", "", [])


def test_a_call_cannot_break_its_schema(desk: Desk) -> None:
    reply = desk.type(
        desk.speech(RENEW), '{"name": "RenewInstance", "arguments": {"InstanceId": "i-1", "Period": "three", "Fake": 1}}'
    )
    assert set(reply.calls[0].arguments) <= {"InstanceId", "Period", "PeriodUnit"}
    assert isinstance(reply.calls[0].arguments["Period"], int)


@pytest.mark.parametrize("name", ["json", "hermes", "openai"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_several_calls_end_when_the_model_ends(desk: Desk, name: str, count: int) -> None:
    wire = WIRES[name]
    asked = [("StopInstance", {"InstanceId": f"i-{number}"}) for number in range(count)]
    bodies = ["".join(wire.body(called, given, STOP)) for called, given in asked]
    reply = desk.type(
        desk.speech(RENEW, STOP, wire=name, parallel=True), wire.opening + wire.between.join(bodies) + wire.closing
    )
    assert [(call.name, call.arguments) for call in reply.calls] == asked
    assert len({call.id for call in reply.calls}) == count


def test_only_one_call_where_several_were_not_asked_for(desk: Desk) -> None:
    line = '{"name": "StopInstance", "arguments": {"InstanceId": "i-1"}}'
    assert len(desk.type(desk.speech(STOP), f"{line}\n{line}").calls) == 1


def test_whole_calls_outlast_a_cut(desk: Desk) -> None:
    line = '{"name": "StopInstance", "arguments": {"InstanceId": "i-1"}}'
    reply = desk.type(desk.speech(STOP, parallel=True, longest=len(line) + 40), f"{line}\n{line}")
    assert [call.arguments for call in reply.calls] == [{"InstanceId": "i-1"}]


def test_a_call_that_does_not_fit_is_none_and_the_model_hears_why(desk: Desk) -> None:
    speech = desk.speech(STOP, longest=60)
    reply = desk.type(speech, '{"name": "StopInstance", "arguments": {"InstanceId": "' + "i" * 99)
    assert (reply.calls, speech.turn.chosen.finish) == ((), "length")
    assert "cut off after" in reply.malformed


def test_a_call_that_only_repeats_itself_is_stopped(desk: Desk) -> None:
    speech = desk.speech(STOP, longest=4000)
    reply = desk.type(speech, '{"name": "StopInstance", "arguments": {"InstanceId": "' + "again, " * 500)
    assert "cut off" in reply.malformed
    assert len(speech.said) < 250


@pytest.mark.parametrize("cards", [(STOP,), (STOP, RENEW)])
def test_a_call_of_a_tool_that_is_not_offered_is_taken_back(desk: Desk, cards: tuple[ToolCard, ...]) -> None:
    speech = desk.speech(*cards)
    opened = speech.turn.follow(desk.logits('{"name": "Destroy', 0))
    assert speech.turn.calls
    back = speech.turn.follow(desk.logits('{"name": "Destroy', len(speech.said)))
    assert isinstance(speech.turn.chosen, Answer)
    assert back.drop == len(opened.tokens) > 0


def test_scores_that_change_after_their_step_are_not_looked_at_again(desk: Desk) -> None:
    speech = desk.speech(STOP)
    first = np.zeros(desk.rows, np.float32)
    first[desk.vocabulary.encode("{")[0]], first[desk.vocabulary.encode("W")[0]] = 9, 8
    speech.turn.follow(HostScores(first))
    first[:] = 0  # the decoder's next step writes over it
    back = speech.turn.follow(desk.logits("Destroy", 0))
    assert list(back.tokens) == desk.vocabulary.encode("W")


def test_an_answer_beside_tools_begins_with_words(desk: Desk) -> None:
    reply = desk.type(desk.speech(STOP, margin=1e9), "<tool_response> done")
    assert reply.text
    assert reply.text[0] not in "<{[` "


@pytest.mark.parametrize("name", ["mrkl", "chatglm3"])
def test_an_answer_begins_as_its_form_has_it(desk: Desk, name: str) -> None:
    speech = desk.speech(STOP, wire=name)
    skip = len(desk.vocabulary.encode(WIRES[name].answer))
    assert desk.type(speech, "Final", skip=skip).text == "Final"
    assert desk.heard == list("Final")


def test_a_blank_before_an_answer_counts_for_answering(desk: Desk) -> None:
    speech = desk.speech(STOP, wire="chatglm3", margin=-1)
    logits = np.zeros(desk.rows, np.float32)
    logits[desk.vocabulary.encode("\n")[0]], logits[desk.vocabulary.encode("S")[0]] = 20, 10
    speech.turn.follow(HostScores(logits))
    assert not speech.turn.calls


def test_the_margin_leans_to_answering(desk: Desk) -> None:
    def calls(margin: float) -> bool:
        speech = desk.speech(STOP, margin=margin)
        speech.turn.follow(desk.logits("{", 0))
        return speech.turn.calls

    assert calls(-50)
    assert not calls(50)


def test_a_model_that_was_trained_to_decide_is_not_leant_on(vocabulary: Vocabulary) -> None:
    desk = Desk(vocabulary)
    desk.turns = Turns(vocabulary, [desk.end], rows=desk.rows, decides=True)

    def calls(wanted: str, margin: float) -> bool:
        speech = desk.speech(STOP, margin=margin)
        speech.turn.follow(desk.logits(wanted, 0))
        return speech.turn.calls

    assert [calls("{", margin) for margin in (-50, 50)] == [True, True]
    assert [calls("Sure", margin) for margin in (-50, 50)] == [False, False]


def test_an_answer_is_cut_at_its_longest(desk: Desk) -> None:
    speech = desk.speech(longest=5)
    assert desk.type(speech, "abcdefghij") == Reply("abcde")
    assert speech.turn.chosen.finish == "length"


OUTPUTS = [
    (
        JsonOutput(json_schema={"type": "object", "properties": {"城市": {"type": "string"}}, "required": ["城市"]}),
        '{"城市": "北京🙂"}',
    ),
    (JsonOutput(json_schema={"type": "integer"}), "-12"),
    (RegexOutput(pattern=r"i-[a-z0-9]{2,9}|none"), "i-bp1"),
    (RegexOutput(pattern=r"\d+/\d+\n?"), "1/2"),
    (ChoiceOutput(options=("yes", "yes, please", "不", "a/b (c)")), "yes, please"),
    (ChoiceOutput(options=("yes", "yes, please")), "yes"),
]


@pytest.mark.parametrize(("output", "wish"), OUTPUTS)
def test_an_answer_has_the_wanted_form_and_is_heard_as_it_comes(desk: Desk, output: Output, wish: str) -> None:
    assert desk.type(desk.speech(output=output), wish) == Reply(wish)
    assert "".join(desk.heard) == wish


FLAG = JsonOutput(json_schema={"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"]})


@pytest.mark.parametrize(
    ("output", "fits"),
    [
        (FLAG, lambda text: isinstance(json.loads(text)["x"], bool)),
        (RegexOutput(pattern="[a-c]{3}"), lambda text: len(text) == 3 and set(text) <= set("abc")),
        (ChoiceOutput(options=("yes", "no")), lambda text: text in ("yes", "no")),
    ],
)
def test_an_answer_cannot_leave_the_wanted_form(desk: Desk, output: Output, fits: Callable[[str], bool]) -> None:
    reply = desk.type(desk.speech(output=output), "I would rather not say")
    assert fits(reply.text)
    assert not reply.malformed


def test_a_formed_answer_that_does_not_fit_is_malformed(desk: Desk) -> None:
    reply = desk.type(desk.speech(output=RegexOutput(pattern="[ab]{200}"), longest=20), "ab" * 100)
    assert "cut off" in reply.malformed


def test_a_model_may_call_before_it_answers_in_a_wanted_form(desk: Desk) -> None:
    output = JsonOutput(json_schema={"type": "object", "properties": {"name": {"type": "integer"}}, "required": ["name"]})
    line = '{"name": "StopInstance", "arguments": {"InstanceId": "i-1"}}'
    assert desk.type(desk.speech(STOP, RENEW, output=output, margin=-0.5), line).calls[0].name == "StopInstance"
    speech = desk.speech(STOP, RENEW, output=output, margin=4.0)
    assert desk.type(speech, '{"name": 7}') == Reply('{"name": 7}')
    # An answer that begins like a call is one as soon as no offered tool is named.
    speech = desk.speech(STOP, RENEW, output=output, margin=-0.5)
    step = speech.turn.follow(desk.logits('{"name": 7}', 0))
    while step.tokens:
        step = speech.turn.follow(desk.logits('{"name": 7}', 0 if step.drop else len(speech.said)))
    assert not speech.turn.calls


def test_without_constraint_a_reply_is_read(desk: Desk) -> None:
    line = '{"name": "StopInstance", "arguments": {"InstanceId": "i-1"}}'
    reply = desk.type(desk.speech(STOP, constrained=False), line)
    assert reply.calls[0].arguments == {"InstanceId": "i-1"}
    assert desk.heard == []
    assert desk.type(desk.speech(STOP, constrained=False), "It is stopped. Bye") == Reply("It is stopped. Bye")
    assert "".join(desk.heard) == "It is stopped. Bye"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"name": "Destroy", "arguments": {}}', "There is no tool 'Destroy'; there is StopInstance"),
        ('{"name": "StopInstance", "arguments": {}}', "'InstanceId' is a required property"),
        ('{"name": "StopInstance", "arguments": {"InstanceId": 7}}', "7 is not of type 'string'"),
        ('{"name": "StopInstance", "arguments": {', "no readable JSON"),
        ("", "empty"),
    ],
)
def test_without_constraint_a_wrong_call_goes_back_to_the_model(desk: Desk, text: str, why: str) -> None:
    reply = desk.type(desk.speech(STOP, constrained=False), text)
    assert reply.calls == ()
    assert why in reply.malformed
    assert desk.heard == []


def test_a_pattern_that_only_the_grammar_can_read_is_kept_by_it(desk: Desk) -> None:
    assert desk.type(desk.speech(output=RegexOutput(pattern=r"\p{Lu}[a-z]+")), "Abc") == Reply("Abc")


@pytest.mark.parametrize(("output", "wish"), OUTPUTS)
def test_without_constraint_an_answer_is_checked(desk: Desk, output: Output, wish: str) -> None:
    assert desk.type(desk.speech(output=output, constrained=False), wish) == Reply(wish)
    assert desk.type(desk.speech(output=output, constrained=False), "I would rather not say").malformed


def test_what_a_model_makes_up_after_its_call_is_not_awaited(desk: Desk) -> None:
    text = 'Action: StopInstance\nAction Input: {"InstanceId": "i-1"}\nObservation: it is stopped'
    speech = desk.speech(STOP, wire="mrkl", constrained=False)
    assert desk.type(speech, text).calls[0].name == "StopInstance"
    assert len(speech.said) < len(desk.vocabulary.encode(text))


@pytest.mark.parametrize("before", range(0, 70, 3))
def test_a_stop_is_seen_wherever_it_stands(desk: Desk, before: int) -> None:
    text = "x" * before + "\nObservation:"
    speech = desk.speech(STOP, wire="mrkl", constrained=False)
    desk.type(speech, f"{text} and more")
    assert speech.turn.chosen.text == text


def test_a_random_writer_stays_within_the_grammar(desk: Desk) -> None:
    random = np.random.default_rng(5)
    for _ in range(20):
        speech = desk.speech(RENEW, STOP, margin=-1e9, temperature=1.0, longest=4000)
        step = speech.turn.follow(HostScores(random.standard_normal(desk.rows).astype(np.float32)))
        while step.tokens:
            step = speech.turn.follow(HostScores(random.standard_normal(desk.rows).astype(np.float32)))
        reply = speech.reply()
        assert len(reply.calls) == 1 or reply.malformed
