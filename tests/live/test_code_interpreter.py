"""The code interpreter in its real sandbox: what programs may do, and what they may not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from schemas.tools import Part, PartKind
from tool_adapters.builtin import sandbox
from tool_adapters.builtin.code_interpreter import code_interpreter
from tool_adapters.tool import CallContext, ToolRefused

KEPT: dict[str, bytes] = {}


async def keep(data: bytes, *, kind: PartKind, media_type: str, name: str | None = None) -> Part:
    KEPT[str(name)] = data
    return Part(kind=kind, ref=f"payload:{len(KEPT)}", media_type=media_type, name=name, size=len(data))


CONTEXT = CallContext(tenant="acme", run="202611-1", user="ann", timeout_s=6, keep=keep)


async def told(code: str, language: str = "python") -> str:
    return (await code_interpreter.call({"code": code, "language": language}, CONTEXT)).text


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("print(1 + 1)", "2"),
        ("x = 6\nx * 7", "42"),
        ("import math, json, statistics\njson.dumps(math.factorial(20))", "'2432902008176640000'"),
        ("print('你好')", "你好"),
        ("pass", "It printed nothing."),
    ],
)
async def test_a_program_prints_and_its_last_value_is_shown(code: str, output: str) -> None:
    assert await told(code) == output


def test_it_runs_on_the_loop_that_services_have() -> None:
    import uvloop

    assert "42" in uvloop.run(told("print(6 * 7)"))


async def test_a_shell_program_runs() -> None:
    assert await told("echo one; seq 2 3 | tr '\\n' ' '", "shell") == "one\n2 3"


async def test_files_that_it_writes_are_given_back() -> None:
    result = await code_interpreter.call({"code": "open('a.csv', 'w').write('x,y\\n1,2\\n')"}, CONTEXT)
    assert KEPT["a.csv"] == b"x,y\n1,2\n"
    assert [part.name for part in result.parts if part.ref] == ["a.csv"]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import socket\nsocket.create_connection(('127.0.0.1', 22), 2)", "Error"),
        ("import socket\nsocket.create_connection(('192.0.2.1', 80), 2)", "unreachable"),
        ("open('/etc/passwd').read()", "FileNotFoundError"),
        (f"open({str(Path(__file__))!r}).read()", "FileNotFoundError"),
        ("open('/usr/x', 'w')", "Read-only"),
        ("open('/x', 'w')", "Read-only"),
        ("bytearray(3 * 2**30)", "MemoryError"),
        ("open('big', 'wb').write(bytes(64 * 2**20))", "File too large"),
        ("import os\nfor _ in range(1000): os.fork() or os._exit(__import__('time').sleep(1) or 0)", "unavailable"),
        ("import os\nos.kill(os.getppid(), 9); os.setuid(1)", "Error"),
        ("import os\nos.mount", "AttributeError"),
        ("1 / 0", "ZeroDivisionError"),
        ("print(", "SyntaxError"),
    ],
)
async def test_it_may_do_no_harm(code: str, error: str) -> None:
    text = await told(code)
    assert error in text and "It ended with status" in text


async def test_nothing_of_our_environment_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "canary-of-the-environment")
    text = await told("import os\nprint(dict(os.environ)); print(open('/proc/self/environ').read()); os.listdir('/proc')")
    assert "canary" not in text and str(os.getpid()) not in text.split("[")[-1]
    every = "import glob\nfor each in glob.glob('/proc/[0-9]*/environ'): print(each, open(each).read())"
    text = await told(every)
    assert "/proc/1/environ" in text and "canary" not in text


async def test_no_package_of_ours_can_be_imported() -> None:
    assert "ModuleNotFoundError" in await told("import tool_adapters")
    assert "ModuleNotFoundError" in await told("import pydantic")


async def test_it_is_stopped_when_its_time_is_over() -> None:
    assert await told("while True: pass") == "It was stopped: it ran longer than 4 s."


@pytest.mark.parametrize(
    "code",
    [
        "for i in range(10_000): open(f'{i}', 'wb').write(bytes(15 * 2**20))",
        "import os\nfor i in range(1_000_000): os.mkdir(f'd{i}')",
    ],
)
async def test_it_cannot_fill_the_disk(code: str) -> None:
    assert (await told(code)).startswith("It was stopped: it wrote more than 128 MiB")


async def test_many_processes_have_no_more_memory_than_one() -> None:
    code = (
        "import os, time\nfor _ in range(8): os.fork() or (bytearray(200 * 2**20), time.sleep(5), os._exit(0))\ntime.sleep(5)"
    )
    assert await told(code) == "It was stopped: its processes took more than 1024 MiB of memory together."


async def test_scratch_space_is_small() -> None:
    code = "for place in ('/tmp', '/dev/shm'):\n for i in range(40): open(f'{place}/{i}', 'wb').write(bytes(8 * 2**20))"
    assert "No space left" in await told(code)
    assert "Read-only" in await told("open('/dev/x', 'w')")


async def test_much_output_is_cut_in_the_middle() -> None:
    text = await told("print('a' * 5_000_000); print('end')")
    assert text.startswith("aaa") and "characters left out" in text and len(text) < 2200


async def test_links_are_not_followed_out_of_its_folder() -> None:
    KEPT.clear()
    await told("import os\nos.symlink('/etc/hostname', 'h'); os.symlink('/usr', 'u')")
    assert not KEPT


async def test_without_a_sandbox_nothing_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace'; exit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sandbox, "bubblewrap", lambda: str(broken))
    with pytest.raises(ToolRefused, match="No sandbox"):
        await told("print(1)")


def test_bubblewrap_is_found() -> None:
    assert os.access(sandbox.bubblewrap(), os.X_OK)
