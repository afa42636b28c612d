"""`make drill-effects`: kill -9 of tools, conductor, policy, broker and database in the midst of approved writes.

python -m tests.drill.effects --kills 1000 --seed 7    the last line is one JSON object; exit 1 on any violation

Four kinds of provider: the demo cloud (ClientToken, or describe and compare), payments (Idempotency-Key), orders (GET tells),
letters (neither). Of the first three nothing may happen twice or be lost, and nothing may stay in doubt. A letter goes out
at most once; where nobody knows, a person looks and says so.
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
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import structlog

from infra.wiring import World
from schemas import subjects
from schemas.errors import MilepostError
from schemas.ids import RunId
from services.tools.effects import ListEffects, SettleEffect
from services.tools.ledger import Effect, EffectFilter
from tests.drill.chaos import Chaos
from tests.drill.customers import RULES as CUSTOMERS_RULES
from tests.drill.customers import Customer, Letters
from tests.drill.oracle import Verdict, judge
from tests.drill.people import DESCRIBED, RENEWED, Diary
from tests.drill.providers import Providers, document, serving
from tests.support.script import RULES
from tests.support.stack import LocalStack, local_stack, persist

KINDS = ("tools", "conductor", "nats", "postgres", "policy")
ACCOUNTS = ("acct-101", "acct-202", "acct-303")
ORDERS = ("ord-51", "ord-52")
READERS = ("box-71", "box-72")
LONGEST_PAUSE_S = 0.8
MAILBOX_S = 1.0
SETTLED_LIMIT_S = 240.0
SHOWN = 20


async def drill(home: Path, kills: int, seed: int) -> dict[str, object]:
    """Run the whole drill in this folder; `violations` of the report is empty when all went well."""
    began, draw = time.monotonic(), random.Random(seed)
    async with (
        serving(random.Random(seed + 1)) as providers,
        local_stack(home, [*CUSTOMERS_RULES, *RULES]) as stack,
        stack.session() as (client, world),
    ):
        await import_providers(stack, providers.port)
        say(f"the stack is up after {time.monotonic() - began:.1f} s; seed {seed}")
        diary, letters, stopping = Diary(), Letters(), asyncio.Event()
        chaos = Chaos(stack, draw, say, kinds=KINDS, longest_pause_s=LONGEST_PAUSE_S)

        def draws(name: str) -> random.Random:
            return random.Random(f"{seed} {name}")

        async def settle(run: RunId, text: str) -> None:
            await look_into_mailbox(world, providers, run, text)

        async with asyncio.TaskGroup() as people:
            for instance in RENEWED[:2]:
                people.create_task(Customer(client, diary, draws(instance), stopping).prolong(instance))
            people.create_task(Customer(client, diary, draws("describe"), stopping).change(DESCRIBED[0]))
            for account in ACCOUNTS:
                people.create_task(Customer(client, diary, draws(account), stopping).pay(account))
            for order in ORDERS:
                people.create_task(Customer(client, diary, draws(order), stopping).order(order))
            for reader in READERS:
                people.create_task(Customer(client, diary, draws(reader), stopping).write(reader, letters, settle))
            await chaos.strike(kills)
            stopping.set()
            say("the last wishes end")
        verdict = await judged(stack, world, diary, providers, letters)
        return _report(seed, chaos, diary, verdict, providers, letters, time.monotonic() - began)


async def import_providers(stack: LocalStack, port: int) -> None:
    """The providers' OpenAPI document becomes tools of the stack, as an operator does it."""
    place = stack.home.parent / "providers.json"
    place.write_text(json.dumps(document(port)))
    command = ("tools", "import", "openapi", str(place), "--lane", "providers", "--allow", f"127.0.0.1:{port}")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "infra", *command, "--home", str(stack.home), stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    if process.returncode:
        raise SystemExit(f"the providers could not be imported: {said.decode()}")


async def look_into_mailbox(world: World, providers: Providers, run: RunId, text: str) -> None:
    """A person looks whether a letter went out, and tells the ledger."""
    await asyncio.sleep(MAILBOX_S)  # what is on its way arrives first: nobody sends it any more
    happened = any(what == text for _, _, what in providers.effects)
    for effect in await unsettled(world, run):
        asked = SettleEffect(key=effect.key, happened=happened, by="ann", note="looked into the mailbox")
        question = asked.model_dump_json().encode()
        with suppress(MilepostError):  # said before, and the answer was lost; what is not settled is found in the end
            await persist(lambda raw=question: world.bus.ask(subjects.question("tools", "effect_settle"), raw, 10.0))  # type: ignore[misc]


async def unsettled(world: World, run: RunId | None = None) -> list[Effect]:
    """What the ledger does not know."""
    which = EffectFilter(states=("in_doubt", "committed"), run=run)
    question = ListEffects(which=which, limit=200).model_dump_json().encode()
    said = await persist(lambda: world.bus.ask(subjects.question("tools", "effects"), question, 10.0))
    return [Effect.model_validate(each) for each in json.loads(said)]


async def judged(stack: LocalStack, world: World, diary: Diary, providers: Providers, letters: Letters) -> Verdict:
    """All is quiet: what was promised is compared with what happened."""
    verdict = await judge(stack, world, _of_the_cloud(diary))
    for resource, wanted in diary.effects.items():
        provider = wanted[0][0] if wanted else ""
        if provider in ("payments", "orders"):
            happened = providers.of(provider, resource)
            if happened != [what for _, what in wanted]:
                verdict.violations.append(f"{resource}: wanted {wanted[-5:]} of {len(wanted)}, happened {happened[-5:]} of "
                                          f"{len(happened)}")  # fmt: skip
    verdict.violations += _letters(providers, letters)
    verdict.violations += await _all_settled(world)
    return verdict


def _of_the_cloud(diary: Diary) -> Diary:
    """What the demo cloud's journal should show; the other providers have their own."""
    effects = {name: wanted for name, wanted in diary.effects.items() if wanted and wanted[0][0] not in ("payments", "orders")}
    return replace(diary, effects=effects)


def _letters(providers: Providers, letters: Letters) -> list[str]:
    wrong = []
    arrived = [what for provider, _, what in providers.effects if provider == "letters"]
    for text in {*arrived, *letters.sent, *letters.failed, *letters.doubted}:
        count = arrived.count(text)
        if count > 1:
            wrong.append(f"letter {text} went out {count} times")
        if text in letters.sent and count != 1:
            wrong.append(f"letter {text} was said to be sent, and was not")
        if text in letters.failed and count != 0:
            wrong.append(f"letter {text} was said not to be sent, and was")
    return wrong


async def _all_settled(world: World) -> list[str]:
    try:
        async with asyncio.timeout(SETTLED_LIMIT_S):
            while left := await unsettled(world):
                await asyncio.sleep(0.5)
    except TimeoutError:
        return [f"in doubt for good: {each.tool} {each.key} of run {each.run}" for each in left]
    return []


def _report(
    seed: int, chaos: Chaos, diary: Diary, verdict: Verdict, providers: Providers, letters: Letters, seconds: float
) -> dict[str, object]:
    names = ("payments", "orders", "letters")
    wanted = {name: sum(effect[0] == name for each in diary.effects.values() for effect in each) for name in names}
    happened = {name: sum(each[0] == name for each in providers.effects) for name in names}
    return {
        "kills": chaos.killed.total(), "seed": seed, "by_kind": dict(sorted(chaos.killed.items())), "runs": len(diary.runs),
        "facts": verdict.facts, "requests_retried": diary.retries, "cloud_effects": verdict.effects,
        "payments_wanted": wanted["payments"], "payments": happened["payments"], "orders_wanted": wanted["orders"],
        "orders": happened["orders"], "letters": happened["letters"], "letters_sent": len(letters.sent),
        "letters_doubted": len(letters.doubted), "letters_failed": len(letters.failed), "cuts": providers.cuts,
        "replayed_same": verdict.replayed, "indexed": verdict.indexed, "buried": verdict.buried,
        "commands_left": verdict.commands_left, "recovery_p50_s": round(statistics.median(chaos.recovered or [0.0]), 2),
        "recovery_max_s": round(max(chaos.recovered, default=0.0), 2),
        "run_p50_s": round(statistics.median(diary.seconds or [0.0]), 2), "duration_s": round(seconds, 1),
        "violations": verdict.violations,
    }  # fmt: skip


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
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
    print(json.dumps(report | {"violations": len(violations)}))
    if violations:
        say(f"logs and state are kept in {home}")
        sys.exit(1)
    shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
