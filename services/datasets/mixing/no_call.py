"""Conversations in which no tool is right: the one that was is not offered, or nobody asked for one."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from schemas.messages import Message
from services.datasets.example import Example
from services.datasets.mixing.distractors import Pool, with_tools

REFUSALS = {
    "en": (
        "I'm sorry, I can't do that with the tools I have here.",
        "None of the tools I have can do that.",
        "Sorry, that is beyond what I can do here: no tool of mine does it.",
        "I have no tool for this, so I can't help with it here.",
        "I can't do this for you. The functions I was given are for other things.",
        "That isn't something I can do at the moment; I don't have a function for it.",
        "I don't have access to anything that does this, sorry.",
        "Unfortunately none of my functions fits this request.",
        "I'm not able to do that: nothing I can call does it.",
        "Sorry, I can't help with that one. I have no suitable tool.",
    ),
    "zh": (
        "抱歉，我现有的工具做不到这件事。",
        "我没有可以完成这件事的工具。",
        "不好意思，这超出了我目前能做的范围。",
        "我这里没有合适的功能来处理这个请求。",
        "抱歉，目前提供给我的功能都不适用于这个请求。",
        "这件事我暂时办不了，因为没有对应的工具。",
        "很抱歉，我无法帮您完成：我能用的功能里没有这一项。",
        "我现在没有办法做这个，可用的工具都是做别的事情的。",
    ),
}
"""What is said where no tool is right: plain, and nothing that was not asked."""


def refused(example: Example, pool: Pool, dice: Random, *, most: int) -> Example | None:
    """The conversation up to its first request, with other tools than the right ones, and a refusal in its language.

    None if nothing is called in it, its language has no refusal, or no tool is left to offer: without any it would teach that
    no tools means no. most: how many tools are offered.
    """
    sorry = REFUSALS.get(example.language)
    asked = next((place for place, each in enumerate(example.messages) if each.role == "user" and not each.context), None)
    if not example.calls or sorry is None or asked is None:
        return None
    right = sorted(example.calls)
    spare = [card for card in example.tools if not any(pool.like(name, card) for name in right)][:most]
    spare += pool.draw(max(0, dice.randint(1, max(1, most)) - len(spare)), right, example.tools, None, dice)
    if not spare:
        return None
    answer = Message(role="assistant", content=dice.choice(sorry), origin="model")
    said = (*example.messages[: asked + 1], answer)
    return replace(with_tools(example, spare), messages=said, group="no-call/not offered", id=f"{example.id}~refused")


def talked(example: Example, talk: tuple[str, str], pool: Pool, dice: Random, *, most: int) -> Example:
    """Plain talk beside the tools of a conversation: what is said and answered needs none of them."""
    tools = list(example.tools)
    tools += pool.draw(max(0, dice.randint(1, max(1, most)) - len(tools)), [], tools, 0.0, dice)
    said = (Message(role="user", content=talk[0], origin="user"), Message(role="assistant", content=talk[1], origin="model"))
    made = with_tools(example, dice.sample(tools, min(most, len(tools))))
    return replace(made, messages=said, group="no-call/plain talk", id=f"{example.id}~talk")
