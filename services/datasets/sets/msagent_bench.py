"""MSAgent-Bench itself: dialogues of an agent whose tools are APIs (arXiv 2309.00986, section 3.1), 598,000 as it is published.

The files are those of the hub, as they are (`infra.datasets.hub` fetches them): JSON lines, a JSON list, or CSV with the
columns "id" and "conversations". A file with dev, valid or test in its name is for evaluation. Its form is read by
`services.datasets.formats.msagent_lines`. It could not be had when this was written: what is known of it is from its
documentation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from services.datasets.example import Example, Row
from services.datasets.formats.reading import read as lines
from services.datasets.sets import DataSet, SetMissing

HOME = "https://www.modelscope.cn/datasets/iic/MSAgent-Bench"
_KEPT_BACK = re.compile(r"dev|valid|test", re.IGNORECASE)


def read(folder: Path, part: str) -> Iterator[Row]:
    """The rows of all files of a part, in the order of their names."""
    files = [
        path for kind in ("jsonl", "json", "csv") for path in sorted(folder.rglob(f"*.{kind}"))
        if path.name != "provenance.json" and bool(_KEPT_BACK.search(path.stem)) == (part == "dev")
    ]  # fmt: skip
    if not files:
        raise SetMissing("msagent-bench", folder / f"*{part}*.jsonl", HOME)
    for path in files:
        for row in lines(path, "msagent"):
            yield replace(row, group=path.stem) if isinstance(row, Example) else row


SET = DataSet(
    "msagent-bench",
    "MSAgent-Bench: an agent's dialogues over APIs",
    "as its hub page says",
    ("zh", "en"),
    HOME,
    {"train": "training", "dev": "evaluation"},
    read,
)
