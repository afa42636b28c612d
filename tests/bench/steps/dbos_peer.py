"""DBOS's side: a workflow of no-op steps, each recorded in Postgres before the next one begins.

    python dbos_peer.py POSTGRES_URL STEPS THREADS...   prints one line of JSON

The first figure is one workflow alone; then, for each number of threads, that many workflows at once.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from dbos import DBOS, DBOSConfig

_begun: list[float] = []


@DBOS.step()
def noop(number: int) -> int:
    _begun.append(time.perf_counter())
    return number


@DBOS.workflow()
def work(steps: int) -> int:
    return sum(noop(1) for _ in range(steps))


def main(url: str, steps: int, *at_once: int) -> None:
    config: DBOSConfig = {
        "name": "bench", "system_database_url": url, "run_admin_server": False, "log_level": "ERROR",
    }  # fmt: skip
    DBOS(config=config)
    DBOS.launch()
    work(20)
    _begun.clear()
    work(steps)
    gaps = sorted((later - earlier) * 1e3 for earlier, later in pairwise(_begun))
    figures = {"step_p50_ms": statistics.median(gaps), "step_p99_ms": gaps[int(len(gaps) * 0.99)]}
    for threads in at_once:
        with ThreadPoolExecutor(threads) as pool:
            begun = time.perf_counter()
            done = sum(pool.map(work, [steps // 4] * threads))
            figures[f"steps_per_s_{threads}"] = done / (time.perf_counter() - begun)
    DBOS.destroy()
    print(json.dumps(figures))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *map(int, sys.argv[3:]))
