"""A benchmark of our own and a model that says what a test tells it: for tests of how examinations run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from infra.evaluation.result import How, Who
from infra.evaluation.speakers import ModelSpeaker
from schemas.messages import Generation, Message, Prompt, Usage
from schemas.tools import ToolCall, ToolCard
from services.datasets.example import Skipped
from services.evaluation.benchmark import Benchmark
from services.evaluation.item import Item, Reply
from services.llm.model import ANYBODY, Terms

LOCK = ToolCard(
    name="lock_door", description="Lock a door.",
    parameters={"type": "object", "properties": {"door": {"type": "string"}}, "required": ["door"]},
)  # fmt: skip
ME = Who(kind="local", name="me", model="me", hash="m-1")
Says = Callable[[Prompt], Generation]


def lock(door: str) -> ToolCall:
    return ToolCall(id="c0", name="lock_door", arguments={"door": door})


def item(number: int, group: str = "doors") -> Item:
    """Item `number` wants door `number` locked."""
    messages = (Message(role="user", content=f"Lock door {number}.", origin="user"),)
    return Item(f"doors-{number}", "doors", group, "en", messages, (LOCK,), (lock(str(number)),))


class Doors(Benchmark):
    """Items 0 to `count`, every third of another group; a row of the data is none."""

    name = "doors"
    title = "Doors that are to be locked"
    source = "this test"
    data = "doors"
    parts = ("all", "few")

    def __init__(self, count: int = 12) -> None:
        self.count = count

    def items(self, folder: Path, part: str) -> Iterator[Item | Skipped]:
        yield Skipped("doors-x", "it has no door")
        yield from (item(number, "doors" if number % 3 else "gates") for number in range(self.count))

    def wrong(self, item: Item, reply: Reply) -> str:
        return "" if [call.arguments for call in reply.calls] == [call.arguments for call in item.calls] else "another door"


class Told:
    """A TextModel that says what a function makes of the prompt, and remembers what it was asked."""

    def __init__(self, says: Says) -> None:
        self.name = "told"
        self.asked: list[Prompt] = []
        self._says = says

    async def generate(self, prompt: Prompt, *, on_text: Callable[[str], None], terms: Terms = ANYBODY) -> Generation:
        self.asked.append(prompt)
        return self._says(prompt)


def said(*calls: ToolCall, text: str = "", tokens: tuple[int, int] = (60, 12)) -> Generation:
    usage = Usage(prompt_tokens=tokens[0], completion_tokens=tokens[1])
    return Generation(text=text, calls=calls, usage=usage, finish="calls" if calls else "stop", first_token_ms=2, total_ms=5)


def door_of(prompt: Prompt) -> str:
    """The door that the last request names."""
    return prompt.messages[-1].content.removeprefix("Lock door ").removesuffix(".")


def locks(prompt: Prompt) -> Generation:
    """Locks the door that is asked for."""
    return said(lock(door_of(prompt)))


def speaker(model: Told, who: Who = ME, how: How | None = None) -> ModelSpeaker:
    return ModelSpeaker(who, model, how or How(), pause_s=0)


def items_of(bench: Doors) -> Sequence[Item]:
    return [each for each in bench.items(Path(), "all") if isinstance(each, Item)]
