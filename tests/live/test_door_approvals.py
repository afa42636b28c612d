"""What waits for a person, answered through the door: how far a yes reaches, who may give it, and what is told of it after."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from tests.support.stack import LocalStack
from tests.support.talker import RENEW, Heard, talker


@pytest.fixture
def someone() -> str:
    """A user whom no other test knows."""
    return f"lou-{secrets.token_hex(4)}"


def calls(heard: Heard, run: str) -> list[dict[str, Any]]:
    return [item for item in heard.turns[run]["items"] if item["kind"] == "call"]


async def test_an_approval_waits_in_the_queue_with_all_that_is_known_and_moves_to_the_trail(
    two_doors: LocalStack, someone: str
) -> None:  # fmt: skip
    async with talker(two_doors, "operator", user=someone) as kim, talker(two_doors, "approver", user=f"{someone}-2") as lee:
        approval, _ = await kim.waiting(RENEW.format(n=3))

        def mine(said: dict[str, Any]) -> list[dict[str, Any]]:
            return [each for each in said["approvals"] if each["run"] == approval["run"]]

        (waits,) = mine(await lee.get("/api/approvals", mine))
        assert (waits["tool"], waits["effect"], waits["user"], waits["may"]) == ("RenewInstance", "write", someone, True)
        assert waits["preview"]["price"] and waits["arguments"]["Period"] == 3
        assert waits["why"] == "RenewInstance changes something, and no rule lets it through"
        assert not mine(await kim.get("/api/approvals", mine))[0]["may"], "who asks may not approve without the role"
        said = await lee.decide(approval, "refuse", reason="not this month")
        assert (said.status_code, said.json()["state"], said.json()["by"]) == (200, "refused", f"{someone}-2")
        heard = await kim.hear(approval["run"])
        assert [each["state"] for each in calls(heard, approval["run"])] == ["not_done"]
        assert "not this month" in heard.turns[approval["run"]]["answer"]
        (trail,) = mine(await lee.get("/api/approvals?state=decided", mine))
        assert (trail["state"], trail["by"], trail["reason"]) == ("refused", f"{someone}-2", "not this month")
        await lee.get("/api/approvals", lambda said: not mine(said))
        assert (await lee.decide(approval, "approve")).status_code == 409


async def test_who_may_not_approve_is_refused(two_doors: LocalStack, someone: str) -> None:
    async with (
        talker(two_doors, "operator", user=someone) as kim, talker(two_doors, "viewer", user=someone) as viewer,
        talker(two_doors, "builder", user=someone) as builder,
    ):  # fmt: skip
        approval, _ = await kim.waiting(RENEW.format(n=1))
        for each in (kim, viewer, builder):
            assert (await each.decide(approval, "approve")).status_code == 403
            assert (await each.decide(approval, "refuse")).status_code == 403
        await kim.http.post(f"/api/runs/{approval['run']}/cancel", json={})


async def test_a_yes_reaches_as_far_as_was_said(two_doors: LocalStack, someone: str) -> None:
    async with talker(two_doors, "admin", user=someone) as kim:
        approval, id = await kim.waiting(RENEW.format(n=1))
        assert (await kim.decide(approval, "approve")).json()["scope"] == "once"
        assert [each["state"] for each in calls(await kim.hear(approval["run"]), approval["run"])] == ["done"]

        approval, _ = await kim.waiting(RENEW.format(n=2), id)  # once was once
        assert approval["scopes"] == ["once", "conversation", "always"]
        said = await kim.decide(approval, "approve", scope="conversation")
        assert (said.status_code, said.json()["state"], said.json()["scope"]) == (200, "approved", "conversation")
        await kim.hear(approval["run"])

        turn, _ = await kim.told(RENEW.format(n=3), id)  # nobody is asked
        assert (turn["approvals"], turn["items"][1]["state"]) == ([], "done")

        approval, _ = await kim.waiting(RENEW.format(n=3))  # elsewhere somebody is
        await kim.http.post(f"/api/runs/{approval['run']}/cancel", json={})


async def test_a_yes_for_good_is_for_these_arguments_in_any_conversation(two_doors: LocalStack, someone: str) -> None:
    weeks = "Renew i-bp1f8k2m9x4q7web01 for {n} weeks"  # no other test does this: it stays allowed
    async with talker(two_doors, "admin", user=someone) as kim:
        approval, _ = await kim.waiting(weeks.format(n=3))
        assert (await kim.decide(approval, "approve", scope="always")).status_code == 200
        await kim.hear(approval["run"])
        turn, _ = await kim.told(weeks.format(n=3))
        assert (turn["approvals"], turn["items"][1]["state"]) == ([], "done")
        approval, _ = await kim.waiting(weeks.format(n=2))
        await kim.http.post(f"/api/runs/{approval['run']}/cancel", json={})


async def test_what_does_not_wait_is_not_answered(two_doors: LocalStack, someone: str) -> None:
    async with talker(two_doors, "admin", user=someone) as kim:
        turn, _ = await kim.told("hello")
        path = f"{turn['run']}/{'0' * 32}"
        assert (await kim.http.post(f"/api/approvals/{path}", json={"decision": "approve"})).status_code == 409
        assert (await kim.http.post(f"/api/questions/{path}", json={"content": {}})).status_code == 409
        assert (await kim.http.post(f"/api/approvals/{path}", json={"decision": "maybe"})).status_code == 422
        assert (await kim.http.post(f"/api/approvals/202611-{'0' * 32}/x", json={"decision": "refuse"})).status_code == 404
