"""Policy on real servers: counting by several processes, a database that dies, rights taken back while runs are under way."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import orjson
import pytest

from infra.cli import main, show
from infra.embedded import Server, postgres
from infra.postgres.engine import StoreUnavailable, connect, migrate
from infra.postgres.policies import PostgresPolicyStore
from infra.session import session
from infra.wiring import World
from runtime.client import Client
from runtime.clock import SystemClock
from schemas import subjects
from schemas.events import ApprovalGranted, CallJudged, GrantKept, ToolReturned
from schemas.policy import Limit, Policy, Revocation, Verdict
from services.policy.judging import AgentRules
from services.policy.matching import Call
from services.policy.ports import Charge, PolicyVersion
from services.policy.verdicts import Judge
from tests.support.stack import OPERATOR, LocalStack, persist, reached, see_through

IDLE = "i-bp1j2s8d6f3g9job01"
CALL = Call(tool="renew", effect="write", agent="ops", user="ann", arguments={"months": 1}, runs=("run1",))
ASKS_NOBODY = AgentRules("never")


def now() -> datetime:
    return datetime.now(UTC)


async def put(store: PostgresPolicyStore, policy: Policy) -> None:
    await store.set_policy("acme", PolicyVersion(hash=policy.hash(), policy=policy, by="ann", at=now()), None)


def charge(number: int) -> Charge:
    return Charge(f"c{number}", f"run{number}", "call1", "ann", "renew", Decimal(0), now())


def at_most(writes: int) -> Policy:
    return Policy(limits=(Limit(name="few", window_s=86400, writes=writes),))


@asynccontextmanager
async def judging(url: str) -> AsyncIterator[tuple[Judge, PostgresPolicyStore]]:
    """A judge with connections of its own, as another process has them."""
    engine = connect(url, role="milepost_service")
    store = PostgresPolicyStore(engine)
    yield Judge(store, SystemClock()), store
    await engine.dispose()


async def test_of_fifty_calls_at_once_in_eight_processes_five_are_let_through(postgres_url: str) -> None:
    async with AsyncExitStack() as opened:
        judges = [await opened.enter_async_context(judging(postgres_url)) for _ in range(8)]
        await put(judges[0][1], at_most(5))
        await asyncio.gather(*(judge.verdict("acme", ASKS_NOBODY, CALL) for judge, _ in judges))  # all are connected
        calls = (judges[number % 8][0].verdict("acme", ASKS_NOBODY, CALL, charge(number)) for number in range(50))
        found = [each.outcome for each in await asyncio.gather(*calls)]
    assert (found.count("allow"), found.count("deny")) == (5, 45)


async def test_new_rules_hold_in_every_process_at_once(postgres_url: str) -> None:
    async with judging(postgres_url) as (_, store), judging(postgres_url) as (two, _):
        assert (await two.verdict("acme", ASKS_NOBODY, CALL)).outcome == "allow"
        for writes in (0, 9, 0):
            await put(store, at_most(writes))
            assert (await two.verdict("acme", ASKS_NOBODY, CALL)).outcome == ("allow" if writes else "deny")


async def test_no_call_judged_after_a_right_was_taken_back_is_let_through(postgres_url: str) -> None:
    async with judging(postgres_url) as (_, store), judging(postgres_url) as (two, _):
        revoked = asyncio.Event()
        seen: list[tuple[bool, Verdict]] = []

        async def call_on() -> None:
            while len([late for late, _ in seen if late]) < 20:
                late = revoked.is_set()
                seen.append((late, await two.verdict("acme", ASKS_NOBODY, CALL)))

        callers = asyncio.gather(*(call_on() for _ in range(4)))
        while len(seen) < 10:
            await asyncio.sleep(0)
        await store.revoke(Revocation(id="b", tenant="acme", agent="ops", since=now(), by="eve"))
        revoked.set()
        await callers
    assert {verdict.outcome for late, verdict in seen if late} == {"deny"}
    assert "allow" in {verdict.outcome for late, verdict in seen if not late}


@pytest.fixture
async def own_server(home: Path) -> AsyncIterator[Server]:
    server = await postgres.start(home)
    await migrate(server.url)
    yield server
    await postgres.stop(await postgres.start(home))


async def test_what_was_counted_is_counted_once_though_the_database_was_killed(own_server: Server, home: Path) -> None:
    async with judging(own_server.url) as (judge, store):
        await put(store, at_most(10))

        async def persistently(number: int) -> str:
            while True:
                with suppress(StoreUnavailable):
                    return (await judge.verdict("acme", ASKS_NOBODY, CALL, charge(number))).outcome
                await asyncio.sleep(0.05)

        before = [await persistently(number) for number in range(4)]
        waiting = [asyncio.create_task(persistently(number)) for number in range(20)]
        own_server.process.send(signal.SIGKILL)
        await own_server.process.gone()
        with pytest.raises(StoreUnavailable):
            await judge.verdict("acme", ASKS_NOBODY, CALL, charge(0))
        await postgres.start(home)
        outcomes = await asyncio.gather(*waiting)
        assert before == ["allow"] * 4 and outcomes.count("allow") == 10
        assert outcomes[:4] == ["allow"] * 4, "those that were counted before still are"


# --- a whole stack ---


class Tenant:
    """A tenant of its own in the session's stack, so that its rules are nobody else's."""

    def __init__(self, stack: LocalStack, name: str) -> None:
        self.stack, self.name = stack, name
        self.settings = stack.loaded.settings.model_copy(update={"tenant": name})

    def session(self) -> AbstractAsyncContextManager[tuple[Client, World]]:
        return session(self.settings)

    async def ask(self, world: World, verb: str, **question: object) -> dict[str, object]:
        raw = orjson.dumps({"tenant": self.name, "by": "ann", **question})
        found: dict[str, object] = orjson.loads(await world.bus.ask(subjects.question("policy", verb), raw, 10.0))
        return found


async def _judged(client: Client, world: World, task: str) -> Verdict:
    run = (await client.ask(task, agent=OPERATOR)).run
    await see_through(client, run)
    return [each.fact.body for each in await world.log.read(run) if isinstance(each.fact.body, CallJudged)][-1].verdict


async def test_a_stack_goes_by_the_rules_of_its_tenant(scripted_stack: LocalStack) -> None:
    tenant = Tenant(scripted_stack, "ruled")
    rule = {"name": "quiet", "then": "allow", "when": {"arguments": {"Description": "fine*"}}}
    async with tenant.session() as (client, world):
        assert (await _judged(client, world, f"describe {IDLE} as before")).rule == "approval"
        await tenant.ask(world, "set_policy", policy={"rules": [rule, {"name": "no", "then": "deny"}]})
        assert (await _judged(client, world, f"describe {IDLE} as fine1")).outcome == "allow"
        before = len(await scripted_stack.effects(IDLE))
        assert (await _judged(client, world, f"describe {IDLE} as other")).rule == "no"
        assert len(await scripted_stack.effects(IDLE)) == before
        await tenant.ask(world, "revoke", agent="ops", reason="enough")
        assert (await _judged(client, world, f"describe {IDLE} as fine2")).rule == "revoked"
    async with scripted_stack.session() as (client, world):
        assert (await _judged(client, world, f"describe {IDLE} as another")).outcome == "ask", "another tenant's are its own"


async def test_an_approval_for_the_conversation_is_kept_and_covers_the_next_call(scripted_stack: LocalStack) -> None:
    tenant = Tenant(scripted_stack, "granting")

    async with tenant.session() as (client, world):
        first = (await client.ask(f"describe {IDLE} as g1", agent=OPERATOR, conversation="grants")).run
        ended = await see_through(client, first, lambda run, id: client.approve(run, id, scope="conversation"))
        facts = await persist(lambda: world.log.read(first))
        assert ended.state.outcome == "completed" and any(isinstance(each.fact.body, ApprovalGranted) for each in facts)
        await persist(lambda: _until_granted(tenant, world))
        again = (await client.ask(f"describe {IDLE} as g2", agent=OPERATOR, conversation="grants")).run
        await see_through(client, again, _nobody)
        bodies = [each.fact.body for each in await world.log.read(again)]
        assert [body.verdict.rule for body in bodies if isinstance(body, CallJudged)] == ["grant"]
        assert any(isinstance(each.fact.body, GrantKept) for each in await world.log.read(first))


async def test_writes_wait_for_a_policy_service_that_was_killed(scripted_stack: LocalStack) -> None:
    member = scripted_stack.member("policy")
    os.kill(member.pid, signal.SIGSTOP)
    async with scripted_stack.session() as (client, world):
        run = (await client.ask(f"describe {IDLE} as patient", agent=OPERATOR)).run
        await reached(client, run, lambda update: update.stored.fact.kind == "CallPlanned")
        assert not [each for each in await world.log.read(run) if isinstance(each.fact.body, ToolReturned)]
        await scripted_stack.kill("policy")
        assert (await see_through(client, run)).state.outcome == "completed"
    assert scripted_stack.member("policy").restarts > member.restarts


Cli = Callable[..., str]


@pytest.fixture
def policy(scripted_stack: LocalStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """`milepost policy ARGUMENTS` for a tenant of its own: what it prints, on standard error if it fails with `code`."""
    monkeypatch.setenv("MILEPOST_TENANT", "typed")

    def call(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["milepost", "policy", *arguments, "--home", str(scripted_stack.home)])
        with pytest.raises(SystemExit) as ended:
            main()
        show._STATE["json"] = False
        said = capsys.readouterr()
        assert (ended.value.code or 0) == code, said
        return said.err if code else said.out

    yield call
    show._STATE["json"] = False


def test_rules_are_set_tried_and_taken_back_at_the_command_line(policy: Cli, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    assert "nobody has set rules" in policy("show")
    file.write_text("rules: [{name: night, then: deny, when: {hours: {from: 22:00, to: 06:00}}}]\n")
    assert "stays in force" in policy("set", str(file), "--dry-run")
    assert "version 1 is in force" in policy("set", str(file), "--note", "why not")
    assert "hours 22:00-06:00 UTC" in policy("show")
    file.write_text(policy("show", "--yaml"))
    assert json.loads(policy("set", str(file), "--json"))["version"] == 1, "what it prints, it takes"
    file.write_text("rules: [{name: night, then: deny, whn: {}}]\n")
    assert "line 1, rules[0].whn" in policy("set", str(file), code=1)

    asked = ("check", "RenewInstance", "--args", '{"Period": 1}', "--agent", "ops")
    assert policy(*asked, "--at", "2026-11-23T12:00:00").startswith("? ask")
    taken = json.loads(policy("revoke", "--agent", "ops", "--reason", "enough", "--json"))
    assert policy(*asked).startswith("✗ deny") and "enough" in policy("revocations")
    assert "given again" in policy("lift", taken["id"][:8])
    assert "No id begins" in policy("lift", "nothing", code=1) and "Nothing is named" in policy("revoke", code=1)
    assert [each["deed"] for each in json.loads(policy("history", "--json"))] == ["lift", "revoke", "set_policy"]


async def _until_granted(tenant: Tenant, world: World) -> None:
    while not await tenant.ask(world, "grants"):
        await asyncio.sleep(0.02)


async def _nobody(run: str, id: str) -> None:
    raise AssertionError("nobody is to be asked")
