"""What a person is told and asked when a write waits for them, in English and Chinese."""

from __future__ import annotations

import os
import re
from typing import Literal, TypeAlias

Language: TypeAlias = Literal["en", "zh"]

_STATE: dict[str, Language | None] = {"language": None}


def use_language(setting: Literal["auto", "en", "zh"]) -> None:
    """Speak this language from here on; auto: that of the terminal."""
    _STATE["language"] = None if setting == "auto" else setting


def language() -> Language:
    """The language to speak: what is set, else what the environment says (LC_ALL, LC_MESSAGES, LANG), else English."""
    if _STATE["language"]:
        return _STATE["language"]
    said = next((os.environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if os.environ.get(name)), "")
    return "zh" if said.lower().startswith("zh") else "en"


def say(key: str, **values: object) -> str:
    """The words for a key, with values put in."""
    english, chinese = _WORDS[key]
    return (chinese if language() == "zh" else english).format(**values)


def reason(why: str) -> str:
    """Why a call is asked about, where the policy service's own words have others here; a rule's words stay as they are."""
    if language() == "en":
        return why
    return "；".join(_reason(each) for each in why.split("; "))


def _reason(why: str) -> str:
    for pattern, chinese in _REASONS:
        if found := pattern.fullmatch(why):
            return found.expand(chinese)
    return why


_REASONS = tuple(
    (re.compile(pattern), chinese)
    for pattern, chinese in (
        (r"(.+) changes something, and no rule lets it through", r"\1 会修改资源，且没有规则放行"),
        (r"(.+) destroys something, and no rule lets it through", r"\1 会破坏资源，且没有规则放行"),
        (r"(.+): nobody named this", r"\1：没有人提供过该值"),
        (r"rule (.+)", r"规则 \1"),
        (r"limit (.+): (.+) of (.+) writes are used", r"限额 \1：写操作已用 \2 次，上限 \3 次"),
        (r"limit (.+): (.+) of (.+) are used, this costs (.+)", r"限额 \1：已用 \2，上限 \3，此操作需 \4"),
        (r"limit (.+) counts money, and the price is not known", r"限额 \1 按金额计算，但价格未知"),
    )
)

_WORDS: dict[str, tuple[str, str]] = {
    # the card
    "title": ("approve {tool}?", "批准 {tool}？"),
    "effect": ("effect", "影响"),
    "read": ("reads only", "只读"),
    "write": ("WRITES: changes something", "写操作：会修改资源"),
    "destructive": ("DESTRUCTIVE: cannot be taken back", "破坏性操作：不可撤销"),
    "price": ("price", "价格"),
    "arguments": ("arguments", "参数"),
    "no arguments": ("none", "无"),
    "nobody named": ("nobody named this", "没有人提供过该值"),
    "nobody named part": ("nobody named {names}", "没有人提供过 {names}"),
    "done before": ("done before", "已执行过"),
    "before": ("{times} x, last {at} in run {run}: {text}", "共 {times} 次，最近一次 {at}，运行 {run}：{text}"),
    "once more": ("approving does it ONCE MORE", "批准后会再执行一次"),
    "why": ("asked because", "询问原因"),
    "approvers": ("may approve", "可批准者"),
    "anyone": ("anyone", "任何人"),
    "not by": ("anyone but {user}", "除 {user} 以外的任何人"),
    "approvers not by": ("{names}, but not {user}", "{names}，但不能是 {user}"),
    "expires": ("answer by", "截止时间"),
    # the question
    "approve?": ("Approve?", "批准吗？"),
    "once": ("y once", "y 仅此一次"),
    "conversation": ("c for this conversation", "c 本次对话内"),
    "always": ("a always with these arguments", "a 以后相同参数都批准"),
    "no": ("n no, and say why", "n 拒绝并说明原因"),
    "details": ("d details", "d 查看详情"),
    "reason?": ("Why not? (Enter: no reason) ", "拒绝的原因？（回车表示不说明）"),
    "another": ("Another person must approve this: {who}.", "此操作须由他人批准：{who}。"),
    "another how": ("milepost approvals approve {run} --by NAME", "milepost approvals approve {run} --by 姓名"),
    "not plain": (
        "--yes does not cover this ({kinds}): add {flags}, or answer it with milepost approvals approve {run}",
        "--yes 不适用于此操作（{kinds}）：请加上 {flags}，或执行 milepost approvals approve {run}",
    ),
    "waits": ("The run waits for an answer: {command}", "运行正在等待答复：{command}"),
    "or": ("                         or: {command}", "              或者：{command}"),
    # details
    "raw arguments": ("raw arguments", "原始参数"),
    "planned state": ("planned on", "计划所依据的状态"),
    "dry run": ("dry run", "试运行"),
    "dry run none": ("none: nothing was tried", "无：未进行任何尝试"),
    "dry run look": ("looked at what it would touch", "查看了将受影响的资源"),
    "dry run provider": ("the provider's own dry run", "服务方自带的试运行"),
    "undo": ("taken back with", "撤销方式"),
    "write key": ("write key", "写入键"),
    "host": ("host", "执行者"),
    "bound to": ("approval is bound to", "批准绑定于"),
    # questions of tools
    "asks": ("{tool} asks", "{tool} 提问"),
    "field": ("{name}{kind}: ", "{name}{kind}："),
    "required": ("required", "必填"),
    "default": ("Enter: {value}", "回车：{value}"),
    "optional": ("Enter: leave it out", "回车：不填"),
    "one of": ("one of {values}", "可选：{values}"),
    "decline": (
        "Enter to answer, or n to decline: ",
        "按回车开始作答，输入 n 拒绝回答：",
    ),
    "wrong": ("{value} does not fit: {why}", "{value} 不符合要求：{why}"),
    "declined": ("declined", "已拒绝回答"),
    "secret": (
        "{name} is a secret, and secrets are not asked for here: what is typed would stand in the log.",
        "{name} 是机密信息，不能在此输入：输入内容会写入日志。",
    ),
    "secret hint": (
        "give it to the tool by reference (env:NAME or file:PATH of its source); the question is declined",
        "请以引用方式提供给工具（来源设置中的 env:NAME 或 file:PATH）；此问题将被拒绝",
    ),
    "answer how": ("milepost approvals answer {run} NAME=VALUE ...", "milepost approvals answer {run} 名称=值 ..."),
}
