"""What a person is told and asked when a write waits for them, in English and Chinese."""

from __future__ import annotations

import os
import re
from typing import Literal, TypeAlias

from infra.cli.words_dataset import WORDS as _OF_DATASETS
from infra.cli.words_eval import WORDS as _OF_EVALUATIONS
from infra.cli.words_training import WORDS as _OF_TRAINING

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


def say(key: str, /, **values: object) -> str:
    """The words for a key, with values put in."""
    return say_in(language(), key, **values)


def say_in(language: Language, key: str, /, **values: object) -> str:
    """The words for a key in a language: what the gateway tells a browser need not be what this process speaks."""
    english, chinese = _WORDS[key]
    return (chinese if language == "zh" else english).format(**values)


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
    # runs: reading and comparing them
    "run": ("run", "运行"),
    "asked": ("asked", "请求"),
    "asked line": ("{at} by {user}, agent {agent}", "{at}，用户 {user}，智能体 {agent}"),
    "asked by": ("asked by", "调用者"),
    "run line": ("run {run}", "运行 {run}"),
    "first of them": (", the first of them {run}", "，最初为 {run}"),
    "in conversation": ("conversation", "对话"),
    "task": ("task", "任务"),
    "answer": ("answer", "回答"),
    "took": ("took", "用时"),
    "took line": ("{time} · {events} events", "{time} · {events} 个事件"),
    "fork": ("fork of", "分叉自"),
    "fork line": ("{place} · by {by}{changed}", "{place} · 由 {by} 创建{changed}"),
    "fork changed": (" · changed: {what}", " · 改动：{what}"),
    "forks": ("forks", "分叉"),
    "receipt": ("receipt", "回执"),
    "receipt mark": ("seal", "回执"),
    "sealed": (
        "sealed as number {number} of the chain of {tenant} by key {key}, {size} events",
        "已封存：{tenant} 链上第 {number} 号，密钥 {key}，{size} 个事件",
    ),
    "amended": (
        "part {part}: number {number} of the chain of {tenant} by key {key}, {size} events",
        "第 {part} 部分：{tenant} 链上第 {number} 号，密钥 {key}，{size} 个事件",
    ),
    "not sealed": ("not sealed yet", "尚未封存"),
    "after seal": ("events after that, not sealed yet: {count}", "其后尚未封存的事件：{count}"),
    "one event": ("one event: milepost runs show {place}", "查看单个事件：milepost runs show {place}"),
    "was erased": (
        "What was said in this run was erased on request; that it took place is still told.",
        "此运行的内容已应要求删除；仅保留其发生过的记录。",
    ),
    "after": ("after #{number}", "承接 #{number}"),
    "also after": ("also after {numbers}", "同时承接 {numbers}"),
    "cause missing": (
        "! #{number} names the cause {cause}, which is not in this log",
        "! #{number} 所指的原因 {cause} 不在此日志中",
    ),
    "cause later": (
        "! #{number} names the cause {cause}, which does not come before it",
        "! #{number} 所指的原因 {cause} 并不在它之前",
    ),
    "event": ("event", "事件"),
    "when": ("when", "时间"),
    "when line": ("{at} · {since} after the run began{gap}", "{at} · 运行开始后 {since}{gap}"),
    "gap": (", {gap} after its cause", "，原因之后 {gap}"),
    "who": ("who", "来源"),
    "slot": ("slot", "位置"),
    "causes": ("causes", "原因"),
    "answers to": ("answers", "答复"),
    "nothing": ("none", "无"),
    "stored as": ("stored as", "存储"),
    "bytes": ("{count} bytes, SHA-256 {sha}", "{count} 字节，SHA-256 {sha}"),
    "leaf": ("leaf hash", "叶哈希"),
    "no leaf": ("a receipt is not counted in itself", "回执自身不计入"),
    "copied": ("copied from", "复制自"),
    "says": ("says", "内容"),
    "erased": ("erased on request", "已应要求删除"),
    "state after": ("state after", "此后状态"),
    "phase": ("phase", "阶段"),
    "decides": ("decides next", "接下来决定"),
    "outstanding": ("outstanding", "未答复"),
    "answered at": ("answered at #{number}", "答复于 #{number}"),
    "not answered": ("never answered", "始终未答复"),
    "offered": ("offered tools", "可用工具"),
    "gathered": ("gathered", "已收集"),
    "gathered line": (
        "{history} earlier turns, {passages} passages, {facts} facts",
        "之前 {history} 轮，资料 {passages} 段，事实 {facts} 条",
    ),
    "used": ("budget used", "已用预算"),
    "used line": (
        "turns {steps} of {most_steps} · calls {calls} of {most_calls} · tokens {tokens} · writes {writes}{money}",
        "模型轮次 {steps}/{most_steps} · 调用 {calls}/{most_calls} · 词元 {tokens} · 写操作 {writes}{money}",
    ),
    "said so far": ("said so far", "至此对话"),
    "prompt of": ("prompt of", "提示词"),
    "prompt line": ("#{number}, asked {at} of {model}", "#{number}，{at} 请求 {model}"),
    "prompt open": ("not answered yet, asked {at} of {model}", "尚未答复，{at} 请求 {model}"),
    "size": ("size", "大小"),
    "tokens": ("{count} tokens of {model}", "{count} 词元（{model}）"),
    "characters": (
        "{count} characters; the tokenizer of {model} is not here",
        "{count} 个字符；本机没有 {model} 的分词器",
    ),
    "offers": ("(offers {names})", "（提供 {names}）"),
    "left out": ("left out", "省略"),
    # diff
    "a b": ("{a}  and  {b}", "{a}  与  {b}"),
    "fork head": (
        "{fork} is a fork of {other}: it left at {place}{changed}",
        "{fork} 是 {other} 的分叉：于 {place} 离开{changed}",
    ),
    "all same": ("the same in every step", "每一步都相同"),
    "counts": (
        "steps: {same} the same, {changed} changed, {removed} only in A, {added} only in B",
        "步骤：相同 {same}，改变 {changed}，仅 A 有 {removed}，仅 B 有 {added}",
    ),
    "counts moved": (", {moved} in another order", "，顺序不同 {moved}"),
    "first": ("they part at {place}: {what}", "从 {place} 开始不同：{what}"),
    "changed": ("changed", "改变"),
    "removed": ("only in A", "仅 A"),
    "added": ("only in B", "仅 B"),
    "moved": ("moved", "移位"),
    "same": ("same", "相同"),
    "same step": ("{count} step the same", "{count} 步相同"),
    "same steps": ("{count} steps the same", "{count} 步相同"),
    "steps": ("steps", "步骤"),
    "totals": ("totals", "合计"),
    "writes": ("writes", "写操作"),
    "no writes": ("neither run wrote anything", "两次运行都没有写操作"),
    "outcome": ("outcome", "结果"),
    "agent": ("agent", "智能体"),
    "events": ("events", "事件"),
    "turns": ("model turns", "模型轮次"),
    "tokens_in": ("tokens in", "读入词元"),
    "tokens_cached": ("of them cached", "其中缓存"),
    "tokens_out": ("tokens out", "写出词元"),
    "model_ms": ("model time", "模型用时"),
    "waited_s": ("waiting for people", "等待人员"),
    "wall_s": ("wall time", "总用时"),
    "calls": ("calls", "调用"),
    "money": ("money", "费用"),
    "effect same": ("the same", "相同"),
    "effect result": ("another result", "结果不同"),
    "effect arguments": ("other arguments", "参数不同"),
    "effect only a": ("only in A", "仅 A"),
    "effect only b": ("only in B", "仅 B"),
    "done": ("done", "已执行"),
    "repeated": ("done before", "此前已执行"),
    "in doubt": ("IN DOUBT", "存疑"),
    "not done": ("not done", "未执行"),
    "in order": ("the same step, in another order", "相同步骤，顺序不同"),
    "more": ("… and {count} more differences in this step", "……此步骤还有 {count} 处不同"),
    "written": ("written to {file}", "已写入 {file}"),
    "diff title": ("Two runs beside each other", "两次运行的对比"),
    "show same": ("Show what is the same", "显示相同部分"),
    # runs: as traces
    "trace sent": ("{count} spans sent to {to}; the trace is {trace}", "已将 {count} 个跨度发送到 {to}；追踪为 {trace}"),
    "trace": ("trace {trace}", "追踪 {trace}"),
    "trace configured": ("the collector of the settings", "设置中的收集器"),
    # runs: taken away as files, and brought in
    "exported": ("{events} events in {file}", "{events} 个事件已写入 {file}"),
    "export payloads": (" · {count} payloads, {bytes} bytes", " · {count} 个附件，{bytes} 字节"),
    "export erased": ("their content was erased on request", "其内容已应要求删除"),
    "export copied": ("{file}: a copy of what was imported, {source}", "{file}：导入文件 {source} 的副本"),
    "export missing": ("not in the file: {ref}: {why}", "未包含在文件中：{ref}：{why}"),
    "exporting": ("runs", "运行"),
    "exported tables": ("{runs} runs, {events} events in {folder}", "{runs} 个运行、{events} 个事件已写入 {folder}"),
    "export left out": ("left out, no log holds it any more: {run}", "已跳过，日志中不再有此运行：{run}"),
    "imported": ("imported into {file}", "已导入 {file}"),
    "imported before": ("was there already: {file}", "先前已导入：{file}"),
    "imported counts": (
        "{events} events, {payloads} payloads, {receipts} receipts",
        "{events} 个事件、{payloads} 个附件、{receipts} 份回执",
    ),
    # archive: closed segments
    "archive writing": ("archiving {segment}", "正在归档 {segment}"),
    "archive verifying": ("verifying {segment}", "正在校验 {segment}"),
    "archive written": ("segment {segment} is archived in {place}: {counts}", "分段 {segment} 已归档到 {place}：{counts}"),
    "archive there": (
        "segment {segment} is archived in {place} as it is: {counts}",
        "分段 {segment} 已在 {place} 归档且无变化：{counts}",
    ),
    "archive verify next": (
        "milepost archive verify {segment}, then milepost archive drop {segment} --yes",
        "先 milepost archive verify {segment}，再 milepost archive drop {segment} --yes",
    ),
    "archive counts": (
        "{runs} runs, {events} messages, {payloads} payloads, {receipts} runs with receipts, {size}",
        "{runs} 个运行，{events} 条消息，{payloads} 个附件，{receipts} 个运行有回执，{size}",
    ),
    "archive whole": ("segment {segment} is whole {against}: {counts}", "分段 {segment} 完好，{against}：{counts}"),
    "archive against log": ("and holds what the log holds", "且与日志一致"),
    "archive against itself": ("as it was archived; it was not held against the log", "与归档时一致（未与日志比对）"),
    "archive not whole": ("segment {segment}: {count} things are wrong", "分段 {segment}：发现 {count} 处问题"),
    "archive drop what": ("Segment {segment} would be taken out of the log.", "将从日志中移除分段 {segment}。"),
    "archive no way back": ("it cannot be taken back", "此操作不可撤销"),
    "archive dropped": (
        "segment {segment} is out of the log; its runs are read from the archive: {counts}",
        "分段 {segment} 已移出日志，其运行从归档读取：{counts}",
    ),
    "archive nothing old": ("nothing archived of {tenant} is older than {keep}", "{tenant} 没有早于 {keep} 的归档"),
    "archive still in log": (
        "{segment} stays: it is still in the log (milepost archive drop {segment} --yes)",
        "{segment} 保留：仍在日志中（milepost archive drop {segment} --yes）",
    ),
    "archive expired": ("{segment} of {tenant} is removed: {counts}", "已删除 {tenant} 的 {segment}：{counts}"),
    "archive would expire": ("{segment} of {tenant} would go: {counts}", "将删除 {tenant} 的 {segment}：{counts}"),
    "archive expire how": (
        "milepost archive expire --tenant {tenant} --keep {keep} --yes removes it for good",
        "永久删除：milepost archive expire --tenant {tenant} --keep {keep} --yes",
    ),
    "archive state open": ("open", "开放"),
    "archive state closed": ("closed", "已关闭"),
    "archive state archived": ("archived", "已归档"),
    "archive state changed": ("changed since", "归档后有变化"),
    "archive state dropped": ("dropped", "已移除"),
    "archive state returned": ("came back", "移除后又有消息"),
    "archive column segment": ("segment", "分段"),
    "archive column state": ("state", "状态"),
    "archive column runs": ("runs", "运行"),
    "archive column not ended": ("not ended", "未结束"),
    "archive column in log": ("in log", "日志大小"),
    "archive column in archive": ("in archive", "归档大小"),
    "archive column archived at": ("archived", "归档日期"),
    "archive column verified at": ("verified", "校验日期"),
    "archive column dropped at": ("dropped", "移除日期"),
    "alarm late": (
        "segment {segment} has been closed for {days} days and is not archived: milepost archive write {segment}",
        "分段 {segment} 已关闭 {days} 天仍未归档：milepost archive write {segment}",
    ),
    "alarm changed": (
        "segment {segment} has changed since it was archived: milepost archive write {segment}",
        "分段 {segment} 归档后有变化：milepost archive write {segment}",
    ),
    "alarm returned": (
        "the log has messages of segment {segment} from after it was dropped; see docs/archive.md",
        "分段 {segment} 移除后日志又收到其消息；参见 docs/archive.md",
    ),
    "alarm unverified": (
        "segment {segment} was verified {days} days ago, or never: milepost archive verify {segment}",
        "分段 {segment} 上次校验在 {days} 天前或从未校验：milepost archive verify {segment}",
    ),
    "alarm storage": (
        "the log takes {percent} % of the storage that it may have: archive and drop old segments",
        "日志已占允许存储的 {percent} %：请归档并移除旧分段",
    ),
    "alarm disk": (
        "the disk of the log is {percent} % full: archive and drop old segments, or free some space",
        "日志所在磁盘已用 {percent} %：请归档并移除旧分段，或释放空间",
    ),
    # cohorts: many runs driven again
    "cohort title": ("Recorded runs driven again: {swap}", "重新驱动已记录的运行：{swap}"),
    "cohort nothing": ("nothing swapped", "未替换任何部分"),
    "cohort head": ("cohort {id} · {runs} runs · {swap}", "群组 {id} · {runs} 个运行 · {swap}"),
    "cohort interval": ("value  [95 % interval]  n", "数值  [95 % 区间]  n"),
    "cohort agreement": ("runs that did the same", "行为一致的运行"),
    "cohort actions": ("Action EM (tools)", "动作精确匹配（工具）"),
    "cohort calls": ("calls with equal arguments", "参数也相同的调用"),
    "cohort arguments": ("argument F1", "参数 F1"),
    "cohort verdicts": ("verdicts that are the same", "裁决一致"),
    "cohort answers": ("answers' similarity (ROUGE-L)", "回答相似度（ROUGE-L）"),
    "cohort stopped": ("went beyond the log", "超出日志"),
    "cohort stopped line": (
        "{runs} runs stopped where the log knows no answer; {actions} recorded actions behind that were not compared",
        "{runs} 个运行停在日志没有答案之处；其后已记录的 {actions} 个动作未比较",
    ),
    "cohort stopped at": ("stopped where the log knows no answer: {what}", "停在日志没有答案之处：{what}"),
    "cohort erased": ("erased on request, not driven", "已应要求删除，未驱动"),
    "cohort troubled": ("could not be driven", "无法驱动"),
    "cohort recorded": ("recorded", "原记录"),
    "cohort driven": ("driven again", "重新驱动"),
    "cohort spent": ("What it took", "消耗"),
    "cohort tokens": ("tokens", "词元"),
    "cohort generations": ("model turns", "模型轮次"),
    "cohort models": ("model time", "模型用时"),
    "cohort seconds": ("time of the runs", "运行用时"),
    "cohort money": ("writes cost", "写操作费用"),
    "cohort a run": ("{what}, a run each", "每个运行的{what}"),
    "cohort by tool": (
        "Calls with the same arguments, verdict and fate, by tool, with 95 % intervals",
        "按工具：参数、裁决和结果都相同的调用，含 95 % 区间",
    ),
    "cohort risks": ("Runs by their riskiest difference", "按最高风险差异统计的运行"),
    "cohort changed": ("{count} runs differ, the riskiest first", "{count} 个运行有差异，风险最高者在前"),
    "cohort same": ("every run did the same, word for word", "所有运行逐字一致"),
    "cohort same driven": ("every run that could be driven did the same, word for word", "所有能驱动的运行逐字一致"),
    "cohort more": ("and {count} more: --show N, or --html FILE", "另有 {count} 个：--show N 或 --html 文件"),
    "cohort sealed": (
        "the content of this run is sealed, and its key is not at hand",
        "此运行的内容已加密，且当前没有密钥",
    ),
    "cohort risk": ("risk", "风险"),
    "cohort risk new_write": ("NEW WRITE", "新增写操作"),
    "cohort risk other_write": ("WRITE WITH OTHER ARGUMENTS", "写操作参数不同"),
    "cohort risk lost_write": ("WRITE LOST", "缺少写操作"),
    "cohort risk verdict": ("other verdict", "裁决不同"),
    "cohort risk new_read": ("new read", "新增读操作"),
    "cohort risk lost_read": ("read lost", "缺少读操作"),
    "cohort risk outcome": ("other outcome", "结果不同"),
    "cohort risk unknown": ("unknown to the log", "日志未知"),
    "cohort risk decisions": ("today's code decides otherwise", "当前代码决策不同"),
    "cohort risk answer": ("other words", "措辞不同"),
    "cohort risk same": ("the same", "相同"),
    "cohort fate done": ("done", "已执行"),
    "cohort fate failed": ("failed", "失败"),
    "cohort fate refused": ("refused by a person", "被人员拒绝"),
    "cohort fate denied": ("denied by the rules", "被规则禁止"),
    "cohort fate tried": ("dry run only", "仅试运行"),
    "cohort fate in doubt": ("in doubt", "存疑"),
    "cohort fate not done": ("not done", "未执行"),
    "cohort fate unknown": ("not in the log", "日志中没有"),
    "cohort driving": ("runs", "运行"),
    "cohort interrupted": (
        "stopped: {done} of {all} runs are driven; the same command goes on from there",
        "已停止：{all} 个运行中已驱动 {done} 个；再次执行同一命令即可继续",
    ),
    "cohort below": ("not good enough: {what}", "未达标：{what}"),
    "cohort report": ("report: {file}", "报告：{file}"),
    "cohort took": ("{driven} driven now in {seconds} s", "本次驱动 {driven} 个，用时 {seconds} 秒"),
    "cohort waits": (
        "waiting for workers: milepost cohort work, on any machine that reaches this bus",
        "等待工作进程：在任何可连接此总线的机器上执行 milepost cohort work",
    ),
    "cohort works": ("working on cohorts with {count} processes; ctrl-C ends it", "以 {count} 个进程处理群组；ctrl-C 结束"),
    "cohort item": ("cohort {cohort}, item {item}: {runs} runs", "群组 {cohort}，第 {item} 项：{runs} 个运行"),
    "cohort given back": ("cohort {cohort}, item {item} given back: {why}", "群组 {cohort}，第 {item} 项已退回：{why}"),
    # replay
    "replay same": ("every decision is the same", "每个决定都相同"),
    "replay differs": (
        "a decision differs at event {event} ({type}, slot {slot})",
        "第 {event} 个事件（{type}，位置 {slot}）的决定不同",
    ),
    "replay counts": (
        "{events} events, {decisions} decisions, {answered} of them answered in the log",
        "{events} 个事件，{decisions} 个决定，其中 {answered} 个在日志中有答复",
    ),
    "replay why": ("why", "原因"),
    "replay decision": ("it answers {command}, which is decided otherwise now", "它答复 {command}，而现在的决定不同"),
    "replay not now": ("it answers {command}, which is not decided now", "它答复 {command}，而现在不会作此决定"),
    "replay instead": ("decided instead", "现在的决定"),
    "replay ending": ("the run ends with other words now", "运行现在以不同的内容结束"),
    "replay gap": (
        "the log has a gap: it answers {command}, and the event that caused that is missing",
        "日志有缺失：它答复 {command}，但引发该命令的事件不在日志中",
    ),
    "replay altered": (
        "it answers {command}, which no event of this log causes: an event is missing, or the command was changed",
        "它答复 {command}，但日志中没有事件引发该命令：可能缺少事件，或命令被改动",
    ),
    "replay twice": ("event {cause} stands here again", "第 {cause} 个事件在此重复出现"),
    "replay slot": (
        "the slot has event {cause} ({cause_type}) already: there were two writers",
        "此位置已有第 {cause} 个事件（{cause_type}）：存在两个写入者",
    ),
    "replay foreign": ("the event is of another run or tenant", "此事件属于另一个运行或租户"),
    "replay field": ("{field}: the log has {log}, now it is {now}", "{field}：日志为 {log}，现在为 {now}"),
    "replay made by": ("made by {code}", "由 {code} 生成"),
    "replay follows": ("made by {code}, from {of}", "由 {code} 生成，取决于 {of}"),
    "replay cause": ("caused by event {cause} ({cause_type})", "由第 {cause} 个事件（{cause_type}）引发"),
    "replay code": ("decided by {code}", "由 {code} 决定"),
    "replay decider": (
        "the run began with decider {began}, today's is {today}",
        "运行开始时的决策版本为 {began}，当前为 {today}",
    ),
    "replay open": ("the log ends before the run does", "日志在运行结束之前中断"),
    "replay clock": (
        "a clock went back by up to {detail} s, first at event {event}",
        "时钟曾回拨至多 {detail} 秒，首次出现于第 {event} 个事件",
    ),
    "replay second": (
        "event {event} answers what was answered before, and counts for nothing",
        "第 {event} 个事件答复了已有答复的命令，不起作用",
    ),
    "replay absent": ("nothing", "无"),
    "replay unread": (", {count} could not be read", "，{count} 个无法读取"),
    "replay all": ("{same} of {all} runs are decided the same", "{all} 个运行中有 {same} 个决定相同"),
    # runs search, runs rebuild
    "in task": ("task", "任务"),
    "in answer": ("answer", "回答"),
    "no run yet": (
        'no run yet · milepost ask "What time is it in Shanghai?"',
        '还没有运行 · milepost ask "现在上海几点？"',
    ),
    "no run fits": ("no run fits · milepost runs ls", "没有符合条件的运行 · milepost runs ls"),
    "column run": ("run", "运行"),
    "column status": ("status", "状态"),
    "column started": ("started", "开始"),
    "column took": ("took", "用时"),
    "column agent": ("agent", "智能体"),
    "column user": ("user", "用户"),
    "column tokens": ("tokens", "词元"),
    "column cost": ("cost", "费用"),
    "column task": ("task", "任务"),
    "column number": ("number", "编号"),
    "column sealed": ("sealed", "封存时间"),
    "column part": ("part", "份"),
    "column outcome": ("outcome", "结果"),
    "column events": ("events", "事件"),
    "column key": ("key", "密钥"),
    # --- datasets ---
    "dataset part": ("part", "部分"),
    "dataset conversations": ("conversations", "对话"),
    "dataset runs": ("{count} runs in {folder}", "{count} 个运行已写入 {folder}"),
    "dataset left out": ("left out: {count} ({why})", "省去：{count}（{why}）"),
    "dataset replaced": ("replaced: {count} ({kind})", "替换：{count}（{kind}）"),
    "nothing found": ("no run says {text}", "没有运行提到 {text}"),
    "look deeper": ("--deep looks into events, too", "加上 --deep 可搜索事件"),
    "rebuilt": (
        "the index is whole: {events} events in {seconds} s ({rate}/s)",
        "索引已重建：{events} 个事件，用时 {seconds} 秒（{rate}/秒）",
    ),
    "unreadable": ("{count} messages of the log could not be read", "日志中有 {count} 条消息无法读取"),
    # --- verify, receipts ---
    "verify run": ("run", "运行"),
    "verify proved": ("proved", "已证实"),
    "verify unproved": ("not proved", "未证实"),
    "verify tampered": ("tampered with", "已被篡改"),
    "verify line": ("line {number}", "第 {number} 行"),
    "verify message": ("message {number}", "第 {number} 条消息"),
    "verify event": ("event {number}", "第 {number} 个事件"),
    "verify part": ("receipt {number} of the run", "运行的第 {number} 份回执"),
    "verify receipt": (
        "receipt {number} (part {part}): {size} events, signed {sealed} with {by}",
        "回执 {number}（第 {part} 份）：{size} 个事件，{sealed} 由密钥 {by} 签名",
    ),
    "verify content": ("every answer answers what was decided", "每个答复都对应一个已作出的决定"),
    "verify closed": (
        "the bytes alone were verified: the content is sealed or erased",
        "仅验证了原始字节：内容已加密或已删除",
    ),
    "verify absent": ("{count} payloads are not in the file", "文件中缺少 {count} 个附件"),
    "verify other keys": (
        "if it is of another stack: --keys with the recorder.pub of its data directory, from whoever runs it",
        "若来自其他环境：请用 --keys 指定其运行者提供的、其数据目录中的 recorder.pub",
    ),
    "verify no keys": (
        "no public keys are trusted here: name them with --keys recorder.pub or --key ID=BASE64",
        "此处没有受信任的公钥：请用 --keys recorder.pub 或 --key ID=BASE64 指定",
    ),
    "finding file": ("the file is not whole: {detail}", "文件不完整：{detail}"),
    "finding malformed": ("this is no event: {detail}", "此处不是事件：{detail}"),
    "finding foreign": ("this is of another run or tenant: {detail}", "属于另一个运行或租户：{detail}"),
    "finding misplaced": ("the event has the id of another place: {detail}", "事件的编号属于另一个位置：{detail}"),
    "finding repeated": ("its place has an event already, at {detail}", "该位置已有事件，见第 {detail} 处"),
    "finding edited": ("not what was signed: event {detail}", "与签名时不同：事件 {detail}"),
    "finding shifted": (
        "not what was signed: events {detail}; something was taken out, put in or moved here",
        "与签名时不同：事件 {detail}；此处有事件被删除、插入或移动",
    ),
    "finding missing": (
        "events are missing: {detail} of those that were signed are there",
        "缺少事件：签名的事件中仅存 {detail}",
    ),
    "finding root": (
        "the {detail} events are not those that were signed; which ones differ cannot be told",
        "{detail} 个事件与签名时不同；无法确定是哪些",
    ),
    "finding seal": ("the receipt is not as the recorder writes it: {detail}", "回执不是记录器所写的样子：{detail}"),
    "finding signature": ("the signature is not genuine: {detail}", "签名不真实：{detail}"),
    "finding part": (
        "it does not follow the receipt before it: part {detail} is missing, or another one was signed",
        "与前一份回执不衔接：第 {detail} 份缺失，或签名的是另一份",
    ),
    "finding number": ("receipt {detail} is missing before it", "其前缺少回执 {detail}"),
    "finding previous": ("it does not follow receipt {detail} as that is now", "与现有的回执 {detail} 不衔接"),
    "finding outcome": ("the run did not end as the receipt says: {detail}", "运行的结局与回执所述不同：{detail}"),
    "finding unanswered": (
        "the receipt does not tell rightly what nobody answered: {detail}",
        "回执对未获答复的命令叙述有误：{detail}",
    ),
    "finding undecided": ("it answers what was not decided: {detail}", "答复了未曾作出的决定：{detail}"),
    "finding absent": ("the log does not have receipt {detail}", "日志中没有回执 {detail}"),
    "finding differs": ("the log has another receipt in the place of {detail}", "日志中回执 {detail} 的位置是另一份回执"),
    "finding unlisted": ("the log has receipt {detail}, the chain does not", "日志中有回执 {detail}，而链中没有"),
    "finding cut": (
        "a checkpoint saw it, and the chain ends at receipt {detail}",
        "检查点曾见过它，而链止于回执 {detail}",
    ),
    "finding rewritten": ("a checkpoint saw another receipt with this number", "检查点所见的该编号回执与此不同"),
    "finding unsealed": ("the run has no receipt yet: it has {detail}", "运行尚无回执：{detail}"),
    "finding later": (
        "{detail} events came after the last receipt, and no receipt counts them yet",
        "最后一份回执之后有 {detail} 个事件，尚无回执计入",
    ),
    "finding unvouched": (
        "signed with the key {detail}, for which no key that you trust vouches",
        "由密钥 {detail} 签名，而受信任的密钥均未为其担保",
    ),
    "receipts to seal": (
        "{count} runs without a receipt are being sealed · milepost receipts ls",
        "正在为 {count} 个没有回执的运行签发回执 · milepost receipts ls",
    ),
    "receipts chain": ("{count} receipts", "{count} 份回执"),
    "receipts number": ("receipt {number}", "回执 {number}"),
    "receipts run": ("run {run}", "运行 {run}"),
    "receipts checkpoint": ("the chain up to receipt {number} is vouched for in {file}", "截至回执 {number} 的链已记入 {file}"),
    # a fork
    "fork begun": ("fork {fork} of run {run}, which it leaves at event {at}", "分叉 {fork}：于事件 {at} 离开运行 {run}"),
    "fork differs": ("different: {what}", "不同之处：{what}"),
    "fork same": ("nothing", "无"),
    "fork nothing": (
        "FORK: nothing will happen in the world, whatever is answered",
        "分叉：无论如何答复，都不会改动任何真实资源",
    ),
    "fork compare": ("compare them: {command}", "比较两者：{command}"),
    # shadows: a candidate beside live traffic
    "shadow title": ("A candidate beside live traffic: {swap}", "与线上流量并行的候选：{swap}"),
    "shadow head": ("shadow {name} · {of} · {state}", "影子 {name} · {of} · {state}"),
    "shadow seen": (
        "sees {share} of the runs since {since} · {behind} facts behind the log",
        "自 {since} 起观察 {share} 的运行 · 落后日志 {behind} 条事实",
    ),
    "shadow agreement": ("answers that do the same", "行为一致的答复"),
    "shadow candidate": ("candidate", "候选"),
    "shadow seconds": ("time of the answers", "答复用时"),
    "shadow an answer": ("{what}, an answer each", "每个答复的{what}"),
    "shadow risks": ("Answers by their riskiest difference", "按最高风险差异统计的答复"),
    "shadow changed": ("{count} answers differ, the riskiest first", "{count} 个答复有差异，风险最高者在前"),
    "shadow same": ("every answer is the same, word for word", "所有答复逐字一致"),
    "shadow more": ("and {count} more: --show N, or --html FILE", "另有 {count} 个：--show N 或 --html 文件"),
    "shadow failed": ("could not be compared", "无法比较"),
    "shadow passed": ("{count} not compared: {why}", "{count} 个未比较：{why}"),
    "shadow none": (
        "no shadow · milepost shadow start NAME --swap llm=MODEL|policy=FILE|tool=NAME",
        "没有影子 · milepost shadow start 名称 --swap llm=模型|policy=文件|tool=名称",
    ),
    "shadow started": (
        "{name} watches; what it comes to: milepost shadow show {name}",
        "{name} 已开始观察；查看结果：milepost shadow show {name}",
    ),
    "shadow stopped now": ("{name} is stopped", "{name} 已停止"),
    "shadow removed": ("{name} is forgotten", "{name} 已删除"),
    "shadow promoted now": (
        "{name} serves now · take it back: milepost shadow rollback {name}",
        "{name} 已上线 · 撤回：milepost shadow rollback {name}",
    ),
    "shadow rolled back now": ("{name} is taken back: what served before serves again", "{name} 已撤回：恢复为之前的服务"),
    "shadow anyway": (
        'not promoted; all the same: milepost shadow promote {name} --yes --reason "..."',
        '未上线；仍要上线：milepost shadow promote {name} --yes --reason "..."',
    ),
    "shadow restart": (
        "the model serves after a restart: milepost down && milepost up -d",
        "重启后模型生效：milepost down && milepost up -d",
    ),
    "shadow running": ("watches", "观察中"),
    "shadow stopped": ("stopped", "已停止"),
    "shadow promoted": ("promoted", "已上线"),
    "shadow rolled back": ("rolled back", "已撤回"),
    "shadow column name": ("name", "名称"),
    "shadow column state": ("state", "状态"),
    "shadow column candidate": ("candidate", "候选"),
    "shadow column share": ("share", "比例"),
    "shadow column compared": ("compared", "已比较"),
    "shadow column differ": ("differ", "有差异"),
    "shadow column behind": ("behind", "落后"),
    "shadow column last": ("last", "最近"),
    # certify
    "certify run": ("run", "运行"),
    "certify none": ("no model spoke in this run", "此运行中没有模型发言"),
    "certify match": ("the same, token for token", "逐词元一致"),
    "certify different": ("DIFFERENT", "不一致"),
    "certify elsewhere": ("not comparable here", "此处无法比较"),
    "certify uncertified": ("not certified", "未经认证"),
    "certify no prompt": ("the log does not give the prompt that was asked", "日志未能给出当时的提示词"),
    "certify copied": ("copied from the run that this fork leaves", "从被分叉的运行复制而来"),
    "certify under": (
        "{tokens} tokens, {engine}, {precision}, {threads} threads",
        "{tokens} 个词元，{engine}，{precision}，{threads} 线程",
    ),
    "certify condition": ("{name}: recorded {recorded}, here {here}", "{name}：记录为 {recorded}，此处为 {here}"),
    "certify condition missing": ("none", "无"),
    "certify edited": (
        "the tokens are those of the certificate, the recorded reply is not what they say: it was changed",
        "词元与证书相符，但记录的回复与其不符：回复被改动过",
    ),
    "certify tokens": (
        "text and calls are the same; the tokens are not, and of the recorded ones only their digest is known",
        "文本与调用一致，但词元不同；所记录的词元只留有摘要",
    ),
    "certify at": ("from token {token} on", "自第 {token} 个词元起"),
    "certify from": ("after the text", "位于以下文本之后"),
    "certify recorded": ("recorded", "记录"),
    "certify now": ("now", "现在"),
    "certify ended": ("(the end)", "（结束）"),
    "certify same": ("executed again in certified mode it says the same", "以认证模式重新执行，结果一致"),
    "certify other": ("executed again in certified mode it says something else", "以认证模式重新执行，结果不同"),
    "certify asked same": (
        "asked again, the endpoint says the same; that proves nothing",
        "再次询问，服务端答复一致；但这不能证明什么",
    ),
    "certify asked other": ("asked again, the endpoint says something else", "再次询问，服务端答复不同"),
    "certify narrow": (
        "{count} of {chosen} tokens could have gone otherwise: they led by no more than {shift:.3g}, "
        "which is what reading the same in other pieces changes; {turned} of them do go otherwise then",
        "{chosen} 个词元中有 {count} 个可能不同：其领先幅度不超过 {shift:.3g}，即分块不同时的变化幅度；"
        "其中 {turned} 个在该读法下确实不同",
    ),
    "certify firm": (
        "none of {chosen} tokens could have gone otherwise: the closest led by {least:.3g}, reading the same in other pieces "
        "changes leads by {shift:.3g} at the most",
        "{chosen} 个词元均不会不同：最小领先幅度为 {least:.3g}，分块不同最多改变 {shift:.3g}",
    ),
    "certify drawn": (
        "{chosen} tokens were drawn at random from the seed; reading the same in other pieces changes leads by {shift:.3g} "
        "at the most",
        "{chosen} 个词元由随机种子抽取；分块不同最多使领先幅度改变 {shift:.3g}",
    ),
    "certify narrow token": (
        "token {token}: {text} led {other} by {margin:.3g}",
        "第 {token} 个词元：{text} 领先 {other} {margin:.3g}",
    ),
    "certify call": (
        "whether to call or to answer was {slack:.3g} from the other decision, and shifts by {shift:.3g} (log-odds)",
        "调用还是回答：距另一决定 {slack:.3g}，变化幅度 {shift:.3g}（对数几率）",
    ),
    "certify more": ("… and {count} more: --json", "……另有 {count} 个：--json"),
    "certify name model": ("model", "模型"),
    "certify name tokenizer": ("tokenizer", "分词器"),
    "certify name engine": ("inference library", "推理库"),
    "certify name machine": ("instruction sets", "指令集"),
    "certify name precision": ("precision", "精度"),
    "certify name threads": ("threads", "线程数"),
    "certify name chunk": ("chunk", "分块长度"),
    "certify name provider": ("provider", "执行设备"),
    "certify name context": ("tokens of the model's context", "上下文词元数"),
    "certify name prompt tokens": ("tokens of the prompt", "提示词的词元数"),
    "certify name cut": ("left out of the prompt", "提示词中省去的部分"),
    "certify may": ("what may have been otherwise: {told}", "可能有别之处：{told}"),
    "certify may reuse": ("{count} tokens of the prompt were reused, not read", "提示词中有 {count} 个词元为复用，未重新读取"),
    "certify may speculation": ("{count} tokens were guessed ahead", "有 {count} 个词元为预先推测"),
    "certify may pieces": ("the pieces in which the prompt was read", "读取提示词时的分块"),
    "certify may batching": ("who else shared the steps", "同批执行的其他请求"),
    "certify may machine": (
        "machine, library version and threads, which were not recorded",
        "机器、库版本与线程数，均未记录",
    ),
    "certify remote": (
        "it was said by an endpoint elsewhere, whose machine, weights and batching nobody here knows; --ask-again shows what "
        "it says now",
        "由外部服务端给出，其机器、权重与批处理情况在此无从得知；--ask-again 可显示它现在的答复",
    ),
    "certify scripted": ("it was a prepared answer, no model's", "这是预先准备的答复，并非模型所出"),
    "certify own": (
        "it was said by a model of one's own, which only its program has",
        "由自定义模型给出，只有其所在程序拥有该模型",
    ),
    "certify caller": ("no model was asked", "没有询问模型"),
    "certify all match": (
        "certified: {count} of {all} model steps are the same, token for token",
        "已证实：{all} 个模型步骤中 {count} 个逐词元一致",
    ),
    "certify all different": (
        "DIFFERENT: {count} of {all} model steps are not what their certificates promise",
        "不一致：{all} 个模型步骤中 {count} 个与证书不符",
    ),
    "certify all unattested": (
        "nothing attested: {count} of {all} model steps could be certified",
        "未能证实：{all} 个模型步骤中 {count} 个可证实",
    ),
    "certify how": ("to have it certified: milepost ask --certified", "如需认证：milepost ask --certified"),
    "certify tampered": (
        "the run is not what was signed: milepost verify {name}",
        "运行与签名内容不符：milepost verify {name}",
    ),
    "certify signed": ("written to {file}, signed with key {key}", "已写入 {file}，由密钥 {key} 签名"),
    "certify unsigned": (
        "written to {file}, not signed: the recorder's key is not in the data directory",
        "已写入 {file}，未签名：数据目录中没有记录器的密钥",
    ),
    "certify working": ("event {event}: {model}", "事件 {event}：{model}"),
    # --- agents that are kept ---
    "agents none": (
        "no agent is kept yet · milepost agents add FILE, or build one: milepost open",
        "还没有保存的智能体 · milepost agents add FILE，或在控制台构建：milepost open",
    ),
    "agents kept": ("{name} is kept as version {version}", "{name} 已保存为版本 {version}"),
    "agents published": ("{name}: the doors serve version {version}", "{name}：对外提供版本 {version}"),
    "agents unpublished": ("{name} is not served any more", "{name} 已取消发布"),
    "agents removed": ("{name} is forgotten, with all its versions", "{name} 及其所有版本已删除"),
    "agents written": ("{name}, version {version}, is written to {file}", "{name} 版本 {version} 已写入 {file}"),
    "agents same": ("nothing is different", "没有差异"),
    "agents is published": ("published", "已发布"),
    # --- triggers and channels ---
    "triggers removed": ("{name} is forgotten", "{name} 已删除"),
    "triggers none": (
        "no trigger is kept yet · milepost triggers add FILE; docs/triggers.md has examples",
        "还没有触发器 · milepost triggers add FILE，示例见 docs/triggers.md",
    ),
    "triggers kept": ("{name} is kept as version {version}, and fires from now on", "{name} 已保存为版本 {version}，即刻生效"),
    "triggers sign": ("what to sign with: milepost triggers secret {name}", "签名密钥：milepost triggers secret {name}"),
    "triggers fires": ("yes", "是"),
    "triggers does not fire": ("no: its condition does not hold", "否：条件不成立"),
    "triggers nothing": ("nothing would fire: no alarm of a state that counts", "不会触发：没有符合状态的告警"),
    "triggers no secret": (
        "{env} is not set where the gateway runs: every request is refused",
        "网关进程没有设置 {env}：所有请求都会被拒绝",
    ),
    "triggers on": ("{name} is on", "{name} 已启用"),
    "triggers off": ("{name} is off", "{name} 已停用"),
    "channels none": (
        "no messenger is connected yet · milepost channels add FILE; docs/channels.md has an example",
        "还没有接入聊天工具 · milepost channels add FILE，示例见 docs/channels.md",
    ),
    "channels ready": ("ready", "就绪"),
    "channels no secret": ("{env} is not set", "未设置 {env}"),
    # --- the door ---
    "door no keys": (
        "no key is made yet · milepost door keys add NAME --role operator",
        "还没有密钥 · milepost door keys add NAME --role operator",
    ),
    "door key revoked": ("{id} opens nothing any more", "{id} 已撤销"),
    "door key state revoked": ("revoked", "已撤销"),
    "door key state until": ("until {date}", "有效期至 {date}"),
    "door key state good": ("good", "有效"),
    "door opened": ("The console opens in your browser: {link}", "控制台已在浏览器中打开：{link}"),
    "door link": ("Open this within two minutes: {link}", "请在两分钟内打开：{link}"),
    "door key once": (
        "This is the only time it is shown. To take it back: milepost door keys revoke {id}",
        "密钥只显示这一次。撤销：milepost door keys revoke {id}",
    ),
    "status door": ("door: {url} · milepost open", "入口：{url} · milepost open"),
    "up door": (
        "Console: milepost open · OpenAI's clients: base_url {url}/v1",
        "控制台：milepost open · OpenAI 客户端：base_url {url}/v1",
    ),
}
_WORDS.update(_OF_DATASETS)
_WORDS.update(_OF_EVALUATIONS)
_WORDS.update(_OF_TRAINING)
