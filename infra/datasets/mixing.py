"""A recipe followed: sources read, cleaned of what is there twice or is examined on, drawn by weight, changed, and written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from infra.datasets.building import Tally, known_set, parts_of, use_of
from infra.datasets.card import ForEvaluation, check_trainable
from infra.datasets.folder import part_file, rows_of
from infra.datasets.lengths import Length, estimated
from infra.datasets.prints import evaluation_parts, named_parts, prints_of
from infra.datasets.recipe import Recipe, Source
from infra.datasets.writing import Writing
from schemas.errors import MilepostError
from schemas.tools import ToolCard
from services.datasets.example import Example
from services.datasets.mixing.augmentation import Augmentation, Options, kept_clarifying
from services.datasets.mixing.chance import number
from services.datasets.mixing.contamination import Check, Hit, common_runs
from services.datasets.mixing.deduplication import Seen, distinct
from services.datasets.mixing.distractors import Pool, with_tools
from services.datasets.mixing.mixture import Wanted, balanced, capped, counts, drawn
from services.datasets.splits import part_of

Progress = Callable[[str], None]


class NothingLeft(MilepostError):
    """A source, or the mixture, has no conversation that may be taken."""


@dataclass
class Read:
    """A source as it was read: what is left of it, what was left out and why; touched: evaluation parts, and how often."""

    source: Source
    licence: str
    examples: list[Example] = field(default_factory=list)
    rows: int = 0
    tally: Tally = field(default_factory=Tally)
    dropped: Counter[str] = field(default_factory=Counter)
    touched: dict[str, Counter[str]] = field(default_factory=dict)
    spared: Counter[str] = field(default_factory=Counter)
    common: int = 0
    taken: int = 0


@dataclass
class Mixed:
    """What was written. card: as it is in the folder."""

    card: dict[str, object]
    files: dict[str, str]


class Mixer:
    """Follows one recipe. data: the folder of the public sets; base: where the recipe's relative folders lie; cache: for
    fingerprints; length: of a conversation in tokens; progress: is told what is being done.
    """

    def __init__(
        self, recipe: Recipe, base: Path, data: Path | None, cache: Path | None = None, length: Length = estimated,
        progress: Progress = lambda doing: None,
    ) -> None:  # fmt: skip
        self.recipe, self._base, self._data, self._cache = recipe, base, data, cache
        self._length, self._progress = length, progress
        self.checked: tuple[str, ...] = ()
        self.unchecked: dict[str, str] = {}

    def mix(self, out: Path, formats: Sequence[str]) -> Mixed:
        """Write the mixture. Raises MilepostError: a source is missing, is for evaluation, or has nothing left.

        Then no folder is left.
        """
        with Writing(out, formats) as files:
            return self._mixed(files)

    def _mixed(self, files: Writing) -> Mixed:
        check = self._check()
        sources = [self._read(source) for source in self.recipe.sources]
        seen = Seen(self.recipe.deduplicate.near)
        for read in sources:
            self._clean(read, check, seen)
        parts = self._parts(sources)
        languages: dict[str, Counter[str]] = {}
        done: Counter[str] = Counter()
        for part, drawn_ in parts.items():
            files.begin(part)
            made = self._changed(part, drawn_, sources, done)
            for example in sorted(made, key=lambda each: (number(self.recipe.seed, "order", each.id), each.id)):
                files.add(part, example)
                languages.setdefault(part, Counter())[example.language or "?"] += 1
        if not sum(files.examples.values()):
            raise NothingLeft("The mixture has no conversation.", why="all were left out", hint="give it more, or higher caps")
        card = self._card(sources, files.examples, languages, done)
        return Mixed(card, files.close(card))

    # --- reading ---

    def _check(self) -> Check:
        against = self.recipe.contamination
        if against == "none":
            return Check(())
        if self._data is None:
            if against != "all":
                raise MilepostError(
                    "Where are the evaluation sets?", why=f"contamination names {', '.join(against)}", hint="--data FOLDER"
                )
            return Check(())
        parts = list(evaluation_parts(self._data)) if against == "all" else named_parts(self._data, against)
        prints = prints_of(parts, self._data, self._cache, self._progress)
        self.checked = tuple(each.name for each in prints.found)
        self.unchecked = prints.missing
        return Check(prints.found)

    def _read(self, source: Source) -> Read:
        self._progress(source.name)
        read = self._of_set(source) if source.set else self._of_folder(source)
        chosen = [
            replace(each, id=f"{source.set or Path(source.folder).name}/{source.part}/{each.id}")
            for each in read.examples
            if each.language in (source.languages or (each.language,)) and each.group in (source.groups or (each.group,))
        ]  # fmt: skip
        read.rows, read.examples = len(read.examples), chosen
        if not chosen:
            there = Counter(each.language for each in read.examples) + Counter(each.group for each in read.examples)
            reasons = "; ".join(f"{why}: {count}" for why, count in read.tally.counts.most_common(3))
            raise NothingLeft(
                f"{source.name} gives no conversation.",
                why=reasons or f"its rows have {', '.join(sorted(filter(None, there))) or 'nothing'}",
                hint="milepost dataset ls",
            )  # fmt: skip
        return read

    def _of_set(self, source: Source) -> Read:
        known = known_set(source.set)
        parts = parts_of(known, [source.part])
        if use_of(known, parts) == "evaluation":
            raise ForEvaluation(known.name, source.part)
        if self._data is None:
            raise MilepostError(f"Where is {known.name}?", why="public sets are read from a folder", hint="--data FOLDER")
        read = Read(source, known.licence)
        read.examples = list(read.tally.examples(known.read(self._data / known.name, source.part)))
        return read

    def _of_folder(self, source: Source) -> Read:
        folder = self._base / source.folder
        card = check_trainable(folder, source.part)
        read = Read(source, str(card.get("license", "")))
        read.examples = list(read.tally.examples(rows_of(part_file(folder, source.part))))
        return read

    # --- cleaning ---

    def _clean(self, read: Read, check: Check, seen: Seen) -> None:
        """Leave out what is there already, what is examined on, and what can never fit."""
        self._progress(read.source.name)
        twice: dict[str, int] = {}
        new = list(distinct(read.examples, seen, twice)) if self.recipe.deduplicate.exact else read.examples
        read.dropped.update({f"duplicate ({how})": count for how, count in twice.items()})
        touches = [check.touch(example) for example in new]
        common = common_runs(touches, self.recipe.common_runs) if self.recipe.common_runs else frozenset()
        read.common, read.examples = len(common), []
        for example, touch in zip(new, touches, strict=True):
            if self._spoilt(read, check.hits(touch, common)):
                read.dropped["contaminated"] += 1
            elif self._too_long(example):
                read.dropped["too long"] += 1
            else:
                read.examples.append(example)

    def _spoilt(self, read: Read, hits: Sequence[Hit]) -> bool:
        """Whether a conversation touches a part that it may not; all that it touches are counted."""
        spared = set(read.source.may_share)
        spoilt = False
        for hit in hits:
            if hit.how == "run" and spared & {hit.part, hit.part.partition("/")[0]}:
                read.spared[hit.part] += 1
            else:
                read.touched.setdefault(hit.part, Counter())[hit.how] += 1
                spoilt = True
        return spoilt

    def _too_long(self, example: Example) -> bool:
        longest = self.recipe.max_tokens
        if not longest:
            return False
        right = [card for card in example.tools if card.name in example.calls] or example.tools[:1]
        return self._length(with_tools(example, right)) > longest

    # --- drawing ---

    def _parts(self, sources: Sequence[Read]) -> dict[str, list[tuple[Example, int]]]:
        """The conversations of each part, drawn by count and weight."""
        seed, recipe = self.recipe.seed, self.recipe
        found: list[tuple[Example, int]] = []
        for read in sources:
            within = self._in_one_part(read)
            within = kept_clarifying(within, recipe.clarifying, seed)
            read.examples = capped(within, read.source.per_tool, read.source.per_group, seed)
            if not read.examples:
                raise NothingLeft(
                    f"Nothing of {read.source.name} is left.", why=_reasons(read.dropped), hint="milepost dataset mix --help"
                )  # fmt: skip
        wanted = [
            Wanted(read.source.name, read.source.weight or 1.0, read.source.count or 0, read.source.repeat) for read in sources
        ]
        taken = counts(wanted, {read.source.name: len(read.examples) for read in sources}, recipe.size)
        for read in sources:
            found += drawn(read.examples, taken[read.source.name], seed, read.source.name)
        if recipe.languages:
            found = self._balanced(found)
        of = {example.id: read for read in sources for example in read.examples}
        for example, _ in found:
            of[example.id].taken += 1
        parts: dict[str, list[tuple[Example, int]]] = {part: [] for part in recipe.split.parts}
        first = next(iter(parts))
        for example, times in found:
            part = self._part(example) or first
            if part == first or not times:  # what is measured on is there once
                parts[part].append((example, times))
        return parts

    def _balanced(self, found: Sequence[tuple[Example, int]]) -> list[tuple[Example, int]]:
        marked = [replace(example, id=f"{times}\x1f{example.id}") for example, times in found]
        try:
            kept = {each.id for each in balanced(marked, self.recipe.languages, self.recipe.seed)}
        except ValueError as error:
            raise NothingLeft("The languages cannot have their shares.", why=str(error), hint="mend languages") from error
        return [each for each, mark in zip(found, marked, strict=True) if mark.id in kept]

    def _in_one_part(self, read: Read) -> list[Example]:
        """With a split by tool: those whose calls are all of one part; of their other tools, those of the same one."""
        if self.recipe.split.by != "tool":
            return read.examples
        kept = []
        for example in read.examples:
            part = self._part(example)
            if part is None:
                read.dropped["calls tools of several parts"] += 1
                continue
            cards = [card for card in example.tools if self._of_tool(card.name) == part]
            if example.tools and not cards:
                read.dropped["no tool of its part"] += 1
                continue
            kept.append(with_tools(example, cards))
        return kept

    def _part(self, example: Example) -> str | None:
        shares = self.recipe.split.parts
        if self.recipe.split.by == "conversation":
            return part_of(example.id, shares)
        own = {self._of_tool(name) for name in example.calls}
        if not own:
            return self._of_tool(min(card.name for card in example.tools)) if example.tools else part_of(example.id, shares)
        return own.pop() if len(own) == 1 else None

    def _of_tool(self, name: str) -> str:
        return part_of(f"tool {name}", self.recipe.split.parts)

    # --- changing ---

    def _changed(
        self, part: str, found: Sequence[tuple[Example, int]], sources: Sequence[Read], done: Counter[str]
    ) -> list[Example]:
        self._progress(part)
        recipe = self.recipe
        options = Options(
            least=recipe.distractors.least, most=recipe.distractors.most, near=recipe.distractors.near,
            tools=recipe.distractors.tools, rename_tools=recipe.rename.tools, rename_parameters=recipe.rename.parameters,
            neutral=recipe.rename.neutral, no_call=recipe.no_call.share if recipe.no_call else None,
            made=recipe.no_call.made if recipe.no_call else 0.0,
            plain=recipe.no_call.plain if recipe.no_call else 0.0, shuffle=recipe.shuffle,
        )  # fmt: skip
        pools, foreign = self._pools(part, sources)
        changing = Augmentation(options, pools, recipe.seed, self._length, recipe.max_tokens, foreign)
        made = list(changing.applied(found))
        done.update(changing.done)
        return made

    def _pools(self, part: str, sources: Sequence[Read]) -> tuple[dict[str, Pool], dict[tuple[str, str], Pool]]:
        """Tools to draw from: those of a language, and of a language without those of a source."""
        cards: dict[tuple[str, str], dict[str, ToolCard]] = {}
        for example in (each for read in sources for each in read.examples):
            of = cards.setdefault((example.language, example.source), {})
            for card in example.tools:
                if self.recipe.split.by != "tool" or self._of_tool(card.name) == part:
                    of.setdefault(card.name, card)
        pools = {
            language: Pool(card for (other, _), of in cards.items() if other == language for card in of.values())
            for language in {language for language, _ in cards}
        }
        foreign = {
            (language, source): Pool(
                card for (other, origin), of in cards.items() if other == language and origin != source for card in of.values()
                if card.name not in cards[language, source]
            )
            for language, source in cards
        }  # fmt: skip
        return pools, foreign

    # --- telling ---

    def _card(
        self, sources: Sequence[Read], examples: Mapping[str, int], languages: Mapping[str, Counter[str]], done: Counter[str]
    ) -> dict[str, object]:
        recipe = self.recipe.model_dump(mode="json")
        return {
            "title": self.recipe.title, "use": "training", "seed": self.recipe.seed, "recipe": recipe,
            "recipe_sha256": sha256(self.recipe.model_dump_json().encode()).hexdigest(),
            "license": "; ".join(sorted({read.licence for read in sources if read.licence})),
            "examples": dict(examples), "languages": {part: dict(found) for part, found in languages.items()},
            "sources": {read.source.name: _told(read) for read in sources},
            "changed": dict(sorted(done.items())), "checked_against": list(self.checked), "unchecked": self.unchecked,
        }  # fmt: skip


def _told(read: Read) -> dict[str, object]:
    return {
        "rows": read.rows, "left": len(read.examples), "taken": read.taken, "dropped": dict(sorted(read.dropped.items())),
        "contaminated": {part: dict(sorted(how.items())) for part, how in sorted(read.touched.items())},
        "common_runs": read.common, "shares_with": dict(sorted(read.spared.items())), "skipped": read.tally.told(),
        "license": read.licence,
    }  # fmt: skip


def _reasons(dropped: Mapping[str, int]) -> str:
    return "; ".join(f"{why}: {count}" for why, count in dropped.items()) or "caps leave none"
