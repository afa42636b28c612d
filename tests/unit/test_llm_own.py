"""A caller's own model: what its code raises is told as a failure that a fallback may make good."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from schemas.messages import Message, Prompt, Sampling
from services.llm.own import LLM, ChatMessage, OwnModel, OwnModelFailed

PROMPT = Prompt(messages=(Message(role="user", content="hello"),))


class Breaking(LLM):
    def stream_generate(self, messages: list[ChatMessage], sampling: Sampling) -> Iterator[str]:
        yield "so far so "
        raise KeyError("good")


async def test_what_its_code_raises_is_a_failure_of_this_model() -> None:
    heard: list[str] = []
    with pytest.raises(OwnModelFailed) as caught:
        await OwnModel(Breaking()).generate(PROMPT, on_text=heard.append)
    assert heard == ["so far so "] and "good" in caught.value.why
