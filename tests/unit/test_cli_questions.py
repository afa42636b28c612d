"""What a tool wants to know, asked at the terminal or answered on a command line; and the card of an approval."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from infra.cli import questions, show, words
from infra.cli.approval import approval_card, approval_details, doubts_of, scopes_of, who_may
from infra.cli.client import short_id
from infra.cli.questions import WrongAnswer, answered, given
from infra.cli.show import local
from runtime.state import OpenCall
from schemas.commands import AskPerson, RequestApproval
from schemas.tools import Before, Preview, Question, ToolCall
from tests.support.builders import DESTROY, NOW, RENEW, call

FIELDS: dict[str, object] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "title": "who", "minLength": 2},
        "age": {"type": "integer", "minimum": 0},
        "price": {"type": "number"},
        "sure": {"type": "boolean", "default": False},
        "size": {"enum": ["S", "L"]},
        "colour": {"oneOf": [{"const": "r", "title": "red"}, {"const": "b", "title": "blue"}]},
    },
    "required": ["name", "age"],
}


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    words.use_language("en")
    yield
    words.use_language("auto")


def ask(fields: dict[str, object] | None = None, text: str = "Who?") -> AskPerson:
    question = Question(id="q", text=text, fields=FIELDS if fields is None else fields)
    return AskPerson(call=call("greet"), asked="e" * 32, question=question, expires=NOW)


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the person types, line by line; the end of the list is the end of the input."""
    lines: list[str] = []

    async def line(prompt: str) -> str | None:
        return lines.pop(0) if lines else None

    monkeypatch.setattr(questions, "ask_line", line)
    monkeypatch.setattr(questions, "forget_typed", lambda: None)
    yield lines


async def test_each_field_is_asked_for_by_its_type(typing: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    typing += ["", "A", "Ann", "-1", "old", "41", "9.5", "yes", "M", "L", "b"]
    assert await answered(ask()) == {"name": "Ann", "age": 41, "price": 9.5, "sure": True, "size": "L", "colour": "b"}
    assert capsys.readouterr().out.count("does not fit") == 4


async def test_enter_takes_the_default_and_leaves_out_what_may_be_left_out(typing: list[str]) -> None:
    typing += ["", "Ann", "", "7", "", "", "", ""]
    assert await answered(ask()) == {"name": "Ann", "age": 7, "sure": False}


async def test_a_person_may_decline_or_go_away(typing: list[str]) -> None:
    typing += ["n"]
    assert await answered(ask()) is None
    with pytest.raises(EOFError):
        await answered(ask())


@pytest.mark.parametrize("field", [{"type": "string", "format": "password"}, {"type": "string", "writeOnly": True}])
async def test_a_secret_is_never_asked_for(
    field: dict[str, object], typing: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ask({"type": "object", "properties": {"token": field}})
    typing += ["", "hunter2"]
    assert await answered(asked) is None
    assert typing == ["", "hunter2"], "nothing is read"
    assert "token is a secret" in capsys.readouterr().out
    with pytest.raises(WrongAnswer, match="secret"):
        given(asked, ["token=hunter2"])


def test_an_answer_of_a_command_line_is_checked_as_strictly() -> None:
    assert given(ask(), ["name=Ann", "age=3", "colour=r"]) == {"name": "Ann", "age": 3, "colour": "r", "sure": False}
    for wrong in (["name=Ann"], ["name=Ann", "age=x"], ["name=Ann", "age=3", "size=M"], ["shoe=3"], ["name"]):
        with pytest.raises(WrongAnswer) as refused:
            given(ask(), wrong)
        assert refused.value.why and refused.value.hint


async def test_what_a_tool_asks_cannot_steer_the_terminal(typing: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    fields = {"type": "object", "properties": {"a\x1b[2J": {"type": "string", "title": "\x1b]0;owned\x07"}}}
    typing += [""]
    with pytest.raises(EOFError):
        await answered(ask(fields, text="\x1b[2Jhello"))
    name = "a\x1b[2J"
    line = questions.field_line(ask(fields), name, questions.fields_of(ask(fields))[name])
    assert not set(capsys.readouterr().out + line) & set("\x1b\x07")


# --- the card ---


def approval(**more: object) -> RequestApproval:
    arguments = {"server": "i-1", "tags": {"owner": "me"}}
    asked = RequestApproval(
        call=ToolCall(id="c", name="destroy", arguments=arguments), plan="p" * 32, approval_hash="h" * 32,
        expires=NOW + timedelta(hours=1),
    )  # fmt: skip
    return asked.model_copy(update=more)


def text_of(asked: RequestApproval, open_call: OpenCall | None = None) -> str:
    out = show.console()
    with out.capture() as captured:
        out.print(approval_card(asked, Preview(summary="It goes away."), open_call))
        out.print(approval_details(asked, open_call))
    return captured.get()


def line_with(text: str, part: str) -> str:
    (line,) = [line for line in text.splitlines() if part in line]
    return line


AT = datetime(2026, 11, 20, 10, tzinfo=UTC)
BEFORE = Before(run="202611-" + "a" * 32, conversation="c", at=AT.isoformat(), text="It is gone.", times=2)


def test_the_card_says_what_is_doubtful_where_it_stands() -> None:
    asked = approval(ungrounded=("server", "tags.owner"), before=BEFORE, why="the rule of two", not_by="me")
    text = text_of(asked, OpenCall(call=asked.call, card=DESTROY.model_copy(update={"title": "Delete a server"})))

    assert "approve Delete a server (destroy)?" in text
    assert "DESTRUCTIVE" in line_with(text, "effect")
    assert "nobody named this" in line_with(text, "server = i-1")
    assert "nobody named tags.owner" in line_with(text, "tags = ")
    told = line_with(text, "done before")
    assert short_id(BEFORE.run) in told and BEFORE.run not in told and local(AT) in told and "2 x" in told
    assert "ONCE MORE" in text
    assert "the rule of two" in text and "anyone but me" in text


def test_a_plain_card_has_no_warnings() -> None:
    asked = approval()
    text = text_of(asked, OpenCall(call=asked.call, card=RENEW))
    assert "WRITES" in text
    assert not [word for word in ("nobody named", "DESTRUCTIVE", "ONCE MORE", "may approve") if word in text]


def test_the_card_speaks_chinese() -> None:
    words.use_language("zh")
    asked = approval(ungrounded=("server",), before=BEFORE)
    text = text_of(asked, OpenCall(call=asked.call, card=DESTROY))
    assert all(part in text for part in ("批准 destroy？", "破坏性操作", "没有人提供过该值", "批准后会再执行一次"))


def test_the_reasons_that_are_ours_speak_chinese_and_those_of_a_rule_stay() -> None:
    words.use_language("zh")
    asked = approval(why="renew changes something, and no rule lets it through; Period: nobody named this; the rule of two")
    text = text_of(asked, OpenCall(call=asked.call, card=RENEW))
    assert "renew 会修改资源，且没有规则放行；Period：没有人提供过该值；the rule of two" in "".join(
        line.strip("│ ") for line in text.splitlines()
    )


def test_every_word_is_there_in_both_languages_with_the_same_values() -> None:
    from string import Formatter

    for key, pair in words._WORDS.items():
        english, chinese = ([name for _, name, _, _ in Formatter().parse(text) if name] for text in pair)
        assert sorted(english) == sorted(chinese), key
        assert pair[0] != pair[1] or "{" in pair[0], key


@pytest.mark.parametrize(("variables", "language"), [
    ({"LANG": "zh_CN.UTF-8"}, "zh"), ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"), ({}, "en"),
    ({"LC_MESSAGES": "zh_TW"}, "zh"),
])  # fmt: skip
def test_the_language_is_that_of_the_terminal(
    variables: dict[str, str], language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    words.use_language("auto")
    assert words.language() == language


def test_what_is_doubtful_is_approved_once_and_no_further() -> None:
    assert scopes_of(approval()) == ("once", "conversation", "always")
    for doubt in ({"before": BEFORE}, {"ungrounded": ("server",)}, {"not_by": "me"}):
        assert scopes_of(approval(**doubt)) == ("once",)
    assert doubts_of(approval(before=BEFORE, ungrounded=("server",)), "destructive") == (
        "ungrounded", "repeated", "destructive",
    )  # fmt: skip
    assert doubts_of(approval(), "write") == ()


def test_who_may_approve_is_said_in_words() -> None:
    assert who_may(approval()) == "anyone"
    assert who_may(approval(approvers=("ops*",), not_by="me")) == "ops*, but not me"


def test_a_question_leads_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool writes the schema; what it refers to would be fetched from this person's machine."""

    def fetched(*_: object, **__: object) -> None:
        raise AssertionError("it was fetched")

    monkeypatch.setattr("urllib.request.urlopen", fetched)
    schemas: list[dict[str, object]] = [
        {"type": "object", "properties": {"a": {"$ref": "http://169.254.169.254/"}}},
        {"type": "object", "properties": {"a": {"type": "string"}}, "$ref": "http://169.254.169.254/"},
    ]
    for fields in schemas:
        with pytest.raises(WrongAnswer, match=r"does not fit|cannot be"):
            given(ask(fields), ["a=x"])
