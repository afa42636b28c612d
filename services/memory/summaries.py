"""Summaries: when turns are to be told in short, and the run that does it. It is a run like any other: logged, replayed."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, TypeAlias

from schemas.agent import AgentSpec, Budget, Recall
from schemas.canonical import digest
from schemas.events import Summary, Turn
from schemas.ids import RunId, run_id, segment_of
from schemas.messages import Manner, Message, Sampling
from schemas.tools import Value
from services.memory.budget import HISTORY_TURNS, cut, estimate, tokens_of

CONVERSATION = "summary-"
"""How the conversations of summarising runs begin, before a digest; nothing that is said in one is kept as a turn."""
_CONVERSATION = re.compile(rf"{CONVERSATION}[0-9a-f]{{32}}")

PATIENCE = timedelta(minutes=10)
UNSUMMARISED = 200
CHARACTERS = 600

_BEGIN, _LEAVE = 0.9, 0.25
_LEAST_BUDGET = 400
_MOST_TOKENS = 1_200
_TURN_CHARACTERS = 600
_CHINESE_SHARE = 0.3
_KEPT_TOKENS = 160  # with the notes of one run: a summary of 288, where a prompt has room for 300
_NOTES_TOKENS = 128

SUMMARISER = AgentSpec(
    name="summariser", version="1", tool_k=0, knowledge_k=0, priority="batch", manner=Manner(calls="never"),
    recall=Recall(similar=0, facts=0, summary=False), sampling=Sampling(max_tokens=_NOTES_TOKENS),
    budget=Budget(steps=2, calls=0, deadline_s=PATIENCE.total_seconds() / 2, history_tokens=0),
)  # fmt: skip


class Request(Value):
    """A summary to be asked for. run: the one that the key leads to; upto: the last turn that it covers.

    beginning: what is kept of the earlier summary, which the answer is added to.
    """

    run: RunId
    key: str
    conversation: str
    user: str
    task: str
    upto: str
    beginning: str
    agent: AgentSpec


Ask: TypeAlias = Callable[[str, Request], Awaitable[None]]
"""Begins the run of a request for a tenant, once, however often it is called. Raises MilepostError."""


class _Language(NamedTuple):
    """How a task is put in one language, and the agent that is shown how it is done in it."""

    begin: str
    user: str
    assistant: str
    wish: str
    agent: AgentSpec

    def task(self, said: Sequence[tuple[str, str]]) -> str:
        lines = [line for task, answer in said for line in (f"{self.user}{task}", f"{self.assistant}{answer}")]
        return "\n".join([self.begin, *lines, "", self.wish])


class _Example(NamedTuple):
    said: Sequence[tuple[str, str]]
    notes: str


def _shown(language: _Language, instructions: str, example: _Example) -> _Language:
    """The language with its agent told and shown what to do."""
    shown = (
        Message(role="user", content=language.task(example.said), origin="user"),
        Message(role="assistant", content=example.notes, origin="model"),
    )
    told = {"instructions": instructions, "examples": shown}
    return language._replace(agent=language.agent.model_copy(update=told))


_ENGLISH = _shown(
    _Language("Conversation:", "User: ", "Assistant: ", "Notes:", SUMMARISER),
    "You write short notes about a conversation for somebody who was not there: who the user is, what they asked for, "
    "decided and got. Keep every name, number, date and id. Third person, a few sentences.",
    _Example(
        [("I'm Tom from Oslo. Call me back at 5 about order 771.", "I will call you at 5."),
         ("Make it two chairs, not three.", "Changed to two chairs.")],
        "The user is Tom from Oslo. He wanted a call at 5 about order 771; the assistant agreed. He changed the order from "
        "three chairs to two.",
    ),
)  # fmt: skip
_CHINESE = _shown(
    _Language("对话：", "用户：", "助手：", "要点：", SUMMARISER),
    "为没有参加的人写下这段对话的要点：用户是谁、想要什么、决定和做了什么；保留所有姓名、数字、日期和编号。用第三人称，几句话。",
    _Example(
        [("我是王芳，在北京做会计。订单 771 请五点给我回电话。", "好的，五点给您回电话。"),
         ("椅子改成两把，不要三把。", "已改成两把。")],
        "用户叫王芳，在北京做会计。她要求五点就订单 771 回电话，助手答应了。她把椅子从三把改成了两把。",
    ),
)  # fmt: skip
_OF_THE_EXAMPLES = ("Tom", "Oslo", "771", "chair", "王芳", "北京", "会计", "椅子")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*")


def of_summary(conversation: str) -> bool:
    """Whether a conversation is that of a summarising run."""
    return _CONVERSATION.fullmatch(conversation) is not None


def due(turns: Sequence[Turn], history_tokens: int) -> list[Turn]:
    """The oldest of the turns without a summary, once they nearly fill the history: before any of them falls out of it."""
    budget = max(history_tokens, _LEAST_BUDGET)
    tokens = [tokens_of(turn) for turn in turns]
    left, count, read = sum(tokens), len(turns), 0
    if _load(left, count, budget) <= _BEGIN:
        return []
    chosen: list[Turn] = []
    for turn, size in zip(turns, tokens, strict=True):
        read += min(size, _TURN_CHARACTERS)
        if _load(left, count, budget) <= _LEAVE or (chosen and read > _MOST_TOKENS):
            break
        chosen.append(turn)
        left, count = left - size, count - 1
    return chosen


def request(
    tenant: str, conversation: str, user: str, earlier: Summary | None, turns: Sequence[Turn], now: datetime
) -> Request:
    """What to ask for. now: a later try for the same turns is another run.

    Only the turns are told: a small model that is to write an earlier summary anew repeats that and leaves out what is new.
    """
    said = [(cut(turn.task, _TURN_CHARACTERS), cut(turn.answer, _TURN_CHARACTERS)) for turn in turns]
    language = _CHINESE if _mostly_chinese("".join(task + answer for task, answer in said)) else _ENGLISH
    key = CONVERSATION + digest("summary", tenant, conversation, turns[-1].run, now.isoformat())
    return Request(
        run=run_id(tenant, key, segment_of(now)), key=key, conversation=key, user=user, upto=turns[-1].run,
        task=language.task(said), beginning=kept_part(earlier.text) if earlier else "", agent=language.agent,
    )  # fmt: skip


def tidy(answer: str, task: str) -> str | None:
    """The notes of one run as they are kept, on one line; None for nothing.

    Sentences about people of the examples are left out: a small model that hears no name takes one from there.
    """
    foreign = [word for word in _OF_THE_EXAMPLES if word not in task]
    sentences = _SENTENCE.split(" ".join(answer.split()))
    own = [sentence for sentence in sentences if not any(word in sentence for word in foreign)]
    between = "" if _mostly_chinese(answer) else " "
    return cut(between.join(own), CHARACTERS).strip() or None


def joined(beginning: str, notes: str) -> str:
    """A summary: what is kept of the one before, and the notes of what came after it."""
    return f"{beginning}\n{notes}" if beginning else notes


def kept_part(summary: str) -> str:
    """What fits of a summary: its first notes, which say who the user is, and as many of the last ones as possible."""
    first, *others = summary.split("\n")
    left = _KEPT_TOKENS - estimate(first)
    kept: list[str] = []
    for notes in reversed(others):
        left -= estimate(notes)
        if left < 0:
            break
        kept.append(notes)
    return "\n".join([first, *reversed(kept)])


def fitting(summaries: Sequence[tuple[int, Summary]], missing: int | None) -> Summary | None:
    """The summary to tell beside a history: the first that covers all before it, else the one that covers most.

    summaries: each with the end of the last turn that it covers, ascending. missing: when the newest turn before the
    history ended; None: there is none, so nothing needs telling.
    """
    if missing is None or not summaries:
        return None
    return next((summary for ended, summary in summaries if ended >= missing), summaries[-1][1])


def not_told(history: tuple[Turn, ...], summary: Summary | None) -> tuple[Turn, ...]:
    """The history from where the summary ends, if enough of it is left.

    So it begins at the same turn until another summary is told, and the prompts of several turns share their beginning.
    """
    runs = [turn.run for turn in history]
    if summary is None or summary.upto not in runs:
        return history
    left = history[runs.index(summary.upto) + 1 :]
    return left if sum(map(tokens_of, left)) >= _LEAVE * sum(map(tokens_of, history)) else history


def _load(tokens: int, count: int, budget: int) -> float:
    return max(tokens / budget, count / HISTORY_TURNS)


def _mostly_chinese(text: str) -> bool:
    """By tokens: a Chinese text with English names in it is Chinese."""
    chinese = sum("\u4e00" <= character <= "\u9fff" for character in text)
    return chinese > _CHINESE_SHARE * estimate(text)
