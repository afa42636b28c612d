"""Our own short dialogues, Chinese and English, with cards of built-in tools and ECS; every other one is for tuning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import cast

from schemas.canonical import JsonObject
from schemas.tools import ToolCall, ToolCard
from services.datasets.example import Skipped
from services.evaluation import dialogues
from services.evaluation.benchmark import Benchmark
from services.evaluation.item import Item, Reply
from services.evaluation.metrics.calls import Wanted
from services.evaluation.turns import instructed

OWN = Path(__file__).with_name("dialogues.json")


class _Dialogues(Benchmark):
    name = "dialogues"
    title = "Milepost's own dialogues: call, answer, or answer after a result"
    source = "services/evaluation/dialogues.py"
    data = "dialogues"
    parts = ("test", "dev", "all")
    languages = ("en", "zh")

    def items(self, folder: Path, part: str) -> Iterator[Item | Skipped]:
        """Those of a dialogues.json in the folder, if there is one, else Milepost's own."""
        path = folder / OWN.name
        for one in dialogues.read(path if path.exists() else OWN, _cards()):
            if part in (one.split, "all"):
                expected = one.expected
                calls = (ToolCall(id="g0", name=expected.call, arguments=_arguments(expected)),) if expected.call else ()
                yield Item(
                    one.id, self.name, f"{one.language}-{one.kind}", one.language, instructed(one.messages), one.cards, calls,
                    source=one,
                )  # fmt: skip

    def wrong(self, item: Item, reply: Reply) -> str:
        return dialogues.wrong(_of(item), reply.calls, reply.text)

    def wanted(self, item: Item) -> Sequence[Wanted]:
        expected = _of(item).expected
        if not expected.call:
            return ()
        arguments = {name: partial(_same, value) for name, value in expected.arguments.items()}
        return (Wanted(expected.call, arguments, others=True),)


def _of(item: Item) -> dialogues.Dialogue:
    return cast("dialogues.Dialogue", item.source)


def _same(wanted: object, said: object) -> bool:
    return dialogues.same(said, wanted)


def _arguments(expected: dialogues.Expected) -> JsonObject:
    return dict(expected.arguments)


def _cards() -> dict[str, ToolCard]:
    from tool_adapters.aliyun.apis import APIS
    from tool_adapters.aliyun.cards import card_of
    from tool_adapters.builtin import builtin_tools

    return {tool.card.name: tool.card for tool in builtin_tools()} | {api.action: card_of(api) for api in APIS}


BENCHMARK = _Dialogues()
