"""The page and the terminal of a difference: hostile texts, both languages, wide and narrow."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from infra.cli import diff as diff_command
from infra.cli import diff_lines, main, runs_lines, show, words
from infra.reports.page import escaped, page
from infra.reports.run_diff import diff_page
from runtime.diff import diff
from schemas.commands import CallTool
from tests.support.builders import CLOCK, RunUnderTest, call, spec
from tests.support.two_runs import asked, renewed, saved

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><svg onload=alert(1)>",
    "'onmouseover='alert(1)",
    "</details></main></body><h1>Approved",
    "<!-- ]]> &lt; javascript:alert(1)",
    "\x1b[2J\x1b]0;title\x07 \u202eevil\u2066",
)
_TAGS = {
    "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "p", "dl", "dt", "dd", "code", "a", "div", "table",
    "thead", "tbody", "tr", "th", "td", "strong", "details", "summary", "ol", "li", "span", "b", "section", "br", "del", "ins",
}  # fmt: skip
Cli = Callable[..., str]


class Page(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str | None]] = set()
        self.text = ""
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {(tag + " " + name, value) for name, value in attrs}
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def hostile(text: str, *, other: str = "") -> RunUnderTest:
    """A run that says something hostile wherever people, models and tools can say something."""
    run = RunUnderTest(spec(instructions=f"Be {text}", knowledge_k=0), task=f"task {text}", key=f"k{other}")
    run.begin()
    run.gather(CLOCK.model_copy(update={"description": f"tells {text}"}))
    run.say(call("clock", **{text: other or text}))
    run.returns(run.one(CallTool), f"result {text} {other}")
    run.say(text=f"answer {text} {other}")
    run.end()
    return run


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_was_said_is_obeyed(text: str) -> None:
    ours, theirs = hostile(text), hostile("something else entirely", other=text)
    for a, b in ((ours, theirs), (theirs, ours), (ours, ours)):
        html = diff_page(diff((a.id, a.log), (b.id, b.log)))
        read = Page(html)
        assert read.tags <= _TAGS and not read.open
        assert not [
            name for name, _ in read.attributes if name.split()[1].startswith("on") or name.split()[1] in ("src", "style")
        ]
        assert {value for name, value in read.attributes if name.split()[1] == "href"} <= {"#first"}
        assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", html)
    assert escaped(text) in html.replace("\n", " ") or "\x1b" in text


def test_a_page_needs_nothing_else() -> None:
    html = page("<b>", "<p>Hello.</p>", "zh", ".x { color: red; }")
    read = Page(html)
    assert "http://" not in html and "https://" not in html and "@import" not in html and "url(" not in html
    assert ("html lang", "zh-CN") in read.attributes and "script" not in read.tags and "<b>" in read.text
    policy = next(value for name, value in read.attributes if name == "meta content" and value and "default-src" in value)
    assert "default-src 'none'" in policy and "script-src" not in policy
    assert "prefers-color-scheme: dark" in html and ":focus-visible" in html and ".x { color: red; }" in html


def test_the_page_tells_what_differs() -> None:
    first, second = asked(), asked("It is late.", zone="south", key="other")
    text = Page(diff_page(diff((first.id, first.log), (second.id, second.log)))).text
    assert first.id in text and second.id in text
    assert "they part at A#4 / B#4: Generated /generation/calls/0/arguments/zone" in text
    assert "3 steps the same" in text and "neither run wrote anything" in text
    words.use_language("zh")
    try:
        chinese = diff_page(diff((first.id, first.log), (second.id, second.log)))
    finally:
        words.use_language("auto")
    assert "从 A#4 / B#4 开始不同" in chinese and 'lang="zh-CN"' in chinese and "steps the same" not in chinese


# --- the command ----------------------------------------------------------------------------------


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
        return said.out + (said.err if code else "")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LC_ALL", "C")
    yield call_it
    words.use_language("auto")


def test_files_are_compared_without_a_stack(cli: Cli, tmp_path: Path) -> None:
    a, b = saved(asked(), tmp_path / "a.jsonl"), saved(asked("It is late at night.", key="b"), tmp_path / "b.jsonl")
    told = cli("diff", a, b)
    assert "steps: 6 the same, 2 changed, 0 only in A, 0 only in B" in told
    assert "they part at A#6 / B#6: Generated /generation/text" in told
    assert "- #6 Generated  It is noon." in told and "+ #6 Generated  It is late at night." in told
    assert cli("diff", a, b, "--exit-code", code=diff_command.DIFFERENT)
    assert "the same in every step" in cli("diff", a, a, "--exit-code")
    data = json.loads(cli("diff", a, b, "--json"))
    assert (data["same"], data["counts"]["changed"], data["first"]["a"]["event"]) == (False, 2, 6)
    assert data["first"]["changes"] == [
        {"path": "/generation/text", "how": "changed", "old": "It is noon.", "new": "It is late at night."}
    ]
    assert json.loads(cli("diff", a, a, "--json"))["first"] is None


@pytest.mark.parametrize("width", [60, 140])
def test_a_terminal_has_two_columns_where_there_is_room(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Console(file=io.StringIO(), force_terminal=True, color_system="256", width=width, highlight=False)
    monkeypatch.setattr(diff_lines, "console", lambda: out)
    monkeypatch.setattr(runs_lines, "console", lambda: out)
    a, b = asked("It is \x1b[2Jnoon\u202e in the north."), asked("It is late in the north.", key="b")
    diff_lines.print_diff(diff((a.id, a.log), (b.id, b.log)), everything=False)
    assert isinstance(out.file, io.StringIO)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in out.file.getvalue().splitlines()]
    assert "\x1b[2J" not in out.file.getvalue() and "\u202e" not in out.file.getvalue(), "what a model says moves no cursor"
    assert max(cell_len(line) for line in lines) <= width
    assert not any(span in out.file.getvalue() for span in ("\x1b[2;31m", "\x1b[2;32m")), "what differs is not dim"
    beside = [line for line in lines if "noon" in line and "late" in line]
    assert bool(beside) == (width == 140 or any("/generation/text" in line for line in beside))
    assert any(line.count("#6 Generated") == (2 if width == 140 else 1) for line in lines)


def test_words_that_differ_are_marked_where_there_are_no_colours(cli: Cli, tmp_path: Path) -> None:
    old, new = "The server is renewed for three months.", "The server is renewed for two months."
    a, b = saved(asked(old), tmp_path / "a.jsonl"), saved(asked(new, key="b"), tmp_path / "b.jsonl")
    assert "The server is renewed for [-three-]{+two+} months." in cli("diff", a, b)


def test_a_page_is_written_and_a_bad_place_is_told(cli: Cli, tmp_path: Path) -> None:
    a, b = saved(renewed(3), tmp_path / "a.jsonl"), saved(renewed(4), tmp_path / "b.jsonl")
    assert "written to page.html" in cli("diff", a, b, "--html", "page.html")
    text = Page((tmp_path / "page.html").read_text(encoding="utf-8")).text
    assert "other arguments" in text and "renew(months=3)" in text and "renew(months=4)" in text
    assert "cannot be written" in cli("diff", a, b, "--html", str(tmp_path / "none" / "page.html"), code=1)
    assert "no export of a run" in cli("diff", a, "none.jsonl", code=1)
