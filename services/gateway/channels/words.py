"""What a channel says by itself, in Chinese and English."""

from __future__ import annotations

import json
import re

from schemas.commands import AskPerson, RequestApproval
from schemas.errors import MilepostError
from schemas.tools import Preview
from services.gateway.channels.channel import Card, Channel

CODE = 4
_VALUE = 300
_WORDS = {
    "waits": ("Waits for approval", "等待审批"),
    "arguments": ("arguments", "参数"),
    "price": ("price", "费用"),
    "why": ("why", "原因"),
    "reply": ("Reply **approve {code}** or **refuse {code}**.", "回复 **同意 {code}** 或 **拒绝 {code}**。"),
    "look": ("view the run", "查看运行"),
    "question": ("A tool asks something: {said}", "工具需要补充信息：{said}"),
    "approved": ("Approved: {tool}", "已同意：{tool}"),
    "refused": ("Refused: {tool}", "已拒绝：{tool}"),
    "which": ("Several approvals wait; name one: {codes}", "有多个审批在等待，请注明编号：{codes}"),
    "failed": ("This did not work", "未能完成"),
    "text only": ("Please write text.", "请发送文字消息。"),
    "cut": ("… (the whole answer: {link})", "……（完整回答：{link}）"),
    "answer": ("Answer", "回答"),
}  # fmt: skip


def say(channel: Channel, key: str, **values: object) -> str:
    """The words for a key."""
    return _WORDS[key][channel.language == "zh"].format(**values)


def plain(value: object) -> str:
    """A value in one line that is no markup and links nowhere."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    one = " ".join(text.split())
    return re.sub(r"([\\`*\[\]<>#!])", r"\\\1", one if len(one) <= _VALUE else f"{one[:_VALUE]}…")


def approval(
    channel: Channel, id: str, asked: RequestApproval, preview: Preview | None, link: str, *, here: bool = True
) -> Card:
    """What a person approves or refuses: all that would be done, and the words that do it. here: this chat hears them."""
    lines = [f"### {say(channel, 'waits')}: {plain(asked.call.name)}"]
    if preview is not None:
        lines.append(plain(preview.summary))
        lines += [f"- {plain(label)}: {plain(value)}" for label, value in preview.rows[:20]]
        if preview.price and "price" not in dict(preview.rows):
            lines.append(f"- {say(channel, 'price')}: {plain(preview.price)} {plain(preview.currency or '')}".rstrip())
    lines += [f"- {plain(name)} = {plain(value)}" for name, value in list(asked.call.arguments.items())[:30]]
    if asked.why:
        lines.append(f"- {say(channel, 'why')}: {plain(asked.why)}")
    if here:
        lines.append(say(channel, "reply", code=id[:CODE]))
    lines += [f"[{say(channel, 'look')}]({link})"]
    return Card(title=f"{say(channel, 'waits')}: {asked.call.name}", text="\n\n".join(lines))


def question(channel: Channel, asked: AskPerson, link: str) -> Card:
    """A question of a tool; it is answered in the console."""
    said = say(channel, "question", said=plain(asked.question.text))
    return Card(title=asked.call.name, text=f"{said}\n\n[{say(channel, 'look')}]({link})")


def answer(channel: Channel, text: str, link: str, longest: int) -> Card:
    """An answer, cut to what the messenger takes."""
    rest = "\n\n" + say(channel, "cut", link=link)
    shown = text if len(text) <= longest else text[: longest - len(rest)] + rest
    return Card(title=" ".join(text.split())[:60] or say(channel, "answer"), text=shown)


def trouble(channel: Channel, error: MilepostError, link: str = "") -> Card:
    """What went wrong, and why."""
    parts = [plain(error.what), plain(error.why), f"[{say(channel, 'look')}]({link})" if link else ""]
    return Card(title=say(channel, "failed"), text="\n\n".join(part for part in parts if part))
