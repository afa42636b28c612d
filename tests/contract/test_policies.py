"""What every store of rules promises, in memory and in Postgres alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from infra.postgres.engine import connect
from infra.postgres.policies import PostgresPolicyStore
from schemas.policy import Grant, Policy, Revocation, Rule, Verdict
from services.policy.judging import Counter, Spent
from services.policy.memory_store import MemoryPolicyStore
from services.policy.ports import Charge, Held, PolicyChanged, PolicyStore, PolicyVersion, Subject, subject_of

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SOON = NOW + timedelta(minutes=10)
LATER = NOW + timedelta(hours=1)
ARGUMENTS: dict[str, object] = {"InstanceId": "i-1", "Period": 3}


def stores_in_postgres(engine: AsyncEngine) -> PolicyStore:
    return PostgresPolicyStore(engine)


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[PolicyStore]:
    if request.param == "memory":
        yield MemoryPolicyStore()
        return
    engine = connect(request.getfixturevalue("postgres_url"), role="milepost_service")
    yield stores_in_postgres(engine)
    await engine.dispose()


def about(**fields: object) -> Subject:
    values: dict[str, object] = {"agent": "ops", "user": "ann", "conversation": "talk", "runs": ("run1",)}
    arguments = fields.pop("arguments", ARGUMENTS)
    return subject_of(fields.pop("tool", "RenewInstance"), arguments, **(values | fields))  # type: ignore[arg-type]


# --- rules ---


def rules(*names: str, by: str = "ann") -> PolicyVersion:
    policy = Policy(rules=tuple(Rule(name=name, then="deny") for name in names))
    return PolicyVersion(hash=policy.hash(), policy=policy, by=by, at=NOW, note="为什么")


async def test_nobody_has_set_anything_at_first(store: PolicyStore) -> None:
    assert await store.policy("acme") is None and await store.versions("acme", 9) == []
    assert (await store.standing("acme", about(), NOW)).version == 0


async def test_rules_are_kept_in_versions_with_their_authors(store: PolicyStore) -> None:
    first = await store.set_policy("acme", rules("one"), None)
    second = await store.set_policy("acme", rules("two", by="bob"), 1)

    assert (first.version, second.version) == (1, 2)
    assert await store.policy("acme") == second and await store.policy("acme", 1) == first
    assert await store.versions("acme", 9) == [second, first]
    assert (await store.standing("acme", about(), NOW)).version == 2
    assert await store.policy("globex") is None and await store.policy("acme", 3) is None


async def test_the_same_rules_again_are_no_new_version(store: PolicyStore) -> None:
    first = await store.set_policy("acme", rules("one"), None)
    assert await store.set_policy("acme", rules("one", by="bob"), None) == first
    assert [each.deed for each in await store.changes("acme", 9)] == ["set_policy"]


async def test_who_began_with_an_older_version_is_told(store: PolicyStore) -> None:
    await store.set_policy("acme", rules("one"), 0)
    with pytest.raises(PolicyChanged, match="have changed"):
        await store.set_policy("acme", rules("two"), 0)


async def test_rules_set_at_once_get_a_version_each(store: PolicyStore) -> None:
    put = await asyncio.gather(*(store.set_policy("acme", rules(f"r{number}"), None) for number in range(8)))
    assert sorted(each.version for each in put) == list(range(1, 9))


async def test_hours_come_back_as_they_were_written(store: PolicyStore) -> None:
    policy = Policy.model_validate(
        {"rules": [{"name": "n", "then": "deny", "when": {"hours": {"zone": "Asia/Shanghai", "from": "22:00", "to": "06:00"}}}]}
    )
    await store.set_policy("acme", PolicyVersion(hash=policy.hash(), policy=policy, by="ann", at=NOW), None)
    kept = await store.policy("acme")
    assert kept and kept.policy == policy and kept.policy.hash() == kept.hash


# --- grants ---


def grant(id: str = "g1", **fields: object) -> Grant:
    values: dict[str, object] = {
        "id": id, "tenant": "acme", "tool": "RenewInstance", "agent": "ops", "scope": "always", "arguments": ARGUMENTS,
        "by": "ann", "run": "run1", "since": NOW,
    }  # fmt: skip
    return Grant.model_validate(values | fields)


async def found(store: PolicyStore, now: datetime = SOON, **fields: object) -> list[str]:
    return [each.id for each in (await store.standing("acme", about(**fields), now)).grants]


async def test_a_grant_is_found_by_its_arguments_or_its_conversation(store: PolicyStore) -> None:
    await store.keep_grant(grant("g1"))
    await store.keep_grant(grant("g2", scope="conversation", conversation="talk", arguments={}))

    assert sorted(await found(store)) == ["g1", "g2"]
    assert await found(store, conversation="other") == ["g1"]
    assert await found(store, arguments={"InstanceId": "i-2", "Period": 3}) == ["g2"]
    assert await found(store, arguments={"Period": 3, "InstanceId": "i-1"}, conversation="") == ["g1"]
    assert await found(store, tool="StopInstance") == await found(store, agent="other") == []
    assert (await store.standing("globex", about(), SOON)).grants == ()


async def test_a_grant_ends(store: PolicyStore) -> None:
    await store.keep_grant(grant("g1", expires=SOON))
    assert await found(store, NOW) == ["g1"] and await found(store, SOON) == []


async def test_a_grant_is_kept_once_and_revoked_once(store: PolicyStore) -> None:
    await store.keep_grant(grant())
    await store.keep_grant(grant(by="eve", agent="other"))
    gone = await store.revoke_grant("acme", "g1", "bob", SOON)
    again = await store.revoke_grant("acme", "g1", "eve", LATER)
    await store.keep_grant(grant())  # the command came again

    assert gone == again == grant(revoked=SOON, revoked_by="bob")
    assert await found(store) == [] and await store.grants("acme", agent=None, tool=None, all=False, limit=9) == []
    assert await store.grants("acme", agent="ops", tool="RenewInstance", all=True, limit=9) == [gone]
    assert await store.revoke_grant("acme", "nothing", "bob", SOON) is None
    assert await store.revoke_grant("globex", "g1", "bob", SOON) is None
    assert [(each.deed, each.by) for each in await store.changes("acme", 9)] == [("revoke_grant", "bob"), ("keep_grant", "ann")]


# --- rights taken back ---


def ban(id: str = "b1", **fields: object) -> Revocation:
    values: dict[str, object] = {"id": id, "tenant": "acme", "by": "ann", "reason": "发疯了", "since": NOW}
    return Revocation.model_validate(values | fields)


@pytest.mark.parametrize("fields", [{}, {"tool": "RenewInstance"}, {"agent": "ops", "user": "ann"}, {"run": "run0"}])
async def test_a_revocation_is_found_by_what_it_names(store: PolicyStore, fields: dict[str, str]) -> None:
    await store.revoke(ban(**fields))
    await store.revoke(ban("b2", user="bob", tool="RenewInstance"))
    runs = ("run1", "run0")

    assert [each.id for each in (await store.standing("acme", about(runs=runs), SOON)).revocations] == ["b1"]
    if fields:
        other = about(tool="x", agent="y", user="z", runs=("run9",))
        assert (await store.standing("acme", other, SOON)).revocations == ()
    assert (await store.standing("globex", about(runs=runs), SOON)).revocations == ()


async def test_a_revocation_holds_until_it_ends_or_is_lifted(store: PolicyStore) -> None:
    await store.revoke(ban("b1", until=SOON))
    await store.revoke(ban("b2"))
    await store.revoke(ban("b2", tool="another"))  # it came again

    async def holding(now: datetime) -> list[str]:
        return sorted(each.id for each in (await store.standing("acme", about(), now)).revocations)

    assert await holding(NOW) == ["b1", "b2"] and await holding(SOON) == ["b2"]
    lifted = await store.lift("acme", "b2", "bob", SOON)
    assert (
        lifted and (lifted.lifted, lifted.lifted_by) == (SOON, "bob") and lifted == await store.lift("acme", "b2", "eve", LATER)
    )
    assert await holding(NOW) == ["b1"]
    assert [each.id for each in await store.revocations("acme", NOW, all=False, limit=9)] == ["b1"]
    assert {each.id for each in await store.revocations("acme", LATER, all=True, limit=9)} == {"b1", "b2"}
    assert await store.lift("acme", "nothing", "bob", SOON) is None


# --- what was spent ---


def charge(number: int, money: str = "0", at: datetime = NOW) -> Charge:
    return Charge(f"c{number}", f"run{number}", "call1", "ann", "RenewInstance", Decimal(money), at)


DAY = (Counter("daily", "", NOW - timedelta(days=1)),)


def let(most: int = 99) -> object:
    def decide(spent: Mapping[str, Spent]) -> Verdict:
        used = spent.get("daily", Spent())
        return Verdict(outcome="allow" if used.writes < most else "deny", why=f"{used.writes} {used.money:f}")

    return decide


async def charged(store: PolicyStore, each: Charge, most: int = 99, counters: tuple[Counter, ...] = DAY) -> Verdict:
    return await store.charge("acme", each, counters, let(most))  # type: ignore[arg-type]


async def test_of_fifty_calls_at_once_five_are_let_through(store: PolicyStore) -> None:
    verdicts = await asyncio.gather(*(charged(store, charge(number), 5) for number in range(50)))
    assert [each.outcome for each in verdicts].count("allow") == 5
    assert (await store.spent("acme", {"daily": NOW - timedelta(days=1)})) == {"daily": {"": Spent(5)}}


async def test_a_call_that_is_judged_again_counts_once_with_its_newest_price(store: PolicyStore) -> None:
    await charged(store, charge(1))
    again = await charged(store, charge(1, "9.90", SOON), 1)
    assert (again.outcome, again.why) == ("allow", "0 0")
    assert (await charged(store, charge(2, "0.10"), 1)).why == "1 9.90"


async def test_a_call_that_is_refused_later_gives_its_charge_back(store: PolicyStore) -> None:
    await charged(store, charge(1, "5"))
    await charged(store, charge(1, "5"), 0)
    assert (await charged(store, charge(2), 1)).outcome == "allow"


async def test_a_window_moves_and_buckets_are_apart(store: PolicyStore) -> None:
    await charged(store, charge(1, "5", NOW - timedelta(days=2)))
    await charged(store, charge(2, "3"))
    of_ann = (Counter("daily", "ann", NOW - timedelta(days=1)),)
    assert (await charged(store, charge(3))).why == "1 3"
    assert (await charged(store, charge(4), counters=of_ann)).why == "0 0"
    assert (await store.charge("globex", charge(5), DAY, let())).why == "0 0"  # type: ignore[arg-type]
    found = await store.spent("acme", {"daily": NOW - timedelta(days=1), "other": NOW})
    assert found == {"daily": {"": Spent(2, Decimal(3)), "ann": Spent(1)}, "other": {}}


async def test_one_charge_counts_for_each_limit_that_it_is_under(store: PolicyStore) -> None:
    both = (*DAY, Counter("hourly", "ops", NOW - timedelta(hours=1)))
    await charged(store, charge(1, "2"), counters=both)
    since = {"daily": NOW - timedelta(days=1), "hourly": NOW - timedelta(hours=1)}
    assert await store.spent("acme", since) == {"daily": {"": Spent(1, Decimal(2))}, "hourly": {"ops": Spent(1, Decimal(2))}}
    assert await store.held("acme", both, 9) == [Held("c1", "run1", "call1")]


async def test_what_became_of_a_charge_is_remembered(store: PolicyStore) -> None:
    for number in range(1, 4):
        await charged(store, charge(number, at=NOW + timedelta(seconds=number)))
    assert [each.id for each in await store.held("acme", DAY, 2)] == ["c1", "c2"]
    await store.settle("acme", ["c1"], ["c2"])
    await store.settle("acme", ["c1", "nothing"], ["c2"])
    await store.settle("acme", [], [])
    assert [each.id for each in await store.held("acme", DAY, 9)] == ["c3"]
    assert (await charged(store, charge(4))).why == "2 0"


async def test_charges_are_dropped_when_no_window_can_reach_them(store: PolicyStore) -> None:
    await charged(store, charge(1, at=NOW - timedelta(days=400)))
    await charged(store, charge(2))
    since = NOW - timedelta(days=999)
    assert await store.spent("acme", {"daily": since}) == {"daily": {"": Spent(1)}}


# --- forgetting ---


async def test_a_person_is_forgotten_and_what_was_spent_is_not(store: PolicyStore) -> None:
    await store.set_policy("acme", rules("one"), None)
    await store.keep_grant(grant())
    await store.keep_grant(grant("g2", by="bob"))
    await store.revoke(ban(user="ann"))
    per_user = (*DAY, Counter("each", "ann", NOW - timedelta(days=1)))
    await charged(store, charge(1), counters=per_user)

    assert await store.forget("acme", "ann") > 0
    assert await store.forget("acme", "ann") == 0
    kept = (
        await store.versions("acme", 9), await store.grants("acme", agent=None, tool=None, all=True, limit=9),
        await store.revocations("acme", NOW, all=True, limit=9), await store.changes("acme", 9),
        await store.spent("acme", {"daily": NOW - timedelta(days=1), "each": NOW - timedelta(days=1)}),
    )  # fmt: skip
    assert "ann" not in str(kept)
    assert [each.id for each in kept[1]] == ["g2"] and kept[4]["daily"] == {"": Spent(1)}
