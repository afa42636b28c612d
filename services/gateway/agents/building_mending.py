"""What a small model leaves out of what was asked for, copies from what it was shown, or says twice: mended here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

from schemas.tools import ToolCard
from services.gateway.agents.building_words import Language, copied, language_of

MOST_SUGGESTIONS = 4
_SENTENCES = re.compile(r"(?<=[.!?。！？])\s*")
_CLAUSES = re.compile(r"[,.;:!?，。；：！？\n]+|\band\b")
_LEAST_CLAUSE: Mapping[Language, int] = {"en": 2, "zh": 3}
_LEAST_FIRST: Mapping[Language, int] = {"en": 4, "zh": 3}
"""The first clause says for whom or what the agent is, which its description does too, unless it says more."""
_ENOUGH = 0.6
_WORDS = re.compile(r"[A-Za-z0-9']+|[一-鿿]")
_SMALL = (
    "a an and are as at be by can for from i in is it its me my of on or our should some someone that the their them they this "
    "to want wants need needs we who will with would you your please always must make made"
)
_EMPTY = frozenset(_SMALL.split())
_WISH = re.compile(
    r"(please )?(i (want|need|would like|am looking for)|we need|make|build|create|give me|design)( me| us)?( an?| the| some)?"
    r"( new)?( ai)?( agent| assistant| helper| bot| someone| something)?( that| which| who| to| for)?( |$)"
    r"|(an?|the) (agent|assistant|helper|bot) (that|which|who|to|for) "
    r"|(请|我想要|我要|我需要|想要|需要|帮我|做|写|建|创建)+(一个|个)?",
    re.IGNORECASE,
)
_OF_ITSELF = re.compile(r"(I'm|I am|I will|I can|As an?)\b|我是|我可以")


def complete(instructions: str, words: str, language: Language) -> str:
    """Instructions without what was only shown, and with every demand of the words that they left out."""
    sentences = [each for each in _SENTENCES.split(instructions) if each.strip()]
    fresh = [each for place, each in enumerate(sentences) if not copied(each, words, language, first=place == 0)]
    kept = (" " if language == "en" else "").join(fresh) or instructions
    missing = [clause for clause in demands(words, language) if not _covered(clause, kept, language)]
    return "\n".join([kept.strip(), *(sentence(clause, language) for clause in missing)])


def demands(words: str, language: Language) -> list[str]:
    """What is asked for, clause by clause, without the words that only ask; what is too short to say anything is left out."""
    clauses = (each.strip() for each in _CLAUSES.split(words))
    wishes = ((each, _WISH.match(each)) for each in clauses)
    asked = [each[wish.end() :].strip() if wish else each for each, wish in wishes]
    least = [_LEAST_FIRST[language], *[_LEAST_CLAUSE[language]] * len(asked)]
    return [each for each, parts in zip(asked, least, strict=False) if len(_parts(each, language)) >= parts]


def sentence(clause: str, language: Language) -> str:
    """A clause as a sentence of its own."""
    bare = clause.strip().rstrip(".。!！")
    return f"{bare}。" if language == "zh" else f"{bare[:1].upper()}{bare[1:]}."


def user_says(suggestions: Sequence[str], words: str, language: Language) -> tuple[str, ...]:
    """Suggestions that a user may say: none of the agent about itself, none that only repeats what was asked for."""
    asked = [each.lower() for each in demands(words, language)]
    return tuple(
        each for each in suggestions
        if not _OF_ITSELF.match(each) and not difflib.get_close_matches(each.lower(), asked, n=1, cutoff=0.8)
    )  # fmt: skip


def examples(cards: Sequence[ToolCard], language: Language) -> tuple[str, ...]:
    """What the cards give as examples of their use, in this language, of each tool the first."""
    fits = ([each for each in card.examples if language_of(each) == language] for card in cards)
    return tuple(each[0] for each in fits if each)


def different(texts: Sequence[str], most: int = MOST_SUGGESTIONS) -> tuple[str, ...]:
    """Those that do not nearly repeat an earlier one."""
    found: list[str] = []
    for text in (each.strip() for each in texts):
        if text and not difflib.get_close_matches(text.lower(), [each.lower() for each in found], n=1, cutoff=0.8):
            found.append(text)
    return tuple(found[:most])


def without(texts: Sequence[str], text: str) -> tuple[str, ...]:
    """The texts but the one that is nearest, if one is near."""
    near = difflib.get_close_matches(text, texts, n=1, cutoff=0.5)
    return tuple(each for each in texts if each not in near)


def _covered(clause: str, text: str, language: Language) -> bool:
    wanted, told = _parts(clause, language), _parts(text, language)
    return sum(each in told for each in wanted) >= _ENOUGH * len(wanted)


def _parts(text: str, language: Language) -> set[str]:
    """What a text is about: beginnings of its words, or pairs of its characters."""
    if language == "zh":
        found = "".join(_WORDS.findall(text.lower()))
        return {found[place : place + 2] for place in range(len(found) - 1)}
    return {word[:5] for word in _WORDS.findall(text.lower()) if word not in _EMPTY}
