"""`make drill-kill`: kill -9 of every process at random moments of runs that write; nothing lost, nothing twice.

python -m tests.drill.kill --kills 50 --seed 7    the last line is one JSON object; exit 1 on any violation
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import structlog

from tests.drill.chaos import Chaos
from tests.drill.oracle import Verdict, judge
from tests.drill.people import DESCRIBED, RENEWED, Diary, Person
from tests.support.stack import local_stack

READERS = 2
SHOWN = 20


async def drill(home: Path, kills: int, seed: int) -> dict[str, object]:
    """Run the whole drill in this folder; `violations` of the report is empty when all went well."""
    began = time.monotonic()
    async with local_stack(home) as stack, stack.session() as (client, world):
        say(f"the stack is up after {time.monotonic() - began:.1f} s; seed {seed}")
        draw, diary, stopping = random.Random(seed), Diary(), asyncio.Event()
        chaos = Chaos(stack, draw, say)
        async with asyncio.TaskGroup() as people:
            for instance in RENEWED:
                people.create_task(Person(client, diary, random.Random(f"{seed} {instance}"), stopping).renew(instance))
            for instance in DESCRIBED:
                people.create_task(Person(client, diary, random.Random(f"{seed} {instance}"), stopping).describe(instance))
            for reader in range(READERS):
                people.create_task(Person(client, diary, random.Random(f"{seed} {reader}"), stopping).read())
            await chaos.strike(kills)
            stopping.set()
            say("the last wishes end")
        verdict = await judge(stack, world, diary)
        return _report(seed, chaos, diary, verdict, time.monotonic() - began)


def _report(seed: int, chaos: Chaos, diary: Diary, verdict: Verdict, seconds: float) -> dict[str, object]:
    return {
        "kills": chaos.killed.total(), "seed": seed, "by_kind": dict(sorted(chaos.killed.items())),
        "runs": len(diary.runs), "requests_retried": diary.retries, "facts": verdict.facts,
        "effects_wanted": sum(len(each) for each in diary.effects.values()), "effects": verdict.effects,
        "replayed_same": verdict.replayed, "indexed": verdict.indexed, "buried": verdict.buried,
        "commands_left": verdict.commands_left,
        "recovery_p50_s": _rounded(statistics.median(chaos.recovered or [0.0])),
        "recovery_max_s": _rounded(max(chaos.recovered, default=0.0)),
        "run_p50_s": _rounded(statistics.median(diary.seconds or [0.0])),
        "run_max_s": _rounded(max(diary.seconds, default=0.0)),
        "duration_s": _rounded(seconds), "violations": verdict.violations,
    }  # fmt: skip


def _rounded(seconds: float) -> float:
    return round(seconds, 2)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None, help="the same kinds in the same order; moments differ")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    home = Path(tempfile.mkdtemp(prefix="mp-drill-"))
    home.chmod(0o711)
    report = asyncio.run(drill(home, given.kills, seed))
    violations = report.pop("violations")
    assert isinstance(violations, list)
    for violation in violations[:SHOWN]:
        say(f"\nVIOLATION {violation}")
    if len(violations) > SHOWN:
        say(f"\n... and {len(violations) - SHOWN} more")
    print(json.dumps(report | {"violations": len(violations)}))
    if violations:
        say(f"logs and state are kept in {home}")
        sys.exit(1)
    shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
