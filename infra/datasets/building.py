"""A part of a public set written down as a data set's folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from infra.datasets.writing import Writing
from schemas.errors import MilepostError
from services.datasets.example import Example, Row, Skipped
from services.datasets.mixing.chance import number
from services.datasets.sets import NAMES, DataSet, Use, data_set

NAMED = 20


@dataclass
class Tally:
    """Rows that were skipped: how many for each reason, and the first of them by name."""

    counts: Counter[str] = field(default_factory=Counter)
    rows: dict[str, list[str]] = field(default_factory=dict)

    def add(self, row: Skipped) -> None:
        """Count one."""
        self.counts[row.why] += 1
        named = self.rows.setdefault(row.why, [])
        if len(named) < NAMED:
            named.append(row.row)

    def told(self) -> dict[str, dict[str, object]]:
        """By reason, the commonest first."""
        return {why: {"count": count, "rows": self.rows.get(why, [])} for why, count in self.counts.most_common()}

    def examples(self, rows: Iterable[Row]) -> Iterator[Example]:
        """Those rows that are examples; the others are counted."""
        for row in rows:
            if isinstance(row, Skipped):
                self.add(row)
            else:
                yield row


def known_set(name: str) -> DataSet:
    """A set by its name. Raises MilepostError, with the name that was probably meant."""
    close = get_close_matches(name, NAMES, n=1)
    if name not in NAMES and close:
        raise MilepostError(
            f"There is no data set {name!r}.", why=f"there are {', '.join(NAMES)}", hint=f"did you mean {close[0]}?"
        )
    return data_set(name)


def parts_of(known: DataSet, named: Sequence[str]) -> tuple[str, ...]:
    """The parts that are asked for; of a set with one part, that. Raises MilepostError for none or an unknown one."""
    there = ", ".join(f"{part} ({use})" for part, use in known.parts.items())
    if not named and len(known.parts) > 1:
        raise MilepostError(f"Which part of {known.name}?", why=f"it has {there}", hint="--part NAME; again for more")
    for part in named:
        if part not in known.parts:
            close = get_close_matches(part, known.parts, n=1)
            raise MilepostError(
                f"{known.name} has no part {part!r}.", why=f"it has {there}",
                hint=f"did you mean {close[0]}?" if close else "milepost dataset ls",
            )  # fmt: skip
    return tuple(dict.fromkeys(named or known.parts))


def use_of(known: DataSet, parts: Iterable[str]) -> Use:
    """What may be done with them together: one part for evaluation makes all of it that."""
    return "evaluation" if any(known.parts[part] == "evaluation" for part in parts) else "training"


def some(examples: Iterable[Example], limit: int, seed: int) -> list[Example]:
    """At most so many, drawn by the seed, in the order they had. limit: 0 for all."""
    found = list(examples)
    if not limit or len(found) <= limit:
        return found
    chosen = set(sorted(range(len(found)), key=lambda place: number(seed, "build", found[place].id, place))[:limit])
    return [each for place, each in enumerate(found) if place in chosen]


def build_set(
    known: DataSet, parts: Sequence[str], data: Path, out: Path, formats: Sequence[str], limit: int = 0, seed: int = 0
) -> dict[str, object]:
    """Write parts of a set as a folder, and return its card. data: the folder that holds the sets' folders.

    Raises SetMissing, DatasetExists, and MilepostError if no row is of use or nothing can be written; nothing is left then.
    """
    tally = Tally()
    languages: Counter[str] = Counter()
    tools: Counter[str] = Counter()
    with Writing(out, formats) as files:
        for part in parts:
            found = some(tally.examples(known.read(data / known.name, part)), limit, seed)
            if not found:
                reasons = "; ".join(f"{why}: {count}" for why, count in tally.counts.most_common(3)) or "it has no rows"
                raise MilepostError(f"{known.name}, part {part}, gives no example.", why=reasons, hint="milepost dataset ls")
            for example in found:
                files.add(part, example)
                languages[example.language or "?"] += 1
                tools.update(example.calls)
        card: dict[str, object] = {
            "set": known.name, "part": list(parts), "use": use_of(known, parts), "title": known.title,
            "license": known.licence, "home": known.home, "limit": limit, "seed": seed, "examples": dict(files.examples),
            "languages": dict(languages), "skipped": tally.told(), "tools": dict(tools.most_common()),
        }  # fmt: skip
        return {**card, "files": files.close(card)}
