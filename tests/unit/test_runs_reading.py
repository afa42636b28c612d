"""Reading a run: its timeline and tree, one event, the state after one, and the prompt of a turn, in two languages."""

from __future__ import annotations

import hashlib
import json
import string
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from infra.cli import main, show, words
from infra.cli.runs_lines import spent
from infra.exports.reading import load_export
from runtime import timeline
from runtime.causes import causes_of
from runtime.log import Stored
from runtime.merkle import leaf_hash
from runtime.permalink import Place, permalink, place_of
from runtime.sealing import Erased
from runtime.timeline import line_of, summary
from runtime.travel import NoModelTurn, NoSuchEvent, moment_of, prompt_at
from schemas.canonical import canonical
from schemas.commands import CallTool
from schemas.envelope import encode
from schemas.errors import ProtocolError
from schemas.events import EVENTS, AnswerCopied, CancelRequested, RunSealed
from schemas.receipts import Leaf, Receipt
from schemas.sealing import Sealed
from tests.support.builders import NOW, fact_of, run_of
from tests.support.drawn_run import play
from tests.support.two_runs import looked, named, saved

GOLDEN = Path(__file__).parents[1] / "golden" / "decider-4.jsonl"
Cli = Callable[..., str]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Cli]:
    """`milepost ARGUMENTS` in an empty folder: what it printed. code: how it ended."""

    def call_it(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["milepost", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        show._STATE["json"] = False
        assert (ended.value.code or 0) == code, said.err
        return said.out if code == 0 else said.out + said.err

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LC_ALL", "C")
    yield call_it
    words.use_language("auto")


# --- permalinks -----------------------------------------------------------------------------------


def test_a_permalink_names_a_run_and_one_of_its_events() -> None:
    run = run_of()
    assert place_of(permalink(run, 12)) == Place(run, 12) == place_of(f"milepost:run/{run}#12")
    assert place_of(run[:12]) == Place(run[:12]) and place_of("./run.jsonl#3") == Place("./run.jsonl", 3)
    for wrong in ("", "#3", f"{run}#", f"{run}#0", f"{run}#x", f"{run}#1#2", f"{run}#-1", f"{run}#1e3"):
        with pytest.raises(ProtocolError):
            place_of(wrong)


# --- causes ---------------------------------------------------------------------------------------


def test_every_event_stands_once_under_the_last_of_its_causes() -> None:
    facts = load_export(GOLDEN).facts
    causes = causes_of(facts)
    walked = [node.number for _, node in causes.walk()]
    assert sorted(walked) == list(range(1, len(facts) + 1)) and not causes.findings
    answer = next(node for node in causes.nodes if node.number == 16)
    assert (answer.under, answer.others) == (15, (4, 6, 7, 8, 9, 10))
    approval = next(node for node in causes.nodes if node.number == 12)
    assert approval.under == 11, "a person's answer stands under what made the run ask"
    assert approval.after is not None and timedelta(0) < approval.after < timedelta(seconds=1)


def test_cycles_and_missing_causes_are_told_and_do_not_hang() -> None:
    run = looked()
    facts = [stored.fact for stored in run.log]
    facts[1] = named(facts[1], facts[2].id)
    facts[2] = named(facts[2], facts[1].id, facts[2].id)
    facts[3] = named(facts[3], "f" * 32)
    causes = causes_of([Stored(fact, index + 1) for index, fact in enumerate(facts)])
    told = [(each.event, each.kind, each.cause) for each in causes.findings]
    assert told == [(2, "later", facts[2].id), (3, "later", facts[2].id), (4, "missing", "f" * 32)]
    assert sorted(node.number for _, node in causes.walk()) == list(range(1, len(facts) + 1))


def test_a_chain_of_ten_thousand_causes_is_walked() -> None:
    first = looked().log[0].fact
    facts, last = [Stored(first, 1)], first
    for index in range(2, 10_001):
        last = replace(last, header=last.header.model_copy(update={"id": f"{index:032x}", "causes": last.id}))
        facts.append(Stored(last, index))
    depths = [depth for depth, _ in causes_of(facts).walk()]
    assert depths == list(range(10_000))


# --- time travel ----------------------------------------------------------------------------------


def test_the_state_after_an_event_is_the_fold_up_to_it() -> None:
    run = looked()
    moment = moment_of(run.id, run.log, 4)
    assert (moment.state.phase, [each.command.kind for each in moment.decided]) == ("acting", ["CallTool"])
    (asked,) = (id for id, command in moment.state.outstanding.items() if isinstance(command, CallTool))
    assert moment.answered == {asked: 5}
    with pytest.raises(NoSuchEvent):
        moment_of(run.id, run.log, len(run.log) + 1)


def test_the_prompt_is_the_one_that_was_asked_for() -> None:
    run = load_export(GOLDEN)
    for number in (4, 16, 19):
        asked = prompt_at(run.run, run.facts, number)
        assert asked.number == number and asked.prompt.hash() == asked.command.prompt_hash
    assert prompt_at(run.run, run.facts, 15).number == 16, "the event that asks for a turn names it too"
    with pytest.raises(NoModelTurn, match="no turn of a model"):
        prompt_at(run.run, run.facts, 12)


def test_drawn_runs_can_be_travelled_to_every_event() -> None:
    for seed in range(4):
        run = play(seed)
        for number in range(1, len(run.log) + 1):
            assert moment_of(run.id, run.log, number).state is not None
        assert moment_of(run.id, run.log, len(run.log)).state == run.state


# --- in a terminal --------------------------------------------------------------------------------


def test_the_timeline_tells_when_and_how_long_after_its_cause(cli: Cli, tmp_path: Path) -> None:
    file = saved(looked(), tmp_path / "run.jsonl")
    told = cli("runs", "show", file)
    lines = {line.split()[0]: line for line in told.splitlines() if line.lstrip().startswith("#")}
    assert "RunRequested" in lines["#1"] and "ann asks assistant: what time is it?" in lines["#1"]
    assert "+250 ms" in lines["#4"] and "clock(zone=north)" in lines["#4"]
    assert "1 m 30 s" in lines["#5"] and "+1 m 30 s" in lines["#5"] and "noon" in lines["#5"]
    assert "not sealed yet" in told and f"milepost runs show {file}#1" in told


def test_the_tree_stands_by_cause(cli: Cli) -> None:
    lines = cli("runs", "show", str(GOLDEN), "--tree").splitlines()
    call_at = next(index for index, line in enumerate(lines) if line.startswith("#4 Generated"))
    assert lines[call_at + 1].startswith("├─ #5 CallJudged")
    assert any(line.startswith("└─ #11 CallPlanned") for line in lines)
    assert any(line.startswith("   ├─ #12 ApprovalGranted") for line in lines)
    (turn,) = (line for line in lines if line.startswith("#16 Generated"))
    assert "after #15 · also after #4, #6, #7, #8, #9, #10" in turn


def test_one_event_is_told_in_full(cli: Cli, tmp_path: Path) -> None:
    run = looked()
    file = saved(run, tmp_path / "run.jsonl")
    told = json.loads(cli("runs", "show", f"{file}#4", "--json"))
    raw = encode(run.log[3].fact)
    leaf = Leaf(n=4, id=run.log[3].fact.id, bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest())
    assert (told["event"], told["type"], told["bytes"], told["sha256"]) == (4, "Generated", leaf.bytes, leaf.sha256)
    assert told["leaf_hash"] == leaf_hash(canonical(leaf.model_dump(mode="json"))).hex()
    assert told["data"]["generation"]["calls"][0]["name"] == "clock"
    shown = cli("runs", "show", f"milepost:run/{file}#4")
    assert told["leaf_hash"] in shown and '"zone": "north"' in shown and f"{file}#3" in shown
    assert "has no event 99" in cli("runs", "show", f"{file}#99", code=1)


def test_a_run_is_shown_as_it_was(cli: Cli, tmp_path: Path) -> None:
    file = saved(looked(), tmp_path / "run.jsonl")
    told = cli("runs", "show", file, "--at", "4")
    assert "acting" in told and "CallTool clock(zone=north)  (answered at #5)  *" in told and "turns 1 of 8" in told
    data = json.loads(cli("runs", "show", file, "--at", "4", "--json"))
    assert (data["phase"], data["tools"], data["used"]["steps"]) == ("acting", ["clock"], 1)
    prompt = json.loads(cli("runs", "show", file, "--at", "6", "--prompt", "--json"))
    assert prompt["same"] and prompt["event"] == 6 and prompt["tokens"] is None
    assert [each["role"] for each in prompt["prompt"]["messages"]][-2:] == ["assistant", "tool"]
    shown = cli("runs", "show", f"{file}#6", "--prompt")
    assert "characters; the tokenizer of" in shown and "── tool clock" in shown and "noon" in shown
    assert "no turn of a model" in cli("runs", "show", f"{file}#2", "--prompt", code=1)


def test_receipts_and_what_came_after_them_are_told(cli: Cli, tmp_path: Path) -> None:
    run = looked()
    receipt = Receipt(
        tenant="acme",
        run=run.id,
        outcome="completed",
        decider="4",
        size=len(run.log),
        root="0" * 64,
        number=7,
        sealed=NOW,
        key="k1",
    )
    sealed = RunSealed(receipt=receipt, signature="c2ln")
    run.log.append(Stored(fact_of(sealed, run.id, "seal", role="recorder"), len(run.log) + 1))
    late = fact_of(CancelRequested(by="ann"), run.id, "cancel", role="client")
    run.log.append(Stored(late, len(run.log) + 1))
    told = cli("runs", "show", saved(run, tmp_path / "run.jsonl"))
    assert (
        "sealed as number 7 of the chain of acme by key k1, 8 events" in told and "events after that, not sealed yet: 1" in told
    )
    (line,) = (line for line in told.splitlines() if "RunSealed" in line)
    assert line.split()[0] == "seal" and "receipt 7: 8 events, key k1" in line
    assert any(line.split()[:1] == ["#9"] and "CancelRequested" in line for line in told.splitlines()), "it is not counted"


def test_an_erased_run_still_tells_when_and_where(cli: Cli) -> None:
    export = load_export(GOLDEN)
    from infra.cli.reading import RunRead
    from infra.cli.runs_show import _print_run, _Seen, _state

    gone = [
        (Stored(replace(each.fact, body=Sealed(nonce="n", ciphertext="c")), each.position), raw) for each, raw in export.both
    ]
    read = RunRead(export.run, gone)
    causes = causes_of(read.facts)
    assert len(causes.nodes) == len(gone) and _state(read) is not None
    assert all(summary(stored.fact) == "erased on request" for stored in read.facts)
    assert all(summary(stored.fact, "zh") == "已应要求删除" for stored in read.facts)
    _print_run(_Seen(read, _state(read)), tree=True)
    with pytest.raises(Erased):
        prompt_at(read.run, read.facts, 4)


def test_it_speaks_chinese(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    told = cli("runs", "show", str(GOLDEN))
    assert "尚未封存" in told and "me 请求 ops" in told and "tokens in" not in told
    assert "接下来决定" in cli("runs", "show", str(GOLDEN), "--at", "10")


def test_every_line_is_told_in_both_languages() -> None:
    for key, (english, chinese) in timeline._WORDS.items():
        fields = [{name for _, name, _, _ in string.Formatter().parse(each) if name} for each in (english, chinese)]
        assert fields[0] == fields[1], key
    seen = set()
    for seed in range(60):
        for stored in play(seed).log:
            seen.add(type(stored.fact.body))
            assert line_of(stored.fact.body, "zh") and line_of(stored.fact.body, "en")
    assert len(seen) > len(EVENTS) - 8


def test_a_copied_answer_is_told_as_the_answer() -> None:
    run = looked()
    answer = run.log[4].fact.body
    copied = AnswerCopied(answer=answer, run=run.id, event="e" * 32, at=NOW, changed=True)
    assert line_of(copied) == "changed by hand: noon" and line_of(copied, "zh") == "人工改动：noon"


LENGTHS = [
    (0, "0 ms"), (0.0124, "12 ms"), (1.25, "1.25 s"), (192, "3 m 12 s"), (7380, "2 h 03 m"), (385_200, "4 d 11 h"),
    (-2, "-2.00 s"),
]  # fmt: skip


@pytest.mark.parametrize(("seconds", "text"), LENGTHS)
def test_lengths_of_time_are_written_as_people_do(seconds: float, text: str) -> None:
    assert spent(timedelta(seconds=seconds)) == text
