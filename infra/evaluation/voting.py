"""Votes of persons on two replies to one prompt, kept as lines of JSON, and the standings that they add up to.

Standings are those of Bradley and Terry (1952, https://doi.org/10.2307/2334029), found by Hunter's iteration (2004,
https://doi.org/10.1214/aos/1079120141) and told on Elo's scale: 400 points are odds of ten to one, the mean is 1000. A tie,
and both bad, is half a win for each; every pair that met has one tie more than was voted, so that who always wins stays
finite. Intervals: the 2.5th and the 97.5th percentile of bootstrap samples of the votes.
"""

from __future__ import annotations

import fcntl
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from pydantic import AwareDatetime, Field, ValidationError

from schemas.errors import MilepostError
from schemas.tools import Value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILE = "votes.jsonl"
DRAWS, SEED = 500, 20_260_101
SCALE, MEAN = 400.0, 1000.0
_ROUNDS, _SETTLED = 200, 1e-8

Choice: TypeAlias = Literal["a", "b", "tie", "bad"]


class Vote(Value):
    """One vote. first: whose reply stood first; bad: both are. replies: of a and of b; by: who voted, if that is told."""

    a: str = Field(min_length=1, max_length=200)
    b: str = Field(min_length=1, max_length=200)
    vote: Choice
    prompt: str = ""
    first: Literal["a", "b"] = "a"
    replies: tuple[str, str] = ("", "")
    by: str = ""
    time: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))


class Standing(Value):
    """How one stands. rating: on Elo's scale, with its 95 % interval; won: share of wins, ties half, of `votes` votes."""

    name: str
    rating: float
    low: float
    high: float
    won: float
    votes: int
    bad: int


class BadVotes(MilepostError):
    """A file holds something else than votes."""


def read_votes(path: Path) -> list[Vote]:
    """The votes of a file; blank lines are passed over, and a last one without its end. Raises BadVotes."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise BadVotes(f"{path} cannot be read.", why=str(error)[:300], hint="check the file") from error
    return list(_votes(path, text))


def _votes(path: Path, text: str) -> Iterator[Vote]:
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            vote = Vote.model_validate_json(line)
        except ValidationError as error:
            if number == len(lines) and not text.endswith("\n"):
                return
            fault = error.errors()[0]
            where = ".".join(map(str, fault["loc"]))
            raise BadVotes(
                f"Line {number} of {path} is no vote.", why=f"{where}: {fault['msg']}" if where else str(fault["msg"]),
                hint='{"a": NAME, "b": NAME, "vote": "a", "b", "tie" or "bad"} on each line',
            ) from error  # fmt: skip
        if vote.a == vote.b:
            raise BadVotes(f"Line {number} of {path} is no vote.", why=f"{vote.a} stands on both sides", hint="mend the line")
        yield vote


def add_votes(path: Path, votes: Iterable[Vote]) -> int:
    """Keep votes behind those of the file; how many. Raises MilepostError where it cannot be written."""
    found = list(votes)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # two persons may vote at once
            file.seek(0)
            held = file.read()
            if held and not held.endswith(b"\n"):
                file.truncate(held.rfind(b"\n") + 1)
            file.write("".join(each.model_dump_json() + "\n" for each in found).encode())
    except OSError as error:
        raise MilepostError(
            f"{path} cannot be written.", why=error.strerror or str(error), hint="--out FOLDER that can be written"
        ) from error
    return len(found)


def blind(chance: random.Random) -> Literal["a", "b"]:
    """Whose reply stands first."""
    return chance.choice(("a", "b"))


def choice_of(key: Literal["1", "2", "tie", "bad"], first: Literal["a", "b"]) -> Choice:
    """A vote for the first or second reply that was shown ("1", "2"), "tie" or "bad", as one for a or b."""
    if key == "1":
        return first
    if key == "2":
        return "b" if first == "a" else "a"
    return "tie" if key == "tie" else "bad"


def standings(votes: Sequence[Vote]) -> list[Standing]:
    """Who stands where, the best first. The same votes give the same standings."""
    import numpy as np

    names = sorted({name for each in votes for name in (each.a, each.b)})
    if not names:
        return []
    place = {name: number for number, name in enumerate(names)}
    played = np.array([(place[each.a], place[each.b]) for each in votes])
    points = np.array([{"a": 1.0, "b": 0.0}.get(each.vote, 0.5) for each in votes])
    chance = np.random.default_rng(SEED)
    ratings = _ratings(_wins(played, points, len(names)))
    drawn = []
    for _ in range(DRAWS):
        chosen = chance.integers(len(votes), size=len(votes))
        drawn.append(_ratings(_wins(played[chosen], points[chosen], len(names))))
    low, high = np.percentile(np.array(drawn), [2.5, 97.5], axis=0)
    bad = Counter(name for each in votes if each.vote == "bad" for name in (each.a, each.b))
    found = []
    for name, number in place.items():
        mine = np.concatenate([points[played[:, 0] == number], 1 - points[played[:, 1] == number]])
        found.append(Standing(
            name=name, rating=round(float(ratings[number]), 1), low=round(float(low[number]), 1),
            high=round(float(high[number]), 1), won=round(float(mine.mean()), 4), votes=len(mine), bad=bad[name],
        ))  # fmt: skip
    return sorted(found, key=lambda each: (-each.rating, each.name))


def _wins(played: NDArray[np.int64], points: NDArray[np.float64], of: int) -> NDArray[np.float64]:
    """Points of each (row) against each (column), with one tie more for every pair that met."""
    import numpy as np

    wins = np.zeros((of, of))
    np.add.at(wins, (played[:, 0], played[:, 1]), points)
    np.add.at(wins, (played[:, 1], played[:, 0]), 1 - points)
    return wins + 0.5 * ((wins + wins.T) > 0)


def _ratings(wins: NDArray[np.float64]) -> NDArray[np.float64]:
    """The strengths under which these wins are likeliest, on Elo's scale."""
    import numpy as np

    games, won = wins + wins.T, wins.sum(axis=1)
    strength = np.ones(len(wins))
    for _ in range(_ROUNDS):
        weight = (games / (strength[:, None] + strength[None, :])).sum(axis=1)
        fresh = np.where(weight > 0, won / np.where(weight > 0, weight, 1), strength)
        fresh = fresh / np.exp(np.log(fresh).mean())
        settled = np.abs(fresh - strength).max() < _SETTLED
        strength = fresh
        if settled:
            break
    return np.asarray(MEAN + SCALE * np.log10(strength))
