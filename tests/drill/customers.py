"""The customers of the effects drill: they renew, describe, pay, order and write letters, and keep a diary.

A letter that nobody can tell about is in doubt: its customer looks into the mailbox and tells the ledger what is there.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from runtime.client import Client
from schemas.agent import AgentSpec
from schemas.commands import CallTool
from schemas.events import EffectSettled, StepFailed, ToolFailed, ToolInDoubt
from schemas.ids import CommandId, RunId
from tests.drill.people import Diary, Person
from tests.support.stack import OPERATOR, persist

AGENT = AgentSpec(
    name="buyer", tool_k=0,
    tools=("create_payment", "place_order", "get_order", "send_letter", *OPERATOR.tools),
)  # fmt: skip

RULES: list[dict[str, object]] = [
    {
        "role": "user", "match": r"twice pay (?P<amount>\S+) EUR to (?P<account>\S+)",
        "call": [{"name": "create_payment", "arguments": {"body": {
            "account": "{account}", "amount": "{amount}", "currency": "EUR"}}}] * 2,
    },
    {
        "role": "tool", "asked": r"twice pay (?P<amount>\S+) EUR to (?P<account>\S+)", "match": "already under way",
        "call": [{"name": "create_payment", "arguments": {"body": {
            "account": "{account}", "amount": "{amount}", "currency": "EUR"}}}],
    },
    {
        "role": "user", "match": r"pay (?P<amount>\S+) EUR to (?P<account>\S+)",
        "call": [{"name": "create_payment", "arguments": {"body": {
            "account": "{account}", "amount": "{amount}", "currency": "EUR"}}}],
    },
    *(
        {
            "role": "user", "match": rf"order {quantity} of (?P<item>\S+) as (?P<order>\S+)$",
            "call": [{"name": "place_order", "arguments": {
                "order": "{order}", "body": {"item": "{item}", "quantity": quantity}}}],
        }
        for quantity in range(1, 1000)
    ),
    {
        "role": "user", "match": r"write to (?P<to>\S+): (?P<text>\S+)",
        "call": [{"name": "send_letter", "arguments": {"body": {"to": "{to}", "text": "{text}"}}}],
    },
]  # fmt: skip

Settle = Callable[[RunId, str], Awaitable[None]]
"""What a person does with a letter in doubt: looks whether it is in the mailbox, and tells the ledger."""

SETTLED_LIMIT_S = 240.0


@dataclass(slots=True)
class Letters:
    """What became of letters. sent: told so; doubted: nobody knew, a person looked; failed: not sent, said so."""

    sent: list[str] = field(default_factory=list)
    doubted: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class Customer(Person):
    """A person who buys things."""

    def __init__(self, client: Client, diary: Diary, draw: random.Random, stopping: asyncio.Event) -> None:
        super().__init__(client, diary, draw, stopping)
        self.agent = AGENT
        self.doubted = 0
        self._happened = True

    async def pay(self, account: str) -> None:
        """One payment after another, each of another amount: plain, twice by the model, retried by the client."""
        cents = 100
        while not self._stopping.is_set():
            cents += 1
            amount = f"{cents / 100:.2f}"
            word = self._draw.choice(("pay", "pay", "twice pay"))
            await self._wish(account, ("payments", amount), f"{word} {amount} EUR to {account}")

    async def order(self, order: str) -> None:
        """One change of the same order after another."""
        quantity = 0
        while not self._stopping.is_set() and quantity < 998:
            quantity += 1
            await self._wish(order, ("orders", str(quantity)), f"order {quantity} of tea as {order}")

    async def write(self, to: str, letters: Letters, settle: Settle) -> None:
        """One letter after another; what is in doubt is looked after by hand."""
        while not self._stopping.is_set():
            text = f"l-{self._draw.getrandbits(48):012x}"
            run = await self._ask(f"write to {to}: {text}", secrets.token_hex(8))
            await super()._through(run)
            bodies = await self._bodies(run)
            self._diary.excused.add(run)
            if any(_not_known(body) for body in bodies):
                letters.doubted.append(text)
                await settle(run, text)
            elif any(isinstance(body, ToolFailed) for body in bodies):
                letters.failed.append(text)
            else:
                letters.sent.append(text)

    async def _wish(self, resource: str, effect: tuple[str, str], task: str) -> None:
        self._happened = True
        self._diary.wanted(resource, effect)
        await self._draw.choice((self._plainly, self._with_retries))(task)
        if not self._happened:
            self._diary.effects[resource].pop()  # the last: a resource is one person's

    async def _through(self, run: RunId, decide: Callable[[RunId, CommandId], Awaitable[None]] | None = None) -> None:
        """To the end, and if something is in doubt then, until it is known."""
        await super()._through(run, decide)
        bodies = await self._bodies(run)
        if not any(_not_known(body) for body in bodies):
            return
        self.doubted += 1
        try:
            async with asyncio.timeout(SETTLED_LIMIT_S):
                while not (settled := [body for body in bodies if isinstance(body, EffectSettled)]):
                    await asyncio.sleep(0.5)
                    bodies = await self._bodies(run)
        except TimeoutError:
            self._diary.stuck.append((run, "what was in doubt is not known yet"))
            return
        self._diary.excused.add(run)
        self._happened = settled[-1].happened

    async def change(self, instance: str) -> None:
        """One description of an instance after another, each new; what is in doubt is known before the next."""
        while not self._stopping.is_set():
            text = f"d-{self._draw.getrandbits(48):012x}"
            await self._wish(instance, ("ModifyInstanceAttribute", text), f"describe {instance} as {text}")

    async def prolong(self, instance: str) -> None:
        """One renewal after another: plain, asked for twice by the model, retried by the client."""
        while not self._stopping.is_set():
            weeks = self._draw.choice((1, 1, 2))
            word = self._draw.choice(("renew", "renew", "twice renew"))
            await self._wish(instance, ("RenewInstance", f"{weeks} Week"), f"{word} {instance} for {weeks} week")

    async def _bodies(self, run: RunId) -> list[object]:
        return [stored.fact.body for stored in await persist(lambda: self._client.log.read(run))]


def _not_known(body: object) -> bool:
    """Whether a write was given up, and nobody could say what became of it."""
    given_up = isinstance(body, StepFailed) and isinstance(body.command, CallTool) and body.command.write_key is not None
    return given_up or isinstance(body, ToolInDoubt)
