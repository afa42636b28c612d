"""The console in a browser: signed in, watched for whatever goes wrong, looked at with axe."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response, expect

from services.gateway.principal import DoorRole
from tests.support.gateways import door_of, key_of
from tests.support.stack import LocalStack

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 800}
_AXE = files("axe_playwright_python") / "axe.min.js"
_FINDINGS = """async () => (await axe.run(document, {resultTypes: ["violations"]})).violations
  .filter((each) => ["serious", "critical"].includes(each.impact))
  .flatMap((each) => each.nodes.map((node) => `${each.id}: ${node.target.join(" ")} ${node.any[0]?.message ?? ""}`))"""
_WIDE = """() => [document.scrollingElement, document.getElementById("main")]
  .filter((each) => each && each.scrollWidth > each.clientWidth)
  .map((each) => `${each.id || "page"} is ${each.scrollWidth} wide in ${each.clientWidth}`)"""
_UNSAID = r"""() => { const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const key = /^(ag|kn|tl|sy|tr|nav|form)\.[a-z]|^[a-z]+: [a-z]+[.{]/;
  for (let node; (node = walk.nextNode());) if (key.test(node.data.trim())) found.push(node.data);
  return found; }"""
_HEARD = """const add = EventSource.prototype.addEventListener; window.heard = [];
EventSource.prototype.addEventListener = function (name, hear) {
  return add.call(this, name, (said) => { heard.push(name); hear(said); });
};"""

expect.set_options(timeout=20_000)


def new_tenant() -> str:
    """A tenant whose pages are empty."""
    return f"t-{secrets.token_hex(4)}"


@dataclass
class Watched:
    """What went wrong in a browser: errors told in its console or thrown, server errors, requests to other hosts."""

    door: str
    wrong: list[str] = field(default_factory=list)
    allowed: set[int] = field(default_factory=set)  # statuses that a test provokes

    def watch(self, context: BrowserContext) -> None:
        context.on("console", self._console)
        context.on("weberror", lambda thrown: self.wrong.append(f"thrown: {thrown.error}"))
        context.on("request", self._request)
        context.on("response", self._response)

    def _console(self, said: ConsoleMessage) -> None:
        failed = "Failed to load resource" in said.text  # the answer itself is looked at below
        if said.type in ("error", "warning") and not failed:
            self.wrong.append(f"console: {said.text}")

    def _request(self, asked: Request) -> None:
        if not asked.url.startswith((self.door, "data:", "blob:")):
            self.wrong.append(f"another host: {asked.url}")

    def _response(self, answer: Response) -> None:
        if answer.status >= 400 and answer.status not in self.allowed:
            self.wrong.append(f"{answer.status}: {answer.request.method} {answer.url}")


@asynccontextmanager
async def console(
    stack: LocalStack,
    browser: Browser,
    *roles: DoorRole,
    tenant: str = "default",
    signed_in: bool = True,
    bare: bool = False,
    **look: Any,
) -> AsyncIterator[Page]:
    """A page of the console, of somebody with these roles; at its end nothing has gone wrong in it.

    bare: without the content security policy, which keeps axe out, too. look: what a Playwright context takes. The
    allowed statuses stand in `allowed(page)`.
    """
    door = door_of(stack)
    given: dict[str, Any] = {"viewport": DESK, "locale": "en-GB", "timezone_id": "UTC", "bypass_csp": bare, **look}
    context = await browser.new_context(base_url=door, **given)
    context.set_default_timeout(20_000)
    await context.add_init_script(_HEARD)
    if signed_in:
        key = await key_of(stack, *(roles or ("admin",)), tenant=tenant)
        answer = await context.request.post("/api/session", data={"key": key})
        assert answer.ok, await answer.text()
    watched = Watched(door)
    watched.watch(context)
    page = await context.new_page()
    _WATCHED[page] = watched
    try:
        yield page
        assert not watched.wrong, watched.wrong
    finally:
        del _WATCHED[page]
        await context.close()


_WATCHED: dict[Page, Watched] = {}


def allow(page: Page, *statuses: int) -> None:
    """Answers that a test provokes."""
    _WATCHED[page].allowed.update(statuses)


async def open_page(page: Page, path: str) -> None:
    """Go there, and wait until the page has what it shows."""
    await page.goto(path)
    await settled(page)


async def settled(page: Page) -> None:
    """Until nothing is loading any more."""
    await expect(page.locator("main h1, main h2").first).to_be_attached()
    await expect(page.locator("main > .page > .loading, dialog .loading, main .split .loading")).to_have_count(0)


async def faults(page: Page) -> list[str]:
    """What axe finds serious or critical, what is wider than the window, and words that nobody wrote."""
    if not await page.evaluate("() => 'axe' in window"):
        await page.evaluate(_AXE.read_text())
    found: list[str] = []
    for look in (_FINDINGS, _WIDE, _UNSAID):
        found += await page.evaluate(look)
    return found


async def heard(page: Page) -> list[str]:
    """The names of all events that came over streams."""
    names: list[str] = await page.evaluate("heard")
    return names


async def ask(page: Page, task: str) -> None:
    """Write something in chat."""
    await page.get_by_label("Message").fill(task)
    await page.keyboard.press("Enter")
