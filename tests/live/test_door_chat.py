"""Conversations through the door: begin, hear, answer, stop, ask otherwise, put a document in, fetch what a tool gave."""

from __future__ import annotations

import secrets

import pytest

from tests.support.stack import LocalStack
from tests.support.talker import RENEW, talker


@pytest.fixture
def someone() -> str:
    """A user whom no other test knows."""
    return f"kim-{secrets.token_hex(4)}"


async def test_a_turn_is_heard_as_it_is_written_and_again_from_its_beginning(two_doors: LocalStack, someone: str) -> None:
    async with talker(two_doors, "operator", user=someone) as kim:
        run, id = await kim.ask("What is the time?")
        heard = await kim.hear(run)
        turn = heard.turns[run]
        assert (turn["status"], heard.names[-1]) == ("completed", "end")
        assert [item["tool"] for item in turn["items"] if item["kind"] == "call"] == ["current_time"]
        said = [item for item in turn["items"] if item["kind"] == "text"][-1]
        assert said["text"] == turn["answer"] and turn["answer"].startswith("Done: It is ")
        assert heard.texts.get(said["step"], turn["answer"]) == turn["answer"], "the text that came early is the answer"
        again = await kim.hear(run)
        assert again.turns[run] == {**turn, "after": again.turns[run]["after"]}
        found = await kim.get(f"/api/conversations/{id}", lambda said: said["turns"])
        assert [each["answer"] for each in found["turns"]] == [turn["answer"]] and found["agent"] == "assistant"


async def test_the_same_key_is_the_same_turn(two_doors: LocalStack, someone: str) -> None:
    async with talker(two_doors, "operator", user=someone) as kim:
        key = secrets.token_hex(8)
        first, id = await kim.ask("hello", key=key)
        assert await kim.ask("hello", id, key=key) == (first, id)


async def test_conversations_are_their_users_own_and_listed_by_their_first_task(two_doors: LocalStack, someone: str) -> None:
    async with talker(two_doors, "operator", user=someone) as kim, talker(two_doors, "admin", user=f"{someone}-2") as lee:
        _, first = await kim.told("hello one")
        await kim.told("hello two", first)
        _, second = await kim.told("hello three")
        found = await kim.get("/api/conversations", lambda said: sum(each["turns"] for each in said["conversations"]) == 3)
        assert [(each["id"], each["title"], each["turns"]) for each in found["conversations"]] == [
            (second, "hello three", 1), (first, "hello one", 2),
        ]  # fmt: skip
        page = await kim.get("/api/conversations?limit=1")
        assert [each["id"] for each in page["conversations"]] == [second]
        rest = await kim.http.get("/api/conversations", params={"before": page["before"], "beyond": page["beyond"]})
        assert [each["id"] for each in rest.json()["conversations"]] == [first]
        assert (await lee.http.get(f"/api/conversations/{first}")).status_code == 404
        assert (await lee.http.post(f"/api/conversations/{first}/turns", json={"task": "hi"})).status_code == 404


async def test_another_tenant_sees_nothing_of_a_run(two_doors: LocalStack, someone: str) -> None:
    async with talker(two_doors, "admin", user=someone) as kim, talker(two_doors, "admin", user=someone, tenant="other") as lee:
        approval, id = await kim.waiting(RENEW.format(n=1))
        run = approval["run"]
        assert (await lee.http.get(f"/api/conversations/turns/{run}/stream")).status_code == 404
        assert (await lee.http.post(f"/api/runs/{run}/cancel", json={})).status_code == 404
        assert (await lee.decide(approval, "approve")).status_code == 404
        assert (await lee.http.get(f"/api/runs/{run}/payloads/{'0' * 64}")).status_code == 404
        assert (await lee.http.get(f"/api/conversations/{id}")).json()["turns"] == []
        replaced = await lee.http.post("/api/conversations/c-x/turns", json={"task": "hi", "replaces": run})
        assert replaced.status_code == 404
        await kim.http.post(f"/api/runs/{run}/cancel", json={})


async def test_stop_ends_a_turn_that_waits(two_doors: LocalStack, someone: str) -> None:
    async with talker(two_doors, "operator", user=someone) as kim, talker(two_doors, "viewer", user=someone) as lee:
        approval, _ = await kim.waiting(RENEW.format(n=2))
        path = f"/api/runs/{approval['run']}/cancel"
        assert (await lee.http.post(path, json={})).status_code == 403
        assert (await kim.http.post(path, json={"reason": "enough"})).status_code == 204
        turn = (await kim.hear(approval["run"])).turns[approval["run"]]
        assert (turn["status"], turn["approvals"][0]["state"]) == ("cancelled", "withdrawn")
        assert [item["state"] for item in turn["items"] if item["kind"] == "call"] == ["stopped"]
        assert (await kim.http.post(path, json={})).status_code == 409


async def test_a_question_asked_otherwise_begins_a_conversation_with_what_was_said_before(
    two_doors: LocalStack, someone: str
) -> None:  # fmt: skip
    async with talker(two_doors, "operator", user=someone) as kim:
        _, id = await kim.told("hello one")
        second, _ = await kim.told("hello two", id)
        await kim.told("hello three", id)
        await kim.get(f"/api/conversations/{id}", lambda said: len(said["turns"]) == 3)
        turn, branch = await kim.told("hello anew", replaces=second["run"])
        before = [("user", "hello one"), ("assistant", "You said: hello one")]
        assert branch != id and [(each["role"], each["text"]) for each in turn["said"]] == before
        assert turn["answer"] == "You said: hello anew"
        await kim.get(f"/api/conversations/{branch}", lambda said: len(said["turns"]) == 1)
        after, _ = await kim.told("hello on", branch)
        words = [*before, ("user", "hello anew"), ("assistant", "You said: hello anew")]
        assert [(each["role"], each["text"]) for each in after["said"]] == words
        same = await kim.http.post(f"/api/conversations/{id}/turns", json={"task": "hi", "replaces": second["run"]})
        assert same.status_code == 409


async def test_a_document_that_is_put_in_is_read_for_the_answer_and_cited(two_doors: LocalStack, someone: str) -> None:
    text = b"# Base Selene\n\nThe moon base Selene has 42 inhabitants.\n"
    async with talker(two_doors, "operator", user=someone) as kim:
        id = f"c-{secrets.token_hex(8)}"
        put = await kim.http.post(f"/api/conversations/{id}/files", files={"file": ("selene.md", text, "text/markdown")})
        assert (put.status_code, put.json()["state"]) == (200, "added"), put.text
        turn, _ = await kim.told("How many inhabitants has the moon base Selene?", id)
        assert "42 inhabitants" in turn["citations"][0]["text"]
        other, _ = await kim.told("How many inhabitants has the moon base Selene?")
        assert not [each for each in other["citations"] if "Selene" in each["text"]], "it belongs to its conversation alone"
        bad = await kim.http.post(
            f"/api/conversations/{id}/files", files={"file": ("a.exe", b"MZ", "application/x-msdownload")}
        )
        assert (bad.status_code, bad.json()["state"]) == (200, "refused")


async def test_bytes_that_a_tool_gave_are_fetched_and_only_pictures_are_shown(two_doors: LocalStack, someone: str) -> None:
    async with talker(two_doors, "operator", user=someone) as kim:
        turn, _ = await kim.told("Make a QR code of hello")
        (piece,) = [each for item in turn["items"] if item["kind"] == "call" for each in item["pieces"] if each["url"]]
        found = await kim.http.get(piece["url"])
        assert (found.headers["content-type"], found.content[:4]) == ("image/png", b"\x89PNG")
        assert found.headers["content-disposition"].startswith("inline")
        assert found.headers["x-content-type-options"] == "nosniff"
        other, _ = await kim.told("hello")
        elsewhere = piece["url"].replace(turn["run"], other["run"])
        assert (await kim.http.get(elsewhere)).status_code == 404, "the run does not refer to it"
        assert (await kim.http.get(f"/api/runs/{turn['run']}/payloads/nonsense")).status_code == 404


async def test_who_may_not_ask_begins_nothing_and_nobody_answers_under_an_unknown_name(
    two_doors: LocalStack, someone: str
) -> None:  # fmt: skip
    async with talker(two_doors, "viewer", "approver", user=someone) as kim, talker(two_doors, "operator", user=someone) as lee:
        assert (await kim.http.post("/api/conversations/c-1/turns", json={"task": "hi"})).status_code == 403
        assert (await lee.http.post("/api/conversations/c-1/turns", json={"task": "hi", "agent": "nobody"})).status_code == 404
        assert (await lee.http.post("/api/conversations/c-1/turns", json={"task": ""})).status_code == 422
        assert (await lee.http.get(f"/api/conversations/turns/202611-{'0' * 32}/stream")).status_code == 404
