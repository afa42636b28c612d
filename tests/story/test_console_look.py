"""How the console looks and is read: axe on every page and dialog, light and dark, English and Chinese, at a phone's width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from playwright.async_api import Page, expect

from tests.support.chromium import chromium
from tests.support.console import PHONE, allow, console, faults, new_tenant, open_page, settled
from tests.support.stack import LocalStack
from tests.support.talker import RENEW, Talker, talker

LONG = "https://example.com/" + "x" * 200
SAID = f"Say **this** `so`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```\n{'a long line ' * 20}\n```\n\n- one\n\n> {LONG}"
DESK = {
    "title": "Desk",
    "description": "Renews.",
    "suggestions": ["Renew it"],
    "spec": {"tools": ["RenewInstance"]},
    "based_on": 0,
}


@dataclass(frozen=True)
class Past:
    """What a tenant has done that looks like work."""

    tenant: str
    talk: str
    waiting: str
    done: str
    failed: str
    fork: str

    def paths(self) -> list[str]:
        views = [f"/runs/{self.done}?tab={tab}" for tab in ("events#5", "tree", "prompt#5", "replay#5", "receipt")]
        return [
            "/", f"/chat/{self.talk}", f"/chat/{self.waiting}", "/runs", f"/runs/{self.done}", *views, f"/runs/{self.failed}",
            f"/runs/{self.fork}", f"/runs/diff?a={self.done}&b={self.fork}", "/runs/diff", "/approvals",
            "/approvals?state=decided", "/tools/RenewInstance", "/tools?how=agent&q=renew", "/tools?how=imported", "/knowledge",
            "/knowledge?q=warranty", "/agents", "/agents/new", "/agents/desk", "/triggers?name=hook", "/system", "/nowhere",
        ]  # fmt: skip


async def _run(kim: Talker, task: str, **more: str) -> tuple[str, str]:
    told, talk = await kim.told(task, **more)
    return str(told["run"]), talk


async def past(stack: LocalStack) -> Past:
    """Some of everything, in a tenant of its own."""
    tenant = new_tenant()
    async with talker(stack, "admin", tenant=tenant) as kim:
        document = {"file": ("a-name-that-goes-on-and-on-and-on-and-on.md", b"The Orion has a warranty of 24 months.")}
        assert (await kim.http.post("/api/knowledge/default/documents", files=document)).status_code == 200
        for name, agent in (("desk", DESK), ("tight", {"spec": {"budget": {"steps": 1}}, "based_on": 0})):
            assert (await kim.http.put(f"/api/agents/{name}", json={"name": name, **agent})).status_code == 200
            assert (await kim.http.post(f"/api/agents/{name}/publish", json={})).status_code == 200
        hook = {"name": "hook", "source": {"kind": "webhook", "scheme": "milepost"}, "task": "What time is it?"}
        assert (await kim.http.put("/api/triggers/hook", json={"trigger": hook, "based_on": 0})).status_code == 200
        assert (await kim.http.post("/api/triggers/hook/fire", json={"payload": {}})).status_code == 200
        _, talk = await _run(kim, "Make a QR code of https://example.com")
        for task in ("What time is it?", SAID):
            await kim.told(task, talk)
        failed, _ = await _run(kim, "What time is it?", agent="tight")
        refused, _ = await kim.waiting(RENEW.format(n=2))
        await kim.decide(refused, "refuse", reason="too dear")
        await kim.hear(refused["run"])
        view = await kim.get(f"/api/runs/{refused['run']}")
        at = next(each["n"] for each in view["events"] if each["type"] == "ApprovalRefused")
        forked = await kim.http.post(f"/api/runs/{refused['run']}/fork", json={"at": at, "answers": {str(at): "refuse:no"}})
        assert forked.status_code == 200, forked.text
        _, waiting = await kim.waiting(RENEW.format(n=1))
        return Past(tenant, talk, waiting, refused["run"], failed, forked.json()["run"])


LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "locale": "en-GB"},
    "dark in Chinese": {"color_scheme": "dark", "locale": "zh-CN"},
    "phone": {"color_scheme": "light", "locale": "zh-CN", "viewport": PHONE, "has_touch": True},
}


async def test_every_page_can_be_read_by_everybody(two_doors: LocalStack) -> None:
    had, found = await past(two_doors), []
    async with chromium() as browser:
        for look, given in LOOKS.items():
            async with console(two_doors, browser, tenant=had.tenant, bare=True, **given) as page:
                for path in had.paths():
                    await open_page(page, path)
                    found += [f"{look} {path}: {fault}" for fault in await faults(page)]
                found += [f"{look} {fault}" for fault in await _dialogs(page, had)]
    assert not found, "\n".join(found)


async def _dialogs(page: Page, had: Past) -> list[str]:
    """What is wrong in dialogs while they are open."""
    found = []
    for path, opens in (
        (f"/runs/{had.done}", ".run-head .actions button >> nth=1"),
        (f"/runs/{had.done}", ".run-head .actions button >> nth=2"),
        ("/runs", ".search + button"),
        ("/tools", "main header button"),
        ("/knowledge", ".shelves button"),
        ("/agents", "main header button"),
        ("/triggers", "main header button"),
        ("/system", "#keys button"),
    ):
        await open_page(page, path)
        await page.locator(opens).first.click()
        await expect(page.get_by_role("dialog")).to_be_visible()
        await settled(page)
        found += [f"{path} {opens}: {fault}" for fault in await faults(page)]
    return found


async def test_signing_in_can_be_read_by_everybody(two_doors: LocalStack) -> None:
    async with chromium() as browser:
        for look in LOOKS.values():
            async with console(two_doors, browser, signed_in=False, bare=True, **look) as page:
                allow(page, 401)
                await open_page(page, "/")
                assert await faults(page) == []
