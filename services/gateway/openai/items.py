"""The items that a client of /v1/responses sends: messages, calls and what came of them, approvals that are answered."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from services.gateway.openai.asked import Content, Lenient, Name, Words, text_of
from services.gateway.openai.spoken import Call, Spoken, Unfit

_SPEAKERS = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
# What other servers' answers hold and clients send back as it came; a model here has no use for it.
_PASSED_OVER = frozenset({"reasoning", "mcp_approval_request", "mcp_list_tools", "mcp_call"})


class Item(Lenient):
    """One item; which fields count follows from its type."""

    type: Name = "message"
    role: Name | None = None
    content: Content = None
    call_id: Name | None = None
    name: Name | None = None
    arguments: Words | None = None
    output: Content = None
    approval_request_id: Name | None = None
    approve: bool | None = None
    reason: Annotated[str, Field(max_length=2000)] | None = None

    def spoken(self) -> Spoken | None:
        """What it says; None if it says nothing. Raises Unfit."""
        match self.type:
            case "message":
                return self._message()
            case "function_call":
                if self.call_id is None or self.name is None:
                    raise self._lacks("call_id and name")
                return Spoken("assistant", calls=(Call(self.call_id, self.name, self.arguments or ""),))
            case "function_call_output":
                if self.call_id is None:
                    raise self._lacks("call_id")
                return Spoken("tool", text_of(self.output), call=self.call_id)
            case "mcp_approval_response":
                if self.approval_request_id is None or self.approve is None:
                    raise self._lacks("approval_request_id and approve")
                return Spoken("approval", self.reason or "", call=self.approval_request_id, approved=self.approve)
        if self.type in _PASSED_OVER:
            return None
        raise Unfit(
            f"An item of type {self.type} cannot be read.", why="models here read messages, calls and their results",
            hint="documents go into knowledge with POST /v1/files",
        )  # fmt: skip

    def _message(self) -> Spoken:
        who = _SPEAKERS.get(self.role or "")
        if who is None:
            raise Unfit(f"Nobody speaks as {self.role!r}.", why=f"roles are {', '.join(_SPEAKERS)}")
        text = text_of(self.content)
        return Spoken("system" if who == "system" else "user" if who == "user" else "assistant", text)

    def _lacks(self, what: str) -> Unfit:
        return Unfit(f"An item of type {self.type} lacks {what}.")


def together(spoken: list[Spoken]) -> tuple[Spoken, ...]:
    """An assistant's words and calls that follow one another as the one message that they are to a model."""
    found: list[Spoken] = []
    for each in spoken:
        last = found[-1] if found else None
        if each.who == "assistant" and each.calls and last is not None and last.who == "assistant":
            found[-1] = Spoken("assistant", last.text, (*last.calls, *each.calls))
        else:
            found.append(each)
    return tuple(found)
