"""The console's files as the gateway sends them: by name, compressed once, and all that a page needs named in its head."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from services.gateway import pages
from services.gateway.pages import CONSOLE, Pages

ADDRESSES = {
    "/": "chat", "/chat/c-1": "chat", "/runs": "runs", "/runs/202611-1": "run", "/runs/diff": "diff", "/approvals": "approvals",
    "/tools/clock": "tools", "/knowledge": "knowledge", "/agents": "agents", "/agents/ops": "agent", "/triggers": "triggers",
    "/system": "system",
}  # fmt: skip


def preloaded(body: bytes, kind: str = "modulepreload") -> set[str]:
    marks = {"modulepreload": 'rel="modulepreload"', "style": 'rel="preload" as="style"'}
    return set(re.findall(rf'<link {marks[kind]} href="([^"]+)">', body.decode()))


@pytest.mark.parametrize(("address", "page"), ADDRESSES.items())
def test_a_page_names_each_module_that_it_imports(address: str, page: str) -> None:
    named = preloaded(Pages().page(address).body)
    assert {"/app.js", f"/pages/{page}.js", "/vendor/preact.js"} <= named
    for module in named:
        text = (CONSOLE / module[1:]).read_text()
        for each in re.findall(r'from "(\.[^"]+)"|^import "(\.[^"]+)"', text, re.MULTILINE):
            imported = (CONSOLE / module[1:]).parent / (each[0] or each[1])
            assert "/" + str(imported.resolve().relative_to(CONSOLE)) in named, f"{module} imports {imported.name}"


def test_the_shell_has_no_page_that_is_not_tried_here() -> None:
    found = set(re.findall(r'import\("\./pages/([\w-]+)\.js"\)', (CONSOLE / "app.js").read_text()))
    assert found == set(ADDRESSES.values())


def test_style_sheets_of_a_page_are_named_too() -> None:
    assert "/pages/chat.css" in preloaded(Pages().page("/").body, "style")
    assert "/pages/chat.css" not in preloaded(Pages().page("/system").body, "style")


def browser() -> httpx.AsyncClient:
    transport = httpx.ASGITransport(Starlette(routes=[Mount("/", pages.pages())]))
    return httpx.AsyncClient(transport=transport, base_url="http://door", headers={"accept-encoding": "gzip"})


async def test_a_file_comes_compressed_and_a_second_time_not_at_all() -> None:
    async with browser() as web:
        first = await web.get("/app.js")
        assert first.headers["content-encoding"] == "gzip" and first.content == (CONSOLE / "app.js").read_bytes()
        assert int(first.headers["content-length"]) < len(first.content)
        assert first.headers["content-type"] == "text/javascript; charset=utf-8"
        again = await web.get("/app.js", headers={"if-none-match": f'"x", {first.headers["etag"]}'})
        assert again.status_code == 304 and again.content == b""
        plain = await web.get("/app.js", headers={"accept-encoding": "identity"})
        assert "content-encoding" not in plain.headers and plain.content == first.content


async def test_paths_without_a_dot_are_the_page_and_others_are_files_or_nothing() -> None:
    async with browser() as web:
        assert b'id="app"' in (await web.get("/")).content == (await web.get("/chat/c-9")).content
        for path in ("/nope.js", "/%2e%2e/pages.py", "/..%2fpages.py", "/api/nothing", "/v1/nothing"):
            assert (await web.get(path)).status_code == 404, path
        assert (await web.get("/" + "long" * 2000)).status_code == 200
        assert (await web.post("/app.js")).status_code == 405


def test_a_file_is_read_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "CONSOLE", tmp_path)
    script = tmp_path / "a.js"
    script.write_text('import "./b.js";')
    found = Pages()
    first = found.file("a.js")
    assert first is not None and first.needs == ("/b.js",) and found.file("a.js") is first
    script.write_text('import { c } from "./c/c.js";\nstyle("/c.css");')
    os.utime(script, ns=(1, 1))
    second = found.file("a.js")
    assert second is not None and second.needs == ("/c/c.js",) and second.styles == ("/c.css",) and second.tag != first.tag
    assert gzip.decompress(second.packed) == second.body
