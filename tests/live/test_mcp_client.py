"""MCP servers that we did not write, as tools: from the npm and the Python registry, over standard input and over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from aiohttp import web
from filelock import FileLock

from schemas.canonical import JsonObject
from tests.support.mcp_servers import Kept, context
from tests.support.node import bin_of, missing
from tool_adapters.mcp import stdio
from tool_adapters.mcp.cards import Effects, offer
from tool_adapters.mcp.session import McpServer
from tool_adapters.mcp.settings import settings_of
from tool_adapters.mcp.tool import McpTool
from tool_adapters.references import found
from tool_adapters.tool import NeedsAnswer, OutcomeUnknown, ToolError, ToolRefused, ToolUnavailable

PYTHON_SERVERS = (
    "mcp-server-time==2026.10.19", "mcp-server-git==2026.10.19", "GitPython==3.2.1", "gitdb==4.0.12", "smmap==5.0.3",
    "tzlocal==5.4.5",
)  # fmt: skip
"""What the main environment has not; the SDK that they are made with is the one that is installed here."""

BENCH = Path(__file__).parents[2] / ".bench"
READS = Effects(read=("*",))


@pytest.fixture(scope="session")
def python_servers() -> Path:
    """The folder with servers from the Python registry, for PYTHONPATH."""
    home = BENCH / "mcp-servers"
    BENCH.mkdir(exist_ok=True)
    with FileLock(BENCH / "mcp-servers.lock"):
        stamp = home / "installed"
        if not stamp.exists() or stamp.read_text() != repr(PYTHON_SERVERS):
            shutil.rmtree(home, ignore_errors=True)
            quiet = ["-q", "--disable-pip-version-check", "--no-deps", "--target", str(home)]
            pip = [sys.executable, "-m", "pip", "install", *quiet, *PYTHON_SERVERS]
            done = subprocess.run(pip, capture_output=True, text=True, timeout=300, check=False)
            if done.returncode:
                missing(f"the servers cannot be installed: {done.stderr[-500:]}")
            stamp.write_text(repr(PYTHON_SERVERS))
    return home


def module(servers: Path, name: str, *args: str, **env: str) -> JsonObject:
    """A server of the Python registry."""
    given = {"PYTHONPATH": f"text:{servers}", **env}
    return {"command": sys.executable, "args": ["-m", name, *args], "env": given}


class Opened:
    """A server and its tools as they were approved."""

    def __init__(self, settings: JsonObject, effects: Effects = READS) -> None:
        self.server = McpServer(settings_of(settings), found)
        self._effects = effects

    async def tools(self) -> dict[str, McpTool]:
        live = await self.server.live()
        made = offer(live.tools.values(), lane="x", prefix="", effects=self._effects)
        return {call.tool: McpTool(card, call, self.server) for card, call in made.tools}


@contextlib.asynccontextmanager
async def opened(settings: JsonObject, effects: Effects = READS) -> AsyncIterator[Opened]:
    made = Opened(settings, effects)
    try:
        async with asyncio.timeout(60):
            yield made
    finally:
        await made.server.close()


def script(folder: Path, code: str) -> JsonObject:
    """A server of our own that behaves badly."""
    path = folder / "server.py"
    path.write_text(textwrap.dedent(code))
    return {"command": sys.executable, "args": [str(path)], "open_s": 20}


BARE = """
    import json, os, sys
    def tool(function):
        TOOLS[function.__name__] = function
    TOOLS = {}
    def say(id, **said):
        os.write(1, json.dumps({"jsonrpc": "2.0", "id": id, **said}).encode() + b"\\n")
    def run():
        for line in sys.stdin:
            asked = json.loads(line)
            if asked["method"] == "initialize":
                about = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "b", "version": "1"}}
                say(asked["id"], result=about)
            elif asked["method"] == "tools/list":
                any_object = {"type": "object", "properties": {}}
                say(asked["id"], result={"tools": [{"name": name, "inputSchema": any_object} for name in TOOLS]})
            elif asked["method"] == "tools/call":
                text = TOOLS[asked["params"]["name"]](**asked["params"].get("arguments", {}))
                say(asked["id"], result={"content": [{"type": "text", "text": text}]})
            elif "id" in asked:
                say(asked["id"], error={"code": -32601, "message": "unknown"})
"""
"""A server in a few lines that starts at once."""

SDK = """
    from mcp.server import MCPServer
    server = MCPServer("ours")
"""


# --- from the registries ---


async def test_time_from_the_python_registry(python_servers: Path) -> None:
    async with opened(module(python_servers, "mcp_server_time")) as made:
        tools = await made.tools()
        result = await tools["convert_time"].call(
            {"source_timezone": "Asia/Shanghai", "time": "12:00", "target_timezone": "UTC"}, context()
        )
        with pytest.raises(ToolRefused, match="time zone"):
            await tools["get_current_time"].call({"timezone": "Nowhere/Land"}, context())
    assert "04:00" in result.text
    assert [part.kind for part in result.parts] == ["text", "json"], "text, and structured content that fits its schema"


async def test_git_from_the_python_registry_commits_once(python_servers: Path, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "a.txt").write_text("a")
    names = {f"GIT_{who}_{what}": "text:me@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    settings = module(python_servers, "mcp_server_git", "-r", str(tmp_path), **names)
    async with opened(settings, Effects(read=("git_status", "git_log"))) as made:
        tools = await made.tools()
        assert (tools["git_status"].card.effect, tools["git_commit"].card.effect) == ("read", "write")
        repo = {"repo_path": str(tmp_path)}
        await tools["git_add"].call({**repo, "files": ["a.txt"]}, context())
        plan = await tools["git_commit"].plan({**repo, "message": "first"}, context())
        assert ("message", "first") in plan.preview.rows
        await tools["git_commit"].call({**repo, "message": "first"}, context())
    told = subprocess.run(["git", "-C", str(tmp_path), "log", "--format=%s"], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["first"]


async def test_everything_from_npm(node_modules: Path) -> None:
    async with opened({"command": bin_of(node_modules, "mcp-server-everything")}) as made:
        await _everything(made)


async def test_everything_from_npm_over_http(everything_http: int) -> None:
    place = f"127.0.0.1:{everything_http}"
    async with opened({"url": f"http://{place}/mcp", "allow": [place]}) as made:
        await _everything(made)
    async with opened({"url": f"http://{place}/mcp"}) as guarded:
        with pytest.raises(ToolRefused, match="may not be"):
            await guarded.tools()


async def _everything(made: Opened) -> None:
    tools, kept = await made.tools(), Kept()
    assert (await tools["echo"].call({"message": "hi"}, context())).text == "Echo: hi"
    picture = await tools["get-tiny-image"].call({}, context(keep=kept))
    assert [part.kind for part in picture.parts] == ["text", "image", "text"]
    assert kept.bytes["payload:0"].startswith(b"\x89PNG")
    weather = await tools["get-structured-content"].call({"location": "Chicago"}, context())
    assert {"temperature", "conditions", "humidity"} <= set(dict(weather.parts[-1].json_value))  # type: ignore[call-overload]
    links = await tools["get-resource-links"].call({"count": 2}, context())
    assert [part.ref is not None for part in links.parts] == [False, True, True]
    long = tools["trigger-long-running-operation"].call({"duration": 0.2, "steps": 4}, context())
    sums = [tools["get-sum"].call({"a": n, "b": 1}, context()) for n in range(20)]
    results = await asyncio.gather(long, *sums)
    assert [each.text for each in results[1:]] == [f"The sum of {n} and 1 is {n + 1}." for n in range(20)]
    asking = tools["trigger-elicitation-request"]
    with pytest.raises(NeedsAnswer) as asked:
        await asking.call({}, context("asks"))
    question = asked.value.question
    fields = question.fields["properties"]
    assert isinstance(fields, dict) and "name" in fields
    answers = {question.id: {"name": "Ada", "check": True}}
    assert "Name: Ada" in (await asking.call({}, context("asks", answers))).text
    with pytest.raises(NeedsAnswer) as again:
        await asking.call({}, context("declines"))
    assert "declined" in (await asking.call({}, context("declines", {again.value.question.id: None}))).text


async def test_files_from_npm(node_modules: Path, tmp_path: Path) -> None:
    effects = Effects(read=("read_*", "list_*"), destructive=("write_file", "move_file"))
    settings: JsonObject = {"command": bin_of(node_modules, "mcp-server-filesystem"), "args": [str(tmp_path)]}
    async with opened(settings, effects) as made:
        tools = await made.tools()
        assert tools["write_file"].card.effect == "destructive"
        place = str(tmp_path / "a.txt")
        await tools["write_file"].call({"path": place, "content": "written"}, context())
        assert "written" in (await tools["read_text_file"].call({"path": place}, context())).text
        with pytest.raises(ToolRefused, match="outside allowed"):
            await tools["read_text_file"].call({"path": "/etc/hostname"}, context())
    assert (tmp_path / "a.txt").read_text() == "written"


@pytest.fixture
def everything_http(node_modules: Path) -> Iterator[int]:
    """The port of the everything server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [bin_of(node_modules, "mcp-server-everything"), "streamableHttp"]
    process = subprocess.Popen(
        command, env={**os.environ, "PORT": str(port)}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if b"listening" in line.lower():
                break
        yield port
    finally:
        process.kill()
        process.wait()


# --- that behave badly ---


async def test_a_process_that_dies_is_started_again(tmp_path: Path) -> None:
    server = script(tmp_path, BARE + """
    @tool
    def die() -> str: os._exit(3)
    @tool
    def pid() -> str: return str(os.getpid())
    run()
    """)  # fmt: skip
    async with opened(server, Effects(read=("pid",))) as made:
        tools = await made.tools()
        first = (await tools["pid"].call({}, context())).text
        with pytest.raises(OutcomeUnknown):
            await tools["die"].call({}, context())
        second = (await tools["pid"].call({}, context())).text
        assert first != second
    assert not psutil.pid_exists(int(second)), "it ends with us"


async def test_a_process_ends_with_all_that_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio, "GRACE_S", 0.2)
    server = script(tmp_path, BARE + """
    import signal, subprocess
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "300"])
    @tool
    def child_pid() -> str: return str(child.pid)
    run()
    child.wait()
    """)  # fmt: skip
    async with opened(server) as made:
        child = int((await (await made.tools())["child_pid"].call({}, context())).text)
        assert psutil.pid_exists(child)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


async def test_garbage_on_standard_output_is_passed_over(tmp_path: Path) -> None:
    server = script(tmp_path, BARE + """
    import os
    os.write(1, b"Welcome to my server! \\xff\\xfe\\n{not json}\\n[]\\n\\n")
    @tool
    def talk() -> str:
        os.write(1, b"debug output\\n")
        return "said"
    run()
    """)  # fmt: skip
    async with opened(server) as made:
        assert (await (await made.tools())["talk"].call({}, context())).text == "said"


@pytest.mark.parametrize(("code", "why"), [
    ("import sys; sys.exit('no configuration found')", "no configuration found"),
    ("import sys, time; sys.stderr.write('warming up\\n'); sys.stderr.flush(); time.sleep(60)", "warming up"),
    ("import os\nwhile True: os.write(1, b'x' * 65536)", ""),
    ("import os\nwhile True: os.write(1, b'nothing\\n' * 1000)", ""),
])  # fmt: skip
async def test_a_command_that_is_no_server(code: str, why: str, tmp_path: Path) -> None:
    async with opened({**script(tmp_path, code), "open_s": 1.5}) as made:
        with pytest.raises(ToolUnavailable) as error:
            await made.tools()
        assert why in error.value.why
        with pytest.raises(ToolUnavailable) as soon:
            await made.tools()
        assert soon.value.retry_after_s, "it is not started over and over"


async def test_a_command_that_is_not_there() -> None:
    async with opened({"command": "no-such-command-anywhere"}) as made:
        with pytest.raises(ToolRefused, match="cannot be started"):
            await made.tools()


async def test_a_process_finds_only_what_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS_ALONE", "secret-of-ours")
    monkeypatch.setenv("FOR_IT", "for-its-eyes")
    server = script(tmp_path, BARE + """
    @tool
    def env() -> str: return repr(dict(os.environ))
    sys.stderr.write("my token is " + os.environ["TOKEN"] + "\\n")
    run()
    """)  # fmt: skip
    async with opened({**server, "env": {"TOKEN": "env:FOR_IT"}}) as made:
        told = (await (await made.tools())["env"].call({}, context())).text
    assert "for-its-eyes" in told and "secret-of-ours" not in told


async def test_answers_of_one_megabyte_ten_and_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio, "LINE_BYTES", 11_000_000)
    server = script(tmp_path, BARE + """
    @tool
    def much(size: int) -> str: return "x" * size
    run()
    """)  # fmt: skip
    kept = Kept()
    async with opened(server) as made:
        tool = (await made.tools())["much"]
        for size in (1_000_000, 10_000_000):
            await tool.call({"size": size}, context(keep=kept))
        with pytest.raises(ToolError):
            await tool.call({"size": 12_000_000}, context(keep=kept))
        assert (await tool.call({"size": 3}, context())).text == "xxx"
    assert [len(each) for each in kept.bytes.values()] == [1_000_000, 10_000_000]


@contextlib.asynccontextmanager
async def answering(handle: object) -> AsyncIterator[str]:
    """A web server of our own."""
    app = web.Application()
    app.router.add_route("*", "/{any:.*}", handle)  # type: ignore[arg-type]
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[union-attr]
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(("answer", "why"), [
    ({"text": "<html>Sign in</html>", "content_type": "text/html"}, "text/html"),
    ({"text": "{", "content_type": "application/json"}, ""),
    ({"status": 401}, "401"), ({"status": 500, "text": "oops"}, "500"), ({"status": 202}, ""),
    ({"status": 307, "headers": {"location": "http://169.254.169.254/latest/meta-data/"}}, ""),
    ({"body": b" " * (40 * 1024 * 1024), "content_type": "application/json"}, ""),
])  # fmt: skip
async def test_an_address_that_is_no_server(answer: dict[str, object], why: str) -> None:
    asked: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(**answer)  # type: ignore[arg-type]

    async with answering(handle) as place, opened({"url": f"http://{place}/mcp", "allow": [place], "open_s": 5}) as made:
        with pytest.raises((ToolRefused, ToolUnavailable)) as error:
            await made.tools()
        assert why in str(error.value)
    assert asked


async def test_a_server_over_http_that_fails_in_the_middle(everything_http: int) -> None:
    """A write of which HTTP tells nothing is in doubt; one that is turned away is not."""
    mode = {"now": "pass"}
    inner = f"http://127.0.0.1:{everything_http}"

    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if b'"tools/call"' in body and mode["now"] == "drop":
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if b'"tools/call"' in body and mode["now"] != "pass":
            status, _, bare = mode["now"].partition(" ")
            return web.Response(status=int(status), headers={} if bare else {"retry-after": "7"})
        headers = {key: value for key, value in request.headers.items() if key.lower() not in ("host", "content-length")}
        async with httpx.AsyncClient(trust_env=False) as http:
            said = await http.request(request.method, f"{inner}{request.path}", content=body, headers=headers)
        kept = {key: value for key, value in said.headers.items() if key.lower() in ("content-type", "mcp-session-id")}
        return web.Response(status=said.status_code, body=said.content, headers=kept)

    async with answering(_posts(handle)) as place, opened({"url": f"http://{place}/mcp", "allow": [place]}, Effects()) as made:
        echo = (await made.tools())["echo"]
        assert (await echo.call({"message": "1"}, context())).text == "Echo: 1"
        for now, error in (
            ("429", ToolUnavailable), ("503", ToolUnavailable), ("401", ToolRefused), ("500", OutcomeUnknown),
            ("drop", OutcomeUnknown), ("503 by a gateway whose server broke off", OutcomeUnknown),
        ):  # fmt: skip
            mode["now"] = now
            with pytest.raises(error) as raised:
                await echo.call({"message": now}, context())
            if isinstance(raised.value, ToolUnavailable):
                assert raised.value.retry_after_s == 7
        mode["now"] = "pass"
        assert (await echo.call({"message": "2"}, context())).text == "Echo: 2", "the session is still there"


def _posts(handle: object) -> object:
    async def posts(request: web.Request) -> web.StreamResponse:
        return await handle(request) if request.method != "GET" else web.Response(status=405)  # type: ignore[operator]

    return posts


async def test_a_server_over_http_that_was_started_anew(tmp_path: Path) -> None:
    """It does not know our session any more: a new one is opened, and the call made."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    server = script(tmp_path, SDK + f"""
    @server.tool()
    def echo(text: str) -> str: return text
    server.run(transport="streamable-http", port={port})
    """)  # fmt: skip
    place = f"127.0.0.1:{port}"
    command = [str(server["command"]), str(tmp_path / "server.py")]

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        assert process.stderr is not None
        assert any(b"running on" in line for line in process.stderr)
        return process

    process = start()
    try:
        async with opened({"url": f"http://{place}/mcp", "allow": [place], "protocol": "legacy"}, Effects()) as made:
            echo = (await made.tools())["echo"]
            assert (await echo.call({"text": "1"}, context())).text == "1"
            process.kill()
            process.wait()
            with pytest.raises(ToolUnavailable):
                await echo.call({"text": "2"}, context())
            process = start()
            assert (await echo.call({"text": "3"}, context())).text == "3"
    finally:
        process.kill()
        process.wait()


async def test_a_client_with_credentials_of_its_own_gets_a_token(everything_http: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """OAuth 2.1, client_credentials: found by the server's metadata, asked once, sent with every message."""
    monkeypatch.setenv("CLIENT_SECRET", "s3cret-of-the-client")
    inner, granted = f"http://127.0.0.1:{everything_http}", []

    async def handle(request: web.Request) -> web.StreamResponse:
        here = f"http://{request.host}"
        if request.path.startswith("/.well-known/oauth-protected-resource"):
            return web.json_response({"resource": f"{here}/mcp", "authorization_servers": [here]})
        if request.path.startswith("/.well-known/"):
            return web.json_response({
                "issuer": here, "authorization_endpoint": f"{here}/authorize", "token_endpoint": f"{here}/token",
                "response_types_supported": ["code"],
            })  # fmt: skip
        if request.path == "/token":
            granted.append(dict(await request.post()) | {"by": request.headers.get("authorization", "")})
            return web.json_response({"access_token": "the-token", "token_type": "Bearer", "expires_in": 3600})
        if request.headers.get("authorization") != "Bearer the-token":
            return web.Response(status=401, headers={"www-authenticate": "Bearer"})
        body = await request.read()
        headers = {key: value for key, value in request.headers.items() if key.lower() not in ("host", "content-length")}
        async with httpx.AsyncClient(trust_env=False) as http:
            said = await http.request(request.method, f"{inner}{request.path}", content=body, headers=headers)
        kept = {key: value for key, value in said.headers.items() if key.lower() in ("content-type", "mcp-session-id")}
        return web.Response(status=said.status_code, body=said.content, headers=kept)

    async def posts(request: web.Request) -> web.StreamResponse:
        return web.Response(status=405) if request.method == "GET" and request.path == "/mcp" else await handle(request)

    async with answering(posts) as place:
        oauth = {"client_id": "us", "client_secret": "env:CLIENT_SECRET", "issuer": f"http://{place}"}
        async with opened({"url": f"http://{place}/mcp", "allow": [place], "oauth": oauth}) as made:
            echo = (await made.tools())["echo"]
            assert (await echo.call({"message": "in"}, context())).text == "Echo: in"
    assert [each["grant_type"] for each in granted] == ["client_credentials"]
