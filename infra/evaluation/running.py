"""Asking all items of a benchmark: which, several at once, what is known from before not again, troubles counted."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from infra.evaluation.cache import Replies
from infra.evaluation.result import How, Outcome
from infra.evaluation.speakers import Speaker
from schemas.canonical import canonical, digest
from schemas.errors import MilepostError
from services.evaluation.benchmark import Benchmark
from services.evaluation.item import Item, Reply

# So many items without a reply, and none with one: nobody answers there.
HOPELESS = 10
LIMIT_S = 300.0


class TooTroubled(MilepostError):
    """More than a third of the items got no reply: figures would tell nothing."""

    def __init__(self, troubled: Counter[str], of: int) -> None:
        reason, count = troubled.most_common(1)[0]
        others = f", and {len(troubled) - 1} other reasons" if len(troubled) > 1 else ""
        super().__init__(
            f"{troubled.total()} of {of} items got no reply.", why=f"{count} times: {reason}{others}",
            hint="mend that, then ask again: what was answered is kept",
        )  # fmt: skip
        self.troubled = troubled


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is. kept: of the done ones, those that were there from before."""

    done: int
    of: int
    kept: int
    right: int
    troubled: int


Tell = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Progress for nobody."""


def drawn(items: Iterable[Item], limit: int | None = None, *, each: int | None = None, draw: int = 0) -> list[Item]:
    """The items in an order in which any beginning is a fair draw; limit: so many; each: so many of each group.

    The order follows from the names and the number of the draw alone, so that more items of a longer draw are added behind.
    """
    prefix = f"{draw} " if draw else ""
    ordered = sorted(items, key=lambda item: hashlib.sha256(f"{prefix}{item.id}".encode()).hexdigest())
    taken: Counter[str] = Counter()
    chosen = []
    for item in ordered:
        taken[item.group] += 1
        if each is None or taken[item.group] <= each:
            chosen.append(item)
    return chosen[:limit]


def item_key(item: Item) -> str:
    """Tells an item from every other: what is asked, and what should follow."""
    said = digest(*(message.written() for message in item.messages))
    gold = canonical([call.model_dump(mode="json", include={"name", "arguments"}) for call in item.calls])
    return digest(
        "item", item.benchmark, item.id, str(item.parallel), said, *(card.written for card in item.cards), gold, item.text
    )


def reply_key(item: Item, who: str, how: How) -> str:
    """Tells what was asked of whom, and in what manner. who: its hash."""
    return digest("reply", item_key(item), who, canonical(how.model_dump(mode="json")))


@dataclass
class Examination:
    """One benchmark asked of one speaker. at_once: how many items; limit_s: seconds that one may take."""

    benchmark: Benchmark
    speaker: Speaker
    how: How
    replies: Replies
    at_once: int = 4
    limit_s: float = LIMIT_S
    tell: Tell = silent
    kept: int = field(default=0, init=False)

    async def ask(self, items: Sequence[Item]) -> list[tuple[Item, Reply]]:
        """Every item with what was said to it, in their order. Raises TooTroubled, MilepostError where none can be kept."""
        found: dict[str, Reply] = {}
        for item in items:
            if reply := self.replies.get(reply_key(item, self.speaker.who.hash, self.how)):
                found[item.id] = reply
        self.kept = len(found)
        right = sum(not self.benchmark.judge(item, found[item.id]) for item in items if item.id in found)
        troubles: Counter[str] = Counter(reply.trouble for reply in found.values() if reply.trouble)
        left = iter(_alike_together([item for item in items if item.id not in found]))
        self.tell(Progress(len(found), len(items), self.kept, right, troubles.total()))

        async def work() -> None:
            nonlocal right
            for item in left:
                reply = found[item.id] = await self._reply(item)
                right += not self.benchmark.judge(item, reply)
                if reply.trouble:
                    troubles[reply.trouble] += 1
                    nobody = troubles.total() == len(found) - self.kept >= HOPELESS
                    if nobody or troubles.total() * 3 > len(items):
                        raise TooTroubled(troubles, len(items))
                self.tell(Progress(len(found), len(items), self.kept, right, troubles.total()))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self.at_once):
                    group.create_task(work())
        except* MilepostError as failed:
            raise _first(failed) from None
        return [(item, found[item.id]) for item in items]

    async def _reply(self, item: Item) -> Reply:
        try:
            async with asyncio.timeout(self.limit_s):
                reply = await self.benchmark.answer(item, partial(self.speaker.speak, parallel=item.parallel))
        except TimeoutError:
            reply = Reply(item=item.id, trouble=f"it took longer than {self.limit_s:g} s")
        except MilepostError as error:
            reply = Reply(item=item.id, trouble=" ".join(filter(None, (error.what, error.why)))[:500])
        except Exception as error:  # what was called may be such that a benchmark that executes it trips over it
            reply = Reply(item=item.id, trouble=f"{type(error).__name__}: {error}"[:500])
        reply = reply.model_copy(update={"item": item.id})
        if not reply.trouble:
            self.replies.add(reply_key(item, self.speaker.who.hash, self.how), reply)
        return reply


def outcome_of(benchmark: Benchmark, item: Item, reply: Reply) -> Outcome:
    """An item with its reply, as it is kept with the result."""
    return Outcome(
        id=item.id, group=item.group, key=item_key(item), reason=benchmark.judge(item, reply), messages=item.messages,
        tools=tuple(card.name for card in item.cards), calls=item.calls, text=item.text, reply=reply,
        measured={name: tuple(each) for name, each in benchmark.measured(item, reply).items()},
    )  # fmt: skip


def _first(failed: BaseExceptionGroup[MilepostError]) -> MilepostError:
    error = failed.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _alike_together(items: Sequence[Item]) -> list[Item]:
    """Items with the same tools side by side, so that what a model has read of them serves the next."""
    first: dict[tuple[str, ...], int] = {}
    for place, item in enumerate(items):
        first.setdefault(tuple(card.hash() for card in item.cards), place)
    return sorted(items, key=lambda item: first[tuple(card.hash() for card in item.cards)])
