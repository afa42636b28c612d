"""Every event in one line for a person: who, what, and what matters of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from schemas.commands import RequestApproval
from schemas.envelope import Fact
from schemas.events import (
    AnswerCopied,
    AnyEvent,
    ApprovalGranted,
    ApprovalRefused,
    CallJudged,
    CallPlanned,
    CancelRequested,
    EffectSettled,
    Event,
    Generated,
    GrantKept,
    KnowledgeRetrieved,
    MemoryRecalled,
    PersonAnswered,
    RunCancelled,
    RunCompleted,
    RunFailed,
    RunRequested,
    RunSealed,
    StepFailed,
    TimerFired,
    ToolAsked,
    ToolFailed,
    ToolInDoubt,
    ToolReturned,
    ToolsSelected,
    TurnQueued,
    TurnRefused,
    TurnReleased,
    TurnStored,
)
from schemas.policy import Scope
from schemas.sealing import Sealed
from schemas.tools import Preview, ToolCall

WIDTH = 100

Language: TypeAlias = Literal["en", "zh"]
_Say: TypeAlias = Callable[..., str]


def summary(fact: Fact, language: Language = "en") -> str:
    """One line on what the fact says, at most 100 characters, without line breaks. The index keeps the English one."""
    return short(line_of(fact.body, language))


def line_of(event: AnyEvent | Sealed, language: Language = "en") -> str:
    """What an event says, in the words of a language; what people, models and tools said stays as they said it."""
    column = 1 if language == "zh" else 0

    def say(key: str, /, **values: object) -> str:
        return _WORDS[key][column].format(**values)

    return _line(event, say)


def short(text: str, width: int = WIDTH) -> str:
    """Text on one line, cut with an ellipsis."""
    begun = text[: width * 8]
    line = " ".join(begun.split())
    return line if len(line) <= width and len(begun) == len(text) else line[: width - 1] + "…"


def _line(event: Event, say: _Say) -> str:  # noqa: PLR0912  # one case an event
    match event:
        case RunRequested():
            within = say("called by", run=event.parent.run) if event.parent else ""
            within += say("fork of", run=event.fork.run, at=event.fork.at) if event.fork else ""
            return say("asks", user=event.user, agent=event.agent.name, within=within, task=event.task)
        case CancelRequested():
            return say("cancels", by=event.by, reason=event.reason)
        case MemoryRecalled():
            return say("recalled", count=len(event.history))
        case TurnQueued():
            return say("queued", run=event.behind) + (say("interrupts") if event.interrupts else "")
        case TurnRefused():
            return say("turn refused", run=event.by)
        case TurnReleased():
            return say("released", run=event.after)
        case TurnStored():
            return say("stored") + (say("may begin", run=event.released) if event.released else "")
        case ToolsSelected():
            names = ", ".join(f"{each.card.name} {each.why.get('dense', each.score):.2f}" for each in event.tools)
            return say("tools", count=len(event.tools), of=event.searched, names=names)
        case KnowledgeRetrieved():
            titles = ", ".join(f"{each.title} {each.similarity or each.score:.2f}" for each in event.passages)
            found = say("passage" if len(event.passages) == 1 else "passages", count=len(event.passages))
            return found + (say("titles", titles=titles) if titles else "")
        case Generated():
            return _generated(event, say)
        case CallPlanned():
            before = say("done before at", at=event.before.at, run=event.before.run) if event.before else ""
            return say("plan", before=before, preview=preview_line(event.preview))
        case CallJudged():
            return _judged(event, say)
        case GrantKept():
            return _kept(event, say)
        case ToolAsked():
            return say("tool asks", tool=event.command.call.name, text=event.question.text)
        case PersonAnswered():
            return _answered(event, say)
        case EffectSettled():
            return _settled(event, say)
        case ToolReturned():
            return (say("done before") if event.repeated else "") + event.result.text
        case ToolFailed() | ToolInDoubt() | StepFailed() | RunFailed():
            return f"{event.failure.what} {event.failure.why}"
        case ApprovalGranted():
            return say("approves", by=event.by, reach=_reach(event.scope, say), call=_asked(event))
        case ApprovalRefused():
            return say("refuses", by=event.by, call=_asked(event), reason=event.reason)
        case TimerFired():
            return say("moment")
        case RunCompleted():
            return event.answer
        case RunCancelled():
            return f"{event.by} {event.reason}"
        case AnswerCopied():
            return say("changed copy" if event.changed else "copy", line=_line(event.answer, say))
        case RunSealed():
            return _sealed(event, say)
        case Sealed():
            return say("erased")
        case _:
            return type(event).__name__


def _generated(event: Generated, say: _Say) -> str:
    said = event.generation
    read, cached, wrote = said.usage.prompt_tokens, said.usage.cached_tokens, said.usage.completion_tokens
    usage = say("usage", read=read, cached=cached, wrote=wrote)
    what = "; ".join(call_line(call) for call in said.calls) if said.calls else said.text
    if said.malformed:
        what = say("malformed", why=said.malformed)
    notes = [*(say("instead of", each=each) for each in said.tried), *(say("without", each=each) for each in said.cut)]
    if notes:
        what = f"({'; '.join(notes)}) {what}"
    return f"{short(what, WIDTH - len(usage) - 1)} {usage}"


def _judged(event: CallJudged, say: _Say) -> str:
    verdict, nowhere = event.verdict, event.command.ungrounded
    rule = say("rule", rule=verdict.rule) if verdict.rule else ""
    who = say("four eyes") if verdict.four_eyes else ""
    price = say("price first") if verdict.price_needed else ""
    said = say(verdict.outcome) + rule + who + price + (say("because", why=verdict.why) if verdict.why else "")
    names = ", ".join(nowhere)
    told = f"nobody named {names}" in verdict.why  # the policy service says it in English
    return said + (say("nobody named", names=names) if nowhere and not told else "")


def _kept(event: GrantKept, say: _Say) -> str:
    command = event.command
    what = call_line(command.call) if command.scope == "always" else command.call.name
    return say("kept", by=command.by, reach=_reach(command.scope, say), what=what)


def _reach(scope: Scope, say: _Say) -> str:
    return "" if scope == "once" else say(scope)


def _settled(event: EffectSettled, say: _Say) -> str:
    found = say("happened" if event.happened else "not happened", by=event.by)
    more = event.note or (event.result.text if event.result else "")
    return found + (say("because", why=more) if more else "")


def _answered(event: PersonAnswered, say: _Say) -> str:
    if not event.accepted:
        return say("declines", by=event.by)
    return say("answers", by=event.by, content=", ".join(f"{name}={value}" for name, value in event.content.items()))


def _sealed(event: RunSealed, say: _Say) -> str:
    receipt = event.receipt
    return say("amendment" if receipt.part > 1 else "receipt", part=receipt.part, number=receipt.number, size=receipt.size,
               key=receipt.key)  # fmt: skip


def _asked(event: ApprovalGranted | ApprovalRefused) -> str:
    return call_line(event.command.call) if isinstance(event.command, RequestApproval) else ""


def call_line(call: ToolCall) -> str:
    """A call as a person would write it: RenewInstance(InstanceId=i-1, Period=3)."""
    return f"{call.name}({', '.join(f'{name}={value}' for name, value in call.arguments.items())})"


def preview_line(preview: Preview) -> str:
    """A preview on one line."""
    price = f", {preview.price} {preview.currency or ''}".rstrip() if preview.price else ""
    return preview.summary + price


_WORDS: dict[str, tuple[str, str]] = {
    "asks": ("{user} asks {agent}{within}: {task}", "{user} 请求 {agent}{within}：{task}"),
    "called by": (" (called by run {run})", "（由运行 {run} 调用）"),
    "fork of": (" (fork of run {run} at {at})", "（分叉自运行 {run} 的第 {at} 个事件）"),
    "cancels": ("{by} cancels {reason}", "{by} 取消 {reason}"),
    "recalled": ("turn open, {count} earlier turns recalled", "本轮开始，回忆了之前 {count} 轮"),
    "queued": ("waits for run {run}", "等待运行 {run}"),
    "interrupts": (", which it interrupts", "，并将其中断"),
    "turn refused": ("refused, run {run} is open", "被拒绝，运行 {run} 尚未结束"),
    "released": ("run {run} has ended, this one may go on", "运行 {run} 已结束，本运行可以继续"),
    "stored": ("turn remembered", "本轮已记住"),
    "may begin": (", run {run} may begin", "，运行 {run} 可以开始"),
    "tools": ("{count} of {of} tools: {names}", "从 {of} 个工具中选出 {count} 个：{names}"),
    "passage": ("{count} passage", "{count} 段资料"),
    "passages": ("{count} passages", "{count} 段资料"),
    "titles": (": {titles}", "：{titles}"),
    "usage": ("[{read} tokens in ({cached} cached), {wrote} out]", "[读入 {read} 词元（缓存 {cached}），写出 {wrote}]"),
    "malformed": ("cannot be read, goes back to the model: {why}", "无法解读，退回模型：{why}"),
    "instead of": ("instead of {each}", "替代 {each}"),
    "without": ("without {each}", "省略 {each}"),
    "plan": ("{before}plan: {preview}", "{before}计划：{preview}"),
    "done before at": ("done before ({at}, run {run}), ", "已执行过（{at}，运行 {run}），"),
    "done before": ("done before: ", "已执行过："),
    "allow": ("allow", "允许"),
    "ask": ("ask", "须询问"),
    "deny": ("deny", "拒绝"),
    "dry_run": ("dry_run", "仅试运行"),
    "rule": (" ({rule})", "（{rule}）"),
    "four eyes": (", by another person", "，须由他人批准"),
    "price first": (", its price first", "，须先知道价格"),
    "because": (": {why}", "：{why}"),
    "nobody named": ("; nobody named {names}", "；没有人提供过 {names}"),
    "kept": ("kept: {by} approves {reach}{what}", "已保存：{by} 批准{reach} {what}"),
    "conversation": ("for this conversation ", "（本次对话内）"),
    "always": ("always ", "（以后都批准）"),
    "tool asks": ("{tool} asks: {text}", "{tool} 提问：{text}"),
    "declines": ("{by} declines to answer", "{by} 拒绝回答"),
    "answers": ("{by} answers: {content}", "{by} 回答：{content}"),
    "happened": ("it happened after all, says {by}", "{by} 确认：实际上已经发生"),
    "not happened": ("it did not happen, says {by}", "{by} 确认：没有发生"),
    "approves": ("{by} approves {reach}{call}", "{by} 批准{reach} {call}"),
    "refuses": ("{by} refuses {call} {reason}", "{by} 拒绝 {call} {reason}"),
    "moment": ("the moment has come", "时间已到"),
    "copy": ("from the log: {line}", "取自日志：{line}"),
    "changed copy": ("changed by hand: {line}", "人工改动：{line}"),
    "receipt": ("receipt {number}: {size} events, key {key}", "回执 {number}：{size} 个事件，密钥 {key}"),
    "amendment": (
        "receipt {number}, part {part}: {size} events, key {key}",
        "回执 {number}（第 {part} 部分）：{size} 个事件，密钥 {key}",
    ),
    "erased": ("erased on request", "已应要求删除"),
}  # fmt: skip
