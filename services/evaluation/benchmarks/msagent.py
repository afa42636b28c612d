"""A data set of conversations, as `milepost dataset` writes them or in MSAgent-Bench's format: what the paper was scored on.

Every assistant message is an item after its gold history. ModelScope-Agent's own scorer (utils.evaluate) reports Action EM,
input_em - the whole of the parameters equal, here `exact_call` - and ROUGE-L over the references that are text; its two
faults are not repeated: a wrong call counts once, and a reply is read by the wire's parser, not by a greedy pattern.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from services.datasets.example import Skipped
from services.datasets.formats import reading
from services.datasets.sets import SetMissing
from services.evaluation.benchmark import Benchmark
from services.evaluation.item import Item, Reply
from services.evaluation.metrics.calls import wrong_turn
from services.evaluation.turns import items_of

HOME = "https://modelscope.cn/datasets/damo/MSAgent-Bench"
FORMATS = ("milepost", "msagent", "openai")


class _MsAgent(Benchmark):
    name = "msagent"
    title = "Conversations of a data set, each assistant message after its gold history"
    source = "arXiv 2309.00986, section 5; any folder that `milepost dataset` wrote"
    data = "msagent"
    parts = ("test", "validation", "train")
    languages = ("en", "zh")

    def items(self, folder: Path, part: str) -> Iterator[Item | Skipped]:
        """Those of FORMAT.PART.jsonl, of several formats the first of milepost, msagent, openai; or of PART.jsonl.

        The files may lie in the data folder itself, so that `--data` can name one data set.
        """
        for row in reading.read(_file(folder, part)):
            if isinstance(row, Skipped):
                yield row
            else:
                yield from items_of(row, self.name)

    def wrong(self, item: Item, reply: Reply) -> str:
        return wrong_turn(self.wanted(item) or (), reply.calls, reply.text)


def _file(folder: Path, part: str) -> Path:
    names = [*(f"{form}.{part}.jsonl" for form in FORMATS), f"{part}.jsonl", f"{part}.json"]
    for path in (place / name for place in (folder, folder.parent) for name in names):
        if path.exists():
            return path
    raise SetMissing("msagent", folder / names[0], HOME)


BENCHMARK = _MsAgent()
