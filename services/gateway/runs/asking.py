"""What a run asks a person, as plain text for doors without forms, and what the person's words mean."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from runtime.state import RunState
from schemas.canonical import Json, JsonObject, read_json
from schemas.commands import AskPerson, RequestApproval
from schemas.errors import ProtocolError

Language: TypeAlias = Literal["en", "zh"]

VALUE = 400
CARD = 16_000
"""Characters of one value and of a whole card at most."""
_REPLY_BYTES = 256 * 1024

_YES = "y yes ok okay approve approved allow", "是 是的 好 好的 对 行 可以 同意 批准 允许 确认"
_NO = "n no not never refuse refused deny denied reject decline cancel", "否 不 不是 不行 不要 不可以 不同意 拒绝 取消"
YES, NO = frozenset(" ".join(_YES).split()), frozenset(" ".join(_NO).split())
_BETWEEN = " \t\r\n,.;:!，。；：！、-"
_WORD = re.compile(f"[{_BETWEEN}]+")
_HAN = re.compile("[一-鿿]")

_WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "price": "price", "effect": "effect", "read": "it only reads", "write": "it changes something",
        "destructive": "it destroys something", "arguments": "arguments", "nobody": "<- nobody named this",
        "why": "why you are asked",
        "before": "DONE BEFORE: {at}, run {run}", "expires": "waits until", "fork": "a fork: nothing of it happens",
        "answer": "Answer yes or no; words after no are the reason.", "asks": "{tool} asks:", "required": "required",
        "fill": "Answer as JSON, or NAME=VALUE a line; or decline.", "value": "Answer with the value; or decline.",
        "plain": "Answer yes or no.", "unclear": "That was not understood. ", "one of": "one of",
    },
    "zh": {
        "price": "价格", "effect": "影响", "read": "只读取", "write": "会改动", "destructive": "会销毁", "arguments": "参数",
        "nobody": "← 没有人说过这个值", "why": "为何询问", "before": "以前做过：{at}，运行 {run}", "expires": "等到",
        "fork": "这是分叉：什么都不会真的发生", "answer": "请回答 是 或 否；否 之后的话是理由。", "asks": "{tool} 询问：",
        "required": "必填", "fill": "请用 JSON 回答，或每行一个 名称=值；也可以回答 拒绝。",
        "value": "请直接回答；也可以回答 拒绝。",
        "plain": "请回答 是 或 否。", "unclear": "没有看懂。", "one of": "可选",
    },
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person says to a planned write."""

    approved: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Filled:
    """What a person answers a tool; content: None for one who would not."""

    content: JsonObject | None


def language_of(text: str) -> Language:
    """The language in which somebody wrote, and is to be asked."""
    return "zh" if _HAN.search(text) else "en"


def unclear(language: Language) -> str:
    """What stands before a question that is asked again."""
    return _WORDS[language]["unclear"]


# --- approvals ---


def approval_text(asked: RequestApproval, state: RunState, language: Language) -> str:
    """A planned write: what would happen, its price and effect, each argument, and what is doubtful about it."""
    say, plan, open_call = _WORDS[language], state.plan_of(asked), state.open_calls.get(asked.call.id)
    preview = plan.planned.preview if plan else None
    lines = [_line(preview.summary if preview else asked.call.name), *([f"  {say['fork']}"] if state.fork else [])]
    lines += [f"  {_line(label)}: {_line(text)}" for label, text in (preview.rows if preview else ())]
    if preview and preview.price and "price" not in dict(preview.rows):
        lines.append(f"  {say['price']}: {preview.price} {preview.currency or ''}".rstrip())
    lines.append(f"  {say['effect']}: {say[open_call.card.effect if open_call else 'write']}")
    lines += [f"  {say['arguments']}: {asked.call.name}"]
    lines += [_argument(name, value, asked.ungrounded, say) for name, value in asked.call.arguments.items()]
    if asked.before:
        lines.append("  " + say["before"].format(at=asked.before.at, run=asked.before.run))
    lines += [f"  {say['why']}: {_line(asked.why)}"] if asked.why else []
    lines.append(f"  {say['expires']}: {_moment(asked.expires)}")
    return "\n".join(lines)[:CARD] + "\n" + say["answer"]


def _argument(name: str, value: object, ungrounded: tuple[str, ...], say: Mapping[str, str]) -> str:
    doubtful = any(each == name or each.startswith((f"{name}.", f"{name}[")) for each in ungrounded)
    return f"    {name} = {_line(value)}" + (f"  {say['nobody']}" if doubtful else "")


def decision_of(reply: bytes | str) -> Decision | None:
    """A yes or a no, in English or Chinese, or {"approved": bool, "reason": text}; None for anything else.

    Only a yes by itself approves: "yes, but ..." is no yes. A no may go on with its reason.
    """
    said = _said(reply)
    if isinstance(said, dict):
        approved, reason = said.get("approved"), said.get("reason", "")
        return Decision(approved, reason[:CARD]) if isinstance(approved, bool) and isinstance(reason, str) else None
    text = said.strip(_BETWEEN)
    words = _WORD.split(text.lower())
    if all(word in YES for word in words):
        return Decision(True)
    if words[0] in NO:
        return Decision(False, text[len(words[0]) :].strip(_BETWEEN)[:CARD])
    return None


# --- tools' questions ---


def secret_of(asked: AskPerson) -> str | None:
    """A field that asks for a secret: nobody may answer it in the open, and what is answered stands in the log."""
    fields = _fields(asked).items()
    return next((name for name, field in fields if field.get("format") == "password" or field.get("writeOnly") is True), None)


def question_text(asked: AskPerson, language: Language) -> str:
    """What a tool wants to know: its own words, and the fields of the answer."""
    say, fields = _WORDS[language], _fields(asked)
    required = asked.question.fields.get("required")
    lines = [say["asks"].format(tool=asked.call.name), asked.question.text]
    for name, field in fields.items():
        notes = [str(field.get("type", ""))]
        choices = field.get("enum")
        notes += [f"{say['one of']} {', '.join(map(_line, choices))}"] if isinstance(choices, list) else []
        notes += [say["required"]] if isinstance(required, list) and name in required else []
        title = field.get("title") or field.get("description")
        lines.append(f"  {name}{f' - {_line(title)}' if title else ''} ({', '.join(filter(None, notes))})")
    how = say["plain"] if not fields else say["value"] if len(fields) == 1 else say["fill"]
    return "\n".join(lines)[:CARD] + "\n" + how


def filled(asked: AskPerson, reply: bytes | str) -> Filled | None:
    """A person's answer: an object, NAME=VALUE lines, or for one field its value; None if it says nothing of the kind.

    Whether it fits the tool's schema is for the client to see.
    """
    said, fields = _said(reply), _fields(asked)
    if isinstance(said, dict):
        return Filled(None) if said.get("approved") is False else Filled(said)
    text = said.strip()
    if not fields:
        decision = decision_of(text)
        return Filled({} if decision.approved else None) if decision else None
    if text.lower() in ("decline", "cancel", "拒绝", "取消"):
        return Filled(None)
    pairs = [line.partition("=") for line in text.splitlines() if line.strip()]
    if pairs and all(equals and name.strip() in fields for name, equals, _ in pairs):
        return Filled({name.strip(): _value(value.strip(), fields[name.strip()]) for name, _, value in pairs})
    if len(fields) == 1 and text:
        ((name, field),) = fields.items()
        return Filled({name: _value(text, field)})
    return None


def _fields(asked: AskPerson) -> dict[str, Mapping[str, object]]:
    fields = asked.question.fields.get("properties")
    if not isinstance(fields, Mapping):
        return {}
    return {str(name): field if isinstance(field, Mapping) else {} for name, field in fields.items()}


def _value(text: str, field: Mapping[str, object]) -> Json:
    """A word as its field's type has it; as it stands where it does not fit, for the check to say so."""
    kind = field.get("type")
    if kind == "boolean":
        decision = decision_of(text)
        return decision.approved if decision else {"true": True, "false": False}.get(text.lower(), text)
    if kind in ("integer", "number"):
        try:
            return int(text) if kind == "integer" else float(text)
        except ValueError:
            return text
    if kind in ("array", "object"):
        try:
            return read_json(text.encode(), limit=_REPLY_BYTES)
        except ProtocolError:
            return text
    return text


# --- words ---


def _said(reply: bytes | str) -> JsonObject | str:
    """The object or the text of a reply; {"prompt": text} is the text, as the agent protocol has it."""
    raw = reply.encode() if isinstance(reply, str) else reply
    text = raw[:_REPLY_BYTES].decode("utf-8", "replace")
    if not text.lstrip().startswith("{"):
        return text
    try:
        said = read_json(raw, limit=_REPLY_BYTES)
    except ProtocolError:
        return text
    if isinstance(said, dict) and isinstance(inner := said.get("prompt"), str) and "approved" not in said:
        return inner if not inner.lstrip().startswith("{") else _said(inner)
    return said if isinstance(said, dict) else text


def _line(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= VALUE else f"{text[: VALUE - 1]}…"


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
