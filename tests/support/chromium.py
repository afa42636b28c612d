"""Debian's Chromium, headless, driven by Playwright: for tests of what a person sees."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, async_playwright

_QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


def path() -> str:
    """Where the browser is. Skips the test where there is none; fails it where MILEPOST_TEST_REQUIRE_SERVERS is set."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        why = "no Chromium: apt-get install chromium, or name one in CHROMIUM"
        if os.environ.get("MILEPOST_TEST_REQUIRE_SERVERS"):
            pytest.fail(why)
        pytest.skip(why)
    return found


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser for the time of the block."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path(), args=list(_QUIET))
        try:
            yield browser
        finally:
            await browser.close()
