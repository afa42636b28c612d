"""One session with a server, opened when a tool is called, kept by a task of its own, and opened again when it was lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from tool_adapters.mcp.calls import CALL, PendingCall
from tool_adapters.mcp.http import http
from tool_adapters.mcp.listing import ListedTool, listed
from tool_adapters.mcp.settings import McpSettings
from tool_adapters.mcp.stdio import ErrorLines, stdio
from tool_adapters.tool import ToolError, ToolRefused, ToolUnavailable

if TYPE_CHECKING:
    from mcp import Client
    from mcp.client._transport import TransportStreams
    from mcp.client.session import ClientRequestContext, ClientSession, IncomingMessage
    from mcp_types import ElicitRequestParams, ElicitResult, ErrorData, Implementation

log = structlog.get_logger("tool_adapters.mcp")

LISTED_S = 300.0
"""A listing that is older is asked for again before a call: not every server says when it changes."""

HELD_S = 10.0
"""How long a question waits until it is clear which of several calls asks it."""

PAUSE_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""How long no new process or connection is tried after so many failures in a row."""

Resolve = Callable[[str], str]
"""The value that a reference stands for. Raises ToolError."""


@dataclass(slots=True)
class Live:
    """A session that is open. over: set when it is known to be of no use any more."""

    session: ClientSession
    modern: bool
    title: str
    tools: dict[str, ListedTool]
    listed_at: float
    over: asyncio.Event = field(default_factory=asyncio.Event)
    stale: bool = False


class McpServer:
    """A server that tools are called at. Nothing is opened before the first call."""

    def __init__(self, settings: McpSettings, resolve: Resolve, *, lane: str = "mcp") -> None:
        self.settings, self.lane = settings, lane
        self._resolve = resolve
        self._opening = asyncio.Lock()
        self._live: Live | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._failures, self._failed_at, self._why = 0, 0.0, ""
        self.calls: set[PendingCall] = set()
        self.paused: dict[str, PendingCall] = {}
        self._asking: set[str] = set()
        self._one_asks = asyncio.Lock()

    async def live(self, *, fresh: bool = False) -> Live:
        """The open session, opened if need be; fresh: with a listing that is not stale. Raises ToolError."""
        async with self._opening:
            live = self._live
            if live is None or live.over.is_set():
                live = await self._open()
            if fresh and (live.stale or time.monotonic() - live.listed_at > LISTED_S):
                await self._list_again(live)
            return live

    async def _list_again(self, live: Live) -> None:
        """Ask for the list anew. What is heard meanwhile, or that it did not come, leaves it stale: nothing passes unseen."""
        live.stale, known = False, False
        try:
            async with asyncio.timeout(self.settings.open_s):
                live.tools, live.listed_at = await listed(live.session), time.monotonic()
            known = True
        except ToolError:
            raise
        except Exception as error:
            live.over.set()
            raise ToolUnavailable(f"{self.settings.place} could not list its tools.", why=str(error)[:300]) from error
        finally:
            live.stale = live.stale or not known

    async def close(self) -> None:
        """End the session and its process; calls under way fail."""
        for call in list(self.paused.values()):
            call.give_up()
        self.paused.clear()
        await self._end()

    def lost(self, live: Live) -> None:
        """Open another one for the next call."""
        live.over.set()

    @asynccontextmanager
    async def under_way(self, call: PendingCall) -> AsyncIterator[None]:
        """While a call is under way, its server's questions may be its own. Of tools that are known to ask, one at a time
        goes on until it has asked: so it is clear which of them does."""
        asks = call.tool in self._asking
        if asks:
            await self._one_asks.acquire()
            call.on_ask = self._one_asks.release
        self.calls.add(call)
        try:
            yield
        finally:
            self.calls.discard(call)
            call.asks()

    # --- opening and keeping ---

    async def _open(self) -> Live:
        await self._end()
        pause = PAUSE_S[min(self._failures, len(PAUSE_S) - 1)] - (time.monotonic() - self._failed_at)
        if self._failures and pause > 0:
            raise ToolUnavailable(f"{self.settings.place} is down.", why=self._why, retry_after_s=pause)
        opened: asyncio.Future[Live] = asyncio.get_running_loop().create_future()
        errors = ErrorLines(self.lane, self._secrets())
        self._keeper = asyncio.get_running_loop().create_task(
            self._keep(opened, errors),
            name=f"mcp {self.lane}",
            context=Context(),  # not that of the call which opens it
        )
        try:
            async with asyncio.timeout(self.settings.open_s):
                self._live = await asyncio.shield(opened)
        except TimeoutError:
            await self._end()
            self._failure(f"it was not ready in {self.settings.open_s:g} s; {errors}".rstrip("; "))
            raise ToolUnavailable(f"{self.settings.place} did not open a session.", why=self._why) from None
        except ToolError as error:
            self._failure(error.why or error.what)
            raise
        except asyncio.CancelledError:
            await self._end()
            raise
        self._failures = 0
        return self._live

    def _failure(self, why: str) -> None:
        self._failures, self._failed_at, self._why = self._failures + 1, time.monotonic(), why[:500]

    async def _end(self) -> None:
        keeper, self._keeper, live, self._live = self._keeper, None, self._live, None
        if live is not None:
            live.over.set()
        if keeper is not None:
            if live is None:
                keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    async def _keep(self, opened: asyncio.Future[Live], errors: ErrorLines) -> None:
        """Hold the session open until it is over: a session is entered and left in one and the same task."""
        live: Live | None = None
        gone = asyncio.Event()
        try:
            async with self._client(errors, gone) as client:
                tools = await listed(client.session)
                info: Implementation | None = client.server_info
                live = Live(
                    client.session, client.session.discover_result is not None, (info.title or info.name) if info else "",
                    tools, time.monotonic(), over=gone,
                )  # fmt: skip
                if not opened.done():
                    opened.set_result(live)
                log.info("session open", lane=self.lane, tools=len(tools), protocol=client.protocol_version)
                await self._follow(client, live)
        except Exception as error:
            told = _told(self.settings.place, error, str(errors))
            if not opened.done():
                opened.set_exception(told)
            else:
                log.warning("session lost", lane=self.lane, why=told.why)
        finally:
            if live is not None:
                live.over.set()
            if not opened.done():
                opened.cancel()

    async def _follow(self, client: Client, live: Live) -> None:
        """Until the session is over; hear meanwhile that the list of tools has changed."""
        capabilities = client.server_capabilities.tools
        if live.modern and capabilities is not None and capabilities.list_changed:
            listening = asyncio.create_task(self._listen(client, live))
            try:
                await live.over.wait()
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
        else:
            await live.over.wait()

    async def _listen(self, client: Client, live: Live) -> None:
        try:
            async with client.listen(tools_list_changed=True) as events:
                async for _ in events:
                    live.stale = True
        except Exception as error:
            log.info("changes are not heard", lane=self.lane, why=str(error)[:200])

    @asynccontextmanager
    async def _client(self, errors: ErrorLines, gone: asyncio.Event) -> AsyncIterator[Client]:
        from mcp import Client
        from mcp_types import Implementation

        async with Client(
            self._transport(errors, gone), elicitation_callback=self._elicited, message_handler=self._heard, cache=None,
            client_info=Implementation(name="milepost", version="1"), mode=self.settings.protocol,
        ) as client:  # fmt: skip
            yield client

    @asynccontextmanager
    async def _transport(self, errors: ErrorLines, gone: asyncio.Event) -> AsyncIterator[TransportStreams]:
        settings, found = self.settings, self._resolve
        if settings.command:
            env = {name: found(reference) for name, reference in settings.env.items()}
            async with stdio(settings.command, settings.args, env, settings.cwd, errors, gone) as streams:
                yield streams
        else:
            headers = {name: found(reference) for name, reference in settings.headers.items()}
            secret = found(settings.oauth.client_secret) if settings.oauth else None
            async with http(settings, headers, secret, errors) as streams:
                yield streams

    def _secrets(self) -> tuple[str, ...]:
        return tuple(self._resolve(each) for each in self.settings.env.values() if not each.startswith("text:"))

    # --- what the server says by itself ---

    async def _heard(self, message: IncomingMessage) -> None:
        from mcp_types import ToolListChangedNotification

        if isinstance(message, ToolListChangedNotification) and self._live is not None:
            self._live.stale = True

    async def _elicited(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult | ErrorData:
        """A question in the middle of a call (protocols before 2026-07-28)."""
        from mcp_types import ElicitResult

        call = CALL.get() or await self._whose()
        if call is None:
            return ElicitResult(action="cancel")
        self._asking.add(call.tool)
        return await call.elicit(params)

    async def _whose(self) -> PendingCall | None:
        """The call that asks. The protocol does not say over stdio: it is the only one that is not itself waiting for a
        person. While there are several, wait; if it stays unclear nobody is asked: a person must not answer for another's call.
        """
        until = time.monotonic() + HELD_S
        while time.monotonic() < until:
            candidates = [each for each in self.calls if not each.waits]
            if len(candidates) == 1:
                return candidates[0]
            if not candidates:
                return None
            await asyncio.sleep(0.02)
        self._asking.update(each.tool for each in self.calls)
        log.warning("a question of a server was not asked", lane=self.lane, why="several calls may be asking it")
        return None


def _told(place: str, error: Exception, errors: str) -> ToolError:
    """Why a session could not be opened, or was lost."""
    inner = _inner(error)
    if isinstance(inner, ToolError):
        return inner
    if isinstance(inner, FileNotFoundError | PermissionError):
        return ToolRefused(
            f"{place} cannot be started.", code=type(inner).__name__, why=str(inner), hint="is the command installed here?"
        )
    why = f"{type(inner).__name__}: {inner}" if str(inner) else type(inner).__name__
    return ToolUnavailable(f"{place} could not be reached.", why=f"{why}{f' · it said: {errors}' if errors else ''}"[:800])


def _inner(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
