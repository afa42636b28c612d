from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from infra.cli.words import say_in
from infra.evaluation import report
from infra.evaluation.cache import Replies, RepliesBusy
from infra.evaluation.identity import local_hash
from infra.evaluation.result import BadResult, How, Result, Who, find, kept, outcomes, read
from infra.evaluation.running import Examination, Progress, TooTroubled, drawn, item_key, reply_key
from infra.evaluation.speakers import ModelSpeaker, Price, believable, estimate, prompt_of
from infra.evaluation.wiring import NoSuchPart, Questions, Wanted, benchmark_named, examine, part_of
from runtime.errors import Permanent, Retryable
from runtime.prompt import AFTER_RESULT_MARGIN, FIRST_MARGIN, INSTRUCTIONS, TALKED_MARGIN
from schemas.errors import MilepostError
from schemas.messages import Generation, Message, Prompt, Usage, Wire
from schemas.tools import ToolCard
from services.evaluation.benchmark import Speak
from services.evaluation.item import Item, Reply
from services.llm.build import Manifest, read_manifest
from tests.support.examined import LOCK, ME, Doors, Told, door_of, item, items_of, lock, locks, said, speaker
from tests.support.tiny_llm import tiny_llm

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

HOW = How()
ALL = Wanted(None)


async def examined(out: Path, model: Told, bench: Doors | None = None, wanted: Wanted = ALL, who: Who = ME) -> Result:
    bench = bench or Doors()
    items = drawn(items_of(bench), wanted.limit)
    questions = Questions(bench, "all", items, bench.count, 1)
    _, result = await examine(questions, speaker(model, who), HOW, wanted, out=out)
    return result


# --- which items ------------------------------------------------------------------------------------


def test_a_longer_draw_begins_with_the_shorter_one_and_another_number_draws_others() -> None:
    items = items_of(Doors(60))
    ten = [each.id for each in drawn(items, 10)]
    assert [each.id for each in drawn(reversed(items), 25)][:10] == ten
    assert ten != [each.id for each in items[:10]]
    assert {each.id for each in drawn(items, 10, draw=1)} != set(ten)
    assert Counter(each.group for each in drawn(items, each=4)) == {"doors": 4, "gates": 4}
    assert len(drawn(items)) == 60


def test_an_item_is_known_by_all_that_is_asked_and_wanted() -> None:
    first = item(1)
    other_card = LOCK.model_copy(update={"description": "Lock any door."})
    keys = {
        item_key(first), item_key(item(2)),
        item_key(Item(first.id, "doors", "doors", "en", first.messages, (other_card,), first.calls)),
        item_key(Item(first.id, "doors", "doors", "en", first.messages, first.cards, ())),
        item_key(Item(first.id, "doors", "doors", "en", first.messages, first.cards, first.calls, parallel=True)),
    }  # fmt: skip
    assert len(keys) == 5
    assert item_key(item(1)) == item_key(first)
    others = (
        How(constrained=False), How(calls="required"), How(wire="hermes"), How(found="request"), How(longest=100), How(seed=1),
        How(temperature=0.5), How(leaning="e5"), How(own_tools=True), How(margins=(-1.0, 1.0, -6.0)), How(context=2048),
        How(variant="renamed"),
    )  # fmt: skip
    asked = {reply_key(first, who, how) for who, how in (("m-1", HOW), ("m-2", HOW), *(("m-1", how) for how in others))}
    assert len(asked) == 2 + len(others) == 2 + len(How.model_fields)


def test_a_model_is_known_by_all_that_changes_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tiny_llm(tmp_path) as model:
        vocabulary = model.vocabulary
    manifest = read_manifest(next(path.parent for path in tmp_path.rglob("model.json")))

    def known(built: Manifest = manifest, provider: str = "cpu", wire: Wire = "model") -> str:
        return local_hash(built, vocabulary, provider, wire)

    changed: Sequence[dict[str, object]] = [
        {"weights": "1" * 64}, {"precision": "fp32"}, {"builder": "x"}, {"decides": not manifest.decides},
        {"chat": manifest.chat.model_copy(update={"reply": "So, "})}, {"tokenizer_sha256": "1"}, {"ends": (1,)},
    ]  # fmt: skip
    found = {known(manifest.model_copy(update=update)) for update in changed}
    found |= {known(), known(provider="cuda"), known(wire="hermes" if manifest.wire != "hermes" else "msagent")}
    monkeypatch.setattr("services.llm.chat.encode", lambda *_: [1, 2, 3])  # code of another day that frames otherwise
    found.add(known())
    assert len(found) == len(changed) + 4
    monkeypatch.undo()
    assert known(manifest.model_copy(update={"name": "other", "licence": "other"})) == known() in found


# --- keeping ----------------------------------------------------------------------------------------


async def test_nothing_is_asked_twice_of_the_same_model(tmp_path: Path) -> None:
    model = Told(locks)
    first = await examined(tmp_path, model, wanted=Wanted(None, limit=5))
    assert (first.items, first.of, first.skipped, first.kept, len(model.asked)) == (5, 12, 1, 0, 5)
    second = await examined(tmp_path, model)
    assert (second.items, second.kept, len(model.asked)) == (12, 5, 12)
    assert second.right.value == 1.0
    other = await examined(tmp_path, model, who=ME.model_copy(update={"hash": "m-2"}))
    assert (other.kept, len(model.asked)) == (0, 24)
    again = await examined(tmp_path, model, wanted=Wanted(None, fresh=True))
    assert (again.kept, len(model.asked)) == (0, 36)


async def test_a_line_that_was_cut_off_is_asked_again(tmp_path: Path) -> None:
    model = Told(locks)
    await examined(tmp_path, model)
    (file,) = (tmp_path / "replies").iterdir()
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:4]) + b"no json\n" + b"".join(lines[4:-1]) + lines[-1][:30])
    result = await examined(tmp_path, model)
    assert (result.kept, len(model.asked), result.right.value) == (11, 13, 1.0)
    assert (await examined(tmp_path, model)).kept == 12


async def test_a_disk_that_is_full_ends_it_with_why_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = [6]

    class Full(FileIO):
        def write(self, line: Buffer, /) -> int:
            room[0] -= 1
            return super().write(line if room[0] >= 0 else memoryview(line)[:20])

    monkeypatch.setattr("infra.evaluation.cache.FileIO", Full)
    with pytest.raises(MilepostError) as refused:
        await examined(tmp_path, Told(locks))
    assert "cannot be written" in refused.value.what and "No space" in refused.value.why
    monkeypatch.undo()
    again = await examined(tmp_path, Told(locks))
    assert (again.kept, again.items, again.right.value) == (6, 12, 1.0)


def test_two_processes_do_not_keep_the_same_replies(tmp_path: Path) -> None:
    with Replies(tmp_path / "r.jsonl") as one:
        one.add("k", Reply(item="i", text="好"))
        with pytest.raises(RepliesBusy), Replies(tmp_path / "r.jsonl"):
            pass
    with Replies(tmp_path / "r.jsonl") as again:
        found = again.get("k")
        assert found is not None and found.text == "好"


async def test_who_is_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    reached = asyncio.Event()

    class Slow(Told):
        async def generate(self, prompt: Prompt, **more: object) -> Generation:
            if len(self.asked) >= 5:
                reached.set()
                await asyncio.Event().wait()
            return await super().generate(prompt, on_text=lambda _: None)

    slow = Slow(locks)
    task = asyncio.create_task(examined(tmp_path, slow))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (tmp_path / "results").exists()
    quick = Told(locks)
    result = await examined(tmp_path, quick)
    assert (result.kept, len(quick.asked), result.items) == (5, 7, 12)


# --- trouble ----------------------------------------------------------------------------------------


async def test_what_may_work_later_is_asked_again_and_told_if_it_never_does(tmp_path: Path) -> None:
    failures: Counter[str] = Counter()

    def says(prompt: Prompt) -> Generation:
        door = door_of(prompt)
        failures[door] += 1
        if door == "3" and failures[door] < 3:
            raise Retryable("It is busy.")
        if door == "4":
            raise Retryable("It is busy.", why="429")
        if door == "5":
            raise Permanent("It will not.", why="the prompt is too long")
        if door == "6":
            raise KeyError("choices")
        return locks(prompt)

    result = await examined(tmp_path, Told(says))
    assert failures["3"] == failures["4"] == failures["6"] == 3 and failures["5"] == 1
    assert result.right.value == pytest.approx(9 / 12)
    assert result.troubled == {"It is busy. 429": 1, "It will not. the prompt is too long": 1, "KeyError: 'choices'": 1}
    assert result.figures["unanswered"].value == pytest.approx(3 / 12)
    quick = Told(locks)
    mended = await examined(tmp_path, quick)
    assert (len(quick.asked), mended.right.value, mended.troubled) == (3, 1.0, {})


async def test_more_than_a_third_without_a_reply_is_no_result(tmp_path: Path) -> None:
    def says(prompt: Prompt) -> Generation:
        if int(door_of(prompt)) < 5:
            raise Permanent("It will not.")
        return locks(prompt)

    with pytest.raises(TooTroubled) as refused:
        await examined(tmp_path, Told(says))
    assert "5 of 12 items got no reply" in refused.value.what and "5 times: It will not." in refused.value.why
    assert not (tmp_path / "results").exists()


async def test_where_nobody_answers_it_is_not_tried_a_thousand_times(tmp_path: Path) -> None:
    def says(_: Prompt) -> Generation:
        raise Permanent("Nobody is there.")

    model = Told(says)
    with pytest.raises(TooTroubled):
        await examined(tmp_path, model, Doors(1000))
    assert len(model.asked) < 20


async def test_a_benchmark_that_trips_over_what_was_called_is_trouble_with_that_item_alone(tmp_path: Path) -> None:
    class Trips(Doors):
        async def answer(self, item: Item, speak: Speak) -> Reply:
            if item.id == "doors-3":
                raise RecursionError("too deep")
            return await super().answer(item, speak)

    result = await examined(tmp_path, Told(locks), Trips())
    assert result.troubled == {"RecursionError: too deep": 1} and result.right.value == pytest.approx(11 / 12)


async def test_what_was_cut_and_what_was_not_finished_is_counted(tmp_path: Path) -> None:
    def says(prompt: Prompt) -> Generation:
        number = int(door_of(prompt))
        if number == 1:
            return locks(prompt).model_copy(update={"cut": ("the last 1 of 2 tools",)})
        if number in (2, 3):
            return said(text="and so on" if number == 2 else "").model_copy(update={"finish": "length"})
        return locks(prompt)

    result = await examined(tmp_path, Told(says))
    assert (result.cut, result.unfinished) == (1, 2)
    assert result.unreadable.value == pytest.approx(1 / 12)
    told = dict(report.spending(result, partial(say_in, "en")))
    assert told["cut"].startswith("1 prompts") and told["unfinished"].startswith("2 replies ended at 384 tokens")


async def test_an_item_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    class Hangs(Told):
        async def generate(self, prompt: Prompt, **more: object) -> Generation:
            if door_of(prompt) == "7":
                await asyncio.Event().wait()
            return await super().generate(prompt, on_text=lambda _: None)

    async with asyncio.timeout(20):
        result = await examined(tmp_path, Hangs(locks), wanted=Wanted(None, limit_s=0.2))
    assert result.troubled == {"it took longer than 0.2 s": 1}


async def test_progress_counts_what_was_there(tmp_path: Path) -> None:
    bench, told = Doors(6), list[Progress]()
    with Replies(tmp_path / "r.jsonl") as replies:
        one = Examination(bench, speaker(Told(locks)), HOW, replies, at_once=1)
        await one.ask(items_of(bench)[:2])
        two = Examination(bench, speaker(Told(locks)), HOW, replies, at_once=2, tell=told.append)
        await two.ask(items_of(bench))
    assert [each.done for each in told] == [2, 3, 4, 5, 6]
    assert told[-1] == Progress(6, 6, 2, 6, 0)


# --- how it is put ----------------------------------------------------------------------------------


def user(text: str) -> Message:
    return Message(role="user", content=text, origin="user")


async def margin(messages: Sequence[Message], leaning: float | None) -> float:
    async def leans(request: str, cards: Sequence[ToolCard]) -> float | None:
        assert (request, cards) == ("Lock it.", (LOCK,))
        return leaning

    model = Told(lambda _: said(text="Done."))
    await ModelSpeaker(ME, model, HOW, leans).speak(messages, (LOCK,))
    return model.asked[0].call_margin


async def test_the_margin_is_what_the_runtime_would_have() -> None:
    assert await margin([user("Lock it.")], None) == FIRST_MARGIN
    assert await margin([user("Lock it.")], 1.5) == -1.5
    talked = [user("Hello."), Message(role="assistant", content="Hello."), user("Lock it.")]
    assert await margin(talked, 1.5) == -1.5 + TALKED_MARGIN
    called = [user("Lock it."), Message(role="assistant", content="", calls=(lock("1"),))]
    assert await margin([*called, Message(role="tool", content="ok", name="lock_door")], 1.5) == AFTER_RESULT_MARGIN


def test_instructions_stand_once_and_tools_where_they_are_wanted() -> None:
    system = Message(role="system", content=f"{INSTRUCTIONS}\nSpeak softly.")
    for first in (system, Message(role="system", content="Speak softly.")):
        prompt = prompt_of([first, user("Lock it.")], (LOCK,), HOW, 0.0, parallel=True)
        assert prompt.messages[0].content == f"{INSTRUCTIONS}\nSpeak softly."
        assert prompt.tools == (LOCK,) and prompt.manner.parallel
    beside = prompt_of([user("Hi."), user("Lock it.")], (LOCK,), How(found="request", constrained=False), 0.0)
    assert [message.part for message in beside.messages] == [None, None, "tools", None]
    assert beside.tools == () and beside.offered == (LOCK,) and not beside.manner.constrained
    assert prompt_of([user("Hi.")], (), How(calls="required"), 0.0).manner.calls == "auto"


# --- tokens and money -------------------------------------------------------------------------------


def test_tokens_that_cannot_be_are_estimated() -> None:
    prompt = prompt_of([user("Lock the door of the shed, please.")], (LOCK,), HOW, 0.0)
    assert believable(prompt, said(lock("1"), tokens=(70, 12))) == (Usage(prompt_tokens=70, completion_tokens=12), False)
    for told in ((0, 12), (70, 0), (-5, 12), (10**9, 12), (70, 10**7)):
        usage, estimated = believable(prompt, said(lock("1"), tokens=told))
        assert estimated and 20 < usage.prompt_tokens < 200 and 2 < usage.completion_tokens < 20, told
    assert estimate("四个汉字") == 4 and estimate("four") == 1 and estimate("") == 0


async def test_money_is_added_up_where_the_price_is_known(tmp_path: Path) -> None:
    price = Price.parse("0.5/2 cny")
    assert price == Price(Decimal("0.5"), Decimal(2), "CNY")
    assert price.of(Usage(prompt_tokens=1000, completion_tokens=500)) == "0.0015"
    bench = Doors(3)
    questions = Questions(bench, "all", items_of(bench), 3)
    paid = ModelSpeaker(ME, Told(locks), HOW, price=price)
    _, result = await examine(questions, paid, HOW, ALL, out=tmp_path)
    assert result.spent.money == {"CNY": "0.000162"}
    for wrong in ("1 USD", "a/b USD", "1/2", "1/2 dollars", "-1/2 USD", "nan/1 USD", ""):
        with pytest.raises(MilepostError):
            Price.parse(wrong)


# --- what is kept -----------------------------------------------------------------------------------


async def test_a_result_is_found_by_folder_id_and_name(tmp_path: Path) -> None:
    first = await examined(tmp_path, Told(locks))
    second = await examined(tmp_path, Told(locks))
    assert [each.id for _, each in kept(tmp_path)] == [second.id, first.id]
    assert find(tmp_path, first.id[:8]).name == first.id
    assert find(tmp_path, "me").name == second.id
    folder = find(tmp_path, str(tmp_path / "results" / first.id))
    assert read(folder) == first
    assert [each.reason for each in outcomes(folder)] == [""] * 12
    assert outcomes(folder)[0].messages == item(0).messages
    with pytest.raises(BadResult):
        find(tmp_path, "nobody")
    with pytest.raises(BadResult):
        find(tmp_path, "me", benchmark="bfcl")
    (folder / "result.json").write_text("{}")
    with pytest.raises(BadResult):
        read(folder)


async def test_figures_are_told_by_group_with_their_intervals(tmp_path: Path) -> None:
    def says(prompt: Prompt) -> Generation:
        return said(lock("0"))

    result = await examined(tmp_path, Told(says))
    assert result.right.value == pytest.approx(1 / 12) and result.right.of == 12
    assert result.groups["gates"].value == 0.25 and result.groups["doors"].value == 0.0
    assert result.groups["gates"].of == 4 and (result.groups["gates"].low or 0) < 0.25 < (result.groups["gates"].high or 0)
    assert result.figures["action_em"].value == 1.0 and result.figures["argument_f1"].value == pytest.approx(13 / 24)


def test_names_that_nobody_knows_are_refused_with_the_nearest() -> None:
    with pytest.raises(NoSuchPart, match="no benchmark 'bfc'") as refused:
        benchmark_named("bfc")
    assert refused.value.why == "did you mean bfcl?"
    with pytest.raises(NoSuchPart) as refused:
        part_of(benchmark_named("bfcl"), "simple_pyton")
    assert refused.value.why == "did you mean simple_python?"
    assert part_of(benchmark_named("bfcl"), "") == "simple_python"
