"""How fast tools are found and how often the right ones: python -m tests.bench.retrieval.run

Each part starts what it needs: a PostgreSQL of its own, the embedder that ships. The last line is one JSON object; null
stands where a part could not run, with the reason above.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Mapping

from schemas.errors import MilepostError

PARTS = {
    "speed": ("search_p95_ms", "search_embed_p95_ms"),
    "quality": tuple(
        f"{data}_{way}_r3"
        for data in ("metatool", "hammerbench_zh", "hammerbench_en")
        for way in ("lexical", "dense", "hybrid")
    ),
    "embedding": ("embed_tok_s", "embed_cosine_min"),
    "memory": ("memory_recall_p95_ms",),
}
"""Every part is a module here with `measure() -> figures`; named are those that its figures have at least."""


def main() -> None:
    """Run the parts, show them, and print them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts to run, of {','.join(PARTS)}")
    chosen = parser.parse_args().only.split(",")
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    figures: dict[str, float | None] = {}
    for part in chosen:
        figures.update(dict.fromkeys(PARTS[part]))
        figures.update(_measured(part))
    _show(figures)
    print(json.dumps(figures))


def _measured(part: str) -> Mapping[str, float | None]:
    """The figures of a part; none and a printed reason when it cannot run, which breaks no other."""
    began = time.perf_counter()
    print(f"{part} ...", flush=True)
    try:
        measured: Mapping[str, float | None] = importlib.import_module(f"tests.bench.retrieval.{part}").measure()
    except (MilepostError, OSError) as error:
        print(f"{part}: null, because {error}", flush=True)
        return {}
    print(f"{part}: {time.perf_counter() - began:.0f} s", flush=True)
    return measured


def _show(figures: Mapping[str, float | None]) -> None:
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:<{width}}  {'-' if value is None else f'{value:,.3f}'.rstrip('0').rstrip('.')}")


if __name__ == "__main__":
    main()
