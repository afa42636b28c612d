"""Arguments from nowhere: identifiers and amounts of a write that neither a person nor a result has named.

Small models fill in what they do not know: an instance id that looks right, a period of one month. What a person wrote, what
a tool of this run gave and what was approved in it may be used; what the model said itself, and documents that were found,
may not. Of a result only that counts which its call had not brought in: an echo names nothing. Of a result of an earlier
turn the log does not tell what its call brought in: it counts where it lists several identifiers, as an echo of one does not.

Nothing is understood here, so some things pass: words with spaces between them (a person's name, a schedule such as
"0 3 * * *") are free text, an echo in another encoding is no echo, and an echo in an earlier turn that tells other identifiers
too is a list. Others are asked about in vain: "tomorrow" (the time of the run is not known here), 8 GB in MB, an ending
that was added to a file's name.

What is found stands in the log, in a command that a replay must find again: other rules than these are another decider's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import NamedTuple

from runtime.moments import moment_of, says
from runtime.numerals import NAME, Quantity, converted, normalised, parted, quantities, unit_named
from runtime.state import RunState
from schemas.canonical import Json, read_json
from schemas.errors import ProtocolError
from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard

NAMED_AT_MOST = 50
LONGEST_IDENTIFIER = 200
LONGEST_LIST = 2_000  # characters of names in one text; a longer one is free text
_FREE_TEXT = frozenset({
    "body", "caption", "command", "comment", "comments", "content", "desc", "description", "html", "instruction",
    "instructions", "markdown", "message", "note", "notes", "prompt", "query", "question", "reason", "remark", "remarks",
    "script", "subject", "summary", "text", "title",
})  # fmt: skip
# What the last word of an argument's name says of its numbers: they name something, or count money or things.
_IDENTITIES = frozenset({"account", "id", "ids", "invoice", "issue", "no", "number", "order", "ticket"})
_AMOUNTS = frozenset({"amount", "balance", "cost", "fee", "price", "sum", "total"})
_COUNTS = frozenset({"copies", "count", "instances", "quantity", "replicas"})
_AMOUNT, _COUNT = "amount", "count"  # instead of a unit of time
_ONE_THING = re.compile(r"(?<![a-z])(?:an?|another|one)\s+(?!few|lot|couple|pair|dozen|hundred|number)[a-z]|一[台个只份条张]")
_CITIES = {
    "cn-hangzhou": ("hangzhou", "杭州"), "cn-beijing": ("beijing", "北京"), "cn-shanghai": ("shanghai", "上海"),
    "cn-shenzhen": ("shenzhen", "深圳"), "cn-guangzhou": ("guangzhou", "广州"), "cn-chengdu": ("chengdu", "成都"),
    "cn-qingdao": ("qingdao", "青岛"), "cn-hongkong": ("hong kong", "香港"), "ap-east-1": ("hong kong", "香港"),
    "ap-southeast-1": ("singapore", "新加坡"), "ap-northeast-1": ("tokyo", "东京"), "eu-central-1": ("frankfurt", "法兰克福"),
    "eu-west-1": ("ireland", "london", "爱尔兰", "伦敦"), "eu-west-2": ("london", "伦敦"), "eu-west-3": ("paris", "巴黎"),
    "us-east-1": ("virginia", "弗吉尼亚"), "us-east-2": ("ohio",), "us-west-1": ("california", "silicon valley", "硅谷"),
    "us-west-2": ("oregon",),
}  # fmt: skip
_NO_NAMES = (None, "", "true", "false", "True", "False")
_COMMON = frozenset({"utf-8", "utf-16", "iso-8859-1", "iso-8859-15", "/dev/null"})
_WORDS_OF_NAME = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
# A letter or digit of a script that puts spaces between words.
_LETTER = "0-9a-z\u00df-\u024f\u0370-\u052f"
_FIRST_LETTER, _LAST_LETTER = re.compile(f"[{_LETTER}]"), re.compile(f"[{_LETTER}]$")
# Chinese has no spaces: what may follow a name of two characters without being part of it, as 丰 is in 张三丰.
_FOLLOWS = (
    "的了吗呢吧和与及或在是为从到给把被让叫说发有也都就去来用按以将对向等"
    "改转打付寄送开关停启删处负确看收查审批做接帮已会能并再先请要跟同里上"
)
_SEPARATORS = r"[ \t_-]*"
_DROPPED = str.maketrans("", "", "-_()+")
_PHONE = re.compile(r"\+?[\d\s()-]{7,}")
_AREA_BEFORE = re.compile(r"\+[ ()-]*(?:\d[ ()-]*){4,}$")  # more than a country's prefix
_INSIDE = re.compile(
    r"[a-z][a-z0-9+.-]{0,20}://[^\s\"'<>]+|[\w.+-]{1,64}@[\w-]{1,64}\.[\w.-]{0,190}\w|(?<![0-9a-z_.~<*/-])/[a-z0-9][\w./-]*\w"
    r"|\d{4}-\d\d-\d\dt[\d:.]+z?|[a-z0-9]+(?:[-_.][a-z0-9]+)+|[a-z0-9]{5,}"
)
_RUNS = re.compile(r"[a-z]+|\d+")
_NAME_IN_LIST = re.compile(r"\S*[^\W_][-_.@:/][^\W_]\S*|[a-z]+\d\w*|\d+")
_PLAIN_NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d*|[1-9]\d{0,2}(?:,\d{3})+)(?:\.\d+)?")
_BARE_HOST = re.compile(r"https?://([^/\s]+)/?")
_AMOUNT_DIGITS = 7  # a longer number is rather somebody's name: an account, a telephone


class Source(NamedTuple):
    """Words that may be used. call: the one whose result they are; earlier: of a turn before, whose calls are not known."""

    text: str
    call: ToolCall | None = None
    earlier: bool = False


def sources_of(state: RunState) -> tuple[Source, ...]:
    """All that names something in a run: its agent's instructions, persons' words now and before, results, approved plans."""
    request = state.request
    if request is None:
        return ()
    turns = (*state.similar, *state.history) if request.trigger is None else ()  # those were events' words
    results = [result for turn in turns for result in turn.results]
    told = request.trigger.said if request.trigger else request.task  # what an event said is nobody's word
    task = () if request.parent and not request.parent.vouched else (told,)  # else it is what a model has written
    said = [*task, request.agent.instructions, *(fact.text for fact in state.facts), *state.told]
    for turn in turns:
        said.extend(() if request.parent else (turn.task,))  # those of an agent that another one asks were a model's, too
    said.extend(result.ref for result in results if result.ref)  # which no model makes up
    before = (Source(result.text, earlier=True) for result in results)
    client = () if request.parent or request.trigger else _told(request.said)
    return (*map(Source, said), *client, *(Source(text, call) for call, text in reversed(state.returned)), *before)


def _told(said: Sequence[Message]) -> Iterator[Source]:
    """What a client tells of before: users' words count as such, and results no more than results do.

    What it says that the model said names nothing, as nothing does that the model says.
    """
    calls: dict[str, list[ToolCall]] = {}
    for message in said:
        for call in message.calls:
            calls.setdefault(call.name, []).append(call)
        if message.role == "user":
            yield Source(message.content)
        elif message.role == "tool":
            asked = calls.get(message.name or "")
            yield Source(message.content, asked.pop(0)) if asked else Source(message.content, earlier=True)


def ungrounded(call: ToolCall, card: ToolCard, sources: Sequence[Source]) -> tuple[str, ...]:
    """The names of arguments that came from nowhere, such as "InstanceId" or "tags[0].key", in the order of the call.

    Checked are numbers, dates, and texts that look like an identifier, an address, a path or a name; of other texts the
    identifiers in them. Not checked are booleans, and what the card itself offers: values of an enum, constants, defaults.
    """
    asked = _Asked(sources)
    found: dict[str, None] = {}
    for leaf in _leaves(call.arguments, card.parameters):
        if not leaf.offered and not asked.names(leaf):
            found[leaf.name] = None
    return tuple(found)[:NAMED_AT_MOST]


# --- what is checked ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One value of the arguments.

    offered: whether its schema says it. unit: of time that it counts, or what else its number is; sure: from its name.
    """

    name: str
    value: object
    offered: bool = False
    free: bool = False
    unit: str = ""
    sure: bool = False


def _leaves(arguments: Mapping[str, object], parameters: Mapping[str, object]) -> Iterator[_Leaf]:
    return _within(arguments, "", [parameters], parameters)


def _within(value: object, name: str, schemas: Sequence[Mapping[str, object]], root: Mapping[str, object]) -> Iterator[_Leaf]:
    schemas = [each for schema in schemas for each in _variants(schema, root)]
    last = _words(name)[-1:]
    free = bool(last) and last[0] in _FREE_TEXT
    if isinstance(value, str) and value[:1] in ("[", "{") and not free and (inner := _json(value)) is not None:
        value = inner
    if isinstance(value, Mapping):
        for key, each in value.items():
            place = f"{name}.{key}" if name else key
            inside = [found for schema in schemas if (found := _property(schema, key)) is not None]
            if name and not any(schema.get("properties") for schema in schemas):  # the key is the model's choice, too
                yield _Leaf(place, key, free=not any(schema.get("additionalProperties") for schema in schemas))
            for leaf in _within(each, place, inside, root):
                yield _counted(leaf, key, inside, value, schemas) if leaf.name == place and leaf.unit != NAME else leaf
    elif isinstance(value, list | tuple):
        items = [item for schema in schemas if isinstance(item := schema.get("items"), Mapping)]
        for index, each in enumerate(value):
            yield from _within(each, f"{name}[{index}]", items, root)
    elif value not in _NO_NAMES and not isinstance(value, bool):
        offered, kind = any(_offers(schema, value) for schema in schemas), _kind(last)
        yield _Leaf(name, value, offered, free, kind, sure=kind == NAME)


def _kind(last: Sequence[str]) -> str:
    """What the numbers of an argument are, by the last word of its name, where that tells it."""
    kinds = ((_IDENTITIES, NAME), (_AMOUNTS, _AMOUNT), (_COUNTS, _COUNT))
    return next((kind for words, kind in kinds if not words.isdisjoint(last)), "")


def _counted(
    leaf: _Leaf, key: str, inside: Sequence[Mapping[str, object]], siblings: Mapping[str, object],
    schemas: Sequence[Mapping[str, object]],
) -> _Leaf:  # fmt: skip
    """The leaf with the unit of time that it counts: as another argument says (PeriodUnit), its name, or its description."""
    if isinstance(leaf.value, str) and not leaf.value[:1].isdigit():
        return leaf
    beside = next((each for each in _unit_names(key) if each in siblings), None)
    said = siblings[beside] if beside else next((each for schema in schemas for each in _default_unit(schema, key)), "")
    unit = unit_named(normalised(str(said))) or unit_named(" ".join(_words(key)))
    if unit:
        return _Leaf(leaf.name, leaf.value, leaf.offered, leaf.free, unit, sure=True)
    described = next((str(schema["description"]) for schema in inside if "description" in schema), "")
    return _Leaf(leaf.name, leaf.value, leaf.offered, leaf.free, unit_named(normalised(described)) or leaf.unit)


def _unit_names(key: str) -> tuple[str, ...]:
    return (f"{key}Unit", f"{key}_unit", f"{key}unit", "unit", "Unit")


def _default_unit(schema: Mapping[str, object], key: str) -> Iterator[object]:
    for name in _unit_names(key):
        beside = _property(schema, name)
        if beside and "default" in beside:
            yield beside["default"]


def _variants(schema: Mapping[str, object], root: Mapping[str, object], depth: int = 4) -> Iterator[Mapping[str, object]]:
    """A schema and all that it is made of."""
    yield schema
    if depth == 0:
        return
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/"):
        found: object = root
        for part in reference[2:].split("/"):
            found = found.get(part) if isinstance(found, Mapping) else None
        if isinstance(found, Mapping):
            yield from _variants(found, root, depth - 1)
    for key in ("anyOf", "oneOf", "allOf"):
        several = schema.get(key)
        for each in several if isinstance(several, list | tuple) else ():
            if isinstance(each, Mapping):
                yield from _variants(each, root, depth - 1)


def _property(schema: Mapping[str, object], key: str) -> Mapping[str, object] | None:
    properties = schema.get("properties")
    found: object = properties.get(key) if isinstance(properties, Mapping) else None
    if found is None:
        found = schema.get("additionalProperties")
    return found if isinstance(found, Mapping) else None


def _offers(schema: Mapping[str, object], value: object) -> bool:
    several = schema.get("enum")
    listed = value in several if isinstance(several, list | tuple) else False
    return listed or ("default" in schema and schema["default"] == value) or ("const" in schema and schema["const"] == value)


def _json(text: str) -> Json:
    try:
        found = read_json(text.encode(), limit=LONGEST_IDENTIFIER * 100)
    except (ProtocolError, UnicodeEncodeError):
        return None
    return found if isinstance(found, dict | list) else None


@lru_cache(maxsize=1024)
def _words(name: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in _WORDS_OF_NAME.findall(name.rsplit(".", 1)[-1].split("[", 1)[0]))


# --- whether it was named -----------------------------------------------------------------------------


class _Text:
    """A normalised text, and what it names; read as far as it is needed."""

    def __init__(self, text: str) -> None:
        self._raw = text

    @cached_property
    def text(self) -> str:
        return normalised(self._raw)

    @cached_property
    def squeezed(self) -> str:
        return _squeezed(self.text)

    @cached_property
    def quantities(self) -> frozenset[Quantity]:
        return _amounts(self.text)

    def names(self, value: object, unit: str, sure: bool) -> bool:
        if isinstance(value, str):
            return self._names_text(value, unit, sure)
        amount = Decimal(str(value)) if isinstance(value, int | float) else None
        return amount is not None and amount.is_finite() and self._names_amount(amount, unit, sure)

    def _names_text(self, value: str, unit: str, sure: bool) -> bool:
        amount = _number(value)
        if amount is None or unit not in (NAME, _AMOUNT, _COUNT):
            if self.says(value) or any(map(self._says_city, _CITIES.get(value, ()))):
                return True
            host = _BARE_HOST.fullmatch(normalised(value).strip())
            if host and self.says(host[1]):
                return True
        if amount is not None:
            return self._names_amount(amount, unit, sure)
        moment = moment_of(normalised(value))
        if moment is not None:
            return says(self.text, moment)
        said = normalised(value).strip()
        if (of_time := unit_named(said)) and said.isalpha():
            return any(each.unit == of_time for each in self.quantities)
        whole = _quantity(value)
        return whole is not None and self._names_amount(whole.amount, whole.unit, True)

    def _says_city(self, city: str) -> bool:
        return city in self.text if _CJK.match(city) else self.says(city)

    def _names_amount(self, amount: Decimal, unit: str, sure: bool) -> bool:
        counted = unit in (_AMOUNT, _COUNT)
        if unit == _COUNT and amount == 1 and _ONE_THING.search(self.text):
            return True
        for each in self.quantities:
            if counted and each.unit == NAME:
                continue
            if unit and each.unit and converted(each, unit) == amount:
                return True
            if each.amount == amount and not (sure and unit and each.unit and each.unit != unit):
                return True
        no_amount = unit == NAME and all(each.amount != amount for each in self.quantities)  # as that in orders/12
        return not counted and (no_amount or len(str(amount)) >= _AMOUNT_DIGITS) and self.says(str(amount))

    def says(self, identifier: str) -> bool:
        """Whether the text has it as a whole word, whatever spaces and dashes there are in it."""
        identifier = normalised(identifier).strip().rstrip("/")
        if _squeezed(identifier) not in self.squeezed:
            return False
        telephone = _is_telephone(identifier)
        return any(
            not (telephone and _AREA_BEFORE.search(self.text[max(0, place - 20) : place]))
            for place in _places(identifier, self.text)
        )


class _Texts(_Text):
    """Several texts as one, on lines of their own.

    A run checks each of its writes against all of its results: what is known of one text is not found out again.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._each = [_text(each) for each in texts]

    @cached_property
    def text(self) -> str:
        return "\n".join(each.text for each in self._each)

    @cached_property
    def squeezed(self) -> str:
        return "".join(each.squeezed for each in self._each)

    @cached_property
    def quantities(self) -> frozenset[Quantity]:
        return frozenset[Quantity]().union(*(_amounts(part) for part in parted(each.text for each in self._each)))


@lru_cache(maxsize=2048)  # a run may make 1,000 calls, and ask about each
def _text(text: str) -> _Text:
    return _Text(text)


@lru_cache(maxsize=2048)
def _amounts(text: str) -> frozenset[Quantity]:
    return frozenset(quantities(text))


def _squeezed(text: str) -> str:
    return "".join(text.split()).translate(_DROPPED)


class _Asked:
    """The sources, read when they are needed: first what persons said, then the results, together and one by one."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._results = [source for source in sources if source.call or source.earlier]
        self._said = _Texts(source.text for source in sources if not (source.call or source.earlier))
        self._together = _Texts(source.text for source in self._results)

    def names(self, leaf: _Leaf) -> bool:
        return all(self._says(part, leaf) for part in _parts(leaf))

    def _says(self, value: object, leaf: _Leaf) -> bool:
        if self._said.names(value, leaf.unit, leaf.sure):
            return True
        if not self._together.names(value, leaf.unit, leaf.sure):
            return False
        return any(_vouches(source, value, leaf) for source in self._results)


def _vouches(source: Source, value: object, leaf: _Leaf) -> bool:
    """Whether a result names a value that its own call had not brought in, whole or in parts; one of before, in a list."""
    if not _text(source.text).names(value, leaf.unit, leaf.sure):
        return False
    if source.call is None:
        return _lists(source.text)
    own = [each.value for each in _leaves(source.call.arguments, {})]
    if _Text("\n".join(map(str, own))).names(value, leaf.unit, leaf.sure):
        return False
    parts = re.findall(r"[^\W_]+", value) if isinstance(value, str) else []
    words = _Text("\n".join(each for each in own if isinstance(each, str)))
    return len(parts) < 2 or not all(map(words.says, parts))


def _parts(leaf: _Leaf) -> Iterator[object]:
    """What must have been named for a value to be: the value, each of a list in one text, or the identifiers in free text."""
    if not isinstance(leaf.value, str):
        yield leaf.value
        return
    text = leaf.value.strip()
    listed = () if leaf.free else _listed(text)
    if listed:
        yield from listed
    elif leaf.free or not _identifies(text):
        yield from _strange_in(text)
    else:
        yield text


def _listed(text: str) -> Sequence[str]:
    """The names in one text with commas between them, or with spaces if each looks like one; none if it is no such list."""
    if len(text) > LONGEST_LIST or _number(text) is not None:
        return ()
    pieces = [piece.strip() for piece in re.split("[,;]", text) if piece.strip()]
    if len(pieces) > 1:
        return tuple(dict.fromkeys(pieces)) if all(map(_identifies, pieces)) else ()
    words = text.split()
    several = len(words) > 1 and not _identifies(text) and all(_NAME_IN_LIST.fullmatch(normalised(word)) for word in words)
    return words if several else ()


def _lists(text: str) -> bool:
    """Whether a text has two identifiers, one not a part of the other as the host of an address is."""
    found = list(_strange_in(text))
    longest = max(found, key=len, default="")
    return any(each not in longest for each in found)


def _strange_in(text: str) -> Iterator[str]:
    return (each for each in _INSIDE.findall(normalised(text)) if _strange(each))


def _identifies(text: str) -> bool:
    """Whether a text is the name of something, or an amount, rather than words."""
    text = text.strip()
    if not text or len(text) > LONGEST_IDENTIFIER or "\n" in text:
        return False
    if not re.search(r"\s", text):
        return not (_CJK.search(text) and (len(text) > 12 or re.search(r"[，。！？、；：]", text)))
    return bool(_PHONE.fullmatch(text)) or moment_of(normalised(text)) is not None or _quantity(text) is not None


def _strange(word: str) -> bool:
    """Whether a word in free text is an address, a path, an identifier or a long number."""
    if word in _COMMON:
        return False
    if "://" in word or "@" in word or word.startswith("/"):
        return True
    if not any(map(str.isdigit, word)) or moment_of(word):
        return False
    runs = _RUNS.findall(word)
    if any(run.isdigit() and len(run) >= 5 for run in runs):
        return True
    if all(run.isdigit() for run in runs):
        return len(runs) == 4 and "." in word  # an address; 1.5 and 2026-12-01 are none
    return (len(word) >= 5 and "-" in word.replace("_", "-")) or len(runs) >= 4


def _number(text: str) -> Decimal | None:
    """The amount that a text is; 007 and 5e3 are names."""
    text = normalised(text).strip()
    return Decimal(text.replace(",", "")) if len(text) <= LONGEST_IDENTIFIER and _PLAIN_NUMBER.fullmatch(text) else None


def _quantity(text: str) -> Quantity | None:
    """The amount with its unit of time that a text is, if it is one and nothing else."""
    said = normalised(text).strip()
    found = list(quantities(said)) if len(said) <= 40 else []
    rest = re.sub(r"[\d.,\s-]|[a-z]+|[\u3400-\u9fff]", "", said)
    return found[0] if len(found) == 1 and found[0].unit and not rest and len(said.split()) <= 2 else None


def _is_telephone(identifier: str) -> bool:
    return bool(_PHONE.fullmatch(identifier)) and sum(map(str.isdigit, identifier)) >= _AMOUNT_DIGITS


def _places(identifier: str, text: str) -> Iterator[int]:
    """Where an identifier stands: as it is, and then, which is slow to find out, in a looser form."""
    before, after = _bounds(identifier)
    begins, ends = _edge(before), _edge(after)
    place = text.find(identifier)
    while place >= 0:
        whole = begins.match(text, place) and ends.match(text, place + len(identifier))
        if whole:
            yield place
        place = text.find(identifier, place + (len(identifier) if whole and identifier else 1))
    yield from (found.start() for found in _loose(identifier).finditer(text))


@lru_cache(maxsize=64)  # there are a dozen; patterns of identifiers would push them out of re's own cache
def _edge(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _loose(identifier: str) -> re.Pattern[str]:
    """Finds an identifier with other spaces and dashes between its parts; between digits only where it has some itself."""
    if _is_telephone(identifier):
        return re.compile(_bounded(identifier, r"[\s_()-]*".join(re.sub(r"\D", "", identifier))))
    parts: list[str] = []
    for word in re.split(r"[\s_-]+", identifier):
        for index, each in enumerate(word):
            digits = each.isdigit() and bool(parts) and parts[-1].isdigit()
            letter = index == 1 and each.isdigit() and not digits  # "plan b 2 times" does not say b2
            within = "" if digits or letter else _SEPARATORS
            parts.append((within if index else r"[ \t_-]+" if digits else _SEPARATORS) if parts else "")
            parts.append(re.escape(each))
    return re.compile(_bounded(identifier, "".join(parts)))


def _bounded(identifier: str, pattern: str) -> str:
    before, after = _bounds(identifier)
    return before + pattern + after


def _bounds(identifier: str) -> tuple[str, str]:
    """What stands before and after it: not the rest of a longer word, id, host or path."""
    before, after = "", ""
    if _FIRST_LETTER.match(identifier):
        before = rf"(?<![{_LETTER}])(?<![{_LETTER}][-_.{'+' if '@' in identifier else ''}])"
    elif identifier.startswith("/"):
        before = r"(?<![0-9a-z.~])"
    if _LAST_LETTER.search(identifier):
        after = rf"(?![{_LETTER}])(?![-_.][{_LETTER}])"
    elif len(identifier) == 2 and _CJK.match(identifier) and _CJK.match(identifier[1]):
        after = rf"(?![\u3400-\u9fff](?<![{_FOLLOWS}]))"
    return before, after + (rf"(?!/[{_LETTER}])" if "/" in identifier else "")
