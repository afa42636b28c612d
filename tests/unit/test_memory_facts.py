"""Facts: what may be one, and the tool by which a model states one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from runtime.errors import Unreachable
from schemas.events import UserFact
from services.memory.facts import KEY_CHARACTERS, MOST, TEXT_CHARACTERS, FactRefused, fact_of, facts_for
from services.memory.memory_store import MemoryConversationStore
from services.memory.remember import RememberTool
from tool_adapters.tool import (
    CallContext,
    InvalidArguments,
    OutcomeUnknown,
    ToolRefused,
    ToolUnavailable,
    checked_card,
    validate,
)

NOW = datetime(2026, 11, 21, tzinfo=UTC)
CONTEXT = CallContext(tenant="acme", run="run1", user="ann", write_key="k")
CITY: dict[str, object] = {"key": "city", "text": "lives in Hangzhou"}


class FixedClock:
    def now(self) -> datetime:
        return NOW


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("", "text"), ("key", ""), ("  ", "text"), ("key", "\n"), ("k" * (KEY_CHARACTERS + 1), "text"),
        ("key", "t" * (TEXT_CHARACTERS + 1)), ("key\x00", "text"), ("key", "hidden \u202e text"), ("key", "bell \x07"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_no_fact(key: str, text: str) -> None:
    with pytest.raises(FactRefused) as error:
        fact_of(key, text, "ann")
    assert error.value.why or error.value.hint


@pytest.mark.parametrize(
    ("key", "text"), [("city", "a\n  b\tc"), ("城市", "住在杭州"), ("مدينة", "دبي"), ("k" * KEY_CHARACTERS, "😀")]
)
def test_a_fact_is_one_line_in_any_script(key: str, text: str) -> None:
    assert fact_of(key, text, "ann") == UserFact(key=key, text=" ".join(text.split()), source="ann")


@pytest.fixture
def facts() -> MemoryConversationStore:
    return MemoryConversationStore()


@pytest.fixture
def remember(facts: MemoryConversationStore) -> RememberTool:
    return RememberTool(facts, FixedClock())


async def test_remembering_is_a_write_that_a_person_may_see_first(
    remember: RememberTool, facts: MemoryConversationStore
) -> None:
    checked_card(remember.card)
    validate(remember.card, CITY)
    assert remember.card.effect == "write"
    await facts.remember("acme", "ann", fact_of("city", "lives in Ulm", "ann"), NOW)
    plan = await remember.plan(CITY, CONTEXT)
    assert ("until now", "lives in Ulm") in plan.preview.rows and ("city", "lives in Hangzhou") in plan.preview.rows
    assert await facts.facts("acme", "ann") == [fact_of("city", "lives in Ulm", "ann")], "a plan changes nothing"


async def test_equal_facts_of_two_users_or_runs_are_two_effects(remember: RememberTool) -> None:
    contexts = [CONTEXT, CallContext(tenant="acme", run="run1", user="bob"), CallContext(tenant="acme", run="run2", user="ann")]
    assert len({(await remember.plan(CITY, context)).state for context in contexts}) == 3


async def test_whether_it_was_remembered_can_be_asked(remember: RememberTool, facts: MemoryConversationStore) -> None:
    assert (await remember.reconcile(CITY, CONTEXT)).outcome == "not_happened"
    assert (await remember.call(CITY, CONTEXT)).text == "Remembered: city: lives in Hangzhou"
    assert (await remember.reconcile(CITY, CONTEXT)).outcome == "happened"
    assert (await remember.reconcile({**CITY, "text": "elsewhere"}, CONTEXT)).outcome == "not_happened"
    assert await facts.facts("acme", "ann") == [UserFact(key="city", text="lives in Hangzhou", source="run1")]


async def test_what_goes_wrong_is_an_error_of_a_tool(remember: RememberTool, facts: MemoryConversationStore) -> None:
    with pytest.raises(InvalidArguments):
        await remember.plan({"key": " ", "text": "x"}, CONTEXT)
    for number in range(MOST):
        await facts.remember("acme", "ann", fact_of(f"key {number}", "text", "ann"), NOW)
    with pytest.raises(ToolRefused):
        await remember.call(CITY, CONTEXT)


async def test_a_store_that_is_away_leaves_the_outcome_open() -> None:
    class Away(MemoryConversationStore):
        async def remember(self, tenant: str, user: str, fact: UserFact, now: datetime) -> None:
            raise Unreachable("The database does not answer.")

        async def facts(self, tenant: str, user: str, limit: int | None = None) -> list[UserFact]:
            raise Unreachable("The database does not answer.")

    remember = RememberTool(Away(), FixedClock())
    with pytest.raises(OutcomeUnknown):
        await remember.call(CITY, CONTEXT)
    with pytest.raises(ToolUnavailable):
        await remember.plan(CITY, CONTEXT)


@pytest.mark.parametrize(
    ("request_", "keys"),
    [
        ("renew i-1 for three months", []),
        ("call me a taxi, I need one", []),
        ("给我续费三个月，我要发票", []),
        ("我们的服务器有哪些？", []),
        ("What is my name?", ["city", "name", "妹妹"]),
        ("我叫什么名字？", ["city", "name", "妹妹"]),
        ("weather in the city", ["city"]),
        ("帮我查小雨的航班", ["妹妹"]),
        ("", []),
    ],
)
def test_facts_are_told_that_share_words_with_the_request_or_if_it_is_about_the_user(request_: str, keys: list[str]) -> None:
    newest = [UserFact(key=key, text=text, source="s") for key, text in (("妹妹", "叫小雨"), ("city", "Ulm"), ("name", "Ann"))]
    assert [fact.key for fact in facts_for(newest, request_, 8)] == keys


def test_of_many_facts_those_nearest_are_told_then_the_newest() -> None:
    newest = [UserFact(key=f"k{number}", text="tea" if number == 9 else "else", source="s") for number in range(10)]
    assert [fact.key for fact in facts_for(newest, "my tea", 3)] == ["k0", "k1", "k9"]
    assert facts_for(newest, "my tea", 0) == []
