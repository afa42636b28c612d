"""kill -9 of one process after another at random moments, evenly over their kinds (all of them, or those given)."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from infra.processes import Process, descendants
from tests.support.stack import LocalStack

KINDS = ("conductor", "llm", "retrieval", "memory", "tools", "recorder", "nats", "postgres", "forkserver", "cloud")
SUPERVISOR = "supervisor"
BACKEND = "postgres backend"
OVERLAPPING = 0.25
LONGEST_PAUSE_S = 3.0
LIMIT_S = 60.0


@dataclass(slots=True)
class Chaos:
    """Kills members of a stack. recovered: seconds from each kill until the member was ready again."""

    stack: LocalStack
    draw: random.Random
    say: Callable[[str], None]
    killed: Counter[str] = field(default_factory=Counter)
    recovered: list[float] = field(default_factory=list)
    kinds: tuple[str, ...] = KINDS
    longest_pause_s: float = LONGEST_PAUSE_S

    async def strike(self, kills: int) -> None:
        """All kills, the supervisor's last. Raises TimeoutError when a member does not come back."""
        order = [self.kinds[number % len(self.kinds)] for number in range(kills - 1)]
        self.draw.shuffle(order)
        recovering: set[asyncio.Task[None]] = set()
        for number, kind in enumerate(order, 1):
            await asyncio.sleep(self.draw.uniform(0.0, self.longest_pause_s))
            self.say(f"kill {number}: {kind}")
            recovering.add(asyncio.create_task(self._kill(kind)))
            if self.draw.random() >= OVERLAPPING:
                await asyncio.gather(*recovering)
                recovering.clear()
        await asyncio.gather(*recovering)
        await asyncio.sleep(self.draw.uniform(0.0, self.longest_pause_s))
        self.say(f"kill {kills}: {SUPERVISOR}, then `up -d` again")
        await self._kill_supervisor()

    async def _kill(self, kind: str) -> None:
        clock = asyncio.get_running_loop()
        before = self.stack.member(kind)
        while before.state != "ready":  # still recovering from a kill before
            await asyncio.sleep(0.02)
            before = self.stack.member(kind)
        began = clock.time()
        backends = descendants(before.pid) if kind == "postgres" else []
        if backends and self.draw.random() < 0.5:  # its postmaster then ends every session and recovers by itself
            self._kill_backend(self.draw.choice(backends))
            return
        self.killed[kind] += 1
        before.process.send(signal.SIGKILL)
        await self.stack.ready_again(before, LIMIT_S)
        self.recovered.append(clock.time() - began)

    def _kill_backend(self, pid: int) -> None:
        self.killed[BACKEND] += 1
        process = Process.of(pid)
        if process is not None:
            process.send(signal.SIGKILL)

    async def _kill_supervisor(self) -> None:
        clock = asyncio.get_running_loop()
        began, supervisor = clock.time(), self.stack.member(SUPERVISOR).process
        self.killed[SUPERVISOR] += 1
        supervisor.send(signal.SIGKILL)
        await supervisor.gone(LIMIT_S)
        await self.stack.up()
        self.recovered.append(clock.time() - began)
