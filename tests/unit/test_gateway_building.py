"""Building agents without a stack: files that come back the same, faults that are named, changes, and what is mended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.agent import AgentSpec, Budget
from schemas.policy import Hours, Rule, When
from schemas.tools import ToolCard
from services.gateway.agents import building
from services.gateway.agents.building import Building, Built, Patch, Talk
from services.gateway.agents.building_mending import complete, demands, different, user_says
from services.gateway.agents.changes import changes
from services.gateway.agents.draft import Draft, UnfitAgent, checked
from services.gateway.agents.file import BadAgent, read_agent, write_agent
from services.gateway.api.agent_trying import NEVER, harmless

WORDS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), max_size=60)
LIKE_OTHERS = st.sampled_from(
    ["22:00", "on", "no", "1e5", "0x1", "null", "~", " a", "a ", "- b", "a: b", "\n", "\n a", "a\n\n", "'", "|"]
)


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    text = st.one_of(WORDS, LIKE_OTHERS)
    rule = Rule(
        name="r", when=When(arguments={"x": draw(text) or "*"}, hours=Hours(from_="22:00")), then="deny", why=draw(text)
    )
    spec = AgentSpec(
        name="ops", instructions=draw(text), policy=draw(st.sampled_from([(), (rule,)])), filters={"k": draw(text)},
        tools=tuple(draw(st.lists(st.sampled_from(["a", "on", "1e5"]), max_size=2))),
        budget=Budget(steps=draw(st.integers(1, 9)), deadline_s=draw(st.sampled_from([600.0, 0.5, 1e5])), money={"CNY": 12.5}),
    )  # fmt: skip
    suggestions = [each for each in draw(st.lists(text, max_size=3)) if each]
    return Draft(name="ops", title=draw(text), description=draw(text), suggestions=tuple(suggestions), spec=spec)


@settings(max_examples=200, deadline=None)
@given(drafts())
def test_a_draft_written_and_read_is_the_same(draft: Draft) -> None:
    text = write_agent(draft)
    assert read_agent(text.encode(), "yaml") == draft
    assert write_agent(read_agent(text.encode(), "yaml")) == text


def test_only_what_is_not_as_usual_is_written_and_long_texts_stand_as_blocks() -> None:
    spec = AgentSpec(name="ops", version="7", instructions="One.\nTwo.\n", budget=Budget(steps=3), tools=("a",))
    assert write_agent(Draft(name="ops", title="运维", spec=spec)) == (
        "name: ops\ntitle: 运维\ntools:\n  - a\nbudget:\n  steps: 3\ninstructions: |\n  One.\n  Two.\n"
    )
    assert write_agent(Draft(name="x")) == "name: x\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nam: x", "did you mean name?"), ("name: x\nbudget: {step: 1}", "did you mean steps?"), ("name: two words", "name"),
        ("title: 5", "title"), ("a: &x 1\nb: *x", "alias"), ("[1]", "no JSON object"), ("name: [", "YAML"),
        ("a" * 2_000_000, "too long"),
    ],
)  # fmt: skip
def test_a_text_that_is_no_agent_is_refused_with_its_field(text: str, said: str) -> None:
    with pytest.raises(BadAgent) as refused:
        read_agent(text.encode(), "yaml")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("field", "draft"),
    [
        ("name", {"name": "qwen"}), ("name", {"name": "new"}), ("picture", {"picture": "data:image/svg+xml;base64,AAAA"}),
        ("picture", {"picture": "javascript:alert(1)//xx"}), ("tools", {"spec": {"tools": ["a b"]}}),
        ("tools", {"spec": {"tools": [f"t{n}" for n in range(129)]}}),
        ("forbidden", {"spec": {"tools": ["a"], "forbidden": ["a"]}}),
        ("policy", {"spec": {"policy": [{"name": "r", "then": "deny"}] * 2}}),
        ("examples", {"spec": {"examples": [{"role": "user", "content": "x" * 300_000}]}}),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_names_its_field(field: str, draft: dict[str, Any]) -> None:
    with pytest.raises(UnfitAgent) as refused:
        checked(Draft.model_validate({"name": "ops", **draft}), ("qwen",))
    assert refused.value.field == field and refused.value.why.startswith(f"{field}: ")


@pytest.mark.parametrize("picture", ["", "🛠️", "👩‍🚀", "data:image/png;base64,iVBORw0KGgo="])
def test_pictures_that_are_shown(picture: str) -> None:
    assert checked(Draft(name="ops", picture=picture)).picture == picture


def test_changes_are_told_by_field_and_of_long_texts_by_line() -> None:
    before = Draft(name="a", title="A", spec=AgentSpec(instructions="One.\nTwo.", budget=Budget(steps=3)))
    after = Draft(name="a", description="d", spec=AgentSpec(instructions="One.\nThree.", version="9"))
    found = {each.field: each for each in changes(before, after)}
    assert set(found) == {"title", "description", "instructions", "budget.steps"}
    assert (found["budget.steps"].before, found["budget.steps"].after) == (3, None)
    assert [(each.kind, each.text) for each in found["instructions"].lines] == [
        ("same", "One."),
        ("out", "Two."),
        ("in", "Three."),
    ]
    assert changes(before, before) == ()


def test_a_preview_keeps_its_rule_before_the_agents_own() -> None:
    rules = tuple(Rule(name=f"r{n}", then="allow") for n in range(100))
    spec = harmless(Draft(name="a", spec=AgentSpec(policy=rules, approval="never")))
    assert (spec.policy[0], len(spec.policy), spec.approval, spec.version) == (NEVER, 100, "writes", "draft")


# --- talking ----------------------------------------------------------------------------------------


def test_demands_are_what_is_asked_for_without_the_asking() -> None:
    assert demands("I want an assistant that renews instances every month, always say the price first!", "en") == [
        "renews instances every month", "always say the price first",
    ]  # fmt: skip
    assert demands("A bot for new colleagues: never gives legal advice", "en") == ["never gives legal advice"]
    assert demands("我想要一个续费云服务器的助手，续费之前先说价格", "zh") == ["续费云服务器的助手", "续费之前先说价格"]


def test_what_was_asked_for_is_never_lost_and_what_was_shown_is_dropped() -> None:
    words = "Answers customers; never promise refunds"
    told = "You are a helper who answers customers. Use metric units. Ask when an amount is missing."
    assert complete(told, words, "en") == "You are a helper who answers customers.\nNever promise refunds."
    kept = complete("你是客服助手，回答产品手册里的问题。", "回答产品手册里的问题，没有依据就说不知道", "zh")
    assert kept == "你是客服助手，回答产品手册里的问题。\n没有依据就说不知道。"
    assert (
        complete("You turn notes into recipes. Use metric units.", "recipes from my notes, in metric units", "en").count(
            "metric"
        )
        == 1
    )


def test_suggestions_are_a_users_and_differ() -> None:
    said = ["I'm here to help.", "What does it cost?", "没有依据就说不知道。"]
    assert user_says(said, "没有依据就说不知道", "zh") == ("What does it cost?",)
    assert different(["Renew it.", "Renew it!", " ", "Stop it."]) == ("Renew it.", "Stop it.")


class Scripted(Building):
    """A turn whose model says what it is given; an error instead of an answer is raised."""

    def __init__(self, talk: Talk, answers: Sequence[object], found: Sequence[tuple[ToolCard, float]] = ()) -> None:
        async def find(text: str) -> Sequence[tuple[ToolCard, float]]:
            return found

        super().__init__(None, find, talk)  # type: ignore[arg-type]  # nobody is asked
        self._answers = list(answers)

    async def _ask(self, job: str, task: str, tools: tuple[str, ...] = ()) -> Any:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def turn(words: str, draft: Draft, *answers: object, found: Sequence[tuple[ToolCard, float]] = ()) -> Built:
    told = [each async for each in Scripted(Talk(words=words, draft=draft), answers, found).go()]
    (built,) = told
    assert isinstance(built, Built)
    return built


def card(name: str, *examples: str) -> ToolCard:
    return ToolCard(name=name, description=f"{name} does it.", parameters={"type": "object"}, examples=examples)


PROFILE = {"title": "Desk", "name": "desk", "description": "A desk.", "instructions": "You are a desk that renews servers."}


async def test_what_a_person_wrote_stays_theirs() -> None:
    draft = Draft(name="a", title="Mine", suggestions=("Mine, too?",), spec=AgentSpec(tools=("own",)))
    found = [(card("renew", "Renew i-1"), 0.5), (card("far"), 0.2)]
    built = await turn("renews servers", draft, PROFILE, {"suggestions": ["Renew i-2 now."]}, found=found)
    assert (built.patch.title, built.patch.description) == (None, "A desk.")
    assert built.patch.tools == ("own", "renew"), "what is too far is not taken"
    assert built.patch.suggestions is not None and built.patch.suggestions[:2] == ("Mine, too?", "Renew i-1")


async def test_instructions_are_gone_on_with_and_never_written_anew() -> None:
    draft = Draft(name="a", title="T", spec=AgentSpec(instructions="You are T.\nBe short."))
    add = {"changes": [{"field": "instructions", "op": "replace", "text": "Be kind."}]}
    assert (await turn("be kind", draft, add)).patch == Patch(instructions="You are T.\nBe short.\nBe kind.")
    out = {"changes": [{"field": "instructions", "op": "remove", "text": "be short"}]}
    assert (await turn("it need not be short", draft, out)).patch == Patch(instructions="You are T.")
    same = {"changes": [{"field": "title", "op": "replace", "text": "T"}]}
    built = await turn("never more than 3 months", draft, same)
    assert built.patch.instructions == "You are T.\nBe short.\nNever more than 3 months." and "own words" in built.said


async def test_a_failure_changes_nothing_and_says_so() -> None:
    draft = Draft(name="a", spec=AgentSpec(instructions="x"))
    built = await turn("更简短", draft, building.BuilderFailed("no", why="because"))
    assert (built.patch.nothing, built.trouble) == (True, "because") and "表单保持原样" in built.said
