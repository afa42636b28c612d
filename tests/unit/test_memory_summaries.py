"""When a conversation is summarised, what is asked for, and which summary a turn is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from schemas.events import Summary, Turn, TurnResult
from schemas.ids import checked_token, run_id, segment_of
from services.memory import summaries
from services.memory.budget import HISTORY_TURNS, RESULT_CHARACTERS, RESULTS, cut, estimate, kept_results, tokens_of, within
from services.memory.memory_store import MemoryConversationStore
from services.memory.ports import EndedTurn, NewTurn, Wanted

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def turns(count: int, tokens: int = 100) -> list[Turn]:
    return [Turn(run=f"r{number}", task="t" * 4 * (tokens // 2), answer="a" * 4 * (tokens // 2)) for number in range(count)]


def test_nothing_is_summarised_before_the_history_is_nearly_full() -> None:
    assert summaries.due(turns(7), 800) == []
    assert summaries.due([], 800) == []


def test_the_oldest_turns_are_summarised_and_a_quarter_is_left() -> None:
    chosen = summaries.due(turns(8), 800)
    assert [turn.run for turn in chosen] == [f"r{number}" for number in range(6)]


def test_many_short_turns_are_summarised_before_they_fall_out_of_the_history() -> None:
    short = turns(HISTORY_TURNS - 1, 2)
    chosen = summaries.due(short, 32_000)
    assert len(short) - len(chosen) <= HISTORY_TURNS / 4
    assert summaries.due(short[: HISTORY_TURNS // 2], 32_000) == []


def test_one_request_reads_a_bounded_amount_however_much_there_is() -> None:
    huge = turns(100, 40_000)
    chosen = summaries.due(huge, 32_000)
    assert 1 <= len(chosen) <= 3
    request = summaries.request("acme", "talk", "ann", None, chosen, NOW)
    assert estimate(request.task) < 3_000


def test_a_summary_is_added_to_and_its_first_and_last_notes_are_kept() -> None:
    short = Summary(text="Ann lives in Hangzhou.", upto="r0", by="s")
    more = summaries.request("acme", "talk", "ann", short, turns(2), NOW)
    assert more.beginning == short.text and short.text not in more.task
    assert summaries.joined("", "b") == "b" and summaries.joined("a", "b") == "a\nb"
    long = "\n".join(["Ann lives in Hangzhou.", *(f"Notes {number}: {'more ' * 20}" for number in range(30))])
    kept = summaries.request("acme", "talk", "ann", Summary(text=long, upto="r0", by="s"), turns(2), NOW).beginning
    assert kept.splitlines()[0] == "Ann lives in Hangzhou." and kept.splitlines()[-1] == long.splitlines()[-1]
    assert 3 < len(kept.splitlines()) < 10 and estimate(kept) < 200


def test_notes_are_one_line_of_bounded_length() -> None:
    assert summaries.tidy("two\n lines ", "") == "two lines"
    assert summaries.tidy("第一句。\n第二句。", "") == "第一句。第二句。"
    assert summaries.tidy("  \n ", "") is None
    assert len(summaries.tidy("x" * 9_000, "") or "") == summaries.CHARACTERS


def test_what_a_model_takes_from_its_example_is_not_kept() -> None:
    assert summaries.tidy("The user is Tom from Oslo. He renewed a server.", "User: renew it") == "He renewed a server."
    assert summaries.tidy("The user is Tom. He sat down.", "User: I am Tom") == "The user is Tom. He sat down."
    assert summaries.tidy("用户叫王芳，在北京做会计。她续费了服务器。", "用户：续费") == "她续费了服务器。"
    assert summaries.tidy("用户在北京。", "用户：我在北京") == "用户在北京。"


def test_a_request_names_its_run_before_it_is_asked() -> None:
    request = summaries.request("acme", "talk", "ann", None, turns(3), NOW)
    assert request.run == run_id("acme", request.key, segment_of(NOW))
    assert request.upto == "r2" and summaries.of_summary(request.conversation)
    assert request == summaries.request("acme", "talk", "ann", None, turns(3), NOW)
    later = summaries.request("acme", "talk", "ann", None, turns(3), NOW + timedelta(seconds=1))
    other = summaries.request("acme", "talk2", "ann", None, turns(3), NOW)
    assert len({request.run, later.run, other.run}) == 3
    assert request.agent.recall.summary is False and request.agent.tool_k == request.agent.knowledge_k == 0
    assert checked_token(request.conversation)


@pytest.mark.parametrize(
    ("task", "answer", "words"),
    [
        ("I live in Hangzhou", "Noted", "User: "),
        ("我住在杭州", "好的", "用户："),
        ("我的实例 i-bp1f8k2m9x4q7web02 到期了吗", "还没有到期", "用户："),
    ],
)
def test_a_summary_is_asked_for_in_the_language_of_the_talk(task: str, answer: str, words: str) -> None:
    asked = summaries.request("acme", "talk", "ann", None, [Turn(run="r", task=task, answer=answer)], NOW).task
    assert words in asked and task in asked and answer in asked


def test_a_persons_conversation_may_be_called_a_summary() -> None:
    assert not summaries.of_summary("summary-2026") and not summaries.of_summary("summary-of-the-meeting")


def test_the_history_begins_where_the_summary_ends_if_enough_of_it_is_left() -> None:
    history = tuple(turns(8))

    def left(upto: str) -> int:
        return len(summaries.not_told(history, Summary(text="a", upto=upto, by="s")))

    assert summaries.not_told(history, None) == history
    assert [left(upto) for upto in ("before", "r0", "r5", "r6", "r7")] == [8, 7, 2, 8, 8]
    assert summaries.not_told(history, Summary(text="a", upto="r5", by="s")) == history[6:]


async def test_a_history_begins_at_the_same_turn_for_several_turns() -> None:
    """Summaries as upkeep asks for them, each told before the next turn."""
    store, begins, budget = MemoryConversationStore(), [], 800
    for number in range(60):
        turn = NewTurn(conversation="talk", run=f"r{number}", user="ann", when_busy="queue", deadline=NOW)
        await store.begin_turn("acme", turn, NOW)
        wanted = Wanted(run=f"r{number}", history_tokens=budget, summary=True)
        history = (await store.recall("acme", wanted)).history
        assert sum(map(tokens_of, history)) <= budget
        begins.append(history[0].run if history else "")
        said = EndedTurn(
            conversation="talk", run=f"r{number}", user="ann", task="x" * 120, answer="y" * 120, outcome="answered"
        )
        await store.end_turn("acme", said, NOW)
        earlier, untold = await store.unsummarised("acme", "talk")
        if chosen := summaries.due(untold, budget):
            asked = summaries.request("acme", "talk", "ann", earlier, chosen, NOW)
            await store.want_summary("acme", "talk", asked.upto, asked.run, NOW, asked.beginning)
            await store.summarised("acme", asked.run, "Notes.")
    moves = sum(one != other for one, other in pairwise(begins))
    assert moves <= 10, begins


@pytest.mark.parametrize(("missing", "told"), [(None, None), (3, "a"), (5, "a"), (6, "b"), (9, "b"), (10, "b")])
def test_the_summary_that_just_covers_what_is_missing_is_told(missing: int | None, told: str | None) -> None:
    kept = [(5, Summary(text="a", upto="r5", by="s1")), (9, Summary(text="b", upto="r9", by="s2"))]
    fitting = summaries.fitting(kept, missing)
    assert (fitting.text if fitting else None) == told
    assert summaries.fitting([], 3) is None


def test_a_budget_of_nothing_holds_nothing() -> None:
    assert within(turns(3), 0) == ()
    assert within(turns(3), 250) == tuple(turns(3)[1:])
    assert tokens_of(Turn(run="r", task="好" * 10, answer="abcd")) == 11
    files = (TurnResult(tool="draw", text="好" * 500, ref="obj/1234"), TurnResult(tool="clock", text="noon"))
    assert tokens_of(Turn(run="r", task="好" * 10, answer="abcd", results=files)) == 11 + 83


@pytest.mark.parametrize("letter", ["y", "好"])
@pytest.mark.parametrize("tokens", [1, 2, 10, 400])
def test_of_a_turn_that_is_too_long_for_the_history_its_beginning_is_told(letter: str, tokens: int) -> None:
    long = Turn(run="r", task="Which?", answer=letter * 10_000, results=(TurnResult(tool="t", text="x", ref="obj/1"),))
    (told,) = within([*turns(2), long], tokens)
    assert told.run == "r" and tokens_of(told) <= tokens and long.answer.startswith(told.answer.removesuffix(" …"))
    assert tokens < 400 or (told.task == "Which?" and tokens_of(told) > 390 and told.answer.endswith(" …"))


def test_results_are_kept_within_bounds() -> None:
    many = [TurnResult(tool=f"t{number}", text="字" * 10_000, ref=f"obj/{number}") for number in range(50)]
    kept = kept_results(many)
    assert len(kept) == RESULTS and kept[-1].tool == "t49" and kept[-1].ref == "obj/49"
    assert all(len(each.text) <= RESULT_CHARACTERS for each in kept)
    assert cut("abc", 3) == "abc" and cut("abcdef", 4) == "ab …"
