"""How quick the console's pages are in a real browser, and what they weigh."""

from __future__ import annotations

import statistics
import time

from tests.support.chromium import chromium

LOADS = 9


async def loaded(url: str, key: str) -> dict[str, float]:
    """page_ms and page_kib: the console's first page, signed in, with an empty cache each time."""
    took, weight = [], 0.0
    async with chromium() as browser:
        for _ in range(LOADS):
            context = await browser.new_context(extra_http_headers={}, base_url=url)
            answer = await context.request.post("/api/session", data={"key": key})
            assert answer.ok, await answer.text()
            page = await context.new_page()
            session = await context.new_cdp_session(page)
            await session.send("Network.enable")
            bytes_: list[float] = []
            session.on("Network.loadingFinished", lambda said, kept=bytes_: kept.append(said["encodedDataLength"]))
            began = time.perf_counter()
            await page.goto("/", wait_until="commit")
            await page.wait_for_selector("main .page, main textarea")
            took.append(1000 * (time.perf_counter() - began))
            weight = sum(bytes_) / 1024
            await context.close()
    return {"page_ms": statistics.median(took), "page_kib": weight}
