"""Cohorts: recorded runs driven again agree with themselves; what is swapped changes what it should, and nothing is lost."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.cli.agents import BadAgent
from infra.cli.policy_file import BadPolicyFile
from infra.cohort.answering import Speak
from infra.cohort.driving import Result, closed, drive, opened
from infra.cohort.over_bus import items_of
from infra.cohort.plots import distributions
from infra.cohort.recorded import NoRuns, Recorded, in_files
from infra.cohort.report import report
from infra.cohort.speaking import speaker
from infra.cohort.store import About, Cohort, CohortBusy, UnknownCohort, cohort_id, cohorts, open_cohort, read_cohort
from infra.cohort.summary import BadGate, below, gates_of, place, summary_of
from infra.cohort.swap import BadSwap, Swap, swap_of
from infra.settings import Settings
from runtime.log import Stored
from runtime.sealing import seal
from schemas.commands import RequestApproval
from schemas.envelope import encode
from schemas.errors import MilepostError
from schemas.events import ApprovalRefused
from schemas.ids import RunId
from schemas.policy import Policy, Rule, When
from schemas.tools import ToolCard
from services.llm.scripted import Script
from tests.bench.replay.workload import recorded as operator_run
from tests.support.builders import RunUnderTest
from tests.support.drawn_run import play
from tests.support.forked_run import ForkUnderTest, original_of
from tests.support.simulation import Cluster

SEEDS = st.integers(min_value=0, max_value=2**32)
GOLDEN = Path(__file__).parents[1] / "golden"
NOTHING = Swap()
DENIES = Swap(policy=Policy(rules=(Rule(name="none", when=When(tools=("Renew*",)), then="deny"),)))
ALLOWS = Swap(policy=Policy(rules=(Rule(name="all", when=When(tools=("Renew*",)), then="allow"),)))


def told(run: RunId, log: list[Stored]) -> Recorded:
    return Recorded(run, tuple(encode(each.fact) for each in log), tenant="acme")


def of(run: RunUnderTest) -> Recorded:
    return told(run.id, run.log)


def scripted(*rules: dict[str, object]) -> Swap:
    return Swap(llm="scripted", script=Script.model_validate({"rules": rules}))


async def speaking(swap: Swap) -> Speak:
    speak, _ = await speaker(swap, Settings(), ())
    return speak


# --- nothing swapped --------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(SEEDS)
async def test_any_run_agrees_with_itself(seed: int) -> None:
    result = await drive(of(play(seed)), NOTHING)
    assert result.agreement is not None, result.trouble
    assert result.agreement.risk == "same", result.agreement
    assert result.agreement.recorded == result.agreement.driven


@settings(max_examples=3, deadline=None)
@given(SEEDS)
def test_runs_that_went_through_crashes_agree_with_themselves(seed: int) -> None:
    import asyncio

    cluster = Cluster(seed)
    cluster.play(runs=3)
    for run in cluster.runs:
        result = asyncio.run(drive(told(run, cluster.log_of(run)), NOTHING))
        assert result.agreement is not None, result.trouble
        assert result.agreement.risk == "same"


async def test_runs_of_every_decider_agree_with_themselves() -> None:
    runs = in_files([GOLDEN])
    assert len(runs) >= 4
    for each in runs:
        result = await drive(each, NOTHING)
        assert result.agreement is not None, result.trouble
        assert result.agreement.risk == "same", each.file


async def test_a_fork_agrees_with_itself() -> None:
    fork = ForkUnderTest(original_of(operator_run(1)), 9)
    fork.answer(ApprovalRefused(command=fork.one(RequestApproval), by="ann"))
    fork.say(text="Not renewed.")
    fork.end()
    result = await drive(of(fork), NOTHING)
    assert result.agreement is not None, result.trouble
    assert (result.agreement.risk, result.agreement.endings) == ("same", ("completed", "completed"))


async def test_another_model_goes_on_where_a_fork_left() -> None:
    """What a fork copied stays: the model is asked from there on, and the run comes to an end."""
    fork = ForkUnderTest(original_of(operator_run(1)), 9)
    fork.answer(ApprovalRefused(command=fork.one(RequestApproval), by="ann"))
    fork.say(text="Not renewed.")
    fork.end()
    swap = scripted({"role": "tool", "say": "So be it."})
    result = await drive(of(fork), swap, await speaking(swap))
    assert result.agreement is not None, result.trouble
    assert (result.agreement.risk, result.agreement.answers.driven) == ("answer", "So be it.")


async def test_a_run_that_was_erased_is_counted_and_not_driven() -> None:
    run = operator_run(1)
    datakeyed = [replace(each.fact, header=each.fact.header.model_copy(update={"datakey": "k1"})) for each in run.log]
    lines = tuple(encode(seal(each, b"k" * 32, bytes(12))) for each in datakeyed)
    erased = await drive(Recorded(run.id, lines, tenant="acme", datakey="k1"), NOTHING)
    assert (erased.erased, erased.agreement, erased.trouble) == (True, None, "")
    assert summary_of(about(run.id), [erased]).erased == (run.id,)
    whole = await drive(Recorded(run.id, lines, tenant="acme", datakey="k1", key=b"k" * 32), NOTHING)
    assert whole.agreement is not None and whole.sealed is not None
    assert whole.agreement.risk == "same"


async def test_a_log_that_was_changed_is_told_from_its_code() -> None:
    run = operator_run(1)
    lines = list(of(run).lines)
    place_of_end = next(place for place, each in enumerate(run.log) if each.fact.slot == "end")
    lines[place_of_end] = lines[place_of_end].replace(b"is renewed for", b"is NOT renewed for")
    result = await drive(Recorded(run.id, tuple(lines), tenant="acme"), NOTHING)
    assert result.agreement is not None
    assert result.agreement.risk == "decisions"


# --- something swapped ------------------------------------------------------------------------------


async def test_rules_that_deny_are_followed_as_far_as_the_log_knows() -> None:
    result = await drive(of(operator_run(1)), DENIES)
    assert result.agreement is not None, result.trouble
    (pair,) = result.agreement.differences
    assert pair.recorded and pair.driven
    assert (pair.risk, pair.recorded.fate, pair.driven.verdict, pair.driven.fate) == ("verdict", "done", "deny", "denied")
    assert result.agreement.stopped == ("Generate",)
    assert place(result) == f"{result.run}#{pair.recorded.event}"


async def test_rules_that_ask_nobody_come_to_the_same_end() -> None:
    result = await drive(of(operator_run(1)), ALLOWS)
    assert result.agreement is not None, result.trouble
    assert (result.agreement.risk, result.agreement.stopped, result.agreement.endings[1]) == ("verdict", (), "completed")


async def test_a_model_that_writes_something_else_is_the_riskiest() -> None:
    swap = scripted({"role": "user", "call": [{"name": "RebootInstance", "arguments": {"InstanceId": "i-1"}}]})
    result = await drive(of(operator_run(1)), swap, await speaking(swap))
    assert result.agreement is not None, result.trouble
    assert (result.agreement.risk, set(result.agreement.stopped)) == ("new_write", {"PlanCall", "JudgeCall"})


async def test_a_model_that_does_the_same_goes_to_the_end_and_its_words_are_compared() -> None:
    look = {"RegionId": "cn-hangzhou", "Tags": "shop 1"}
    renew = {"InstanceId": "i-bp1f8k2m9x0000100", "Period": 2, "PeriodUnit": "Month"}
    swap = scripted(
        {"role": "user", "call": [{"name": "DescribeInstances", "arguments": look}]},
        {"role": "tool", "match": "TotalCount", "call": [{"name": "RenewInstance", "arguments": renew}]},
        {"role": "tool", "say": "All is well."},
    )
    result = await drive(of(operator_run(1)), swap, await speaking(swap))
    assert result.agreement is not None, result.trouble
    assert (result.agreement.risk, result.agreement.stopped) == ("answer", ())
    assert result.agreement.answers.driven == "All is well."
    assert 0 <= (result.agreement.similarity or 0) < 0.5
    assert result.agreement.matches.calls == 2


async def test_other_instructions_reach_the_model() -> None:
    heard: list[str] = []
    swap = scripted({"role": "user", "say": "Aye."}).model_copy(update={"instructions": "Speak like a pirate."})
    speak = await speaking(swap)

    async def listening(command, prompt, label):  # type: ignore[no-untyped-def]
        heard.append(prompt.messages[0].content)
        return await speak(command, prompt, label)

    result = await drive(of(operator_run(1)), swap, listening)
    assert result.agreement is not None, result.trouble
    assert "Speak like a pirate." in heard[0]
    assert result.agreement.risk == "lost_write"


async def test_other_tools_are_offered_to_the_model() -> None:
    heard: list[set[str]] = []
    names = ("DescribeInstances", "RenewInstance", "New")
    cards = tuple(ToolCard(name=name, description="it", parameters={}) for name in names)
    swap = scripted({"role": "user", "say": "No."}).model_copy(update={"tools": cards})
    speak = await speaking(swap)

    async def listening(command, prompt, label):  # type: ignore[no-untyped-def]
        heard.append({card.name for card in prompt.offered})
        return await speak(command, prompt, label)

    await drive(of(operator_run(1)), swap, listening)
    assert heard == [set(names)]


async def test_a_run_that_cannot_be_read_is_trouble_and_no_result(tmp_path: Path) -> None:
    whole = (GOLDEN / "decider-4.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "cut.jsonl").write_bytes(b"".join(whole[:-3]))
    (run,) = in_files([tmp_path])
    result = await drive(run, NOTHING)
    assert result.agreement is None
    assert result.trouble.startswith("BadExport")
    assert "NoRequest" in (await drive(Recorded(run.run), NOTHING)).trouble or (await drive(Recorded(run.run), NOTHING)).trouble


# --- what is asked for ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ("llm", BadSwap), ("llm=", BadSwap), ("gpu=fast", BadSwap), ("prompt={}/no.txt", BadSwap),
        ("tools={}/no.json", BadSwap),
        ("policy={}/no.yaml", BadPolicyFile), ("prompt={}/bad.json", BadAgent), ("tools={}/bad.json", BadSwap),
        ("tools={}/twice.json", BadSwap), ("policy={}/bad.yaml", BadPolicyFile), ("llm={}/bad.json", MilepostError),
        ("prompt={}/latin.txt", BadSwap),
    ],
)  # fmt: skip
def test_what_cannot_be_swapped_is_refused_before_anything_runs(asked: str, error: type[MilepostError], tmp_path: Path) -> None:
    card = {"name": "a", "description": "a", "parameters": {}}
    (tmp_path / "bad.json").write_text('{"wrong": 1}')
    (tmp_path / "twice.json").write_text(json.dumps([card, card]))
    (tmp_path / "bad.yaml").write_text("rules: [{name: x, then: maybe}]")
    (tmp_path / "latin.txt").write_bytes(b"\xe9\xe8")
    with pytest.raises(error) as caught:
        swap_of([asked.format(tmp_path)])
    assert caught.value.hint


def test_a_swap_means_what_its_files_say_and_not_what_they_are_called(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("Be brief.")
    first, second = (swap_of([f"prompt={tmp_path / name}"]) for name in ("a.txt", "b.txt"))
    assert (first.said, first.hash()) == ((f"prompt={tmp_path / 'a.txt'}",), second.hash())
    assert Swap.model_validate_json(DENIES.model_dump_json(by_alias=True)).hash() == DENIES.hash() != NOTHING.hash()
    with pytest.raises(BadSwap):
        swap_of([f"prompt={tmp_path / 'a.txt'}"] * 2)


@pytest.mark.parametrize(
    ("name", "text"), [("a.yaml", "instructions: Be brief.\n"), ("a.json", '{"instructions": "Be brief."}'),
                       ("a.toml", 'instructions = "Be brief."\n')],
)  # fmt: skip
async def test_a_whole_agent_is_swapped(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    swap = swap_of([f"prompt={tmp_path / name}"])
    assert swap.agent is not None and swap.speaks
    assert swap.agent.instructions == "Be brief."
    result = await drive(of(operator_run(1)), swap)  # nobody speaks: the log does not know what this agent asks
    assert result.agreement is not None, result.trouble
    assert result.agreement.risk == "unknown" and result.agreement.stopped


async def test_a_model_that_is_missing_is_known_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(MilepostError, match="no model"):
        await speaker(Swap(llm="no-such-model"), Settings(), ())


def test_files_without_a_run_are_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no run")
    for place_ in (tmp_path, tmp_path / "note.txt", tmp_path / "nothing"):
        with pytest.raises(NoRuns):
            in_files([place_])


def test_limits_are_read_strictly() -> None:
    assert gates_of("agreement=0.95, answers=80%") == {"agreement": 0.95, "answers": 0.8}
    for bad in ("", "agreement", "agreement=2", "speed=0.5", "answers=much"):
        with pytest.raises(BadGate):
            gates_of(bad)


# --- what is kept -----------------------------------------------------------------------------------


def about(*runs: str, swap: Swap = NOTHING) -> About:
    return About(id=cohort_id(runs, swap), query="all", swap=(), runs=runs, created=datetime(2026, 11, 21, tzinfo=UTC))


async def results_of(count: int, swap: Swap = NOTHING) -> list[Result]:
    return [await drive(of(operator_run(number)), swap) for number in range(count)]


async def test_results_are_kept_once_and_a_torn_line_is_driven_again(tmp_path: Path) -> None:
    first, second, third = await results_of(3)
    what = about(first.run, second.run, third.run)
    with open_cohort(tmp_path, what) as kept:
        kept.add([first, second])
        kept.add([first.model_copy(update={"agent": "another"})])
        assert kept.left == [third.run]
    path = tmp_path / "cohorts" / what.id / "results.jsonl"
    with path.open("ab") as file:  # killed in the middle of a line
        file.write(third.line()[:40])
    with open_cohort(tmp_path, what) as kept:
        assert (kept.left, kept.results[first.run].agent) == ([third.run], first.agent)
        kept.add([third])
    assert path.read_bytes().count(b"\n") == 3
    found, results = read_cohort(tmp_path, what.id[:6])
    assert (found, {each.run for each in results}, cohorts(tmp_path)) == (what, set(what.runs), [(what, 3)])
    (tmp_path / "cohorts" / "broken").mkdir()
    (tmp_path / "cohorts" / "broken" / "cohort.json").write_text("{}")
    assert cohorts(tmp_path) == [(what, 3)]
    with pytest.raises(UnknownCohort):
        read_cohort(tmp_path, "f00")
    with pytest.raises(MilepostError, match="cannot be written"), open_cohort(path, what):
        pass
    with open_cohort(tmp_path, what, fresh=True) as kept:
        assert len(kept.left) == 3


async def test_trouble_is_not_kept_and_one_process_works_at_a_time(tmp_path: Path) -> None:
    what = about("202611-" + "0" * 32)
    with open_cohort(tmp_path, what) as kept:
        kept.add([Result(run=what.runs[0], trouble="the model is away")])
        with pytest.raises(CohortBusy), open_cohort(tmp_path, what):
            pass
    with open_cohort(tmp_path, what) as kept:
        assert kept.left == list(what.runs)
        assert isinstance(kept, Cohort)


def test_what_could_not_begin_is_no_cohort(tmp_path: Path) -> None:
    with pytest.raises(MilepostError), open_cohort(tmp_path, about("202611-" + "0" * 32)):
        raise MilepostError("There is no such model.")
    assert cohorts(tmp_path) == []


def test_a_file_with_other_bytes_is_another_run_of_a_cohort(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    file.write_bytes((GOLDEN / sorted(each.name for each in GOLDEN.iterdir() if each.suffix == ".jsonl")[0]).read_bytes())
    (before,) = (each.name for each in in_files([file]))
    with file.open("ab") as more:
        more.write(b"x")
    (after,) = (each.name for each in in_files([file]))
    assert before.split()[0] == after.split()[0] and before != after


def test_a_cohort_is_named_by_its_runs_and_its_swap() -> None:
    assert cohort_id(["b", "a"], NOTHING) == cohort_id(["a", "b"], NOTHING)
    assert len({cohort_id(["a"], NOTHING), cohort_id(["a"], DENIES), cohort_id(["a", "b"], NOTHING)}) == 3


def test_a_run_is_always_of_the_same_item() -> None:
    runs = [f"run-{number}" for number in range(40)]
    items = items_of("c" * 16, "acme", runs, runs[20:33], NOTHING)
    assert [(each.item, len(each.runs)) for each in items] == [(1, 12), (2, 1)]
    assert [each.item for each in items_of("c" * 16, "acme", runs, runs[20:23], DENIES.model_copy(update={"llm": "m"}))] == [
        20,
        21,
        22,
    ]


async def test_what_is_quoted_of_a_sealed_run_is_sealed_under_its_key() -> None:
    result = (await results_of(1, DENIES))[0]
    key, other = os.urandom(32), os.urandom(32)
    shut = closed(result, key)
    assert b'RenewInstance"' not in shut.line().replace(b'"tools":{"DescribeInstances":[1,1],"RenewInstance"', b"")
    assert b"web shop" not in shut.line()
    assert opened(shut, key) == result
    assert opened(shut, other) == shut
    assert summary_of(about(result.run), [shut]).totals == summary_of(about(result.run), [result]).totals


# --- what is shown ----------------------------------------------------------------------------------


async def test_limits_are_checked_and_runs_that_were_not_driven_fail_them() -> None:
    same, denied = (await results_of(1))[0], (await results_of(2, DENIES))[1]
    what = about(same.run, denied.run)
    summary = summary_of(what, [same, denied])
    assert below(summary, {"agreement": 0.5, "actions": 1.0}) == []
    assert below(summary, {"agreement": 0.6, "verdicts": 0.9}) == ["agreement 0.5000 < 0.6", "verdicts 0.5000 < 0.9"]
    assert below(summary_of(what, [same]), {"agreement": 0.1}) == ["1 runs were not driven"]
    assert "no run was compared" in below(summary_of(what, []), {"answers": 0.1})


async def test_a_report_shows_hostile_text_and_obeys_none_of_it() -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\u202e"
    swap = scripted({"role": "user", "call": [{"name": "RebootInstance", "arguments": {"InstanceId": evil}}]})
    result = await drive(of(operator_run(1)), swap, await speaking(swap))
    hostile = result.model_copy(update={"task": evil, "run": result.run})
    trouble = Result(run="202611-" + "1" * 32, trouble=evil)
    what = about(result.run, trouble.run).model_copy(update={"query": evil, "swap": (evil,)})
    from infra.cli.words import say

    for language in ("en", "zh"):
        text = report(summary_of(what, [hostile, trouble]), [hostile], say, language)
        assert "<script" not in text
        assert "<img" not in text
        assert "\u202e" not in text
        assert text.count("&lt;script&gt;alert(1)") >= 4
        assert "<svg" in text
        assert "http://" not in text.replace("http://www.w3.org", "")


def test_a_distribution_of_nothing_is_no_plot() -> None:
    assert distributions("t", [], [], "s", ("a", "b")) == distributions("t", [0.0], [0.0], "s", ("a", "b")) == ""
    assert distributions("t", [1.0, 2.0], [2.0], "s", ("a", "b")).count("<rect") == 2 * 24 + 2
