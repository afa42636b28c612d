"""What a run keeps grows by what is new in each step, however long it has become."""

from __future__ import annotations

from runtime.orders import material
from schemas.canonical import canonical
from schemas.envelope import encode
from schemas.events import Turn
from tests.support.builders import CLOCK, NOW, RunUnderTest, call, passage, spec
from tests.support.history import TOLD

CALLS = 40
RESULT = "It is noon in Hangzhou, and the clock is right. " * 10


def test_facts_and_commands_of_forty_calls_grow_linearly() -> None:
    run = RunUnderTest(spec(steps=CALLS + 1, calls=CALLS, knowledge_k=1))
    run.begin()
    history = tuple(Turn(run=f"r{number}", task="and then? " * 20, answer="this. " * 40) for number in range(20))
    run.gather(CLOCK, told=TOLD.model_copy(update={"history": history}), passages=(passage("text " * 100),))
    facts, commands, travelling = [], [], []
    for number in range(CALLS):
        told, decided = len(run.log), len(run.decided)
        (order,) = run.say(call(id=f"c{number:02}", n=f"{number:02}"))
        run.returns(order, RESULT)
        facts.append(sum(len(encode(stored.fact)) for stored in run.log[told:]))
        commands.append(sum(len(canonical(each.command.model_dump(mode="json"))) for each in run.decided[decided:]))
        travelling.append(len(canonical(material(run.decided[-1].command, run.state))))
    assert max(facts[1:]) - min(facts[1:]) < 40  # ids and times have one length; numbers of a budget may not
    assert max(commands[1:]) - min(commands[1:]) < 40
    assert max(facts) < len(RESULT) + 4_000
    # The order to generate carries the whole prompt, so that the service need not read the log; no log keeps it.
    assert travelling[-1] > travelling[0] + (CALLS - 1) * len(RESULT)
    assert [stored.fact.material for stored in run.log] == [{}] * len(run.log)


def test_what_a_turn_leaves_to_later_ones_is_bounded() -> None:
    run = RunUnderTest(spec(steps=CALLS, calls=CALLS, knowledge_k=0))
    run.begin()
    run.gather(CLOCK)
    for number in range(20):
        (order,) = run.say(call(id=f"c{number}", n=number))
        run.returns(order, f"{number} " * 1_000)
    assert len(run.state.results) == 8
    assert all(len(result.text) == 500 for _, result in run.state.results)
    assert run.now == NOW
