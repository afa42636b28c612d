"""The command line as a person uses it: real processes, one scripted stack for all of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.script import INSTANCE, RULES, renewal
from tests.support.stack import open_folder
from tests.support.terminal import Terminal

ROOT = Path(__file__).parents[2]
RENEW = ("--tool", "RenewInstance")
MADE_UP = {"role": "user", "match": f"surprise {INSTANCE}", "call": [renewal(9, "month")]}
"""The nine months are in nobody's words."""


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True, slots=True)
class Shell:
    """A folder with a stack, and the command line in it."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str, input: str = "", code: int | None = 0, folder: Path | None = None) -> Done:
        """`milepost ARGUMENTS` without a terminal; its exit code must be `code`."""
        ended = subprocess.run(
            [sys.executable, "-m", "infra", *arguments], input=input, capture_output=True, text=True, timeout=120,
            cwd=folder or self.folder, env=self.environment, check=False,
        )  # fmt: skip
        assert code is None or ended.returncode == code, f"exit {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        return Done(ended.returncode, ended.stdout, ended.stderr)

    def json(self, *arguments: str, **more: Any) -> Any:
        return self(*arguments, "--json", **more).json

    def terminal(self, *arguments: str) -> Terminal:
        """`milepost ARGUMENTS` at a terminal."""
        return Terminal([sys.executable, "-m", "infra", *arguments], environment=self.environment, folder=self.folder)

    def expiry(self, instance: str) -> str:
        """When the demo cloud says that an instance expires."""
        said = self("tools", "call", "DescribeInstances", json.dumps({"InstanceIds": [instance]})).out
        return next(part for part in said.split(", ") if part.startswith("ExpiredTime"))


@pytest.fixture(scope="session")
def milepost() -> Iterator[Shell]:
    """The stack of all tests here, started and stopped by the command line itself."""
    with open_folder() as folder:
        (folder / "script.json").write_text(json.dumps({"rules": [MADE_UP, *RULES]}, ensure_ascii=False))
        own = {name: value for name, value in os.environ.items() if not name.startswith(("MILEPOST_", "COLUMNS"))}
        environment = {**own, "PYTHONPATH": str(ROOT), "MILEPOST_MODEL_SCRIPTED": str(folder / "script.json")}
        shell = Shell(folder, environment)
        try:
            shell("up", "-d")
            yield shell
        finally:
            shell("down", code=None)


def _web(n: int) -> str:
    return f"i-bp1f8k2m9x4q7web0{n}"


# --- the stack ---


def test_status_and_doctor_find_everything_well(milepost: Shell) -> None:
    status = milepost.json("status")
    findings = milepost.json("doctor")

    assert status["running"] and {each["state"] for each in status["processes"]} == {"ready"}
    assert not [each for each in findings if each["level"] == "fail"]
    well = {each["name"] for each in findings if each["level"] == "ok"}
    assert {"nats", "database", "conductor", "llm", "retrieval", "memory", "tools", "recorder", "index", "stack"} <= well


def test_doctor_finds_a_service_that_is_dead(milepost: Shell) -> None:
    pid = next(each["pid"] for each in milepost.json("status")["processes"] if each["name"] == "memory")
    os.kill(pid, signal.SIGSTOP)  # the supervisor would bring a dead one back before anybody looks
    try:
        found = milepost("doctor", code=1).out
        findings = milepost.json("doctor", code=1)
    finally:
        os.kill(pid, signal.SIGCONT)

    assert [each["name"] for each in findings if each["level"] == "fail"] == ["memory"]
    assert "milepost status" in next(each["next"] for each in findings if each["level"] == "fail")
    assert "✗ fail memory" in found


# --- ask ---


def test_ask_streams_the_answer_and_shows_calls(milepost: Shell) -> None:
    out = milepost("ask", "What time is it?", "--tool", "current_time").out

    lines = out.splitlines()
    assert lines[0] == "→ current_time(timezone=Asia/Shanghai)"
    assert lines[1].startswith("✓ current_time: It is ")
    assert lines[2].startswith("Done: ")
    assert lines[-1].startswith("run ") and "completed" in lines[-1]


def test_ask_reads_standard_input_and_answers_in_json_and_chinese(milepost: Shell) -> None:
    result = milepost.json("ask", "-", "--tool", "current_time", input="现在几点？\n")

    assert result["outcome"] == "completed"
    assert result["answer"].startswith("好了：")
    assert [call["tool"] for call in result["calls"]] == ["current_time"]
    assert {"Generated", "ToolReturned", "RunCompleted"} <= {step["type"] for step in result["steps"]}
    assert result["error"] is None and result["approvals"] == []


def test_the_same_key_is_the_same_run(milepost: Shell) -> None:
    first, second = (milepost.json("ask", "hello", "--key", "only once") for _ in range(2))

    assert first["run"] == second["run"]
    assert first["answer"] == second["answer"] == "You said: hello"


def test_follow_shows_every_event(milepost: Shell) -> None:
    out = milepost("ask", "hello", "--follow").out
    lines = [json.loads(line) for line in milepost("ask", "hello", "--follow", "--json").out.splitlines()]

    for name in ("RunRequested", "MemoryRecalled", "ToolsSelected", "Generated", "TurnStored", "RunCompleted"):
        assert name in out
        assert name in {each["event"]["type"] for each in lines[:-1]}
    assert lines[-1]["result"]["answer"] == "You said: hello"


def test_an_agent_from_a_file(milepost: Shell) -> None:
    (milepost.folder / "clock.toml").write_text('name = "clock"\ntools = ["current_time"]\ntool_k = 0\n')

    run = milepost.json("ask", "What time is it?", "--agent", "clock.toml")["run"]

    assert milepost.json("runs", "ls", "--agent", "clock")[0]["run"] == run


def test_a_run_that_fails_says_why_and_exits_1(milepost: Shell) -> None:
    (milepost.folder / "short.json").write_text('{"tools": ["current_time"], "tool_k": 0, "budget": {"steps": 2}}')

    ended = milepost("ask", "What time is it for ever?", "--agent", "short.json", code=None)
    failed = milepost("ask", "for ever", "--agent", "short.json", code=1)
    data = milepost.json("ask", "for ever", "--agent", "short.json", code=1)

    assert ended.code in (0, 1)
    assert failed.err.startswith("error: ") and "next: " in failed.err
    assert data["outcome"] == "failed" and data["error"]["what"]


# --- approvals ---


def test_without_a_terminal_a_write_waits_and_is_approved_later(milepost: Shell) -> None:
    before = milepost.expiry(_web(1))
    asked = milepost("ask", f"renew {_web(1)} for 1 month", *RENEW, code=3).out
    assert "Renew" in asked and " -> " in asked and "CNY" in asked
    assert milepost.expiry(_web(1)) == before
    name = asked.split("milepost runs approve ")[1].split()[0]

    waiting = milepost.json("runs", "ls", "--status", "waiting")[0]
    assert waiting["run"].startswith(name)
    approved = milepost("runs", "approve", name).out
    timeline = milepost("runs", "follow", name).out

    assert approved.startswith("approved RenewInstance(")
    assert "ApprovalGranted" in timeline and "RunCompleted" in timeline
    assert milepost.expiry(_web(1)) != before
    again = milepost("runs", "approve", name, code=1).err
    assert "waits for no approval" in again and "next: milepost runs show" in again


def test_json_tells_what_waits(milepost: Shell) -> None:
    result = milepost.json("ask", f"renew {_web(1)} for 2 months", *RENEW, code=3)

    (approval,) = result["approvals"]
    assert (result["outcome"], approval["state"], approval["tool"]) == ("waiting", "waiting", "RenewInstance")
    assert approval["preview"]["rows"] and approval["arguments"]["InstanceId"] == _web(1)
    refused = milepost.json("runs", "refuse", result["run"], approval["id"], "--reason", "太贵了")
    assert refused["approval"] == approval["id"]
    shown = milepost("runs", "follow", result["run"]).out
    assert "太贵了" in shown


def test_yes_approves_and_no_refuses(milepost: Shell) -> None:
    before = milepost.expiry(_web(2))
    refused = milepost.json("ask", f"renew {_web(2)} for 1 month", *RENEW, "--no")
    assert [each["state"] for each in refused["approvals"]] == ["refused"]
    assert milepost.expiry(_web(2)) == before

    approved = milepost.json("ask", f"请帮我给 {_web(2)} 续费 1 个月：续费 {_web(2)} 1 个月", *RENEW, "--yes")
    assert [each["state"] for each in approved["approvals"]] == ["granted"]
    assert milepost.expiry(_web(2)) != before


def test_at_a_terminal_the_person_is_asked(milepost: Shell) -> None:
    before = milepost.expiry("i-bp1c3n6v8z2w5api01")
    with milepost.terminal("ask", "renew i-bp1c3n6v8z2w5api01 for 2 months", *RENEW) as terminal:
        card = terminal.wait_for("Approve? [y/c/a/N/d]")
        assert "approve RenewInstance?" in card and "i-bp1c3n6v8z2w5api01 (api-1)" in card
        assert "WRITES" in card and "InstanceId = i-bp1c3n6v8z2w5api01" in card and "c for this conversation" in card
        terminal.type("perhaps\n")
        terminal.wait_for("Approve? [y/c/a/N/d]")
        assert milepost.expiry("i-bp1c3n6v8z2w5api01") == before
        terminal.type("y\n")
        code, rest = terminal.end()

    assert code == 0
    assert "approved by me" in rest and "Done: RenewInstance succeeded." in rest
    assert milepost.expiry("i-bp1c3n6v8z2w5api01") != before


def test_enter_alone_refuses_and_ctrl_d_leaves_the_question_open(milepost: Shell) -> None:
    before = milepost.expiry("i-bp1h5t9r4y7u1dbm01")
    task = ("ask", "renew i-bp1h5t9r4y7u1dbm01 for 1 month", *RENEW)
    with milepost.terminal(*task) as terminal:
        terminal.wait_for("Approve? [y/c/a/N/d]")
        terminal.type("\n")
        code, rest = terminal.end()
        assert (code, "refused by me" in rest) == (0, True)
    with milepost.terminal(*task) as terminal:
        terminal.wait_for("Approve? [y/c/a/N/d]")
        terminal.type("\x04")
        code, rest = terminal.end()
        assert (code, "milepost runs approve" in rest) == (3, True)

    assert milepost.expiry("i-bp1h5t9r4y7u1dbm01") == before


def test_details_are_shown_and_a_refusal_says_why(milepost: Shell) -> None:
    with milepost.terminal("ask", f"renew {_web(2)} for 2 weeks", *RENEW) as terminal:
        terminal.wait_for("Approve? [y/c/a/N/d]")
        terminal.type("d\n")
        details = terminal.wait_for("Approve? [y/c/a/N/d]")
        assert "raw arguments" in details and "planned on" in details and '"InstanceId"' in details
        terminal.type("n\n")
        terminal.wait_for("Why not?")
        terminal.type("next week\n")
        code, rest = terminal.end()

    assert (code, "refused by me next week" in rest) == (0, True)


def test_an_approval_for_the_conversation_is_not_asked_for_again(milepost: Shell) -> None:
    talk = ("--conversation", "c-scopes")
    with milepost.terminal("ask", f"renew {_web(2)} for 1 week", *RENEW, *talk) as terminal:
        terminal.wait_for("Approve? [y/c/a/N/d]")
        terminal.type("c\n")
        assert "for this conversation" in terminal.end()[1]
    again = milepost("ask", f"renew {_web(2)} for 2 weeks", *RENEW, *talk).out
    assert "approve RenewInstance?" not in again and "RenewInstance succeeded" in again


def test_the_card_and_the_question_are_in_the_persons_language(milepost: Shell) -> None:
    chinese = Shell(milepost.folder, {**milepost.environment, "MILEPOST_LANGUAGE": "zh"})
    with chinese.terminal("ask", f"续费 {_web(2)} 1 个月", *RENEW) as terminal:
        card = terminal.wait_for("批准吗？ [y/c/a/N/d]")
        assert "批准 RenewInstance？" in card and "写操作" in card and "仅此一次" in card
        terminal.type("否\n")
        terminal.wait_for("拒绝的原因？")
        terminal.type("太贵了\n")
        assert "太贵了" in terminal.end()[1]


def test_who_asked_is_told_that_another_must_approve_and_how(milepost: Shell, tmp_path: Path) -> None:
    agent = tmp_path / "careful.toml"
    agent.write_text('name = "careful"\ntools = ["RenewInstance"]\ntool_k = 0\n[[policy]]\nname = "pair"\nthen = "ask"\n'
                     'why = "two people"\nfour_eyes = true\n')  # fmt: skip
    before = milepost.expiry(_web(1))
    with milepost.terminal("ask", f"renew {_web(1)} for 2 weeks", "--agent", str(agent)) as terminal:
        code, shown = terminal.end()
    assert code == 3
    assert "Another person must approve this: anyone but me." in shown and "two people" in shown
    run = shown.split("milepost approvals approve ")[1].split()[0]

    waiting = next(each for each in milepost.json("approvals", "ls") if each["run"].startswith(run))
    assert (waiting["not_by"], waiting["scopes"], waiting["why"]) == ("me", ["once"], "two people")
    assert "may not approve" in milepost("approvals", "approve", run, code=1).err
    assert "once and no further" in milepost("approvals", "approve", run, "--by", "bo", "--scope", "always", code=1).err
    assert milepost.expiry(_web(1)) == before
    assert "anyone but me" in milepost("approvals", "show", run).out
    milepost("approvals", "approve", run, waiting["id"][:8], "--by", "bo")
    assert "bo approves RenewInstance" in milepost("runs", "follow", run).out
    assert milepost.expiry(_web(1)) != before


def test_yes_covers_plain_writes_and_no_others(milepost: Shell) -> None:
    before = milepost.expiry(_web(2))
    made_up = ("ask", f"surprise {_web(2)}", *RENEW, "--yes")
    asked = milepost(*made_up, code=3).out
    assert "Period = 9  ← nobody named this" in asked and "InstanceId = " + _web(2) + " " in asked
    assert "--yes does not cover this (ungrounded): add --yes-to ungrounded" in asked
    (waiting,) = [each for each in milepost.json("approvals", "ls") if each["ungrounded"]]
    assert (waiting["ungrounded"], waiting["doubts"], waiting["scopes"]) == (["Period"], ["ungrounded"], ["once"])
    milepost("approvals", "refuse", waiting["run"], "--note", "made up")
    assert milepost.expiry(_web(2)) == before
    assert milepost.json(*made_up, "--yes-to", "ungrounded")["outcome"] == "completed"
    assert milepost.expiry(_web(2)) != before
    assert "give --yes with it" in milepost("ask", "hello", "--yes-to", "destructive", code=1).err


def test_an_answer_from_elsewhere_takes_the_question_back(milepost: Shell) -> None:
    with milepost.terminal("ask", f"renew {_web(1)} for 3 weeks", *RENEW) as terminal:
        terminal.wait_for("Approve? [y/c/a/N/d]")
        run = milepost.json("runs", "ls", "--status", "waiting", "--text", "3 weeks")[0]["run"]
        milepost("runs", "refuse", run, "--reason", "not now")
        code, rest = terminal.end()

    assert code == 0
    assert "refused by me not now" in rest


# --- ctrl-C ---


def test_ctrl_c_stops_the_run(milepost: Shell) -> None:
    with milepost.terminal("ask", f"renew {_web(2)} for 3 weeks", *RENEW) as terminal:
        terminal.wait_for("Approve? [y/c/a/N/d]")
        terminal.type("\x03")
        code, rest = terminal.end()

    assert code == 130
    assert "Asked the run to stop" in rest and "cancelled" in rest
    run = milepost.json("runs", "ls", "--text", "3 weeks")[0]
    assert run["status"] == "cancelled"


def test_a_second_ctrl_c_leaves_the_run_to_itself(milepost: Shell) -> None:
    pid = next(each["pid"] for each in milepost.json("status")["processes"] if each["name"] == "conductor")
    with milepost.terminal("ask", f"renew {_web(2)} for 2 weeks", *RENEW) as terminal:
        terminal.wait_for("Approve? [y/c/a/N/d]")
        os.kill(pid, signal.SIGSTOP)  # so that the run cannot end on the first one
        try:
            terminal.type("\x03")
            terminal.wait_for("ctrl-C again")
            terminal.type("\x03")
            code, _ = terminal.end()
        finally:
            os.kill(pid, signal.SIGCONT)

    assert code == 130
    run = milepost.json("runs", "ls", "--text", "2 weeks")[0]["run"]
    assert "RunCancelled" in milepost("runs", "follow", run).out


# --- chat ---


def test_chat_is_one_conversation(milepost: Shell) -> None:
    ended = milepost("chat", "--json", input="hello\n你好\n/new\nagain\n/exit\nnever\n")

    decoder, rest, turns = json.JSONDecoder(), ended.out.strip(), []
    while rest:
        turn, end = decoder.raw_decode(rest)
        turns.append(turn)
        rest = rest[end:].lstrip()
    assert [turn["answer"] for turn in turns] == ["You said: hello", "你好。", "You said: again"]
    assert turns[0]["conversation"] == turns[1]["conversation"] != turns[2]["conversation"]
    recalled = next(step["summary"] for step in turns[1]["steps"] if step["type"] == "MemoryRecalled")
    assert "1 earlier turn" in recalled


def test_chat_survives_ctrl_c_and_ends_with_ctrl_d(milepost: Shell) -> None:
    with milepost.terminal("chat", *RENEW) as terminal:
        terminal.wait_for("› ")
        terminal.type(f"renew {_web(1)} for 2 weeks\n")
        terminal.wait_for("Approve? [y/c/a/N/d]")
        terminal.type("\x03")
        terminal.wait_for("cancelled")
        terminal.wait_for("› ")
        terminal.press_until("\x03", "ctrl-D leaves")
        terminal.type("你好\n")
        terminal.wait_for("你好。")
        terminal.wait_for("› ")
        terminal.type("\x04")
        code, _ = terminal.end()

    assert code == 0


# --- runs ---


def test_runs_are_listed_shown_and_found_by_a_prefix(milepost: Shell) -> None:
    run = milepost.json("ask", "find me by this phrase")["run"]

    table = milepost("runs", "ls", "--text", "by this phrase", "--status", "completed").out
    assert run in table
    assert milepost.json("runs", "ls", "--text", "by this phrase", "--user", "nobody") == []
    shown = milepost.json("runs", "show", run[:16])
    assert (shown["run"], shown["outcome"]) == (run, "completed")
    assert shown["events"][0]["type"] == "io.milepost.RunRequested.v1"
    timeline = milepost("runs", "show", run).out
    assert "find me by this phrase" in timeline and " ms  " in timeline and "RunCompleted" in timeline
    for command in (["show"], ["follow"], ["cancel"], ["approve"], ["refuse"], ["export"]):
        more = ["x.jsonl"] if command == ["export"] else []
        assert "no log holds it" in milepost("runs", *command, "202611-" + "0" * 32, *more, code=1).err


def test_cancel_ends_a_waiting_run(milepost: Shell) -> None:
    run = milepost.json("ask", f"renew {_web(2)} for 1 week", *RENEW, code=3)["run"]

    milepost("runs", "cancel", run, "--reason", "changed my mind")

    assert "changed my mind" in milepost("runs", "follow", run).out
    assert "has ended" in milepost("runs", "cancel", run, code=1).err


def test_an_exported_run_is_replayed_where_nothing_runs(milepost: Shell, tmp_path: Path) -> None:
    run = milepost.json("ask", "What time is it?", "--tool", "current_time")["run"]
    file = tmp_path / "run.jsonl"

    milepost("runs", "export", run, str(file))
    here = milepost.json("replay", run[:16])
    away = milepost.json("replay", str(file), folder=tmp_path)
    several = json.loads(milepost("replay", "202601-none", str(file), run, "--json", code=1).out)["runs"]
    stored = milepost.json("runs", "show", run)["events"]

    assert here == away and away["same"] and away["outcome"] == "completed"
    assert [each["name"] for each in several] == ["202601-none", str(file), run]
    assert "error" in several[0] and several[1:] == [{"name": name, **here} for name in (str(file), run)]
    sealed = [each for each in map(json.loads, file.read_text().splitlines()) if "id" in each]
    said = [each["id"] for each in stored if not each["subject"].startswith("seal")]  # the receipt may come in between
    assert [each["id"] for each in sealed if not each["subject"].startswith("seal")] == said
    assert "Asia/Shanghai" not in file.read_text() and "Asia/Shanghai" in json.dumps(stored)
    assert "exists already" in milepost("runs", "export", run, str(file), code=1).err
    said = sealed[0]["data"]["ciphertext"]
    file.write_text(file.read_text().replace(said, said[:-8] + said[-8:].swapcase(), 1))
    assert "changed" in milepost("replay", str(file), folder=tmp_path, code=1).err


# --- tools and knowledge ---


def test_tools_are_listed_found_shown_and_read_by_hand(milepost: Shell) -> None:
    names = {card["name"] for card in milepost.json("tools", "ls")}
    assert {"RenewInstance", "current_time", "calculator"} <= names
    assert milepost.json("tools", "search", "tell the current time", "-k", "3")[0]["card"]["name"] == "current_time"
    assert "InstanceId" in milepost("tools", "show", "RenewInstance").out
    assert milepost("tools", "call", "calculator", '{"expression": "6*7"}').out == "6*7 = 42\n"
    assert milepost.json("tools", "call", "calculator", '{"expression": "6*7"}')["text"] == "6*7 = 42"


@contextmanager
def zoo() -> Iterator[str]:
    """An API whose animals say where they are kept."""

    class Zoo(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            said = json.dumps({"kept": self.path, "key": self.headers["X-Key"]}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, format: str, *args: object) -> None:
            """Tests say what they have to say by themselves."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Zoo) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_described_api_is_imported_found_called_refreshed_and_taken_out_again(milepost: Shell, tmp_path: Path) -> None:
    paths: dict[str, Any] = {
        f"/animals/{n}": {"get": {"operationId": f"getAnimal{n}", "summary": f"Feed the animal{n}"}} for n in range(250)
    }
    paths["/animals/7"]["delete"] = {"operationId": "freeAnimal", "summary": "Let the tiger go"}
    file, key = tmp_path / "zoo.json", tmp_path / "key"
    file.write_text(json.dumps({"openapi": "3.0.0", "info": {"title": "Zoo"}, "paths": paths}))
    key.write_text("k3y\n")
    assert "--server" in milepost("tools", "import", "openapi", str(file), code=1).err
    with zoo() as address:
        given = ("tools", "import", "openapi", str(file), "--server", address, "--auth", f"header:X-Key=file:{key}")
        counted = milepost.json(*given, "--dry-run")
        assert (counted["tools"], milepost.json("tools", "ls", "--lane", "zoo")) == (251, [])
        first, again = milepost.json(*given, "--wait"), milepost.json(*given)
        assert [first["changed"], first["without_vector"], again["changed"], again["unchanged"]] == [251, 0, 0, 251]
        assert (first["new"], first["gone"], first["hosted"]) == (251, [], True)
        assert json.loads(milepost("tools", "call", "getAnimal7").out) == {"kept": "/animals/7", "key": "k3y"}

        listed = milepost("tools", "ls", "--lane", "zoo", "-n", "200").out
        assert "no host" not in listed and listed.endswith("the first 200; --all lists all such tools\n")
        assert len(milepost.json("tools", "ls", "--lane", "zoo", "--all")) == 251
        assert [each["name"] for each in milepost.json("tools", "ls", "--effect", "destructive", "--text", "tiger")] == [
            "freeAnimal"
        ]
        assert "lexical" in milepost("tools", "search", "let the tiger go", "--why").out
        (source,) = milepost.json("tools", "sources", "ls")
        assert (source["source"]["kind"], source["tools"]) == ("openapi", 251) and "k3y" not in json.dumps(source)
        assert "sources rm zoo" in milepost("tools", "rm", "getAnimal7", code=1).err
        assert "builtin" in milepost(*given, "--lane", "builtin", code=1).err

        file.write_text(json.dumps({"openapi": "3.0.0", "info": {"title": "Zoo"}, "paths": dict(list(paths.items())[:200])}))
        refreshed = milepost.json("tools", "sources", "refresh", "zoo")
        assert (refreshed["tools"], len(refreshed["gone"]), refreshed["changed"]) == (201, 50, 0)
        assert len(milepost.json("tools", "ls", "--lane", "zoo", "--all")) == 201

    assert "builtin lives" in milepost("tools", "rm", "--shared", "calculator", code=1).err
    assert "--shared" in milepost("tools", "rm", "calculator", code=1).err
    assert milepost("tools", "ls", "--lane", "nobody").err.startswith("no tool is like that")

    assert len(milepost.json("tools", "sources", "rm", "zoo")) == 201
    assert milepost.json("tools", "ls", "--lane", "zoo") == []
    assert milepost.json("tools", "sources", "ls") == []
    assert "nothing was imported" in milepost("tools", "sources", "rm", "zoo", code=1).err
    versions = milepost.json("tools", "show", "freeAnimal", "--versions")
    assert [(each["card"]["lane"], each["until"] is None) for each in versions] == [("zoo", False)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("RenewInstance", json.dumps({"InstanceId": "i-bp1f8k2m9x4q7web01", "Period": 1})), "changes the world"),
        (("calculator", "[1]"), "no JSON object"),
        (("calculator", "{"), "no JSON object"),
        (("calculator", "{}"), "cannot be called with these arguments"),
        (("calculator", '{"expression": "import os"}'), "error: "),
        (("calculater", "{}"), "did you mean calculator?"),
        (("Renew", "{}"), "did you mean RenewInstance?"),
        (("nonsense", "{}"), 'milepost tools search "nonsense"'),
    ],
)
def test_a_call_by_hand_that_may_not_be_is_refused(milepost: Shell, arguments: tuple[str, ...], said: str) -> None:
    before = milepost.expiry(_web(1))

    assert said in milepost("tools", "call", *arguments, code=1).err

    assert milepost.expiry(_web(1)) == before


def test_knowledge_is_added_found_listed_and_forgotten(milepost: Shell, tmp_path: Path) -> None:
    docs, home = tmp_path / "docs", ("--home", str(milepost.folder / ".milepost"))
    (docs / ".git").mkdir(parents=True)
    (docs / ".git" / "hidden.md").write_text("# Hidden\nnobody sees it\n")
    (docs / "续费.md").write_text("# 续费\n\n包年包月实例可以按月续费，最长五年。\n")
    (docs / "notes.txt").write_text("Zebras are striped.")
    (docs / "photo.png").write_bytes(b"\x89PNG")
    (docs / "broken.txt").write_bytes(b"\xff\xfe\x00")

    tried = {
        Path(each["path"]).name: each for each in milepost.json("knowledge", "add", str(docs), "--meta", "team=sre", code=1)
    }
    assert {name: each["state"] for name, each in tried.items()} == {
        "续费.md": "added", "notes.txt": "added", "photo.png": "skipped", "broken.txt": "refused"
    }  # fmt: skip
    assert "utf-16" in tried["broken.txt"]["why"]
    again = milepost("knowledge", "add", str(docs), *home, "--meta", "team=sre", code=1)
    assert "2 unchanged" in again.out and "broken.txt" in again.err and "续费.md" not in again.err

    found = milepost.json("knowledge", "search", "实例怎么续费", "--filter", "team=sre")[0]
    assert (found["title"], found["heading"], found["source"]) == ("续费", "续费", str(docs / "续费.md"))
    assert milepost.json("knowledge", "search", "实例怎么续费", "--filter", "team=hr") == []
    shown = milepost("knowledge", "search", "实例怎么续费", *home).out
    assert "续费.md · characters 0-" in shown and f"chunk {found['hash'][:12]}" in shown
    assert "no model is shown it" not in shown.split("\n\n")[0] and found["fits"]
    (unlike,) = milepost.json("knowledge", "search", "zzz", "-k", "1")
    assert not unlike["fits"] and "no model is shown it" in milepost("knowledge", "search", "zzz", "-k", "1", *home).out
    sources = {each["source"] for each in milepost.json("knowledge", "ls")}
    assert str(docs / "notes.txt") in sources
    assert milepost.json("knowledge", "show", str(docs / "notes.txt"))["metadata"] == {"team": "sre"}
    assert f"did you mean {docs / 'notes.txt'}?" in milepost("knowledge", "show", "notes.txt", code=1).err
    assert "--yes" in milepost("knowledge", "rm", "notes.txt", *home, folder=docs, code=1).err
    milepost("knowledge", "rm", "notes.txt", "--yes", *home, folder=docs)
    assert str(docs / "notes.txt") not in {each["source"] for each in milepost.json("knowledge", "ls")}
    assert "No document" in milepost("knowledge", "rm", "notes.txt", "--yes", *home, folder=docs, code=1).err
    assert "There is no" in milepost("knowledge", "add", str(docs / "gone"), code=1).err
    assert "--allow 127.0.0.1:9" in milepost.json("knowledge", "add", "http://127.0.0.1:9/x.md", code=1)[0]["next"]
    assert "cannot be read" in milepost("knowledge", "add", str(docs / "photo.png"), *home, code=1).err


def test_a_collection_is_searched_and_forgotten_by_itself(milepost: Shell, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.md").write_text(f"# {name}\n\nQuokkas smile, says {name}.\n")
    milepost.json("knowledge", "add", str(tmp_path), "--collection", "zoo", "--glob", "a.*", "--title", "Quokkas")
    milepost.json("knowledge", "add", str(tmp_path), "--collection", "zoo")
    assert {each["title"] for each in milepost.json("knowledge", "ls", "--collection", "zoo")} == {"Quokkas", "b"}
    found = milepost.json("knowledge", "search", "quokkas smile", "-k", "2", "--collection", "zoo", "--collection", "default")
    assert {each["title"] for each in found} == {"Quokkas", "b"}
    past = ("knowledge", "search", "quokkas smile", "--collection", "zoo", "--as-of")
    assert [each["title"] for each in milepost.json(*past, "1")] == ["Quokkas"]
    assert "its newest is 2" in milepost(*past, "3", "--home", str(milepost.folder / ".milepost"), code=1).err
    assert (
        "--yes" in milepost("knowledge", "rm", "--collection", "zoo", "--home", str(milepost.folder / ".milepost"), code=1).err
    )
    assert milepost.json("knowledge", "rm", "--collection", "zoo", "--yes")["documents"] == 2
    assert milepost.json("knowledge", "ls", "--collection", "zoo") == []


def test_a_document_that_one_message_cannot_carry_is_added(milepost: Shell, tmp_path: Path) -> None:
    (tmp_path / "large.txt").write_text("word " * 300_000)
    (tried,) = milepost.json("knowledge", "add", str(tmp_path / "large.txt"), "--collection", "large")
    assert tried["state"] == "added" and tried["tokens"] > 0


# --- at a terminal everything fits ---


def test_lists_fit_the_terminal(milepost: Shell) -> None:
    milepost("ask", "请问" * 200)
    for command in (["runs", "ls"], ["tools", "ls"], ["status"], ["doctor"], ["models", "ls"]):
        with milepost.terminal(*command) as terminal:
            code, text = terminal.end()
            assert code == 0 and text.strip(), command
            if command != ["doctor"]:
                assert max(terminal.widths()) <= 100, text
