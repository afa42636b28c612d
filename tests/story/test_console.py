"""What people do in the console, in a real browser over a whole stack: every page, with mouse and with keys."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from playwright.async_api import FilePayload, Locator, Page, expect

from infra.cli.verify import trusted_keys
from infra.gateway.door_secret import door_seed
from infra.verifying import verify_file
from services.gateway.principal import DoorRole
from tests.support.chromium import chromium
from tests.support.console import allow, ask, console, heard, new_tenant, open_page
from tests.support.gateways import door_of
from tests.support.stack import LocalStack

INSTANCE = "i-bp1c3n6v8z2w5api01"
RENEW = f"Renew {INSTANCE} for 2 months"
LONGER = f"Renew {INSTANCE} for 3 months"
HANDBOOK = b"The Orion notebook is under warranty for 24 months.\n\n## Lunch\n\nLunch is served at noon.\n"
SHOP = {
    "openapi": "3.0.0", "info": {"title": "Shop", "version": "1"}, "servers": [{"url": "https://shop.example.com"}],
    "paths": {"/orders/{id}": {"get": {
        "operationId": "getOrder", "summary": "Show an order of the shop.", "responses": {"200": {"description": "it"}},
        "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
    }}},
}  # fmt: skip


@asynccontextmanager
async def page_of(stack: LocalStack, *roles: DoorRole, tenant: str | None = None, **look: Any) -> AsyncIterator[Page]:
    """A page of somebody of a tenant of their own."""
    async with chromium() as browser, console(stack, browser, *roles, tenant=tenant or new_tenant(), **look) as page:
        yield page


def card(page: Page) -> Locator:
    return page.get_by_test_id("approval")


def turn(page: Page, n: int = -1) -> Locator:
    return page.get_by_test_id("turn").nth(n)


async def test_a_renewal_is_approved_streamed_replayed_forked_compared_and_proved(
    two_doors: LocalStack, tmp_path: Path
) -> None:
    before = len(await two_doors.effects(INSTANCE))
    async with page_of(two_doors) as page:
        await open_page(page, "/")
        await ask(page, RENEW)
        await expect(card(page)).to_contain_text("changes something")
        await expect(card(page)).to_contain_text(re.compile(r"price\s*\d+\.\d\d CNY"))
        await expect(page.get_by_role("link", name="Approvals").get_by_text("1")).to_be_visible()
        assert len(await two_doors.effects(INSTANCE)) == before, "nothing is done before somebody says so"
        await card(page).get_by_role("button", name="Approve", exact=True).click()
        await expect(turn(page)).to_contain_text("RenewInstance succeeded")
        assert "text" in await heard(page), "the answer was streamed"
        assert len(await two_doors.effects(INSTANCE)) == before + 1
        await turn(page).get_by_role("link", name="View run").click()

        await page.get_by_role("tab", name="Replay").click()
        await page.get_by_role("button", name="Check every decision").click()
        await expect(page.get_by_role("status").filter(has_text="Every decision is the same")).to_be_visible()
        count = int(re.findall(r"of (\d+)", await page.locator(".player .num").inner_text())[0])
        for n in range(2, count + 1):
            await page.get_by_role("button", name="Next event").click()
            await expect(page.locator(".player .num")).to_have_text(f"Event {n} of {count}")
        await expect(page.locator(".state")).to_contain_text("completed")

        run = page.url.split("/runs/")[1].split("?")[0]
        await page.get_by_role("tab", name="Events").click()
        await page.locator(".event-row", has_text="ApprovalGranted").click()
        await page.get_by_role("button", name="Fork here").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog.get_by_label("Refuse")).to_be_checked()
        await dialog.get_by_label("Why").fill("too dear")
        await dialog.get_by_role("button", name="Fork", exact=True).click()
        await expect(page.get_by_text("Left run")).to_be_visible()
        await expect(page.locator(".answer")).to_contain_text("too dear")
        assert len(await two_doors.effects(INSTANCE)) == before + 1, "a fork leaves the cloud alone"

        await page.get_by_role("link", name="Compare with it").click()
        await expect(page.get_by_role("heading", name="Two runs compared")).to_be_visible()
        await expect(page.locator(".aligned.changed").first).to_contain_text("ApprovalRefused")
        await expect(page.locator(".aligned.removed").first).to_contain_text("ToolReturned")

        await open_page(page, f"/runs/{run}?tab=receipt")
        await expect(page.get_by_text("nothing is missing")).to_be_visible()
        async with page.expect_download() as told:
            await page.get_by_role("link", name="Download").click()
        await (await told.value).save_as(tmp_path / "run.jsonl")
        text = await page.locator(".run-page").inner_text()
        keys = trusted_keys(None, re.findall(r"--key (\S+)", text), None)
        found = verify_file(tmp_path / "run.jsonl", keys)
        assert keys and found.proof.verdict == "proved", found


async def test_what_was_refused_is_asked_otherwise_and_again(two_doors: LocalStack) -> None:
    before = len(await two_doors.effects(INSTANCE))
    async with page_of(two_doors) as page:
        await open_page(page, "/")
        await ask(page, RENEW)
        await card(page).get_by_role("button", name="Refuse…").click()
        await page.keyboard.type("not this month")
        await page.keyboard.press("Enter")
        await expect(turn(page)).to_contain_text("A person refused this call: not this month")
        first = page.url
        await turn(page).get_by_role("button", name="Edit the question").click()
        await page.get_by_label("Edit the question").fill("What is the time?")
        await page.keyboard.press("Enter")
        await expect(turn(page)).to_contain_text("Asia/Shanghai")
        assert page.url != first, "what was edited begins a conversation of its own"
        second = page.url
        await turn(page).get_by_role("button", name="Retry").click()
        await expect(page).not_to_have_url(second)
        await expect(turn(page)).to_contain_text("Asia/Shanghai")
        await expect(page.get_by_role("navigation", name="Conversations").get_by_role("listitem")).to_have_count(3)
    assert len(await two_doors.effects(INSTANCE)) == before


async def test_everything_is_done_with_keys_alone(two_doors: LocalStack) -> None:
    async with page_of(two_doors) as page:
        keys = page.keyboard
        await open_page(page, "/")
        await keys.type(LONGER)  # the place to write has the focus
        await keys.press("Enter")
        await expect(card(page)).to_be_visible()
        assert await unreached(page) == []
        await page.locator("main").focus()
        await keys.press("?")
        await expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_contain_text("Approvals")
        await keys.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await keys.press("g")
        await keys.press("a")
        await expect(card(page)).to_be_visible()
        assert await unreached(page) == []
        await page.locator("main").focus()
        await keys.press("j")
        await keys.press("a")
        await expect(card(page).get_by_role("radio", name="Just this call")).to_be_visible()
        await keys.press("Enter")
        await expect(page.get_by_text("Nothing waits for you.")).to_be_visible()
        await page.get_by_role("tab", name="Waiting").focus()
        await keys.press("ArrowRight")
        await expect(page.locator(".trail")).to_contain_text("approved")
        await page.locator("main").focus()
        await keys.press("g")
        await keys.press("r")
        await expect(page.locator(".run-row")).to_have_count(1)
        await keys.press("k")
        await keys.press("Enter")
        await expect(page.get_by_role("heading", name=LONGER)).to_be_visible()
        await keys.press("j")
        await expect(page.locator(".detail h2")).to_contain_text("#1 RunRequested")


async def unreached(page: Page) -> list[str]:
    """What one can click, but not come to with the tab key."""
    wanted = await page.evaluate("""() => { window.reached = new Set(); document.activeElement?.blur();
      addEventListener("focusin", (event) => reached.add(event.target));
      window.wanted = [...document.querySelectorAll("a[href], button, input, select, textarea, summary")].filter((each) =>
        each.checkVisibility() && !each.disabled && each.tabIndex >= 0 && !each.matches("[type=radio]:not(:checked)"));
      return wanted.length; }""")
    for _ in range(wanted + 12):
        await page.keyboard.press("Tab")
    left: list[str] = await page.evaluate(
        "wanted.filter((each) => !reached.has(each) && each.isConnected).map((each) => each.outerHTML)"
    )
    return left


async def test_an_agent_is_built_by_talking_published_and_talked_to(two_doors: LocalStack) -> None:
    async with page_of(two_doors) as page:
        await open_page(page, "/agents")
        await page.get_by_role("link", name="New agent").first.click()
        await page.get_by_label("Describe it, or what to change…").fill("It renews ECS instances for our ops team.")
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Title")).to_have_value("Renewal Desk")
        await expect(page.get_by_label("Instructions")).to_have_value(re.compile("renewal desk of the ops team"))
        await page.get_by_label("Describe it, or what to change…").fill("call it Otto")
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Title")).to_have_value("Otto")
        await page.get_by_role("region", name="Talk").get_by_role("button", name="Undo").last.click()
        await expect(page.get_by_label("Title")).to_have_value("Renewal Desk")
        await page.get_by_role("button", name="Save").click()
        await page.get_by_role("dialog").get_by_role("button", name="Save").click()
        await expect(page).to_have_url(re.compile("/agents/renewal-desk$"))
        await page.get_by_role("tab", name="Publish").click()
        await page.get_by_role("button", name="Publish version 1").click()
        await expect(page.get_by_text("/chat?agent=renewal-desk")).to_be_visible()
        await page.get_by_role("link", name="Chat").last.click()
        await expect(page.get_by_role("heading", name="Renewal Desk")).to_be_visible()
        await ask(page, RENEW)
        await expect(card(page)).to_contain_text("RenewInstance")
        await expect(turn(page).locator(".whose")).to_contain_text("Renewal Desk")


async def test_a_document_is_uploaded_cited_and_found(two_doors: LocalStack) -> None:
    async with page_of(two_doors) as page:
        await open_page(page, "/knowledge")
        handbook = FilePayload(name="handbook.md", mimeType="text/markdown", buffer=HANDBOOK)
        await page.locator("input[type=file]").set_input_files([handbook])
        await expect(page.locator(".uploads")).to_contain_text("added")
        await expect(page.locator(".documents")).to_contain_text("handbook")
        await page.get_by_label("Search as an agent would").fill("how long is the warranty")
        await expect(page.locator(".found").first).to_contain_text("24 months")
        await page.locator(".found a").first.click()
        await expect(page.locator(".chunk.chosen")).to_contain_text("24 months")

        await open_page(page, "/")
        await ask(page, "How long is the warranty of the Orion notebook?")
        await expect(turn(page).locator(".markdown").first).to_contain_text("24 months")
        await turn(page).get_by_role("button", name="Source 1").click()
        await expect(page.get_by_role("dialog").locator(".passage")).to_contain_text("The Orion notebook is under warranty")
        await page.get_by_role("dialog").get_by_role("button", name="Close").click()


async def test_tools_are_found_tried_and_imported(two_doors: LocalStack) -> None:
    before = len(await two_doors.effects())
    async with page_of(two_doors) as page:
        await open_page(page, "/tools")
        await page.get_by_label("Name or description").fill("current_time")
        await page.get_by_role("link", name="current_time").click()
        await page.get_by_role("tab", name="Try it").click()
        await page.get_by_label("timezone").fill("Asia/Tokyo")
        await page.get_by_role("button", name="Call", exact=True).click()
        await expect(page.locator(".outcome")).to_contain_text("Asia/Tokyo")
        await page.get_by_role("tab", name="As an agent finds them").click()
        await page.get_by_label("What an agent would be asked").fill("renew my server")
        await page.get_by_role("link", name="RenewInstance").first.click()
        await page.get_by_role("tab", name="Try it").click()
        await page.get_by_label("InstanceId").fill(INSTANCE)
        await page.get_by_label("Period", exact=True).or_(page.get_by_label("Period needed")).fill("2")
        await page.get_by_role("button", name="Show what it would do").click()
        await expect(page.locator(".outcome")).to_contain_text("It would do this; nothing was changed.")
        await expect(page.locator(".preview")).to_contain_text("CNY")
        assert len(await two_doors.effects()) == before

        await page.get_by_role("button", name="Add tools").click()
        dialog = page.get_by_role("dialog", name="Add tools")
        await dialog.get_by_label("The document, JSON or YAML").fill(json.dumps(SHOP))
        await dialog.get_by_role("button", name="Look first").click()
        await expect(dialog.locator(".lines")).to_contain_text("getOrder")
        await dialog.get_by_role("button", name="Import 1 tools").click()
        await dialog.get_by_role("link", name="Tools").click()
        await expect(page.get_by_role("link", name="getOrder")).to_be_visible()


async def test_a_clock_begins_runs(two_doors: LocalStack) -> None:
    async with page_of(two_doors) as page:
        await open_page(page, "/agents")
        await page.get_by_role("link", name="Triggers").click()
        await page.get_by_role("button", name="New trigger").click()
        dialog = page.get_by_role("dialog", name="New trigger")
        await dialog.get_by_label("Name").fill("morning")
        await dialog.get_by_label("Cron expression").fill("30 8 * * *")
        await dialog.get_by_label("Task").fill("What time is it?")
        await dialog.get_by_text("Try it").first.click()
        await dialog.get_by_role("button", name="Try it").click()
        await expect(dialog.locator(".trial")).to_contain_text("What time is it?")
        await dialog.get_by_role("button", name="Save").click()
        morning = page.get_by_role("region", name="morning")
        await expect(page.get_by_role("row", name="morning")).to_contain_text("08:30")
        await morning.get_by_text("Try it").first.click()
        await morning.get_by_role("button", name="Fire now").click()
        await expect(morning.get_by_role("row").first).to_contain_text("begun")
        await morning.get_by_role("row").first.get_by_role("link").click()
        await expect(page.locator(".answer")).to_contain_text("Asia/Shanghai")


async def test_keys_are_made_and_revoked_and_people_go_out_and_in(two_doors: LocalStack) -> None:
    door = door_of(two_doors)
    link = door_seed(two_doors.loaded.settings).sign("link", {}, datetime.now(UTC))
    name = f"k-{secrets.token_hex(4)}"
    async with chromium() as browser, console(two_doors, browser, signed_in=False) as page:
        allow(page, 401)
        await open_page(page, "/system")
        await expect(page.get_by_label("API key or token")).to_be_visible()
        await page.goto("about:blank")
        await page.goto(f"{door}/system#link={link}")
        await expect(page.get_by_role("list").get_by_text("postgres")).to_be_visible()
        assert "link" not in page.url
        await expect(page.get_by_role("region", name="Queues")).to_contain_text("timer")
        await expect(page.get_by_role("region", name="Services")).to_contain_text("conductor")
        await page.get_by_role("button", name="New key").click()
        await page.get_by_label("What it is for").fill(name)
        await page.get_by_role("button", name="Make it").click()
        text = await page.locator("pre.secret").inner_text()
        await page.get_by_role("dialog").get_by_role("button").last.click()
        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_label("API key or token").fill("mp_default.wrong.wrong")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("alert")).to_be_visible()
        await page.get_by_label("API key or token").fill(text)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("navigation", name="Main")).to_contain_text("me · default")

        await page.get_by_role("button", name="Light or dark").click()
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        await page.get_by_role("button", name="中文").click()
        await expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
        await page.reload()
        await expect(page.get_by_role("heading", name="系统")).to_be_visible()
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        await page.get_by_role("button", name="English").click()
        await page.get_by_role("button", name="Sign out").click()

        link = door_seed(two_doors.loaded.settings).sign("link", {}, datetime.now(UTC))
        await page.goto("about:blank")
        await page.goto(f"{door}/system#link={link}")
        row = page.get_by_role("row", name=name)
        await row.get_by_role("button", name="Revoke").click()
        await row.get_by_role("button").click()
        await expect(row).to_contain_text("revoked")
        async with asyncio.timeout(30):  # a door looks a key up anew after some seconds
            while (await page.request.post("/api/session", data={"key": text})).status != 401:
                await asyncio.sleep(0.2)


async def test_who_begins_is_told_what_to_do_next(two_doors: LocalStack) -> None:
    told = {
        "/": "What can I do for you?", "/runs": "milepost ask", "/approvals": "ask for a change in chat",
        "/knowledge": "press Upload", "/agents": "New agent", "/triggers": "milepost triggers add",
        "/runs/diff": "press Compare",
        "/tools?how=imported": "Bring in an OpenAPI document", "/tools?how=agent": "Write a request",
    }  # fmt: skip
    async with page_of(two_doors) as page:
        for path, words in told.items():
            await open_page(page, path)
            await expect(page.locator("main")).to_contain_text(words)
