"""Why rows and conversations are left out of a data set, and what was done to them, in the reader's language.

Readers give reasons in English, by which they are counted and kept in cards; what a terminal or a page shows is translated.
"""

from __future__ import annotations

import re

from infra.cli.words import language


def reason(why: str) -> str:
    """A reason as it is shown. One that nobody translated stays as it is."""
    if language() == "en":
        return why
    if chinese := _REASONS.get(why):
        return chinese
    for pattern, form in _FORMS:
        if found := pattern.fullmatch(why):
            return found.expand(form)
    return why


_REASONS = {
    # the check of all sets
    "it does not begin with a user's message": "不是以用户消息开头",
    "no assistant's turn": "没有助手的发言",
    "a result is missing": "缺少调用结果",
    "a result that nothing was called for": "结果没有对应的调用",
    "two calls of one id": "两个调用的编号相同",
    "a call to a tool that is not offered": "调用了未提供的工具",
    "an argument that is not in the schema": "参数不在模式中",
    "a required argument is missing": "缺少必需参数",
    "an assistant's turn is empty": "助手的发言为空",
    "a user's turn is empty": "用户的发言为空",
    "a marker of a call is left in the words": "文字中残留调用标记",
    "wrongly encoded text": "文字编码有误",
    # files and lines
    "not JSON": "不是 JSON",
    "not an object": "不是对象",
    "a call is not JSON": "调用不是 JSON",
    "a call without a name or parameters": "调用没有名称或参数",
    "a call without a name": "调用没有名称",
    "a call without parameters": "调用没有参数",
    "a listed tool is no object": "列出的工具不是对象",
    "a listed tool is not JSON": "列出的工具不是 JSON",
    "a path of a plugin is no object": "插件的路径不是对象",
    "a speaker that nobody knows": "未知的发言者",
    "a text that is none": "应为文字之处不是文字",
    "a tool has no name": "工具没有名称",
    "a turn without a speaker or a value": "发言没有发言者或内容",
    "arguments of a call are no object": "调用的参数不是对象",
    "arguments of a call are not JSON": "调用的参数不是 JSON",
    "content that is no text": "内容不是文字",
    "conversations are a text that cannot be read": "对话文字无法解析",
    "conversations are no list": "对话不是列表",
    "messages are no list of objects": "消息不是对象的列表",
    "no tools or no messages": "没有工具或没有消息",
    "runs or urls of another form": "运行或地址的形式不符",
    "tool_calls are no list": "tool_calls 不是列表",
    "tools are no list of objects": "工具不是对象的列表",
    # single sets
    "not a call": "不是调用",
    "not a conversation with a call": "不是含调用的对话",
    "not a query with calls": "不是带调用的请求",
    "not a trajectory": "不是轨迹",
    "tools or a call cannot be read": "工具或调用无法读取",
    "an argument is cut short": "参数被截断",
    "no reply": "没有回复",
    "repeats another row": "与另一行重复",
    "another row holds it": "已包含在另一行中",
    "it gives up": "未完成任务而放弃",
    "all its tools are held back": "其工具全部留作评测",
    "the tool that it wants is described nowhere": "所需工具没有任何描述",
    "it stands in the evaluation part `need`, too": "也出现在评测部分 need 中",
    "a call to a tool that the specification has not": "调用了规范中没有的工具",
    "a gold call that is no call": "标准答案不是调用",
    "its first turn wants no call": "首轮不需要调用",
    "no gold calls": "没有标准调用",
    "no gold operations": "没有标准操作",
    "nothing is called in it": "其中没有调用",
    "nothing is searched in it": "其中没有搜索",
    "nothing is to be called by the one who answers": "应答方无需调用",
    "some call is wanted, and none is the right one": "需要某个调用，但没有唯一正确的",
    "the gold arguments are not JSON": "标准参数不是 JSON",
    "the gold is no list of names": "标准答案不是名称的列表",
    # recorded runs
    "not completed": "未完成",
    "unreadable reply": "回复无法读取",
    "in doubt": "结果存疑",
    "nothing was said": "没有发言",
    "erased": "已删除",
    "cannot be read": "无法读取",
    # mixtures: what was left out, and what was done
    "duplicate (exact)": "完全重复",
    "duplicate (near)": "近似重复",
    "contaminated": "与评测重合",
    "too long": "过长",
    "calls tools of several parts": "调用了分属多个部分的工具",
    "no tool of its part": "没有属于其部分的工具",
    "no call, left out": "无调用而省去",
    "plain talk": "改为闲聊",
    "refused": "改为拒绝",
    "renamed": "已改名",
    "tools added": "已添加工具",
}

_FORMS = tuple(
    (re.compile(pattern), chinese)
    for pattern, chinese in (
        (r"roles out of order: (.+) after (.+)", r"角色顺序有误：\2 之后是 \1"),
        (r"roles out of order: (.+) where the (.+) should speak", r"角色顺序有误：应由 \2 发言，却是 \1"),
        (r"longer than ([\d,]+) characters", r"超过 \1 个字符"),
        (r"longer than ([\d,]+) bytes", r"超过 \1 字节"),
        (r"conversations are a text of over ([\d,]+) characters", r"对话文字超过 \1 个字符"),
        (r"there is no (.+)", r"缺少 \1"),
        (r"another form than its set's: (.+)", r"形式与数据集不符：\1"),
        (r"an API of another form: (.+)", r"API 的形式不符：\1"),
        (r"a value that no message or tool may have: (.+)", r"消息或工具不能有的值：\1"),
        (r"a call to (.+), which the catalogue has not", r"调用了目录中没有的 \1"),
        (r"an operation that the document has not: (.+)", r"文档中没有的操作：\1"),
        (r"nothing is told of (.+)", r"没有 \1 的描述"),
        (r"a role that nobody knows: (.+)", r"未知的角色：\1"),
        (r"(.+) is no list of objects", r"\1 不是对象的列表"),
        (r"(.+) is no object", r"\1 不是对象"),
        (r"(\S+) is not closed", r"\1 没有闭合"),
    )
)
