from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from infra.cli import checks, main, show
from infra.cli.agents import BadAgent, agent_from
from infra.cli.approval import approval_card
from infra.cli.client import UnknownPrefix, find_run
from infra.cli.keyboard import NO, YES
from infra.cli.result import result_of
from infra.cli.view import TerminalView
from infra.embedded import nats_server
from infra.exports.writing import Exported, save_export
from infra.models.catalogue import DEFAULT_TEXT_MODEL
from infra.settings import Archive, Settings
from infra.wiring import World
from runtime.bus import ServiceInfo
from runtime.client import Update
from runtime.memory_broker import MemoryBroker
from runtime.speech import Delta
from schemas.agent import AgentSpec
from schemas.commands import CallTool, Generate, RequestApproval
from schemas.envelope import encode
from schemas.errors import MilepostError, ProtocolError
from schemas.events import ApprovalGranted, Generated
from schemas.messages import Generation
from schemas.tools import Preview
from services.recorder.memory_index import MemoryRunIndex
from services.recorder.ports import RunSummary
from services.recorder.service import Recorder
from tests.support.builders import NOW, RENEW, RunUnderTest, call, fact_of, ready
from tests.support.exports import edited

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Cli]:
    """`milepost ARGUMENTS` in an empty folder: exit code, standard output, standard error."""

    def call_it(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["milepost", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        show._STATE["json"] = False
        return cast(int, ended.value.code or 0), said.out, said.err

    monkeypatch.chdir(tmp_path)
    yield call_it
    show._STATE["json"] = False


def _ended() -> RunUnderTest:
    """A run with an approved write, at its end."""
    run = ready(None, RENEW)
    run.say(call("renew", server="i-1"))
    run.plans()
    ((_, asked),) = run.open(RequestApproval)
    run.answer(ApprovalGranted(command=asked, by="ann", approval_hash=asked.approval_hash))
    run.returns(run.one(CallTool), "renewed 续费成功")
    run.say(text="It is done. 好了。")
    run.end()
    return run


def _lines(run: RunUnderTest) -> list[bytes]:
    return [encode(stored.fact) for stored in run.log]


def _file(path: Path, run: RunUnderTest | None = None) -> Path:
    run = run or _ended()
    save_export(path, Exported(run.id, _lines(run)), NOW, replace=True)
    return path


# --- the command line as such ---


def test_help_loads_nothing_heavy() -> None:
    heavy = ("asyncio", "nats", "pydantic", "sqlalchemy", "psycopg", "structlog", "uvloop", "onnxruntime", "httpx", "orjson")
    script = f"import sys; import infra.cli.app; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "command",
    [
        "up", "down", "status", "config", "service", "ask", "chat", "replay", "doctor", "asyncapi",
        "approvals", "approvals ls", "approvals show", "approvals approve", "approvals refuse", "approvals answer",
        "keys", "keys capability", "keys capability show", "keys capability rotate",
        "runs", "runs ls", "runs show", "runs follow", "runs cancel", "runs approve", "runs refuse", "runs export",
        "runs import",
        "forget", "impact", "memory", "memory ls", "memory show", "memory search", "memory remember", "memory forget-fact",
        "tools", "tools ls", "tools search", "tools show", "tools call", "tools rm", "tools import", "tools import aliyun",
        "tools import openapi", "tools sources", "tools sources ls", "tools sources rm", "tools sources refresh",
        "knowledge", "knowledge add", "knowledge search", "knowledge ls", "knowledge rm", "knowledge show",
        "models", "models ls", "models pull",
        "models show", "models build", "models verify", "models bench", "models add", "models export", "models remote",
        "models rm", "models merge", "models publish", "train",
    ],
)  # fmt: skip
def test_every_command_explains_itself(cli: Cli, command: str) -> None:
    code, out, _ = cli(*command.split(), "--help")

    assert code == 0
    assert f"milepost {command}" in out


@pytest.mark.parametrize("json_too", [False, True])
def test_an_error_says_what_why_and_next(cli: Cli, json_too: bool) -> None:
    code, out, err = cli("replay", "gone.jsonl", *(["--json"] if json_too else []))

    assert code == 1
    if json_too:
        error = json.loads(out)["error"]
        assert error["type"] == "BadExport"
        assert error["what"] and error["why"] and error["next"]
    else:
        assert [line.split(":")[0].strip() for line in err.splitlines()] == ["error", "why", "next"]
        assert out == ""


@pytest.mark.parametrize("command", ["tools search", "knowledge search", "memory search", "impact"])
def test_an_empty_question_is_refused_before_anything_is_asked(cli: Cli, command: str) -> None:
    code, _, err = cli(*command.split(), "  ")

    assert (code, err.splitlines()[0]) == (1, "error: The question is empty.")
    assert f"next: milepost {command} " in err


def test_in_a_folder_below_that_of_a_stack_the_hint_leads_to_it(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = cli("tools", "ls")
    assert code == 1 and "next: milepost up" in err

    home = tmp_path / ".milepost"
    home.mkdir()
    (home / "stack.json").write_text("{}")
    (tmp_path / "weather").mkdir()
    monkeypatch.chdir(tmp_path / "weather")
    code, _, err = cli("tools", "ls")
    assert code == 1 and f"next: export MILEPOST_HOME={home}" in err


@pytest.mark.parametrize("key", ["zzzz", "feacb5f", "feacb5f2-", "f" * 33])
def test_what_is_no_key_of_an_effect_is_refused_before_anything_is_asked(cli: Cli, key: str) -> None:
    code, _, err = cli("effects", "show", key)
    assert (code, err.splitlines()[0]) == (1, f"error: {key!r} is no effect's key.")
    assert "next: milepost effects ls" in err


def test_a_folder_without_tools_is_not_imported(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "notes.py").write_text("x = 1\n")
    code, _, err = cli("tools", "import", "folder", ".")
    assert (code, err.splitlines()[0]) == (1, f"error: No tool is in {tmp_path}.")


def test_a_conversation_that_has_no_valid_name_is_refused_with_a_hint(cli: Cli) -> None:
    code, _, err = cli("ask", "hello", "--conversation", "my talk")

    assert (code, err.splitlines()[0]) == (1, "error: 'my talk' is no valid conversation.")
    assert "next: " in err


def test_a_mistyped_command_exits_2_with_a_suggestion(cli: Cli) -> None:
    assert cli("statuss") == (2, "", "error: No such command 'statuss'. Did you mean 'status'?\n next: milepost --help\n")
    code, out, _ = cli("runs", "ls", "--status", "sleepy", "--json")
    assert code == 2
    assert "waiting" in json.loads(out)["error"]["next"]
    assert "Value error" not in out


def test_without_a_stack_the_next_command_is_up(cli: Cli) -> None:
    for command in (["ask", "hello"], ["runs", "ls"], ["tools", "ls"], ["knowledge", "ls"], ["replay", "202611-" + "0" * 32]):
        code, _, err = cli(*command)
        assert (code, err.splitlines()[-1]) == (1, " next: milepost up")


def test_a_wrong_setting_is_said_and_not_raised(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "milepost.toml").write_text("tennant = 'x'\n")

    code, _, err = cli("runs", "ls")

    assert code == 1
    assert "did you mean tenant?" in err


def test_contradictions_and_empty_tasks_are_refused(cli: Cli) -> None:
    assert cli("ask", "hello", "--yes", "--no")[0] == 1
    code, _, err = cli("ask", "  ")
    assert (code, err.splitlines()[0]) == (1, "error: The task is empty.")


# --- agents ---


def test_an_agent_from_a_file_with_tools_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "ops.toml").write_text('name = "ops"\ntools = ["a"]\ninstructions = "你是运维助手"\n[budget]\nsteps = 3\n')
    (tmp_path / "ops.json").write_text('{"name": "ops", "budget": {"steps": 3}}')

    assert agent_from(None) == AgentSpec()
    ops = agent_from(tmp_path / "ops.toml", ["b", "a"])
    assert (ops.name, ops.tools, ops.budget.steps, ops.instructions) == ("ops", ("a", "b"), 3, "你是运维助手")
    assert agent_from(tmp_path / "ops.json").budget.steps == 3
    (tmp_path / "rules.json").write_text('{"policy": [{"name": "r", "when": {"hours": {"from": "09:00"}}, "then": "allow"}]}')
    assert agent_from(tmp_path / "rules.json").policy[0].when.hours


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.toml", "nam = 'x'", "did you mean name?"),
        ("a.json", '{"budget": {"step": 1}}', "did you mean steps?"),
        ("a.json", '{"budget": {"steps": 0}}', "budget.steps"),
        ("a.json", '{"policy": [{"name": "r", "when": {"tool": ["ls*"]}, "then": "allow"}]}', "did you mean tools?"),
        ("a.json", '{"policy": [{"name": "r", "when": {"hours": {"frm": "09:00"}}, "then": "deny"}]}', "policy.when.hours.frm"),
        ("a.json", '{"name": "two words"}', "name"),
        ("a.json", "[1]", "no JSON object"),
        ("a.json", '{"name": "a", "name": "b"}', "same key twice"),
        ("a.toml", "name = ", "holds no agent"),
        ("a.json", None, "No such file"),
    ],
)
def test_a_file_that_is_no_agent_is_refused(tmp_path: Path, name: str, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)

    with pytest.raises(BadAgent) as refused:
        agent_from(tmp_path / name)

    assert said in str(refused.value)


# --- files of runs ---


def test_replay_of_a_file_needs_no_settings_and_no_server(cli: Cli, tmp_path: Path) -> None:
    _file(tmp_path / "run.jsonl")
    (tmp_path / "milepost.toml").write_text("this is no TOML")

    code, out, _ = cli("replay", "run.jsonl")
    assert code == 0
    assert "every decision is the same" in out

    code, out, _ = cli("replay", "run.jsonl", "--json")
    said = json.loads(out)
    assert (code, said["same"], said["divergence"], said["outcome"]) == (0, True, None, "completed")
    assert said["decisions"] >= said["answered"] > 5


def test_replay_shows_where_a_decision_differs_and_exits_4(cli: Cli, tmp_path: Path) -> None:
    def cheaper(lines: list[bytes]) -> list[bytes]:
        """The model is made to have asked for another server than the one that was renewed."""
        number = next(n for n, line in enumerate(lines) if b'"io.milepost.Generated.v1"' in line)
        lines[number] = lines[number].replace(b'"i-1"', b'"i-2"')
        return lines

    path = _file(tmp_path / "run.jsonl")
    path.write_bytes(edited(path.read_bytes(), cheaper))

    code, out, _ = cli("replay", "run.jsonl")
    assert code == 4
    assert "a decision differs at event" in out and "PlanCall" in out
    code, out, _ = cli("replay", "run.jsonl", "--json")
    assert (code, json.loads(out)["same"]) == (4, False)


# --- what a person sees ---


def _said(run: RunUnderTest, text: str) -> tuple[str, Update]:
    """The fact that ends a generation, and the id of its command."""
    id, command = run.open(Generate)[0]
    fact = fact_of(Generated(command=command, generation=Generation(text=text)), run.id, id)
    run.hear(fact)
    return id, Update(run.log[-1], run.state)


def test_text_is_shown_once_however_its_pieces_come(capsys: pytest.CaptureFixture[str]) -> None:
    text = "续费已完成。All is well."
    cases: dict[str, list[tuple[int, int, str]]] = {
        "in order": [(1, 0, "续费已完"), (1, 4, "成。All is "), (1, 13, "well.")],
        "not heard": [],
        "begun late": [(1, 4, "成。All")],
        "a gap": [(1, 0, "续费"), (1, 4, "成。All is well.")],
        "told twice": [(1, 0, "续费已"), (1, 0, "续费已"), (1, 2, "已完成。")],
    }
    for name, pieces in cases.items():
        id, update = _said(ready(), text)
        view = TerminalView(events=False)
        for attempt, offset, piece in pieces:
            view.delta(Delta(id, attempt, offset, piece))
        view.fact(update)
        view.delta(Delta(id, 1, 0, "late"))
        assert capsys.readouterr().out == f"{text}\n", name


def test_a_new_attempt_begins_a_new_line_and_other_text_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    id, update = _said(ready(), "the second")
    view = TerminalView(events=False)
    view.delta(Delta(id, 1, 0, "the fi"))
    view.delta(Delta(id, 2, 0, "the sec"))
    view.fact(update)
    assert capsys.readouterr().out == "the fi\nthe second\n"

    id, update = _said(ready(), "other")
    view = TerminalView(events=False)
    view.delta(Delta(id, 1, 0, "this"))
    view.fact(update)
    assert capsys.readouterr().out == "this\nother\n"


def test_what_a_model_says_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "fine\x1b[2J\x1b]0;owned\x07\r\u202etext\x9b31m"
    id, update = _said(ready(), hostile)
    view = TerminalView(events=True)
    view.delta(Delta(id, 1, 0, hostile[:7]))
    view.fact(update)
    view._out.print(approval_card(_asked().one(RequestApproval), Preview(summary=hostile, rows=(("a\x1b[1A", hostile),))))

    out = capsys.readouterr().out
    assert not set(out) & set("\x1b\x07\r\u202e\x9b")
    assert "fine[2J" in out


def _asked() -> RunUnderTest:
    run = ready(None, RENEW)
    run.say(call("renew", server="i-1"))
    run.plans()
    return run


def test_the_card_shows_what_changes_and_what_it_costs() -> None:
    preview = Preview(
        summary="续费 web-1", rows=(("expires", "May -> August"), ("[red]", "x[/red]")), price="888.00", currency="CNY"
    )
    out = show.console()
    with out.capture() as captured:
        out.print(approval_card(_asked().one(RequestApproval), preview))
    text = captured.get()

    for part in ("approve renew?", "续费 web-1", "May -> August", "888.00 CNY", "server = i-1", "[red]", "x[/red]"):
        assert part in text
    assert len({show.plain(line).cell_len for line in text.splitlines()}) == 1, "wide characters are counted as two"


def test_the_result_of_a_run_as_data() -> None:
    run = _ended()

    result = result_of(run.state, run.log)

    assert (result["outcome"], result["answer"], result["error"]) == ("completed", "It is done. 好了。", None)
    assert result["calls"] == [
        {"tool": "renew", "arguments": {"server": "i-1"}, "result": "renewed 续费成功", "repeated": False}
    ]
    (approval,) = cast(list[dict[str, object]], result["approvals"])
    assert (approval["state"], approval["by"], approval["tool"]) == ("granted", "ann", "renew")
    assert (
        approval["preview"] and [step["type"] for step in cast(list[dict[str, object]], result["steps"])][-1] == "RunCompleted"
    )
    json.dumps(result, default=str)


def test_a_run_that_waits_lists_its_open_approval() -> None:
    run = _asked()

    (approval,) = cast(list[dict[str, object]], result_of(run.state, run.log)["approvals"])

    assert (approval["id"], approval["state"]) == (run.open(RequestApproval)[0][0], "waiting")


def test_yes_is_never_no() -> None:
    assert not YES & NO
    assert "" in NO


# --- finding runs ---


async def _recorded(home: Path, *runs: str) -> World:
    index, broker = MemoryRunIndex(), MemoryBroker()
    summaries = [
        RunSummary(
            run=run, tenant="default", status="completed", agent="a", user="me", conversation="c", task="t",
            started=NOW + timedelta(seconds=n), seq=n,
        )
        for n, run in enumerate(runs)
    ]  # fmt: skip
    await index.record([], summaries)
    recorder = Recorder(broker, index).service()
    await broker.serve(ServiceInfo("recorder", "1", ""), recorder.answers, dict).__aenter__()
    return cast(World, SimpleNamespace(bus=broker, settings=SimpleNamespace(tenant="default", archive=Archive(), home=home)))


async def test_a_run_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    many = [f"202611-{n:032x}" for n in range(120)]
    world = await _recorded(tmp_path, "202611-abc" + "0" * 29, "202611-abd" + "0" * 29, *many)

    assert await find_run(world, "202611-abc") == "202611-abc" + "0" * 29
    assert await find_run(world, many[3]) == many[3]
    with pytest.raises(UnknownPrefix, match="No run begins"):
        await find_run(world, "202611-fff")
    with pytest.raises(UnknownPrefix, match="120 runs begin"):
        await find_run(world, "202611-000")
    for wrong in ("202611-ab", "x" * 39, "202611-" + "g" * 32):
        with pytest.raises(ProtocolError):
            await find_run(world, wrong)


# --- doctor ---


def _settings(tmp_path: Path, **more: object) -> Settings:
    return Settings.model_validate({"home": tmp_path / "home", "model": {"home": tmp_path / "models"}, **more})


def test_two_distributions_of_onnxruntime_are_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def installed(*names: str) -> None:
        found = [SimpleNamespace(name=name, version="1.0") for name in ("nats-py", *names)]
        monkeypatch.setattr(importlib.metadata, "distributions", lambda: found)

    settings = _settings(tmp_path)
    levels = {}
    for names in (("onnxruntime",), ("onnxruntime_gpu", "onnxruntime-genai"), (), ("onnxruntime", "onnxruntime-gpu")):
        installed(*names)
        levels[names] = checks.onnxruntime(settings).level

    assert list(levels.values()) == ["ok", "ok", "fail", "fail"]


def test_a_folder_that_would_shadow_ours_is_seen(tmp_path: Path) -> None:
    assert [each.level for each in checks.shadows(tmp_path)] == ["ok"]
    assert [each.level for each in checks.shadows(Path(__file__).parents[2])] == ["ok"]

    (tmp_path / "schemas").mkdir()

    (found,) = checks.shadows(tmp_path)
    assert (found.level, "schemas" in found.text, bool(found.next)) == ("warn", True, True)


def test_a_foreign_package_in_place_of_ours_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        checks.importlib.util, "find_spec", lambda name: SimpleNamespace(submodule_search_locations=[str(tmp_path / name)])
    )

    (found,) = checks.shadows(Path(__file__).parents[2])

    assert (found.level, str(tmp_path) in found.text) == ("fail", True)


@pytest.mark.parametrize(("free", "level"), [(1, "fail"), (100, "warn"), (100_000, "ok")])
def test_a_disk_that_fills_up_is_said_before_it_is_full(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, level: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free * 1024 * 1024))

    first = next(checks.disks(_settings(tmp_path)))

    assert first.level == level
    assert bool(first.next) == (level != "ok")


async def test_an_old_or_missing_nats_server_is_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "nats-server"
    monkeypatch.setattr(nats_server, "program", lambda: program)
    levels = []
    for said in ("nats-server: v2.14.2", "nats-server: v2.14.3", "nats-server: v2.15.1-RC.2", "no version"):
        program.write_text(f"#!/bin/sh\necho '{said}'\n")
        program.chmod(0o755)
        levels.append((await checks.nats_program()).level)
    program.unlink()
    levels.append((await checks.nats_program()).level)

    assert levels == ["fail", "ok", "ok", "fail", "fail"]


def test_models_that_are_missing_or_unknown(tmp_path: Path) -> None:
    missing = list(checks.models(_settings(tmp_path)))
    unknown = next(checks.models(_settings(tmp_path, model={"name": "gpt-9", "home": tmp_path})))
    scripted = list(checks.models(_settings(tmp_path, model={"scripted": tmp_path / "rules.json"})))

    assert [each.level for each in missing] == ["warn", "warn"]
    assert missing[0].next == f"milepost models pull {DEFAULT_TEXT_MODEL}"
    assert unknown.level == "fail"
    assert [each.level for each in scripted] == ["ok"]


async def test_without_a_stack_doctor_says_how_to_start_one(tmp_path: Path) -> None:
    found = [each async for each in checks.running(_settings(tmp_path))]

    assert [(each.level, each.next) for each in found] == [("warn", "milepost up")]


def test_models_ls_tells_size_licence_and_state(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MILEPOST_MODEL_HOME", str(tmp_path / "models"))
    folder = tmp_path / "models" / DEFAULT_TEXT_MODEL
    folder.mkdir(parents=True)
    (folder / f"{DEFAULT_TEXT_MODEL}-q4_k_m.gguf").write_bytes(b"not it")

    code, out, _ = cli("models", "ls", "--json")

    rows = {each["name"]: each for each in json.loads(out)}
    assert code == 0
    assert rows[DEFAULT_TEXT_MODEL]["state"] == "not verified"
    assert (rows["smollm2-135m"]["state"], rows["smollm2-135m"]["licence"]) == ("not fetched", "Apache-2.0")


def test_an_unknown_model_is_not_pulled(cli: Cli) -> None:
    code, _, err = cli("models", "pull", "gpt-9")

    assert code == 1
    assert "milepost models ls" in err


def test_errors_are_shown_as_they_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    show.show_error(MilepostError("The list [1] is [bold]wrong[/bold].\x1b[2J", hint="run it [again]"))

    assert capsys.readouterr().err == "error: The list [1] is [bold]wrong[/bold].[2J\n next: run it [again]\n"


# --- what was forgotten, and what services count ---


def test_a_report_of_forgetting_says_when_there_was_nothing_and_never_needs_a_count() -> None:
    from infra.cli.forget import _lines

    nothing = {"cancelled": 0, "keys": 0, "runs": 0, "events": 0, "effects": 0, "memory": {"turns": 0, "facts": 0}}
    assert list(_lines(nothing)) == ["nothing"]
    older = _lines({**nothing, "runs": 2, "events": 14, "memory": {"turns": 2, "facts": 0}})
    assert older["index"].startswith("texts of 2 runs and 14 events removed, and 0 uses")
    assert older["memory"] == "2 turns, 0 facts removed"


def test_counts_by_name_are_told_without_braces_and_long_fractions() -> None:
    from infra.cli.checks import _short

    assert _short({"qwen": {"waiting": 0, "cached_share": 0.0701904296875}}) == "qwen waiting 0; cached_share 0.0702"


def test_a_line_for_each_document_counts_in_good_english() -> None:
    from infra.cli.knowledge_bars import _line
    from infra.ingestion.ingest import Outcome
    from infra.ingestion.originals import Original

    original = Original("/d/a.md", Path("/d/a.md"), named=True)
    assert _line(Outcome(original, state="added", added=1)).plain == "✓ /d/a.md: 1 chunk added"
    changed = Outcome(original, state="added", added=2, kept=3, removed=1)
    assert _line(changed).plain == "✓ /d/a.md: 2 chunks added, 3 kept, 1 removed"
    refused = Outcome(original, state="refused", why="It is empty.", hint="write it")
    assert _line(refused).plain == "✗ /d/a.md: It is empty. · write it"
