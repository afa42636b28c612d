"""What the builder is told, in English and Chinese, with exchanges that show a small model how it is done."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias

from schemas.canonical import JsonObject
from schemas.messages import Message

Language: TypeAlias = Literal["en", "zh"]
Job: TypeAlias = Literal["profile", "suggestions", "tools", "change"]

FIELDS = ("instructions", "title", "description", "suggestions", "tools")
_HAN = re.compile(r"[一-鿿]")


def language_of(words: str) -> Language:
    """The language that somebody writes in."""
    return "zh" if _HAN.search(words) else "en"


TOLD: Mapping[tuple[Job, Language], str] = {
    ("profile", "en"): (
        "From what a person wants you write the profile of an AI assistant, as JSON. title: its name. name: the same in "
        "short. description: one sentence on what it does. instructions: what the assistant must do; they begin with "
        '"You are" and cover every demand of the person.'
    ),
    ("profile", "zh"): (
        "根据一个人的要求写出AI助手的设定，用JSON回答。title：助手的名字。name：英文短名。description：一句话，说明它能做什么。"
        "instructions：写给助手的工作要求，以“你是”开头，要包含对方提出的每一条要求。"
    ),
    ("suggestions", "en"): (
        "Write three things that a user says to this assistant, as JSON. Each is concrete, short, and unlike the others."
    ),
    ("suggestions", "zh"): "写出使用者会对这个助手说的三句话，用JSON回答。每句都具体、简短、互不相同。",
    ("tools", "en"): "Choose the tools that this assistant needs, as JSON. Only those that fit; none if none fits.",
    ("tools", "zh"): "选出这个助手需要的工具，用JSON回答。只选合适的；都不合适就一个也不选。",
    ("change", "en"): (
        "A person wants something changed about an AI assistant. Say what to change, as JSON. field: title, description, "
        "instructions (how it must behave), suggestions (what users say to it), or tools (what it can do). op: add, replace "
        "or remove. text: the new text; for tools: what the tool is to do."
    ),
    ("change", "zh"): (
        "一个人想修改一个AI助手。用JSON说明要改什么。field：title（名字）、description（简介）、instructions（行为要求）、"
        "suggestions（使用者会说的话）或tools（能做的事）。op：add、replace或remove。text：新的内容；对tools写明工具要做什么。"
    ),
}

_SHOWN: Mapping[tuple[Job, Language], tuple[tuple[str, str], ...]] = {
    ("profile", "en"): (
        ("Wanted: helps guests of our hotel, keep answers short, never give out room numbers",
         '{"title":"Hotel Concierge","name":"hotel-concierge","description":"Answers the questions of hotel guests.",'
         '"instructions":"You are the concierge of a hotel and help its guests. Keep answers short. Never give out room '
         'numbers. If you do not know something, name the front desk."}'),
        ("Wanted: I need someone who turns my notes into recipes, in metric units",
         '{"title":"Recipe Writer","name":"recipe-writer","description":"Turns notes into recipes that are easy to follow.",'
         '"instructions":"You are a writer of recipes. Turn the notes that you get into a recipe with ingredients and numbered '
         'steps. Use metric units. Ask when an amount is missing."}'),
    ),
    ("profile", "zh"): (
        ("要求：帮酒店客人解答问题，回答要简短，不能透露房间号",
         '{"title":"酒店管家","name":"hotel-concierge","description":"解答酒店客人的各种问题。",'
         '"instructions":"你是酒店管家，为客人解答问题。回答要简短。不能透露房间号。不清楚时请客人联系前台。"}'),
        ("要求：把我的笔记整理成菜谱，用公制单位",
         '{"title":"菜谱整理员","name":"recipe-writer","description":"把笔记整理成清楚的菜谱。",'
         '"instructions":"你是菜谱整理员，把收到的笔记整理成菜谱，列出用料和分步做法。使用公制单位。缺少用量时要先询问。"}'),
    ),
    ("suggestions", "en"): (
        ("Assistant: Hotel Concierge. Answers the questions of hotel guests.",
         '{"suggestions":["When is breakfast served?","Book me a taxi to the airport for 8 am.","Is there a gym here?"]}'),
        ("Assistant: Recipe Writer. Turns notes into recipes that are easy to follow.",
         '{"suggestions":["Make a recipe of eggs, flour and milk.","Write a tomato soup for four people.",'
         '"How do I bake bread without yeast?"]}'),
    ),
    ("suggestions", "zh"): (
        ("助手：酒店管家。解答酒店客人的各种问题。",
         '{"suggestions":["早餐几点开始？","帮我订一辆明早八点去机场的出租车。","酒店里有健身房吗？"]}'),
        ("助手：菜谱整理员。把笔记整理成清楚的菜谱。",
         '{"suggestions":["用鸡蛋、面粉和牛奶写一个菜谱。","写一个四人份的番茄汤做法。","没有酵母怎么做面包？"]}'),
    ),
    ("change", "en"): (
        ("Assistant: Hotel Concierge. Change: please call it Otto, and it should greet people by name",
         '{"changes":[{"field":"title","op":"replace","text":"Otto"},'
         '{"field":"instructions","op":"add","text":"Greet people by their name."}]}'),
        ("Assistant: Recipe Writer. Change: it must be able to look up the weather",
         '{"changes":[{"field":"tools","op":"add","text":"look up the weather"}]}'),
        ("Assistant: Recipe Writer. Change: no jokes any more",
         '{"changes":[{"field":"instructions","op":"add","text":"Do not make jokes."}]}'),
        ("Assistant: Hotel Concierge. Change: suggest the question when the pool opens",
         '{"changes":[{"field":"suggestions","op":"add","text":"When does the pool open?"}]}'),
    ),
    ("change", "zh"): (
        ("助手：酒店管家。修改：改名叫小欧，还要称呼客人的姓名",
         '{"changes":[{"field":"title","op":"replace","text":"小欧"},'
         '{"field":"instructions","op":"add","text":"称呼客人的姓名。"}]}'),
        ("助手：菜谱整理员。修改：要能查天气", '{"changes":[{"field":"tools","op":"add","text":"查询天气"}]}'),
        ("助手：菜谱整理员。修改：不要再讲笑话了",
         '{"changes":[{"field":"instructions","op":"add","text":"不要讲笑话。"}]}'),
        ("助手：酒店管家。修改：加一个建议问题，游泳池几点开",
         '{"changes":[{"field":"suggestions","op":"add","text":"游泳池几点开门？"}]}'),
    ),
}  # fmt: skip


def shown(job: Job, language: Language) -> tuple[Message, ...]:
    """The exchanges that show a job."""
    pairs = _SHOWN.get((job, language), ())
    return tuple(
        Message(role="user" if place == 0 else "assistant", content=text) for pair in pairs for place, text in enumerate(pair)
    )


_SUBJECTS: Mapping[Language, tuple[str, ...]] = {
    "en": ("hotel", "guest", "room number", "front desk", "recipe", "notes", "metric", "ingredient", "amount"),
    "zh": ("酒店", "房间号", "前台", "菜谱", "笔记", "公制", "用量", "用料"),
}
"""What the exchanges are about: a model that speaks of it where nobody did has copied."""


def copied(sentence: str, words: str, language: Language, *, first: bool = False) -> bool:
    """Whether a sentence comes from what only shows how it is done. first: it says who the agent is, and is needed."""
    bare = sentence.strip(" .。").lower()
    if any(bare in answer.lower() for _, answer in _SHOWN["profile", language]):
        return bool(bare)
    return not first and any(each in bare and each not in words.lower() for each in _SUBJECTS[language])


_NAME: JsonObject = {"type": "string", "pattern": "^[a-z][a-z0-9]{1,11}(-[a-z0-9]{2,11}){0,2}$"}
_SENTENCE: Mapping[Language, str] = {"en": "^[A-Z][^.?!\\n]{6,70}[.?!]$", "zh": "^[^。？！\\n]{4,30}[。？！]$"}


def _text(least: int, most: int) -> JsonObject:
    return {"type": "string", "minLength": least, "maxLength": most}


def _all(fields: JsonObject) -> JsonObject:
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def schema(job: Job, language: Language, tools: tuple[str, ...] = ()) -> JsonObject:
    """What the answer to a job must look like. tools: names that may be chosen."""
    if job == "profile":
        return _all({"title": _text(2, 40), "name": _NAME, "description": _text(5, 200), "instructions": _text(20, 900)})
    if job == "suggestions":
        one: JsonObject = {"type": "string", "pattern": _SENTENCE[language]}
        return _all({"suggestions": {"type": "array", "minItems": 3, "maxItems": 3, "items": one}})
    if job == "tools":
        return _all({"tools": {"type": "array", "maxItems": 6, "items": {"enum": list(tools)}}})
    change = _all({
        "field": {"enum": list(FIELDS)}, "op": {"enum": ["add", "replace", "remove"]}, "text": _text(2, 300),
    })  # fmt: skip
    return _all({"changes": {"type": "array", "minItems": 1, "maxItems": 3, "items": change}})


SAID: Mapping[tuple[str, Language], str] = {
    ("done", "en"): "I wrote {fields}.", ("done", "zh"): "我写好了{fields}。",
    ("tools", "en"): " Its tools: {tools}.", ("tools", "zh"): "工具：{tools}。",
    ("try", "en"): " Try it in the preview, or tell me what should be different.",
    ("try", "zh"): "请在预览中试用，或告诉我哪里需要改。",
    ("nothing", "en"): "That is there already; I changed nothing.", ("nothing", "zh"): "内容已经有了，没有任何修改。",
    ("own words", "en"): "I could not tell which field you mean, so I put it into the instructions in your own words.",
    ("own words", "zh"): "我没能判断要改哪一项，已把你的原话写入指令。",
    ("failed", "en"):
        "The model gave me nothing that I can use; the form is as you left it. Say it in other words, or fill it in yourself.",
    ("failed", "zh"): "模型没有给出可用的内容，表单保持原样。请换一种说法，或直接填写表单。",
}  # fmt: skip
"""What the person is told of a turn."""

_FIELDS: Mapping[str, tuple[str, str]] = {
    "title": ("the title", "名称"), "description": ("the description", "简介"), "instructions": ("the instructions", "指令"),
    "suggestions": ("the suggestions", "建议问题"), "tools": ("the tools", "工具"),
}  # fmt: skip


def names_of(fields: Iterable[str], language: Language) -> str:
    """Fields of the form as a person calls them."""
    place, join = (1, "、") if language == "zh" else (0, ", ")
    return join.join(_FIELDS[name][place] for name in fields if name in _FIELDS)
