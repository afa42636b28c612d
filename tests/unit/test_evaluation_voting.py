from __future__ import annotations

import fcntl
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.evaluation.voting import BadVotes, Choice, Vote, add_votes, blind, choice_of, read_votes, standings


def votes(a: str, b: str, **counts: int) -> list[Vote]:
    kinds: dict[str, Choice] = {"won": "a", "lost": "b", "tie": "tie", "bad": "bad"}
    return [Vote(a=a, b=b, vote=kinds[kind]) for kind, count in counts.items() for _ in range(count)]


def test_ratings_are_those_of_bradley_and_terry() -> None:
    """Of two, the ratings' odds are the odds of winning, with one tie more: (30.5 / 10.5)."""
    one, other = standings(votes("x", "y", won=30, lost=10))
    assert (one.name, other.name) == ("x", "y")
    assert one.rating - other.rating == pytest.approx(185.3, abs=0.2)  # 400 * log10(30.5 / 10.5)
    assert one.rating + other.rating == pytest.approx(2000, abs=0.2)
    assert one.low < one.rating < one.high and one.low > other.high - 100
    assert (one.won, other.won, one.votes) == (0.75, 0.25, 40)


def test_who_never_met_is_rated_through_others_and_sides_do_not_matter() -> None:
    table = standings([*votes("x", "y", won=9, lost=3), *votes("z", "y", won=3, lost=9), *votes("x", "w", tie=4, bad=2)])
    assert [each.name for each in table] == ["w", "x", "y", "z"] or [each.name for each in table][2:] == ["y", "z"]
    by_name = {each.name: each for each in table}
    assert by_name["x"].rating == pytest.approx(by_name["w"].rating, abs=0.2)
    assert (by_name["w"].bad, by_name["x"].bad, by_name["y"].bad) == (2, 2, 0)
    turned = [Vote(a=each.b, b=each.a, vote={"a": "b", "b": "a"}.get(each.vote, each.vote)) for each in votes("x", "y", won=9)]
    assert standings(turned)[0].rating == standings(votes("x", "y", won=9))[0].rating


def test_few_votes_have_wide_intervals_and_none_no_standings() -> None:
    few, many = standings(votes("x", "y", won=3, lost=1))[0], standings(votes("x", "y", won=300, lost=100))[0]
    assert few.high - few.low > 3 * (many.high - many.low) > 0
    assert standings([]) == []
    assert standings(votes("x", "y", won=5))[0].rating < 2000  # who always wins stays finite


def test_a_vote_for_what_was_shown_is_one_for_whose_it_was() -> None:
    assert [choice_of(key, "a") for key in ("1", "2", "tie", "bad")] == ["a", "b", "tie", "bad"]
    assert [choice_of(key, "b") for key in ("1", "2", "tie", "bad")] == ["b", "a", "tie", "bad"]
    chance = random.Random(1)
    drawn = [blind(chance) for _ in range(200)]
    assert 60 < drawn.count("a") < 140


def test_who_votes_while_another_writes_waits_for_it(tmp_path: Path) -> None:
    file = tmp_path / "votes.jsonl"
    with ThreadPoolExecutor(1) as voter:
        with file.open("a+b") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            other.write(b'{"a": "half')
            other.flush()
            waiting = voter.submit(add_votes, file, votes("x", "y", won=1))
            with pytest.raises(TimeoutError):
                waiting.result(0.2)
            other.write(b'", "b": "y", "vote": "tie"}\n')
        assert waiting.result(10) == 1
    assert [each.a for each in read_votes(file)] == ["half", "x"]


def test_votes_are_kept_and_taken_in(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "votes.jsonl"
    assert read_votes(file) == []
    first = Vote(a="x", b="y", vote="a", prompt="你好", replies=("好", "hello"), by="me", first="b")
    assert add_votes(file, [first]) == 1
    with file.open("a") as broken:
        broken.write('{"a": "x"')
    assert read_votes(file) == [first]
    add_votes(file, votes("x", "z", tie=2))
    assert [each.vote for each in read_votes(file)] == ["a", "tie", "tie"]
    theirs = tmp_path / "theirs.jsonl"
    theirs.write_text('{"a": "x", "b": "y", "vote": "b"}\n\n{"a": "x", "b": "y", "vote": "bad", "judge": 1}\n')
    assert [each.vote for each in read_votes(theirs)] == ["b", "bad"]


@pytest.mark.parametrize("line", ["no json", '{"a": "x", "b": "y", "vote": "c"}', '{"a": "x", "b": "x", "vote": "a"}', "[]"])
def test_what_is_no_vote_is_refused_by_its_line(tmp_path: Path, line: str) -> None:
    file = tmp_path / "votes.jsonl"
    file.write_text('{"a": "x", "b": "y", "vote": "b"}\n' + line + "\n")
    with pytest.raises(BadVotes, match="Line 2"):
        read_votes(file)
