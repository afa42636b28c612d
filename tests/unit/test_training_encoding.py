"""A data set as token files: what is taught, what is skipped and why, what is made once and what anew."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from infra.datasets.card import ForEvaluation, NoDataset
from infra.training.encoding import REPORT, Encoded, NothingToLearn, encode_dataset
from infra.training.preview import STYLES, coloured, preview
from infra.training.teaching import Form, Taught, Teacher, instructed
from runtime.prompt import INSTRUCTIONS
from schemas.messages import Message, Wire
from schemas.tools import ToolCall
from services.datasets.example import Example, Skipped
from services.datasets.formats.writing import milepost
from services.llm.about import TOKENIZER
from services.llm.chat import CHATML
from services.llm.lesson import KINDS
from services.llm.tokenizer import tokenizer_from
from services.llm.weights import Weights
from services.training.token_file import TokenFile
from tests.support.marked import BOTH, NOTE, NOTED, PARIS, WEATHER, said, user, weather
from tests.support.tiny_model import Tiny


@pytest.fixture(scope="module")
def form(tmp_path_factory: pytest.TempPathFactory) -> Form:
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer_from(Weights(Tiny.random("qwen2", tied=True).write(folder / "tiny.gguf"))).save(str(folder / TOKENIZER))
    return Form(folder / TOKENIZER, CHATML, "json")


@pytest.fixture(scope="module")
def teacher(form: Form) -> Teacher:
    return Teacher(form, form.vocabulary(), longest=4096)


def of(id: str, messages: tuple[Message, ...], system: str = "") -> Example:
    return Example(id, (), system, (WEATHER, NOTE), messages, source="ours", group="tests", language="en")


EXAMPLES = (of("paris", PARIS), of("both", BOTH), of("noted", NOTED, system="Be kind."))


def short(number: int) -> Example:
    return Example(f"one-{number}", (), "Hi", (), (user(f"{number}?"), said("Yes.")))


def write(folder: Path, lines: list[bytes], part: str = "train", use: str = "training") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps({"use": use}), encoding="utf-8")
    (folder / f"milepost.{part}.jsonl").write_bytes(b"\n".join(lines))
    return folder


def line(example: Example) -> bytes:
    return orjson.dumps(milepost(example))


def text_of(file: TokenFile, row: int, teacher: Teacher) -> str:
    held = file.tokens[file.offsets[row] : file.offsets[row + 1]]
    return b"".join(teacher.vocabulary.bytes_of(int(token)) for token in held).decode()


def test_examples_become_token_files(tmp_path: Path, form: Form, teacher: Teacher) -> None:
    """Each conversation as serving would show it: with the runtime's instructions where it has none, and its tools."""
    data = write(tmp_path / "data", [line(EXAMPLES[0]), b"", line(EXAMPLES[1])])
    write(data, [line(EXAMPLES[2])], part="dev")
    told: list[tuple[str, int, int]] = []
    made = encode_dataset(data, form, tmp_path / "home", longest=4096, on_progress=lambda *each: told.append(each))
    train, dev = TokenFile.read(made.train), TokenFile.read(made.dev)
    assert train.names == KINDS
    assert train.source.tolist() == [0, 2]  # lines of the file
    assert text_of(train, 0, teacher).startswith(f"<|im_start|>system\n{INSTRUCTIONS}\n\nFunctions:\nget_weather(city: string")
    assert text_of(dev, 0, teacher).startswith("<|im_start|>system\nBe kind.\n\nFunctions:\n")
    assert told == [("train", 2, 2), ("dev", 1, 1)]
    report = made.report["train"]
    assert (report["examples"], report["sequences"], report["tokens"]) == (2, 2, len(train.tokens))
    assert report["kinds"] == {name: int(np.sum(train.kinds == kind)) for kind, name in enumerate(KINDS)}
    for row, example in enumerate(EXAMPLES[:2]):
        taught = teacher.teach(example)
        assert isinstance(taught, Taught)
        assert train.tokens[train.offsets[row] : train.offsets[row + 1]].tolist() == list(taught.lessons[0].tokens)
        assert train.kinds[train.offsets[row] : train.offsets[row + 1]].tolist() == list(taught.lessons[0].kinds)


def test_several_processes_write_the_same_files(tmp_path: Path, form: Form) -> None:
    data = write(tmp_path / "data", [line(short(n)) for n in range(150)])
    one = encode_dataset(data, form, tmp_path / "one", processes=1)
    two = encode_dataset(data, form, tmp_path / "two", processes=2)
    assert one.report == two.report
    assert one.train.read_bytes() == two.train.read_bytes()
    assert one.dev.read_bytes() == two.dev.read_bytes()


def test_without_a_dev_part_some_conversations_are_held_out_for_it(tmp_path: Path, form: Form) -> None:
    """By their names: a conversation that is added moves no other one from one side to the other."""
    lines = [line(short(n)) for n in range(150)]
    made = encode_dataset(write(tmp_path / "data", lines), form, tmp_path / "home", processes=1)
    train, dev = (set(TokenFile.read(path).source.tolist()) for path in (made.train, made.dev))
    assert train | dev == set(range(150))
    assert not train & dev
    assert 0 < len(dev) < 15
    more = encode_dataset(write(tmp_path / "data", [*lines, line(EXAMPLES[1])]), form, tmp_path / "home", processes=1)
    assert set(TokenFile.read(more.dev).source.tolist()) - {150} == dev


def test_rows_that_cannot_be_taught_are_named_and_end_nothing(tmp_path: Path, form: Form) -> None:
    wrong = {
        "unknown": (user("Hi"), said("", ToolCall(id="c", name="fly", arguments={}))),
        "mistyped": (user("Hi"), said("", weather("c", "Rome", days="three"))),
        "empty": (user("Hi"), said("")),
        "seems a call": (user("Hi"), said('{"name": "get_weather", "arguments": {"city": "Rome"}}')),
        "seems markup": (user("Hi"), said("[link]")),
        "long": (user("Hi " * 3000), said("Yes.")),
    }
    lines = [b"{", b"7", *(line(of(name, messages)) for name, messages in wrong.items()), line(EXAMPLES[0])]
    data = write(write(tmp_path / "data", lines), [line(EXAMPLES[1])], part="dev")
    skipped = encode_dataset(data, form, tmp_path / "home", longest=4096).report["train"]["skipped"]
    assert isinstance(skipped, dict)
    assert {why: each["rows"] for why, each in skipped.items()} == {
        "not JSON": ["milepost.train.jsonl:1"],
        "not an object": ["milepost.train.jsonl:2"],
        "a call to a tool that is not offered": ["unknown"],
        "arguments that the tool's schema does not allow": ["mistyped"],
        "an assistant's turn is empty": ["empty"],
        "a reply that json reads back otherwise": ["seems a call"],
        "a reply that json cannot read back": ["seems markup"],
        "longer than 4,096 tokens": ["long"],
    }


def test_what_a_wire_cannot_say_is_not_taught_in_it(teacher: Teacher) -> None:
    several: tuple[Wire, ...] = ("json", "hermes", "openai")
    single: tuple[Wire, ...] = ("msagent", "mrkl", "chatglm3")
    for wire in several:
        assert isinstance(replace(teacher, form=replace(teacher.form, wire=wire)).teach(EXAMPLES[1]), Taught)
    for wire in single:
        taught = replace(teacher, form=replace(teacher.form, wire=wire)).teach(EXAMPLES[1])
        assert taught == Skipped("both", f"several calls in one reply, of which {wire} has one")


def test_what_is_too_long_loses_whole_turns_from_its_beginning_or_is_skipped(teacher: Teacher) -> None:
    """Never less than a turn, and never a call from its result."""
    turns = tuple(each for n in range(6) for each in (*NOTED[:3], said(f"Kept {n}.")))
    whole, last = teacher.teach(of("all", turns)), teacher.teach(of("last", turns[-8:]))
    assert isinstance(whole, Taught)
    assert isinstance(last, Taught)
    room = len(last.lessons[0].tokens)
    assert teacher.teach(replace(of("all", turns))) == whole
    skipped = replace(teacher, longest=room).teach(of("all", turns))
    assert skipped == Skipped("all", f"longer than {room:,} tokens")
    assert replace(teacher, longest=room, cut=True).teach(of("all", turns)) == Taught(last.lessons, cut=True)
    one = teacher.teach(of("one", turns[-4:]))
    assert isinstance(one, Taught)
    assert replace(teacher, longest=room - 1, cut=True).teach(of("all", turns)) == Taught(one.lessons, cut=True)
    assert isinstance(replace(teacher, longest=room // 8, cut=True).teach(of("all", turns)), Skipped)


def test_blanks_around_a_reply_are_not_taught(teacher: Teacher) -> None:
    bare, blank = (teacher.teach(of("x", (user("Hi"), said(words)))) for words in ("Hello.", "\n Hello. \n"))
    assert bare == blank


def test_token_files_are_made_once_and_anew_where_anything_they_hang_on_changed(tmp_path: Path, form: Form) -> None:
    data = write(tmp_path / "data", [line(EXAMPLES[0])])
    write(data, [line(EXAMPLES[2])], part="dev")

    def made(longest: int = 4096) -> Encoded:
        return encode_dataset(data, form, tmp_path / "home", longest=longest)

    first = made()
    assert first.made
    assert not made().made
    assert made() == replace(first, made=False)
    assert made(longest=4095).train != first.train
    other = encode_dataset(data, replace(form, wire="hermes"), tmp_path / "home", longest=4096)
    assert other.made
    assert other.train != first.train
    write(data, [line(EXAMPLES[1])], part="dev")
    assert made().made
    (first.train.parent / REPORT).unlink()  # as if it had been killed before the end
    write(data, [line(EXAMPLES[2])], part="dev")
    assert made().made


def test_a_change_of_what_the_instructions_say_makes_token_files_anew(
    tmp_path: Path, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(write(tmp_path / "data", [line(EXAMPLES[0])]), [line(EXAMPLES[2])], part="dev")
    first = encode_dataset(data, form, tmp_path / "home", longest=4096)
    monkeypatch.setattr("runtime.prompt.INSTRUCTIONS", "Be brief.")
    assert encode_dataset(data, form, tmp_path / "home", longest=4096).train != first.train


def test_what_is_no_data_set_to_train_on_is_refused(tmp_path: Path, form: Form) -> None:
    with pytest.raises(NoDataset):
        encode_dataset(tmp_path / "none", form, tmp_path / "home")
    with pytest.raises(ForEvaluation):
        encode_dataset(write(tmp_path / "exam", [line(EXAMPLES[0])], use="evaluation"), form, tmp_path / "home")
    with pytest.raises(NothingToLearn, match="no conversations"):
        encode_dataset(write(tmp_path / "dev", [line(EXAMPLES[0])], part="dev"), form, tmp_path / "home")
    data = write(write(tmp_path / "bad", [b"{"]), [line(EXAMPLES[0])], part="dev")
    with pytest.raises(NothingToLearn, match="not JSON"):
        encode_dataset(data, form, tmp_path / "home")


def test_a_preview_shows_every_token_in_the_colour_of_its_kind(teacher: Teacher) -> None:
    taught = teacher.teach(EXAMPLES[2])
    assert isinstance(taught, Taught)
    shown = coloured(taught.lessons[0], teacher.vocabulary)
    assert "记好了 👍<|im_end|>" in shown.plain
    styles = {shown.plain[span.start : span.end]: str(span.style) for span in shown.spans}
    assert styles["save_note"] == STYLES["name"]
    assert styles["记好了 👍"] == STYLES["answer"]
    assert preview(EXAMPLES[2], teacher).plain.startswith("noted ours tests en  ")
    assert "·" in preview(EXAMPLES[2], teacher, edges=True).plain
    assert "is empty" in preview(of("x", (user("Hi"), said(""))), teacher).plain


def test_an_example_s_own_system_message_stands_alone() -> None:
    assert instructed(EXAMPLES[2]).messages[0].content == "Be kind."
    assert instructed(EXAMPLES[0]).messages[0].content == INSTRUCTIONS


OWN = {
    "messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'}}
        ]},
        {"role": "tool", "tool_call_id": "c", "content": "21"},
        {"role": "assistant", "content": "It is 21 degrees."},
    ],
    "tools": [{"type": "function", "function": {
        "name": "get_weather", "description": "The weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }}],
}  # fmt: skip


def test_a_file_in_openai_s_format_is_trained_on_as_it_is(tmp_path: Path, form: Form, teacher: Teacher) -> None:
    """Also where Windows wrote a mark at its beginning, and with rows that are wrongly encoded."""
    (file := tmp_path / "mine.jsonl").write_bytes(
        b"\xef\xbb\xbf" + b"\n".join([orjson.dumps(OWN)] * 20) + b'\n{"a": "\xc4\xe3"}'
    )
    made = encode_dataset(file, form, tmp_path / "home", longest=4096)
    train = TokenFile.read(made.train)
    assert len(train) + len(TokenFile.read(made.dev)) == 20
    assert '{"name": "get_weather", "arguments": {"city": "Rome"}}' in text_of(train, 0, teacher)
    skipped = [why for part in made.report.values() for why in part["skipped"]]  # type: ignore[attr-defined]
    assert skipped == ["wrongly encoded text"]


def test_a_folder_without_the_own_format_is_trained_on_in_the_one_it_has(tmp_path: Path, form: Form) -> None:
    """As `dataset build` writes recorded runs where no format is named."""
    data = write(tmp_path / "data", [line(EXAMPLES[0])], part="test")
    (data / "openai.train.jsonl").write_bytes(orjson.dumps(OWN))
    (data / "openai.validation.jsonl").write_bytes(orjson.dumps(OWN))
    made = encode_dataset(data, form, tmp_path / "home", longest=4096)
    assert (made.report["train"]["examples"], made.report["dev"]["examples"]) == (1, 1)


def test_a_file_of_a_data_set_for_evaluation_is_refused(tmp_path: Path, form: Form) -> None:
    data = write(tmp_path / "exam", [line(EXAMPLES[0])], use="evaluation")
    with pytest.raises(ForEvaluation):
        encode_dataset(data / "milepost.train.jsonl", form, tmp_path / "home")


@pytest.mark.parametrize(("encoding", "hint"), [("gb18030", "GB18030"), ("utf-16", "UTF-16")])
def test_a_file_in_another_encoding_is_told_with_what_turns_it_into_ours(
    tmp_path: Path, form: Form, encoding: str, hint: str
) -> None:
    (file := tmp_path / "mine.jsonl").write_text('{"messages": [{"role": "user", "content": "磁盘满了"}]}\n', encoding=encoding)
    with pytest.raises(NothingToLearn) as refused:
        encode_dataset(file, form, tmp_path / "home")
    assert f"iconv -f {hint} -t UTF-8 {file}" in refused.value.hint


def test_a_folder_of_files_without_a_card_says_how_one_of_them_is_trained_on(tmp_path: Path, form: Form) -> None:
    (tmp_path / "mine.jsonl").write_bytes(orjson.dumps(OWN))
    with pytest.raises(NoDataset) as refused:
        encode_dataset(tmp_path, form, tmp_path / "home")
    assert f"milepost train {tmp_path / 'mine.jsonl'}" in refused.value.hint
