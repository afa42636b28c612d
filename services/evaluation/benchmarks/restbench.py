"""RestBench: which operations of a real API solve a request, in order; arguments are not judged.

A reply is right if the gold path is a subsequence of the path that was called (the paper's correct path rate, of the plan
alone: the services are not reached). Whoever calls step by step is answered RESULT each time, and goes on until it calls
nothing or has called MOST operations; who calls more is wrong, for any path is in one that calls everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from schemas.messages import Message
from services.datasets.example import Skipped
from services.datasets.sets import data_set
from services.evaluation.benchmark import Benchmark, Speak
from services.evaluation.item import Item, Reply
from services.evaluation.metrics.calls import Wanted
from services.evaluation.metrics.intervals import Measured
from services.evaluation.similarity import common
from services.evaluation.turns import items_of

MOST = 8
RESULT = '{"status": "ok", "result": "left out"}'
_ADDED = ("prompt_tokens", "cached_tokens", "completion_tokens", "ms")


class _RestBench(Benchmark):
    name = "restbench"
    title = "RestBench: the operations of TMDB and Spotify that solve a request"
    source = "github.com/Yifan-Song793/RestGPT; arXiv 2306.06624, correct path rate"
    data = "restbench"
    parts = ("tmdb", "spotify")

    def items(self, folder: Path, part: str) -> Iterator[Item | Skipped]:
        for row in data_set("restbench").read(folder, part):
            if isinstance(row, Skipped):
                yield row
            else:
                yield from items_of(row, self.name, last=True, group=part, parallel=True)

    async def answer(self, item: Item, speak: Speak) -> Reply:
        """All that is called until nothing is called any more, as one reply."""
        messages, whole = list(item.messages), await speak(item.messages, item.cards)
        last = whole
        while last.readable and last.calls and len(whole.calls) < MOST:
            messages.append(Message(role="assistant", content=last.text, calls=last.calls, origin="model"))
            messages.extend(Message(role="tool", name=call.name, content=RESULT, origin="tool") for call in last.calls)
            last = await speak(messages, item.cards)
            whole = _together(whole, last)
        return whole

    def wrong(self, item: Item, reply: Reply) -> str:
        called, gold = _path(reply), tuple(call.name for call in item.calls)
        if len(called) > MOST:
            return f"called {len(called)} operations, more than {MOST}"
        return "" if common(called, gold) == len(gold) else f"called {', '.join(called)[:300] or 'nothing'}"

    def wanted(self, item: Item) -> Sequence[Wanted]:
        return tuple(Wanted(call.name, others=True) for call in item.calls)

    def also(self, item: Item, reply: Reply) -> Mapping[str, Measured]:
        """`path_recall`: operations of the gold path that were called in its order; `path_length`: called ones a gold one."""
        called = _path(reply) if reply.readable else ()
        gold = tuple(call.name for call in item.calls)
        return {
            "path_recall": Measured(common(called, gold), len(gold)), "path_length": Measured(len(called), len(gold)),
        }  # fmt: skip


def _path(reply: Reply) -> tuple[str, ...]:
    return tuple(call.name for call in reply.calls)


def _together(first: Reply, second: Reply) -> Reply:
    """Two replies as one. What cannot be read after calls that could ends them, and spoils nothing before."""
    update: dict[str, object] = {field: getattr(first, field) + getattr(second, field) for field in _ADDED}
    return first.model_copy(update={
        **update, "calls": (*first.calls, *(second.calls if second.readable else ())), "text": second.text,
        "steps": first.steps + second.steps, "trouble": second.trouble,
    })  # fmt: skip


BENCHMARK = _RestBench()
