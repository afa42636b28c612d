"""A call that is taken back leaves nothing behind: the answer is the one to the prompt without tools."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.messages import Message, Prompt, Sampling
from schemas.tools import ToolCard
from services.llm import choice
from tests.support.tiny_llm import tiny_llm

CARD = ToolCard(
    name="renew", description="Renew a server.",
    parameters={"type": "object", "properties": {"months": {"type": "integer", "maximum": 99}}, "required": ["months"]},
)  # fmt: skip
PROMPT = Prompt(
    messages=(Message(role="user", content="hello"),), tools=(CARD,), sampling=Sampling(max_tokens=80), call_margin=-1e6
)


async def said(folder: Path, prompt: Prompt) -> tuple[str, int]:
    with tiny_llm(folder) as model:
        generation = await model.generate(prompt, on_text=lambda _: None)
        return generation.text, len(generation.calls)


@pytest.mark.parametrize(("margin", "cost"), [(-1e6, 1e9), (-4.0, 3.0)], ids=["when it is whole", "while its name is spelled"])
async def test_the_answer_is_as_if_nothing_had_been_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, margin: float, cost: float
) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
    _, calls = await said(tmp_path / "a", PROMPT)
    assert calls == 1
    monkeypatch.setattr(choice, "INVENTED", cost)
    text, calls = await said(tmp_path / "b", PROMPT.model_copy(update={"call_margin": margin}))
    assert (text, calls) == ((await said(tmp_path / "c", PROMPT.model_copy(update={"tools": ()})))[0], 0)
    assert text
