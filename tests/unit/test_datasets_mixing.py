"""Mixtures: drawn by weight, without what is there twice or is examined on, and changed alike wherever a name stands."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.datasets.building import build_set, known_set
from infra.datasets.card import ForEvaluation
from infra.datasets.folder import rows_of
from infra.datasets.lengths import estimated
from infra.datasets.mixing import Mixed, Mixer, NothingLeft
from infra.datasets.prints import prints_of
from infra.datasets.recipe import BadRecipe, Recipe, read_recipe
from infra.datasets.writing import DatasetExists, Writing
from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard
from services.datasets.example import Example, Row, Skipped
from services.datasets.mixing.augmentation import Augmentation, Options, clarifies
from services.datasets.mixing.chance import dice
from services.datasets.mixing.contamination import Check, common_runs, fingerprint
from services.datasets.mixing.deduplication import Seen, said, signature
from services.datasets.mixing.distractors import Pool, offered_among
from services.datasets.mixing.mixture import Wanted, balanced, capped, counts, drawn
from services.datasets.mixing.no_call import REFUSALS, refused
from services.datasets.mixing.renaming import property_names, renamed, words_of
from services.datasets.mixing.shingles import runs
from services.datasets.sets import DataSet, SetMissing
from services.datasets.statistics import bins, spread, statistics

RECIPES = Path(__file__).parents[2] / "infra" / "datasets" / "recipes"
CITIES = ("Bergen", "Lima", "Oslo", "Porto", "Quito", "Riga", "Tunis", "Vaduz")


def card(name: str, *fields: str, description: str = "") -> ToolCard:
    properties = {field: {"type": "string", "description": f"the {field}"} for field in fields}
    schema = {"type": "object", "properties": properties, "required": list(fields)}
    return ToolCard(name=name, description=description or f"What {name} does.", parameters=schema)


def talk(
    id: str, request: str, *calls: tuple[str, dict[str, object]], tools: tuple[ToolCard, ...] = (), language: str = "en",
    answer: str = "Done.", group: str = "",
) -> Example:  # fmt: skip
    asked = tuple(ToolCall(id=f"c{place}", name=name, arguments=given) for place, (name, given) in enumerate(calls, 1))
    own = tools or tuple(card(name, *given) for name, given in calls)
    messages = [Message(role="user", content=request, origin="user")]
    if asked:
        messages.append(Message(role="assistant", content="", calls=asked, origin="model"))
        messages += [Message(role="tool", name=call.name, content='{"ok":true}', origin="tool") for call in asked]
    messages.append(Message(role="assistant", content=answer, origin="model"))
    return Example(id, (), "", own, tuple(messages), "own", group, language)


def trips(count: int, first: int = 0) -> list[Example]:
    """Conversations that differ in words and in tools."""
    verbs = ("rent a boat", "find a hostel", "plan a hike", "count the trams", "order a taxi", "check the tides")
    return [
        talk(
            f"t{place}", f"Please {verbs[place % 6]} in {CITIES[place // 6 % 8]} for party {place * 7919}, thanks",
            (f"{verbs[place % 6].replace(' ', '_')}_{place % 30}", {"town": CITIES[place // 6 % 8]}),
        )
        for place in range(first, first + count)
    ]  # fmt: skip


def folder_of(path: Path, examples: list[Example], part: str = "train", use: str = "training") -> Path:
    files = Writing(path, ("milepost",))
    for example in examples:
        files.add(part, example)
    files.close({"use": use, "license": "CC0-1.0"})
    return path


def mixed(tmp_path: Path, out: str, *, data: Path | None = None, **told: object) -> Mixed:
    recipe = Recipe.model_validate({"contamination": "all" if data else "none", **told})
    return Mixer(recipe, tmp_path, data).mix(tmp_path / out, ("milepost", "openai"))


def written(folder: Path, part: str = "train") -> list[Example]:
    rows = list(rows_of(folder / f"milepost.{part}.jsonl"))
    assert not [row for row in rows if isinstance(row, Skipped)]
    return [row for row in rows if isinstance(row, Example)]


# --- how many of what ---


def test_weights_share_the_size_and_what_one_lacks_falls_to_the_others() -> None:
    wanted = [Wanted("a", 3), Wanted("b", 1), Wanted("c", count=10)]
    assert counts(wanted, {"a": 900, "b": 900, "c": 50}, 110) == {"a": 75, "b": 25, "c": 10}
    assert counts(wanted, {"a": 20, "b": 900, "c": 50}, 110) == {"a": 20, "b": 80, "c": 10}
    assert counts([Wanted("a", 3, repeat=2), Wanted("b", 1)], {"a": 20, "b": 5}, 100) == {"a": 40, "b": 5}


def test_without_a_size_the_scarcest_source_decides() -> None:
    assert counts([Wanted("a", 3), Wanted("b", 1)], {"a": 300, "b": 50}) == {"a": 150, "b": 50}


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_weight_is_positive(weight: float) -> None:
    with pytest.raises(ValueError, match="not positive"):
        counts([Wanted("a", weight)], {"a": 1}, 1)


@given(
    st.dictionaries(st.sampled_from("abcd"), st.tuples(st.floats(0.1, 9), st.integers(0, 40), st.integers(1, 3)), min_size=1),
    st.integers(1, 200),
)
def test_never_more_than_there_is_and_as_many_as_can_be(sources: dict[str, tuple[float, int, int]], size: int) -> None:
    wanted = [Wanted(name, weight, 0, repeat) for name, (weight, _, repeat) in sources.items()]
    there = {name: count for name, (_, count, _) in sources.items()}
    taken = counts(wanted, there, size)
    most = {each.name: there[each.name] * each.repeat for each in wanted}
    assert all(0 <= taken[name] <= most[name] for name in most)
    assert sum(taken.values()) == min(size, sum(most.values()))


def test_all_are_taken_once_before_any_is_taken_twice() -> None:
    took = drawn(trips(7), 10, 1, "x")
    assert len({example.id for example, times in took if times == 0}) == 7
    assert [times for _, times in took] == [0] * 7 + [1] * 3


def test_caps_bound_a_tool_and_a_group() -> None:
    examples = [talk(f"a{n}", f"say {n}", ("greet", {"to": str(n)}), group="g") for n in range(9)]
    examples += [talk(f"b{n}", f"sing {n}", (f"sing_{n}", {}), group="g") for n in range(9)]
    kept = capped(examples, per_tool=4)
    assert Counter(name for each in kept for name in each.calls)["greet"] == 4
    assert len(kept) == 13
    assert len(capped(examples, per_group=5)) == 5


def test_languages_have_their_shares() -> None:
    examples = [*trips(30), *(talk(f"z{n}", f"第{n}号", language="zh") for n in range(6))]
    kept = Counter(each.language for each in balanced(examples, {"en": 0.75, "zh": 0.25}, 0))
    assert kept == {"en": 18, "zh": 6}
    with pytest.raises(ValueError, match="fr"):
        balanced(examples, {"fr": 1.0}, 0)


# --- twice, and examined on ---


def test_what_is_there_word_for_word_or_nearly_is_left_out() -> None:
    words = " ".join(f"word{n}" for n in range(60))
    first, same, near = talk("1", words), talk("2", words.upper() + "!"), talk("3", words.replace("word30", "other"))
    seen = Seen(0.8)
    assert [seen.again(each) for each in (first, same, near, talk("4", "something else that nobody said"))] == [
        "", "exact", "near", "",
    ]  # fmt: skip
    assert Seen(None).again(near) == ""


def test_a_signature_estimates_what_two_texts_have_in_common() -> None:
    left, right = (" ".join(f"w{n}" for n in range(start, start + 300)) for start in (0, 100))
    shingles = [set(runs(text, 3, 3)) for text in (left, right)]
    exact = len(shingles[0] & shingles[1]) / len(shingles[0] | shingles[1])
    assert abs(float(np.mean(signature(left) == signature(right))) - exact) < 0.15


PLANTED = talk("e", "Could you tell me how many grey herons nest beside the old mill", ("count_herons", {"where": "mill"}))


@pytest.mark.parametrize(
    ("example", "how"),
    [
        (talk("q", "could you tell me how many GREY herons nest, beside the old mill?!"), "query"),
        (talk("r", "I wonder: how many grey herons nest beside the old bridge now"), "run"),
        (talk("t", "Count them", ("count_herons", {"where": "sea"})), "tool"),
        (talk("n", "How many grey herons are there"), ""),
    ],
)
def test_a_planted_examination_is_found(example: Example, how: str) -> None:
    check = Check([fingerprint("x/test", [PLANTED], by_tool=True), fingerprint("y/test", trips(3))])
    assert [(hit.part, hit.how) for hit in check.hits(check.touch(example))] == ([("x/test", how)] if how else [])


def test_thirteen_chinese_characters_in_common_are_found_and_twelve_are_not() -> None:
    check = Check([fingerprint("x/test", [talk("e", "我想知道，老磨坊旁边有多少只灰鹭在筑巢", language="zh")])])
    assert check.hits(check.touch(talk("a", "请问老磨坊旁边有多少只灰鹭在", language="zh"))) == ()
    assert check.hits(check.touch(talk("b", "请问老磨坊旁边有多少只灰鹭，在筑", language="zh")))[0].how == "run"


def test_a_greeting_is_nobodys_examination() -> None:
    check = Check([fingerprint("x/test", [talk("e", "Hello there"), talk("f", "你好")])])
    assert check.hits(check.touch(talk("a", "hello there!"))) == ()


def test_a_phrase_that_many_say_is_no_mark() -> None:
    phrase = "and thank you very much for all of your help"
    check = Check([fingerprint("x/test", [talk("e", f"Where is it, {phrase}")])])
    touches = [check.touch(talk(str(n), f"number {n} {phrase}")) for n in range(4)]
    assert check.hits(touches[0], common_runs(touches, 4)) != ()
    assert check.hits(touches[0], common_runs(touches, 3)) == ()


# --- other names ---

NESTED = ToolCard(
    name="book_room", title="bookRoom", description="Books with `guest_name`; see list_rooms.",
    parameters={
        "type": "object", "required": ["stay", "guest_name"],
        "properties": {
            "guest_name": {"type": "string"},
            "stay": {"type": "object", "required": ["from_day"], "properties": {
                "from_day": {"type": "string"}, "extras": {"type": "array", "items": {
                    "type": "object", "properties": {"extra_kind": {"type": "string"}, "guest_name": {"type": "string"}},
                }},
            }},
        },
    },
)  # fmt: skip
STAY = {"guest_name": "Ann", "stay": {"from_day": "Monday", "extras": [{"extra_kind": "cot", "guest_name": "Bo"}]}}
BOOKED = Example(
    "b", (), "You may use book_room.", (NESTED, card("list_rooms", "town")),
    (
        Message(role="user", content="use book_room for guest_name Ann", origin="user"),
        Message(role="assistant", content="I call book_room.", calls=(ToolCall(id="c1", name="book_room", arguments=STAY),)),
        Message(role="tool", name="book_room", content=json.dumps({"tool": "book_room", "echo": STAY}), origin="tool"),
        Message(role="assistant", content="book_room has booked it."),
    ),
)  # fmt: skip


@pytest.mark.parametrize("seed", range(12))
def test_new_names_stand_in_cards_calls_and_results_alike(seed: int) -> None:
    made = renamed(BOOKED, dice(seed), neutral=seed % 3 / 2)
    new, call = made.tools[0], made.messages[1].calls[0]
    assert call.name == new.name == made.messages[2].name != "book_room"
    assert len({each.name for each in made.tools}) == 2
    told = json.loads(made.messages[2].content)
    assert told == {"tool": new.name, "echo": call.arguments}
    schema = new.parameters
    names = property_names(schema)
    assert names == property_names({"a": schema}) and len(names) == 5 and not names & property_names(NESTED.parameters)
    stay = next(name for name, each in schema["properties"].items() if each["type"] == "object")
    assert set(schema["required"]) == set(schema["properties"]) == set(call.arguments)
    inner = schema["properties"][stay]
    assert set(inner["properties"]) == set(call.arguments[stay]) and set(inner["required"]) <= set(inner["properties"])
    extras = next(each for each in inner["properties"].values() if each["type"] == "array")
    (given_extras,) = (each for each in call.arguments[stay].values() if isinstance(each, list))
    assert set(extras["items"]["properties"]) == set(given_extras[0])
    assert sorted(_leaves(call.arguments)) == sorted(_leaves(STAY))
    assert "book_room" not in made.system + new.description + made.messages[3].content and new.title == ""
    assert made.messages[0].content == BOOKED.messages[0].content


def _leaves(value: object) -> list[str]:
    if isinstance(value, dict):
        return [leaf for each in value.values() for leaf in _leaves(each)]
    return [leaf for each in value for leaf in _leaves(each)] if isinstance(value, list) else [str(value)]


def test_only_tools_or_only_parameters_are_renamed() -> None:
    tools = renamed(BOOKED, dice(1), parameters=False)
    assert tools.messages[1].calls[0].arguments == STAY and tools.tools[0].name != "book_room"
    fields = renamed(BOOKED, dice(1), tools=False)
    assert fields.tools[0].name == "book_room" and fields.messages[1].calls[0].arguments != STAY


def test_names_are_taken_apart_as_they_are_written() -> None:
    assert words_of("getHTTPCode_v2") == ["get", "http", "code", "v", "2"]


# --- other tools, or none that is right ---


def test_distractors_differ_from_what_is_right_and_may_have_a_name_like_it() -> None:
    pool = Pool([card(f"get_{word}_forecast") for word in ("rain", "snow", "wind")] + [card("sendMail"), card("play_song")])
    offered = [card("getRainForecast"), card("x", description="What sendMail does.")]
    for seed in range(20):
        names = [each.name for each in pool.draw(3, ["getRainForecast"], offered, seed % 2, dice(seed))]
        assert len(set(names)) == len(names) and not {"get_rain_forecast", "sendMail"} & set(names)
        assert not seed % 2 or "get_snow_forecast" in names or "get_wind_forecast" in names
    assert pool.draw(3, [], [], 0.0, dice(3)) == pool.draw(3, [], [], 0.0, dice(3))


def test_fewer_tools_never_lose_the_called_ones() -> None:
    example = talk("a", "x", ("go", {"to": "y"}), tools=(card("one"), card("two"), card("go", "to"), card("three")))
    kept = {each.name for each in offered_among(example, 2, dice(0)).tools}
    assert "go" in kept and len(kept) == 2


def test_a_refusal_has_tools_but_not_the_right_one_nor_its_like() -> None:
    pool = Pool([card("rent_a_boat_2"), card("rent_boat"), card("send_mail"), card("play_song")])
    beside = (card("rent_a_boat", "town"), card("rent_a_boat_now"))
    example = talk("a", "我要租船", ("rent_a_boat", {"town": "Oslo"}), tools=beside, language="zh")
    for seed in range(10):
        made = refused(example, pool, dice(seed), most=3)
        assert made and {each.name for each in made.tools} <= {"send_mail", "play_song"}
        assert [each.role for each in made.messages] == ["user", "assistant"] and made.messages[1].content in REFUSALS["zh"]
    assert refused(talk("b", "hi"), pool, dice(1), most=3) is None
    assert refused(example, Pool([card("rent_boat")]), dice(1), most=3) is None


@pytest.mark.parametrize(("quiet", "share", "made"), [(0, 0.2, 0.0), (60, 0.2, 0.0), (60, 0.2, 0.5), (3, 0.4, 0.1)])
def test_the_share_without_calls_is_met(quiet: int, share: float, made: float) -> None:
    examples = [*trips(80), *(talk(f"q{n}", f"tell me about {n}", tools=(card("idle"),)) for n in range(quiet))]
    pool = Pool(each for example in examples for each in example.tools)
    change = Augmentation(Options(no_call=share, made=made, plain=0.3), {"en": pool}, 3, estimated)
    got = list(change.applied([(each, 0) for each in examples]))
    silent = [each for each in got if not each.calls]
    assert abs(len(silent) / len(got) - share) < 0.02
    turned = sum(1 for each in silent if each.group.startswith("no-call/"))
    assert turned >= made * len(silent) - 1
    assert all(each.tools for each in silent)


def test_tools_beside_where_nothing_is_called_are_of_another_source() -> None:
    quiet = talk("q", "what can you do", tools=(card("idle"),))
    pool = Pool([card("idle"), card("right_after_all")])
    change = Augmentation(
        Options(least=2, most=2), {"en": pool}, 0, estimated, foreign={("en", "own"): Pool([card("far_off"), card("away")])}
    )
    (made,) = change.applied([(quiet, 0)])
    assert {each.name for each in made.tools} == {"idle", "far_off", "away"}


def test_the_share_of_conversations_that_ask_back_is_bounded(tmp_path: Path) -> None:
    asking = [talk(f"a{n}", f"set alarm {n} {n * 31}", answer="At what time?") for n in range(40)]
    assert all(clarifies(each) for each in asking) and not clarifies(trips(1)[0])
    folder_of(tmp_path / "f", [*asking, *trips(20)])
    mixed(tmp_path, "o", sources=[{"folder": "f", "part": "train"}], clarifying=0.25, split={"parts": {"train": 1.0}})
    assert 3 <= sum(clarifies(each) for each in written(tmp_path / "o")) <= 17


# --- a whole mixture ---

EVERYTHING: dict[str, object] = {
    "distractors": {"least": 1, "most": 3, "tools": 4}, "no_call": {"share": 0.2, "made": 0.5},
    "rename": {"tools": 0.4, "parameters": 0.4}, "split": {"by": "tool", "parts": {"train": 0.7, "validation": 0.3}},
}  # fmt: skip


def test_the_same_recipe_and_data_give_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    folder_of(tmp_path / "f", trips(120))
    source = [{"folder": "f", "part": "train", "repeat": 2}]
    made = [
        mixed(tmp_path, out, sources=source, size=150, seed=seed, **EVERYTHING).files
        for out, seed in zip("abc", (5, 5, 6), strict=True)
    ]
    assert made[0] == made[1] and len(made[0]) == 4
    assert made[0]["milepost.train.jsonl"] != made[2]["milepost.train.jsonl"]
    assert (tmp_path / "a" / "dataset.json").read_bytes() == (tmp_path / "b" / "dataset.json").read_bytes()


def test_split_by_tool_puts_a_tool_into_one_part(tmp_path: Path) -> None:
    spare = tuple(card(f"spare_{n}") for n in range(20))
    examples = [replace(each, tools=(*each.tools, spare[n % 20])) for n, each in enumerate(trips(200))]
    folder_of(tmp_path / "f", examples)
    mixed(tmp_path, "o", sources=[{"folder": "f", "part": "train"}], **{**EVERYTHING, "rename": {}})
    offered = [{tool.name for each in written(tmp_path / "o", part) for tool in each.tools} for part in ("train", "validation")]
    assert all(offered) and not offered[0] & offered[1]


def test_nothing_is_longer_than_it_may_be(tmp_path: Path) -> None:
    folder_of(tmp_path / "f", [*trips(30), talk("long", "word " * 3000, ("go", {"to": "x"}))])
    made = mixed(tmp_path, "o", sources=[{"folder": "f", "part": "train"}], max_tokens=260, **EVERYTHING)
    assert max(map(estimated, written(tmp_path / "o"))) <= 260
    assert made.card["sources"]["f/train"]["dropped"]["too long"] == 1


def test_no_part_for_evaluation_is_ever_mixed(tmp_path: Path) -> None:
    folder_of(tmp_path / "f", trips(5), use="evaluation")
    for source in ({"folder": "f", "part": "train"}, {"set": "hammerbench", "part": "held-back"}):
        with pytest.raises(ForEvaluation, match="is for evaluation"):
            mixed(tmp_path, "o", sources=[source], data=tmp_path)
        assert not (tmp_path / "o" / "dataset.json").exists()


def seal_tools(data: Path) -> Path:
    """A set of our own sentences in Seal-Tools' form."""
    folder = data / "seal-tools" / "Seal-Tools_Dataset"
    folder.mkdir(parents=True)
    names = [f"countHerons{n}" for n in range(12)]
    tools = [{"api_name": name, "api_description": name, "parameters": {"where": {"type": "str"}}} for name in names]
    (folder / "tool.jsonl").write_text("".join(json.dumps(each) + "\n" for each in tools))
    for file in ("dev", "test_in_domain"):
        rows = [
            {"id": f"{file}-{n}", "query": f"For my {file} of the year how many herons nest near {CITIES[n]} now",
             "calling": [{"api": names[n], "parameters": {"where": CITIES[n]}}]} for n in range(8)
        ]  # fmt: skip
        text = "".join(json.dumps(each) + "\n" for each in rows) + '{"id": "bad", "query": 3}\nnot json\n'
        (folder / f"{file}.jsonl").write_text(text)
    return data


def test_what_is_examined_on_is_left_out_and_told_by_part(tmp_path: Path) -> None:
    data = seal_tools(tmp_path / "data")
    query = "For my test_in_domain of the year how many herons nest near Oslo now"
    near = "I say: of the year how many herons nest near Riga now or later"
    folder_of(tmp_path / "f", [*trips(40), talk("bad1", query), talk("bad2", near)])
    made = mixed(tmp_path, "o", sources=[{"folder": "f", "part": "train"}], data=data, split={"parts": {"train": 1.0}})
    told = made.card["sources"]["f/train"]
    assert told["contaminated"] == {"seal-tools/test-in-domain": {"query": 1, "run": 1}}
    assert told["dropped"] == {"contaminated": 2} and made.card["checked_against"] == ["seal-tools/test-in-domain"]
    assert not {"f/train/bad1", "f/train/bad2"} & {each.id for each in written(tmp_path / "o")}
    spared = {"folder": "f", "part": "train", "may_share": ["seal-tools"]}
    again = mixed(tmp_path, "p", sources=[spared], data=data).card["sources"]["f/train"]
    assert again["dropped"] == {"contaminated": 1} and again["shares_with"] == {"seal-tools/test-in-domain": 1}


def test_a_set_is_written_with_its_use_and_its_wrong_rows_by_name(tmp_path: Path) -> None:
    data = seal_tools(tmp_path / "data")
    made = build_set(
        known_set("seal-tools"), ["test-in-domain"], data, tmp_path / "o", ("milepost", "msagent"), limit=5, seed=2
    )
    told = json.loads((tmp_path / "o" / "dataset.json").read_text())
    assert told["use"] == "evaluation" and told["license"] == "Apache-2.0" and told["examples"] == {"test-in-domain": 5}
    assert sum(each["count"] for each in told["skipped"].values()) == 2
    assert "bad" in str(told["skipped"]) or "test_in_domain.jsonl:9" in str(told["skipped"])
    assert set(told["files"]) == {"milepost.test-in-domain.jsonl", "msagent.test-in-domain.jsonl"} and told == json.loads(
        json.dumps(made)
    )
    same = build_set(known_set("seal-tools"), ["test-in-domain"], data, tmp_path / "p", ("milepost",), limit=5, seed=2)
    assert same["files"]["milepost.test-in-domain.jsonl"] == told["files"]["milepost.test-in-domain.jsonl"]
    with pytest.raises(DatasetExists):
        build_set(known_set("seal-tools"), ["train"], data, tmp_path / "o", ("milepost",))


def test_what_fails_leaves_no_half_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = seal_tools(tmp_path / "data")
    folder_of(tmp_path / "f", trips(4))
    with pytest.raises(SetMissing):  # the second part is not there: the first is written already
        build_set(known_set("seal-tools"), ["train", "test-out-domain"], data, tmp_path / "new" / "o", ("milepost",))
    assert not (tmp_path / "new").exists()
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "mine.txt").write_text("mine")
    with pytest.raises(NothingLeft):
        mixed(tmp_path, "kept", sources=[{"folder": "f", "part": "train", "languages": ["zh"]}])
    assert [path.name for path in kept.iterdir()] == ["mine.txt"]

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("infra.datasets.mixing.Mixer._card", stopped)
    with pytest.raises(KeyboardInterrupt):
        mixed(tmp_path, "stopped", sources=[{"folder": "f", "part": "train"}])
    assert not (tmp_path / "stopped").exists()


def test_dialogues_in_other_words_are_fingerprinted_once(tmp_path: Path) -> None:
    read: list[str] = []

    def parts(folder: Path, part: str) -> Iterator[Row]:
        read.append(part)
        yield talk(part, "How many herons nest near the old mill today?")

    sgd = DataSet("sgd", "", "", ("en",), "", dict.fromkeys(("dev", "test", "dev-x1", "test-x5"), "evaluation"), parts)
    prints = prints_of([(sgd, part) for part in sgd.parts], tmp_path, None)
    assert read == ["dev", "test"] == [each.name.removeprefix("sgd/") for each in prints.found]
    assert [each.name for each in prints_of([(sgd, "dev-x1")], tmp_path, None).found] == ["sgd/dev-x1"]


def test_a_source_with_nothing_left_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path / "f", trips(4))
    for source in ({"languages": ["zh"]}, {"groups": ["none"]}):
        with pytest.raises(NothingLeft, match="f/train"):
            mixed(tmp_path, "o", sources=[{"folder": "f", "part": "train", **source}])


# --- recipes ---


@pytest.mark.parametrize("name", ["controller", "controller-small"])
def test_our_own_recipes_take_only_parts_for_training(name: str) -> None:
    recipe = read_recipe(RECIPES / f"{name}.yaml")
    assert all(known_set(each.set).parts[each.part] == "training" for each in recipe.sources)
    assert recipe.no_call and 0.15 <= recipe.no_call.share <= 0.2 and recipe.contamination == "all"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sources: [{set: sgd, part: train, wieght: 2}]", "did you mean weight"),
        ("sorces: []", "did you mean sources"),
        ("sources: [{set: sgd, part: train}]\nrename: {tool: 1}", "did you mean tools"),
        ("sources: [{set: sgd, part: train, weight: 0}]", "greater than 0"),
        ("sources: [{set: sgd, part: train, weight: -1}]", "greater than 0"),
        ("sources: [{set: sgd, part: train, weight: .nan}]", "finite"),
        ("sources: [{set: sgd, part: train, weight: 1, count: 2}]", "either a weight or a count"),
        ("sources: [{part: train}]", "either a set or a folder"),
        ("sources: [{set: sgd, part: train}, {set: sgd, part: train}]", "there twice"),
        ("sources: [{set: sgd, part: train}]\nlanguages: {en: 0.5}", "add up to 0.5"),
        ("sources: [{set: sgd, part: train}]\nsplit: {parts: {train: 0.5}}", "add up to"),
        ("sources: []", "at least 1"),
        ("- 1", "no mapping"),
        ("sources: [", "not YAML"),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(BadRecipe) as caught:
        read_recipe(path)
    assert said in str(caught.value) and "r.yaml" in str(caught.value)


def test_a_recipe_in_another_encoding_is_told(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes("title: 混合".encode("gb18030"))
    with pytest.raises(BadRecipe, match="not UTF-8"):
        read_recipe(path)


def test_a_full_disk_is_told_and_leaves_no_card(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    folder = tmp_path / "o"
    folder.mkdir()
    (folder / "milepost.train.jsonl").symlink_to(full)
    from schemas.errors import MilepostError

    files = Writing(folder, ("milepost",))
    with pytest.raises(MilepostError, match="cannot be written") as caught:
        for example in trips(200):
            files.add("train", example)
        files.close({})
    assert "space" in caught.value.why.lower() and not (folder / "dataset.json").exists()


# --- numbers ---


def test_the_numbers_of_a_data_set() -> None:
    rows = [*trips(3), talk("q", "hello", tools=(card("idle"),)), Skipped("r", "no reason")]
    made = statistics(rows, lambda example: 10 if example.calls else 5)
    assert (made.conversations, made.no_call, made.tokens, made.skipped) == (4, 1, [10, 10, 10, 5], {"no reason": 1})
    assert made.longer(9) == 3 and spread(made.tokens) == {"mean": 8.75, "p50": 10, "p95": 10, "max": 10}


@given(st.lists(st.integers(0, 100_000), min_size=1))
def test_bins_hold_every_value_once(values: list[int]) -> None:
    found = bins(values)
    assert len(found) <= 16 and sum(many for _, _, many in found) == len(values)
    assert all(many == sum(start <= value <= end for value in values) for start, end, many in found)


def test_said_tells_conversations_apart_by_words_and_calls_only() -> None:
    one, other = trips(2)
    assert said(one) != said(other)
    assert said(one) == said(Example("z", (), "system", (*one.tools, card("more")), one.messages))
