"""How often a model does the right thing: `python -m tests.eval.run bfcl|dialogues`; see --help.

Verdicts go to a file, one line each, so that a run that was broken off goes on where it stopped. The last line of the
output is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from runtime.errors import Permanent
from runtime.prompt import AFTER_RESULT_MARGIN, FIRST_MARGIN, INSTRUCTIONS
from schemas.messages import Generation, Manner, Message, Prompt, Sampling
from schemas.tools import ToolCard
from services.evaluation import bfcl, dialogues
from services.evaluation.report import Share, Verdict, Verdicts, shares
from services.llm.model import TextModel
from services.llm.onnx_model import OnnxModel
from services.retrieval.e5 import E5Embedder
from services.retrieval.leaning import Leaning
from tool_adapters.aliyun.apis import APIS
from tool_adapters.aliyun.cards import card_of
from tool_adapters.builtin import builtin_tools

# Public data are not part of this repository; where they lie beside it, they are found.
SHARED = Path(os.environ.get("MILEPOST_SHARED", Path(__file__).resolve().parents[3] / "shared"))
BFCL = SHARED / "data" / "bfcl" / "bfcl_eval" / "data"
DIALOGUES = Path(__file__).parent / "dialogues.json"
CATEGORIES = ("simple_python", "multiple", "irrelevance")
LONGEST = 300


@dataclass(frozen=True)
class Item:
    """Something to be judged: what the model reads, and why what it says is wrong. after: a tool has answered already."""

    id: str
    group: str
    messages: tuple[Message, ...]
    cards: tuple[ToolCard, ...]
    after: bool
    wrong: Callable[[Generation], str]


def bfcl_items(categories: Iterable[str]) -> Iterator[Item]:
    """Items of BFCL, as the runtime would ask them."""
    for category in categories:
        for item in bfcl.read(BFCL, category):
            yield Item(
                item.id, category, instructed(item.messages), item.cards, False, partial(wrong_calls, item)
            )  # fmt: skip


def dialogue_items(split: str) -> Iterator[Item]:
    """Our own dialogues, with the real cards of built-in tools and ECS."""
    cards = {tool.card.name: tool.card for tool in builtin_tools()} | {api.action: card_of(api) for api in APIS}
    for one in dialogues.read(DIALOGUES, cards):
        if split in {one.split, "all"}:
            yield Item(
                one.id, f"{one.language}-{one.kind}", instructed(one.messages), one.cards, one.after_result,
                partial(wrong_turn, one),
            )  # fmt: skip


def wrong_calls(item: bfcl.Item, said: Generation) -> str:
    """A call that was cut off is no refusal to call."""
    return "cut off" if said.finish == "length" and not said.text else bfcl.wrong(item, said.calls)


def wrong_turn(one: dialogues.Dialogue, said: Generation) -> str:
    return dialogues.wrong(one, said.calls, said.text)


def instructed(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages after the runtime's own system message, into which theirs is taken."""
    own = [message.content for message in messages if message.role == "system"]
    system = Message(role="system", content="\n".join([INSTRUCTIONS, *own]))
    return (system, *(message for message in messages if message.role != "system"))


def drawn(items: Iterable[Item], each: int | None) -> list[Item]:
    """All items, or a fixed draw of so many of each group, in an order in which any beginning is a fair draw, too."""
    ordered = sorted(items, key=lambda item: hashlib.sha256(item.id.encode()).hexdigest())
    if each is None:
        return ordered
    taken: dict[str, int] = {}
    chosen = []
    for item in ordered:
        taken[item.group] = taken.get(item.group, 0) + 1
        if taken[item.group] <= each:
            chosen.append(item)
    return chosen


def beside_request(item: Item) -> tuple[Message, ...]:
    """The item's messages, with its cards before the words of the last request, as runtime.opening puts what was found."""
    asked = max(index for index, message in enumerate(item.messages) if message.role == "user")
    found = (Message(role="user", content="", name="tools", part="tools", tools=(card,)) for card in item.cards)
    return (*item.messages[:asked], *found, *item.messages[asked:])


@dataclass
class Examiner:
    """Lets a model speak on items, several at once, as the runtime would. leaning: retrieval's view of a request.

    found: where the cards stand, as AgentSpec.found_tools says.
    """

    model: TextModel
    manner: Manner
    leaning: Leaning | None
    slots: int
    found: Literal["system", "request"] = "system"

    async def judge(self, items: Sequence[Item], verdicts: Verdicts) -> None:
        """Keep a verdict on every item."""
        room, began = asyncio.Semaphore(self.slots), time.perf_counter()

        async def one(number: int, item: Item) -> None:
            async with room:
                verdicts.add(await self._verdict(item))
            if number % 25 == 0:
                print(f"{number}/{len(items)} after {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)

        await asyncio.gather(*(one(number, item) for number, item in enumerate(items, start=1)))

    async def _verdict(self, item: Item) -> Verdict:
        in_system = self.found == "system"
        prompt = Prompt(
            messages=item.messages if in_system else beside_request(item), tools=item.cards if in_system else (),
            sampling=Sampling(max_tokens=LONGEST), call_margin=await self._margin(item), manner=self.manner,
        )  # fmt: skip
        try:
            said = await self.model.generate(prompt, on_text=lambda _: None)
        except Permanent as error:  # a tool whose schema cannot constrain, or a prompt that is too long
            return Verdict(id=item.id, group=item.group, reason=f"{error.what} {error.why}"[:300])
        return Verdict(
            id=item.id, group=item.group, reason=f"unreadable: {said.malformed}" if said.malformed else item.wrong(said),
            calls=tuple(json.dumps({call.name: call.arguments}, ensure_ascii=False) for call in said.calls),
            text=said.text, tokens=said.usage.prompt_tokens, ms=round(said.total_ms),
        )  # fmt: skip

    async def _margin(self, item: Item) -> float:
        """As runtime.prompt has it."""
        if item.after:
            return AFTER_RESULT_MARGIN
        asked = next(message.content for message in reversed(item.messages) if message.role == "user")
        leaning = await self.leaning.of(asked, item.cards) if self.leaning else None
        return FIRST_MARGIN if leaning is None else -leaning


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.eval.run", description=__doc__)
    parser.add_argument("set", choices=("bfcl", "dialogues"))
    parser.add_argument("--folder", type=Path, required=True, help="a built model")
    parser.add_argument("--embedder", type=Path, help="a built multilingual-e5-small, for the leaning of requests")
    parser.add_argument("--category", action="append", help=f"of BFCL, again for more; all of {', '.join(CATEGORIES)} without")
    parser.add_argument("--split", choices=("dev", "test", "all"), default="test", help="of the dialogues")
    parser.add_argument("--free", action="store_true", help="unconstrained: the model writes what it likes, then it is read")
    parser.add_argument("--always", action="store_true", help="always call, to see calls apart from the decision")
    parser.add_argument("--found", choices=("system", "request"), default="system", help="where the tools stand")
    parser.add_argument("--limit", type=int, help="so many items of each group")
    parser.add_argument("--slots", type=int, default=6, help="streams at once")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path(".bench/eval"), help="where verdicts are kept")
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    found = bfcl_items(asked.category or CATEGORIES) if asked.set == "bfcl" else dialogue_items(asked.split)
    items = drawn(found, asked.limit)
    model = OnnxModel.load(asked.folder, slots=asked.slots, context=3072, threads=asked.threads, max_waiting=asked.slots)
    manner = "free" if asked.free else "always" if asked.always else "leaning" if asked.embedder else "constrained"
    name = f"{asked.set}-{model.name}-{asked.folder.name}-{manner}{'' if asked.found == 'system' else '-request'}"
    verdicts = Verdicts(asked.out / f"{name}.jsonl")
    left = [item for item in items if not verdicts.has(item.id)]
    print(f"{name}: {len(items)} items, {len(left)} of them left", file=sys.stderr, flush=True)
    asking = Manner(constrained=not asked.free, calls="required" if asked.always else "auto")
    leaning = Leaning(E5Embedder(asked.embedder, threads=1)) if asked.embedder else None
    examiner = Examiner(model, asking, leaning, asked.slots, asked.found)
    asyncio.run(examiner.judge(left, verdicts))
    model.close()
    wanted = {item.id for item in items}
    summary = shares(verdict for verdict in verdicts.all if verdict.id in wanted)
    for group, share in sorted(summary.items()):
        print(f"{group:24} {share.right:4}/{share.items:<4} {share.value:.3f}")
    whole = Share(sum(share.right for share in summary.values()), sum(share.items for share in summary.values()))
    accuracy = {group: share.value for group, share in sorted(summary.items())}
    print(json.dumps({"run": name, "items": whole.items, "all": whole.value, **accuracy}))


if __name__ == "__main__":
    main()
