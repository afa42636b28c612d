"""How quick the console's pages are in a real browser, and what they weigh."""

from __future__ import annotations

import asyncio
import json
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
from playwright.async_api import Browser, BrowserContext, Page

from schemas.errors import MilepostError
from tests.bench.door.bench import Bench
from tests.bench.replay.workload import long_run
from tests.support.chromium import chromium

LOADS = 9
SCROLLED_S = 4.0

_SCROLL = """async (seconds) => {
  const list = [...document.querySelectorAll("main *")].filter((each) => each.scrollHeight > each.clientHeight + 1000
    && ["auto", "scroll"].includes(getComputedStyle(each).overflowY)).sort((a, b) => b.scrollHeight - a.scrollHeight)[0]
    ?? document.scrollingElement;
  const frames = [], far = list.scrollHeight - list.clientHeight, began = performance.now();
  let last = began;
  await new Promise((done) => requestAnimationFrame(function frame(now) {
    if (now > last) frames.push(now - last);
    last = now;
    const part = (performance.now() - began) / 1000 / seconds;
    if (part >= 1) return done();
    list.scrollTop = far * part;
    requestAnimationFrame(frame);
  }));
  return { frames: frames.slice(1), far };
}"""

_WATCH = """
new MutationObserver((_, watch) => {
  if (!document.querySelector(what)) return;
  watch.disconnect();
  requestAnimationFrame(() => { window.shownAt = performance.now(); });
}).observe(document, { subtree: true, childList: true });"""
_SHOWN = "new Promise(function look(done) { window.shownAt ? done(window.shownAt) : requestAnimationFrame(() => look(done)); })"
FIRST, EVENT = "main .page, main textarea", ".event-row"


async def console(bench: Bench) -> None:
    """The console's first page, signed in, with an empty cache each time; and once more with what the browser kept."""
    first, again, weight, count = list[float](), list[float](), 0.0, 0
    async with chromium() as browser:
        for _ in range(LOADS):
            async with _signed_in(browser, bench) as context:
                page = await context.new_page()
                weigh = await _weighed(context, page)
                first.append(await _shown(page, "/", FIRST))
                await page.wait_for_timeout(300)  # what is fetched behind it counts, too
                weight, count = sum(weigh) / 1024, len(weigh)
                again.append(await _shown(await context.new_page(), "/", FIRST))
    bench.figures |= {
        "page_ms": statistics.median(first), "page_again_ms": statistics.median(again), "page_kib": weight,
        "page_requests": float(count),
    }  # fmt: skip


async def run_page(bench: Bench) -> None:
    """A run of 10,000 events: opened, and its events scrolled through."""
    run = await _long(bench)
    took, frames, weight = list[float](), list[float](), 0.0
    async with chromium() as browser:
        for _ in range(LOADS // 3):
            async with _signed_in(browser, bench) as context:
                page = await context.new_page()
                weigh = await _weighed(context, page)
                took.append(await _shown(page, f"/runs/{run}?tab=events", EVENT))
                await page.wait_for_timeout(500)
                weight = sum(weigh) / 1024
                said = await page.evaluate(_SCROLL, SCROLLED_S)
                if said["far"] < 10_000:
                    raise MilepostError("The events could not be scrolled.", why=str(said["far"]))
                frames += said["frames"]
    frames.sort()
    bench.figures |= {
        "run_page_ms": statistics.median(took), "run_page_kib": weight, "run_page_longest_frame_ms": frames[-1],
        "run_page_frame_p99_ms": frames[len(frames) * 99 // 100],
    }  # fmt: skip


async def _shown(page: Page, path: str, what: str) -> float:
    """Milliseconds from asking for the page to the frame in which something is there, by the browser's own clock."""
    await page.add_init_script(f"const what = {json.dumps(what)};{_WATCH}")
    await page.goto(path, wait_until="commit")
    await page.wait_for_selector(what)
    return float(await page.evaluate(_SHOWN))  # wait_for_function would need eval(), which the console's policy forbids


async def _weighed(context: BrowserContext, page: Page) -> list[float]:
    """The bytes of each answer that the page is loaded with, as they come."""
    session = await context.new_cdp_session(page)
    await session.send("Network.enable")
    found: list[float] = []
    session.on("Network.loadingFinished", lambda said: found.append(said["encodedDataLength"]))
    return found


@asynccontextmanager
async def _signed_in(browser: Browser, bench: Bench) -> AsyncIterator[BrowserContext]:
    context = await browser.new_context(base_url=bench.url)
    try:
        answer = await context.request.post("/api/session", data={"key": bench.key})
        if not answer.ok:
            raise MilepostError("The door does not let the browser in.", why=await answer.text())
        yield context
    finally:
        await context.close()


async def _long(bench: Bench) -> str:
    """A finished run of 10,000 events in the stack's log and index; the conductor sees it when all of it is there."""
    run = await asyncio.to_thread(long_run)  # it takes seconds, and the bus is not to think this process dead
    conductor = psutil.Process(bench.stack.member("conductor").pid)
    conductor.suspend()
    try:
        for start in range(0, len(run.log), 100):
            await asyncio.gather(*(bench.world.log.append(each.fact) for each in run.log[start : start + 100]))
    finally:
        conductor.resume()
    bench.figures["run_page_events"] = float(len(run.log))
    id = run.log[0].fact.run
    async with asyncio.timeout(120), bench.wire() as wire:
        while (view := json.loads(await wire.get(f"/api/runs/{id}")))["summary"] is None or not view["ended"]:
            await asyncio.sleep(1.0)
    return id
