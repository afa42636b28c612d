"""Two conductors and two copies of every service at once: the same runs, the same effects."""

from __future__ import annotations

import asyncio
from collections import Counter

from runtime.replay import replay
from schemas.events import TERMINAL
from tests.support.stack import OPERATOR, LocalStack, see_through

INSTANCES = ("i-bp1f8k2m9x4q7web01", "i-bp1c3n6v8z2w5api01", "i-bp1h5t9r4y7u1dbm01")
RUNS = 30


async def test_thirty_runs_through_two_of_each(doubled_stack: LocalStack) -> None:
    before = len(await doubled_stack.effects())
    async with doubled_stack.session() as (client, world):

        async def run(number: int) -> None:
            described = f"describe i-bp1j2s8d6f3g9job01 as text-{number}" if number % 3 else "what time is it"
            asked = await client.ask(described if number >= len(INSTANCES) else _renewal(number), agent=OPERATOR)
            ended = await see_through(client, asked.run)
            facts = await world.log.read(asked.run)
            assert ended.state.outcome == "completed", ended.state.failure
            assert sum(isinstance(stored.fact.body, TERMINAL) for stored in facts) == 1
            assert replay(asked.run, facts).same
            answers.append(ended.state.answer or "")
            speakers.update(stored.fact.header.source for stored in facts)

        answers: list[str] = []
        speakers: set[str] = set()
        await asyncio.gather(*(run(number) for number in range(RUNS)))

    assert len(answers) == RUNS
    effects = (await doubled_stack.effects())[before:]
    assert Counter(effect["resource"] for effect in effects if effect["action"] == "RenewInstance") == Counter(INSTANCES)
    for role in ("conductor", "llm", "retrieval", "memory", "policy", "tools"):
        assert len({source for source in speakers if f"/{role}/" in source}) == 2, f"one {role} did everything"


def _renewal(number: int) -> str:
    return f"twice renew {INSTANCES[number]} for 1 week"
