"""DingTalk's robot over a whole stack: a renewal is asked for, approved by who may, and answered in the chat."""

from __future__ import annotations

import asyncio

import httpx

from services.gateway.channels.dingtalk import sign
from tests.support.dingtalk import ROBOT_SECRET, ROBOT_TOKEN, SECRET, HookedStack, dingtalk
from tests.support.stack import OPERATOR

FIRST, SECOND = "i-bp1f8k2m9x4q7web01", "i-bp1f8k2m9x4q7web02"
CHANNEL = {
    "secret_env": "MILEPOST_SECRET_DEFAULT__DINGTALK", "agent": "dingops",
    "people": {"boss": {"user": "carol", "roles": ["operator", "approver"]}},
    "notify_token_env": "MILEPOST_SECRET_DEFAULT__ROBOT_TOKEN", "notify_secret_env": "MILEPOST_SECRET_DEFAULT__ROBOT",
}  # fmt: skip


async def prepare(door: httpx.AsyncClient) -> None:
    spec = OPERATOR.model_copy(update={"name": "dingops"}).model_dump(mode="json", by_alias=True)
    (await door.put("/api/agents/dingops", json={"name": "dingops", "spec": spec})).raise_for_status()
    (await door.post("/api/agents/dingops/publish", json={})).raise_for_status()
    (await door.put("/api/channels/dingtalk", json={"channel": CHANNEL})).raise_for_status()


async def test_a_renewal_is_asked_for_approved_and_answered_in_the_chat(hooked_stack: HookedStack) -> None:
    async with hooked_stack.door() as door, dingtalk(hooked_stack) as chat:
        await prepare(door)
        asked = f"请续费 {FIRST} 1 个月"
        assert (await chat.write("alice", asked, chat="cid-group", group=True, id="m-1")).status_code == 200
        card = await chat.heard()
        assert "等待审批" in card and FIRST in card and "@alice" in card and "回复 **同意 " in card
        query, notice = await asyncio.wait_for(chat.told.get(), 30)
        assert query["access_token"] == ROBOT_TOKEN and query["sign"] == sign(ROBOT_SECRET, query["timestamp"])
        assert FIRST in notice["markdown"]["text"] and "回复" not in notice["markdown"]["text"]

        await chat.write("alice", "同意", chat="cid-group", group=True)  # who asked is an operator, and no approver
        assert "may not do this" in await chat.heard()
        assert await hooked_stack.stack.effects(FIRST) == []

        code = card.partition("同意 ")[2][:4]
        await chat.write("boss", "同意 0000", chat="cid-group", group=True)
        assert code in await chat.heard()
        await chat.write("boss", f"同意 {code}", chat="cid-group", group=True, id="m-yes")
        both = {await chat.heard(), await chat.heard()}
        assert any("已同意" in each for each in both) and any("好了" in each for each in both)
        assert len(await hooked_stack.stack.effects(FIRST)) == 1

        before = len((await door.get("/api/runs", params={"text": FIRST})).json()["runs"])
        assert (await chat.write("alice", asked, chat="cid-group", group=True, id="m-1")).status_code == 200  # replayed
        assert len((await door.get("/api/runs", params={"text": FIRST})).json()["runs"]) == before
        assert chat.said.empty()


async def test_who_forges_or_may_not_is_refused(hooked_stack: HookedStack) -> None:
    async with hooked_stack.door() as door, dingtalk(hooked_stack) as chat:
        await prepare(door)
        forged = await chat.write("alice", "hello", secret="guessed")
        assert forged.status_code == 401
        elsewhere = await chat.write("alice", "hello", sessionWebhook="http://169.254.169.254/latest")
        assert elsewhere.status_code == 400
        async with httpx.AsyncClient(trust_env=False) as http:
            old = {"timestamp": "1577262236757", "sign": sign(SECRET, "1577262236757")}
            assert (
                await http.post(f"{hooked_stack.url}/channels/default/dingtalk", content="{}", headers=old)
            ).status_code == 401
            assert (await http.post(f"{hooked_stack.url}/channels/default/none", content="{}", headers=old)).status_code == 401
        await door.put("/api/channels/dingtalk", json={"channel": {**CHANNEL, "others": ["viewer"]}})
        await chat.write("alice", "hello")
        assert "may not do this" in await chat.heard()
        await chat.write("boss", "hello")
        assert "You said: hello" in await chat.heard()


async def test_an_approval_is_refused_in_words_and_only_where_it_was_shown(hooked_stack: HookedStack) -> None:
    async with hooked_stack.door() as door, dingtalk(hooked_stack) as chat:
        await prepare(door)
        await chat.write("alice", f"请续费 {SECOND} 1 个月", chat="cid-a")
        code = (await chat.heard()).partition("同意 ")[2][:4]
        await chat.write("boss", f"同意 {code}", chat="cid-b")  # nothing waits in this chat: it is a request like any other
        assert await chat.heard() == "你好。"
        await chat.write("boss", "拒绝，太贵了", chat="cid-a")
        both = [await chat.heard(), await chat.heard()]
        assert any("已拒绝" in each for each in both)
        assert await hooked_stack.stack.effects(SECOND) == []
