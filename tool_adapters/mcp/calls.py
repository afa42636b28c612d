"""One call under way at a server: it may stop to ask a person, and goes on where it stopped when the answer is there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.tools import Question
from tool_adapters.mcp.questions import answer_of, content_key, question_of
from tool_adapters.tool import NeedsAnswer, ToolRefused, ToolUnavailable

if TYPE_CHECKING:
    from mcp_types import CallToolResult, ElicitRequestParams, ElicitResult

KEPT_S = 600.0
"""How long a call that asked is kept open. After that its server hears that nobody answered."""


@dataclass(slots=True)
class _Asked:
    question: Question
    params: ElicitRequestParams
    answer: asyncio.Future[Mapping[str, object] | None]


class PendingCall:
    """A `tools/call` in a task of its own. key: what its questions' ids are made of."""

    def __init__(self, tool: str, key: str) -> None:
        self.tool, self.key = tool, key
        self.on_ask: Callable[[], None] | None = None
        self._stale = False
        self._open: list[_Asked] = []
        self._times: Counter[str] = Counter()
        self._news = asyncio.Event()
        self._task: asyncio.Task[CallToolResult] | None = None
        self._end: asyncio.TimerHandle | None = None

    @property
    def waits(self) -> bool:
        """Whether it stands still until a person has answered."""
        return bool(self._open)

    def begin(self, send: Callable[[PendingCall], Coroutine[object, object, CallToolResult]]) -> None:
        """Send it."""
        self._task = asyncio.get_running_loop().create_task(send(self))
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())  # one that was given up has no reader

    async def until(self, answers: Mapping[str, Mapping[str, object] | None]) -> CallToolResult:
        """Its result. Raises NeedsAnswer for a question without an answer, and what sending it raises.

        When this is cancelled the call is given up, and its server told.
        """
        assert self._task is not None
        self._unhold()
        try:
            while True:
                self._news.clear()
                for asked in [each for each in self._open if each.question.id in answers]:
                    self._open.remove(asked)
                    if not asked.answer.done():
                        asked.answer.set_result(answers[asked.question.id])
                if self._task.done():
                    return self._task.result()
                if self._open:
                    raise NeedsAnswer(self._open[0].question)
                news = asyncio.ensure_future(self._news.wait())
                try:
                    await asyncio.wait({self._task, news}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    news.cancel()
        except asyncio.CancelledError:
            self.give_up()
            raise

    def hold(self, forget: Callable[[], None]) -> None:
        """Keep it open for a person's answer, but not for ever."""

        def late() -> None:
            forget()
            self.give_up()

        self._end = asyncio.get_running_loop().call_later(KEPT_S, late)

    @property
    def over(self) -> bool:
        """Whether it ended without having done anything while it waited for a person: its server did not wait as long."""
        if self._task is None or not self._task.done() or not self._stale:
            return False
        if self._task.cancelled():
            return True
        error = self._task.exception()
        return isinstance(error, ToolUnavailable | ToolRefused) if error else self._task.result().is_error is True

    def asks(self) -> None:
        """It has asked, or ended: others that may ask can go on."""
        release, self.on_ask = self.on_ask, None
        if release is not None:
            release()

    def give_up(self) -> None:
        """Cancel it; the server is told by the SDK."""
        self._unhold()
        if self._task is not None:
            self._task.cancel()
        for asked in self._open:
            asked.answer.cancel()
        self._open.clear()

    async def elicit(self, params: ElicitRequestParams, *, held: bool = True) -> ElicitResult:
        """Ask the person; returns when the answer is there. held: see `question_of`."""
        content = content_key(params)
        question = question_of(params, self.key, self._times[content], held=held)
        self._times[content] += 1
        asked = _Asked(question, params, asyncio.get_running_loop().create_future())
        self._open.append(asked)
        self._news.set()
        self.asks()
        try:
            return answer_of(params, await asked.answer)
        except asyncio.CancelledError:
            if asked in self._open:
                self._open.remove(asked)
                self._stale = True
            raise

    def _unhold(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None


CALL: ContextVar[PendingCall | None] = ContextVar("mcp_call", default=None)
"""The call whose messages are being sent, where the transport carries the sender's context with them."""
