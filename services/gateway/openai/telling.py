"""One response in OpenAI's form: its items as they come, the events that tell them, and the whole."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime

from schemas.canonical import JsonObject
from schemas.commands import AskPerson, RequestApproval
from services.gateway.gateway import Gateway
from services.gateway.openai import words
from services.gateway.openai.course import Course, Ended, Piece, Stopped, Tally, Text
from services.gateway.openai.ids import approval_id, call_id, mark_of, response_id
from services.gateway.openai.plan import plan_of
from services.gateway.openai.waiting import Waiting
from services.gateway.principal import Principal

SERVER = "milepost"
"""The label under which approvals are told."""

REPEATED = {
    "model", "instructions", "metadata", "tools", "tool_choice", "parallel_tool_calls", "temperature", "top_p",
    "max_output_tokens", "previous_response_id", "max_tool_calls", "user", "text",
}  # fmt: skip
"""The fields of a request that its response has, too."""


def echoed(request: JsonObject) -> JsonObject:
    """What a response repeats of its request, with what clients expect where nothing was said."""
    said = {name: request.get(name) for name in sorted(REPEATED)}
    if said["parallel_tool_calls"] is None:
        said["parallel_tool_calls"] = False
    said["tools"] = said["tools"] or []
    said["tool_choice"] = said["tool_choice"] or "auto"
    text = request.get("text")
    form = text.get("format") if isinstance(text, dict) else None
    return {**said, "text": {"format": form or {"type": "text"}}}


class Telling:
    """Takes the pieces of a course. request: what is repeated of it."""

    def __init__(
        self, gateway: Gateway, who: Principal, course: Course, request: JsonObject, *, began: datetime | None = None
    ) -> None:
        self._gateway, self._who, self.course, self._request = gateway, who, course, request
        self._created = int((began or gateway.clock.now()).timestamp())
        self._id = response_id(course.run, course.since)
        self._items: list[JsonObject] = []
        self._texts: list[str] = []
        self._number = -1
        self._sequence = -1
        self._status = "in_progress"
        self._error: JsonObject | None = None
        self._reason: JsonObject | None = None

    async def now(self) -> JsonObject:
        """The response as far as the log has it."""
        for piece in await self.course.now():
            self.take(piece)
        return self.response()

    def begin(self) -> list[JsonObject]:
        """The first events."""
        return [self._event(f"response.{name}", response=self.response()) for name in ("created", "in_progress")]

    def take(self, piece: Piece) -> list[JsonObject]:
        """The events of one piece."""
        match piece:
            case Text(text=text, number=number):
                opened = [*self._close_message(), *self._open_message()] if number != self._number else []
                self._number = number
                return [*opened, *self._say(text)]
            case Stopped(waits=waits):
                self._status = "completed"
                events = [*self._close_message(), *self._tell((*waits.calls, *waits.approvals))]
                return [*events, *(event for each in waits.questions for event in self._ask(each, waits.run))]
            case Ended() as ended:
                self._finish(ended)
        return self._close_message()

    def end(self) -> JsonObject:
        """The last event."""
        return self._event(f"response.{'failed' if self._status == 'cancelled' else self._status}", response=self.response())

    def error(self, code: str, text: str) -> JsonObject:
        """The event of something that went wrong on the way."""
        return self._event("error", code=code, message=text, param=None)

    def response(self) -> JsonObject:
        """All of it."""
        over = self._status in ("completed", "incomplete")
        return {
            "id": self._id, "object": "response", "created_at": self._created, "status": self._status, "error": self._error,
            "incomplete_details": self._reason, "output": list(self._items), **self._request, "truncation": "disabled",
            "reasoning": {"effort": None, "summary": None}, "store": True, "background": False, "service_tier": "default",
            "completed_at": int(self._gateway.clock.now().timestamp()) if over else None,
            "usage": usage_of(self.course.tally) if self._status != "in_progress" else None,
        }  # fmt: skip

    def _finish(self, ended: Ended) -> None:
        if ended.outcome == "completed":
            cut = self.course.tally.cut
            self._status = "incomplete" if cut else "completed"
            self._reason = {"reason": "max_output_tokens"} if cut else None
            return
        self._status = ended.outcome
        failure = ended.failure
        if ended.outcome == "failed":
            said = f"{failure.what} {failure.why}".strip() if failure else "The run failed."
            self._error = {"code": "server_error", "message": said}

    # --- messages ---

    def _open_message(self) -> list[JsonObject]:
        index = len(self._items)
        item: JsonObject = {
            "id": f"msg_{self.course.run}_{mark_of(self.course.since or '0')}_{index}", "type": "message",
            "role": "assistant", "status": "in_progress", "content": [],
        }  # fmt: skip
        self._items.append(item)
        self._texts = []
        added = self._event("response.output_item.added", output_index=index, item=dict(item))
        part = self._event("response.content_part.added", **self._place(index), part=_part(""))
        return [added, part]

    def _say(self, text: str) -> list[JsonObject]:
        self._texts.append(text)
        place = self._place(len(self._items) - 1)
        return [self._event("response.output_text.delta", **place, delta=text, logprobs=[])]

    def _close_message(self) -> list[JsonObject]:
        if not self._items or self._items[-1]["type"] != "message" or self._items[-1]["status"] == "completed":
            return []
        index, text = len(self._items) - 1, "".join(self._texts)
        item = self._items[index] = {**self._items[index], "status": "completed", "content": [_part(text)]}
        place = self._place(index)
        return [
            self._event("response.output_text.done", **place, text=text, logprobs=[]),
            self._event("response.content_part.done", **place, part=_part(text)),
            self._event("response.output_item.done", output_index=index, item=item),
        ]

    def _ask(self, waiting: Waiting, run: str) -> list[JsonObject]:
        """What a tool wants to know, in words: the API has no item for it."""
        text = words.told_one(waiting, self.course.run, self._who, self._gateway.rules.public_url)
        return [*self._open_message(), *self._say(text), *self._close_message()]

    # --- calls and approvals ---

    def _tell(self, waiting: Iterable[Waiting]) -> list[JsonObject]:
        events: list[JsonObject] = []
        for each in waiting:
            index = len(self._items)
            item, arguments = self._item(each)
            begun = {**item, "status": "in_progress", "arguments": ""} if "call_id" in item else item
            events.append(self._event("response.output_item.added", output_index=index, item=begun))
            if "call_id" in item:
                place: JsonObject = {"item_id": item["id"], "output_index": index}
                events.append(self._event("response.function_call_arguments.delta", **place, delta=arguments))
                done = {**place, "arguments": arguments, "name": item["name"]}
                events.append(self._event("response.function_call_arguments.done", **done))
            events.append(self._event("response.output_item.done", output_index=index, item=item))
            self._items.append(item)
        return events

    def _item(self, waiting: Waiting) -> tuple[JsonObject, str]:
        asked, run = waiting.command, self.course.run
        arguments = json.dumps(asked.call.arguments, ensure_ascii=False, separators=(",", ":"))
        if isinstance(asked, AskPerson):
            called: JsonObject = {
                "id": f"fc_{run}_{mark_of(waiting.id)}", "type": "function_call", "call_id": call_id(run, waiting.id),
                "name": asked.call.name, "arguments": arguments, "status": "completed",
            }  # fmt: skip
            return called, arguments
        return self._approval(asked, waiting, arguments), arguments

    def _approval(self, asked: RequestApproval, waiting: Waiting, arguments: str) -> JsonObject:
        return {
            "id": approval_id(self.course.run, waiting.id), "type": "mcp_approval_request", "name": asked.call.name,
            "server_label": SERVER, "arguments": arguments,
            "milepost": plan_of(waiting, self._gateway.rules.public_url, self.course.run),
        }  # fmt: skip

    def _event(self, type: str, **fields: object) -> JsonObject:
        self._sequence += 1
        return {"type": type, "sequence_number": self._sequence, **fields}

    def _place(self, index: int) -> JsonObject:
        return {"item_id": self._items[index]["id"], "output_index": index, "content_index": 0}


def usage_of(tally: Tally) -> JsonObject:
    """Tokens as responses tell them."""
    return {
        "input_tokens": tally.prompt, "output_tokens": tally.completion, "total_tokens": tally.prompt + tally.completion,
        "input_tokens_details": {"cached_tokens": tally.cached, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }  # fmt: skip


def _part(text: str) -> JsonObject:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
