"""What a page is told of a run: lines that grow with it, the same states and prompts as a fold of all of it, and forks."""

from __future__ import annotations

from typing import cast

import pytest

from runtime.causes import causes_of
from runtime.client import UnknownRun
from runtime.log import Stored
from runtime.travel import NoModelTurn, NoSuchEvent, moment_of
from runtime.travel import prompt_at as prompt_of
from schemas.envelope import encode
from schemas.ids import RunId, checked_run
from services.gateway.ports.history import Verification
from services.gateway.runs import view as run_view
from services.gateway.runs.diff import compared
from services.gateway.runs.forks import ForkAsked, change_of, leaving, original_of
from services.gateway.runs.readings import KEPT, Readings
from services.gateway.runs.replaying import prompt_at, replayed, state_at
from services.gateway.runs.view import Reading
from tests.bench.replay.workload import recorded
from tests.support.builders import RunUnderTest, run_of

RUN = recorded(1)


def past(run: RunUnderTest) -> list[tuple[Stored, bytes]]:
    return [(stored, encode(stored.fact)) for stored in run.log]


def reading(run: RunUnderTest = RUN) -> Reading:
    found = Reading(run.id)
    found.extend(past(run))
    return found


def test_lines_come_piece_by_piece_as_they_would_at_once() -> None:
    whole, grown = reading(), Reading(RUN.id)
    told: list[run_view.EventLine] = []
    for each in past(RUN):
        grown.extend([each])
        told += grown.lines("en", len(told))
    assert told == whole.lines("en") and [each.n for each in told] == list(range(1, whole.count + 1))
    assert [each.under for each in told] == [node.under for node in causes_of(RUN.log).nodes]
    granted = next(each for each in told if each.type == "ApprovalGranted")
    assert granted.wait == "person" and granted.took_ms == 30_000 and granted.tool == "RenewInstance"
    assert whole.ended == "completed" and whole.summed().status == "completed"  # type: ignore[union-attr]  # it has a request
    assert whole.lines("zh")[0].line != told[0].line


@pytest.mark.parametrize("every", [1, 4, 64])
def test_every_state_and_prompt_is_that_of_a_fold_of_all_of_it(every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_view, "KEEP_EVERY", every)
    found = reading()
    turns = set()
    for number in [*range(found.count, 0, -1), *range(1, found.count + 1)]:
        state = found.folded(number).state
        moment = moment_of(RUN.id, RUN.log, number)
        assert state == moment.state
        told = state_at(found, number, "en")
        assert {each.id: each.answered for each in told.outstanding if each.answered} == moment.answered
        assert {each.id for each in told.outstanding if each.fresh} == {
            each.id for each in moment.decided if each.id in state.outstanding
        }
        try:
            asked = prompt_of(RUN.id, RUN.log, number)
        except NoModelTurn:
            with pytest.raises(NoModelTurn):
                prompt_at(found, number)
            continue
        prompt = prompt_at(found, number)
        assert (prompt.n, prompt.same, len(prompt.messages)) == (asked.number, True, len(asked.prompt.messages))
        turns.add(prompt.n)
    assert len(turns) == 3
    for number in (0, found.count + 1):
        with pytest.raises(NoSuchEvent):
            found.folded(number)


def test_tokens_of_messages_add_up_to_what_the_model_counted() -> None:
    found = reading()
    turn = next(each.n for each in found.lines("en") if each.type == "Generated")
    prompt = prompt_at(found, turn)
    parts = [*(each.tokens for each in prompt.messages), *(each.tokens for each in prompt.tools)]
    assert prompt.usage is not None
    if prompt.usage.prompt_tokens:
        assert sum(each or 0 for each in parts) == prompt.usage.prompt_tokens
    from services.gateway.runs.replaying import _shared

    assert _shared([1, 1, 1], 100) == [34, 33, 33] and _shared([0, 0], 7) == [None, None] and _shared([5], None) == [None]


def test_a_replay_that_differs_says_where() -> None:
    assert replayed(reading()).same
    cut = Reading(RUN.id)
    cut.extend([each for number, each in enumerate(past(RUN), 1) if number != 5])
    wrong = replayed(cut)
    assert not wrong.same and wrong.divergence is not None and cast("int", wrong.divergence["event"]) >= 5


def test_where_a_run_can_be_left_and_what_can_be_said_there() -> None:
    original = original_of(reading())
    granted = next(each.number for each in original.told if type(each.body).__name__ == "ApprovalGranted")
    offer = leaving(original, granted, ("default",))
    assert offer.exact and offer.answers[-1].n == granted and "command" not in offer.answers[-1].content
    assert not leaving(original, len(original.told), ()).exact
    at, change = change_of(
        original, ForkAsked(answers={str(granted): "refuse:no"}, instructions="Be brief."), "ann", ("default",)
    )
    assert at == granted and change.answers[granted]["reason"] == "no"
    assert change.agent is not None and change.agent.instructions == "Be brief."
    assert change.words == ("instructions", f"event {granted}: refuse:no")
    by_fields = change_of(original, ForkAsked(answers={str(granted): {"scope": "always"}}), "ann", ())[1]
    assert by_fields.answers[granted] == {"scope": "always"}


def test_a_run_compared_with_itself_and_with_another() -> None:
    same = compared(reading(), reading(), "en")
    assert same.same and same.first is None and same.counts["same"] == RUN.log[-1].position
    other = compared(reading(), reading(recorded(2)), "en")
    assert not other.same and other.steps[other.first or 0].changes
    assert any(change.words for step in other.steps for change in step.changes)


class _History:
    """Runs by name; counts what is read of them. forgotten: nobody may read them any more."""

    def __init__(self, *runs: RunUnderTest) -> None:
        self.runs = {run.id: past(run) for run in runs}
        self.asked: list[int] = []
        self.forgotten = False

    async def find(self, tenant: str, name: str) -> RunId:
        return checked_run(name)

    async def both(self, tenant: str, run: RunId, after: int = 0) -> list[tuple[Stored, bytes]]:
        self.asked.append(after)
        if run not in self.runs:
            raise UnknownRun(run)
        return [each for each in self.runs[run] if each[0].position > after]

    async def readable(self, tenant: str, datakey: str) -> bool:
        return not self.forgotten

    async def verify(self, tenant: str, run: RunId) -> Verification:
        raise NotImplementedError

    def export(self, tenant: str, run: RunId) -> None:
        raise NotImplementedError


async def test_a_run_is_read_once_and_then_what_is_new_of_it() -> None:
    history, now = _History(RUN), 0.0
    readings = Readings(history, lambda: now)  # type: ignore[arg-type]  # it exports nothing
    whole = history.runs[RUN.id]
    history.runs[RUN.id] = whole[:5]
    first = await readings.read("acme", RUN.id)
    history.runs[RUN.id] = whole
    again = await readings.read("acme", RUN.id)
    assert again is first and again.count == len(whole) and history.asked == [0, 5]
    assert await readings.read("rival", RUN.id) is not first, "another tenant's question is another one"
    now = 1000.0
    assert await readings.read("acme", RUN.id) is not first, "it is not kept for ever"


async def test_nothing_of_a_forgotten_user_stays() -> None:
    history = _History(RUN)
    readings = Readings(history)  # type: ignore[arg-type]  # it exports nothing
    first = await readings.read("acme", RUN.id)
    sealed = first.both[0][0].fact
    object.__setattr__(sealed, "header", sealed.header.model_copy(update={"datakey": "k"}))
    assert await readings.read("acme", RUN.id) is first
    history.forgotten = True
    assert await readings.read("acme", RUN.id) is not first
    object.__setattr__(sealed, "header", sealed.header.model_copy(update={"datakey": None}))


async def test_few_runs_are_kept() -> None:
    runs = [RunUnderTest(key=f"kept-{number}") for number in range(KEPT + 1)]
    for run in runs:
        run.begin()
    history = _History(*runs)
    readings = Readings(history)  # type: ignore[arg-type]  # it exports nothing
    for run in runs:
        await readings.read("acme", run.id)
    history.asked.clear()
    await readings.read("acme", runs[-1].id)
    await readings.read("acme", runs[0].id)
    assert history.asked[0] > 0 and history.asked[1] == 0
    with pytest.raises(UnknownRun):
        await readings.read("acme", run_of("nobody's"))
