"""A conversation as a model is to learn it: the tokens that serving would read and want, each with what it is part of.

The tokens before a reply are those of `services.llm.chat.encode` for the prompt that the reply answers, and the reply's are
encoded by themselves, as they are sampled: what is trained is what is served.

One sequence can mostly be that for all replies of a conversation, for a prompt begins with the one before it and that one's
reply. Where a later prompt reads differently (text that meets at the edge of a reply makes other tokens, as in `mrkl`; the
family opens replies otherwise than it shows earlier ones; a URL, which serving does not keep), the sequence follows the later
prompt: an earlier reply is context from its first other token on, and `lessons` has a sequence of its own for the rest of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from schemas.messages import Message, Prompt
from services.llm.chat import ChatFormat, encode, parts
from services.llm.tokenizer import Vocabulary
from services.llm.wire.form import Asked, Markup, Name, Parameters, Url, Wire, Words

KINDS = ("context", "answer", "markup", "name", "parameters", "url", "end")
"""What a token may be part of: what is only read; words; a call's syntax, tool, arguments, URL; the end of a message."""
CONTEXT, ANSWER, MARKUP, NAME, PARAMETERS, URL, END = range(len(KINDS))

_KIND_OF: Mapping[type[str], int] = {Words: ANSWER, Name: NAME, Parameters: PARAMETERS, Url: URL}


@dataclass(frozen=True, slots=True)
class Lesson:
    """Tokens and, for each, the index of its kind in KINDS; both of one length."""

    tokens: Sequence[int]
    kinds: Sequence[int]


@dataclass(frozen=True, slots=True)
class _Turn:
    """A reply to be learnt. before: the prompt that it answers; end: the token that ends the message."""

    before: Sequence[int]
    said: Lesson
    end: int

    def agrees(self, tokens: Sequence[int]) -> int:
        """How many tokens of the reply stand in a sequence as they are served: behind all that is read and said before."""
        begin = len(self.before)
        if tokens[:begin] != self.before:
            return 0
        pairs = zip(tokens[begin:], self.said.tokens, strict=False)
        return next((place for place, (one, other) in enumerate(pairs) if one != other), len(self.said.tokens))


def lesson(
    prompt: Prompt, chat: ChatFormat, wire: Wire, vocabulary: Vocabulary, urls: Mapping[str, str] | None = None
) -> Lesson:  # fmt: skip
    """A conversation whose assistant messages are to be learnt; all that follows the last of them is left out.

    What of them is not served so in one sequence is context. urls: by a call's id, what MSAgent-Bench has beside its name.
    Raises ValueError if the vocabulary cannot frame it, or no assistant speaks in it.
    """
    return next(_sequences(_turns(prompt, chat, wire, vocabulary, urls or {}), chat, vocabulary))


def lessons(
    prompt: Prompt, chat: ChatFormat, wire: Wire, vocabulary: Vocabulary, urls: Mapping[str, str] | None = None
) -> list[Lesson]:  # fmt: skip
    """As few sequences as teach each token of the replies once and as it is served; that of `lesson` comes first.

    Markup at the end of a reply is no reason for a sequence of its own. Raises ValueError as `lesson` does.
    """
    return list(_sequences(_turns(prompt, chat, wire, vocabulary, urls or {}), chat, vocabulary))


def _sequences(turns: Sequence[_Turn], chat: ChatFormat, vocabulary: Vocabulary) -> Iterator[Lesson]:
    """Sequences that end with a turn of which something is left to teach, the last such turn first."""
    ends = {vocabulary.special(end) for end in chat.ends}
    taught = [0] * len(turns)
    last: int | None = len(turns) - 1
    while last is not None:
        tokens = [*turns[last].before, *turns[last].said.tokens, turns[last].end]
        kinds = [CONTEXT] * len(tokens)
        for index, turn in enumerate(turns[: last + 1]):
            known, begin, said = taught[index], len(turn.before), turn.said
            taught[index] = agreed = max(known, turn.agrees(tokens))
            kinds[begin + known : begin + agreed] = said.kinds[known:agreed]
            if agreed == len(said.tokens) and (agreed > known or index == last) and tokens[begin + agreed] in ends:
                kinds[begin + agreed] = END  # a turn that goes on after a call has none
        yield Lesson(tokens, kinds)
        left = (index for index, turn in enumerate(turns) if set(turn.said.kinds[taught[index] :]) - {MARKUP})
        last = max(left, default=None)


def _turns(
    prompt: Prompt, chat: ChatFormat, wire: Wire, vocabulary: Vocabulary, urls: Mapping[str, str]
) -> list[_Turn]:  # fmt: skip
    turns = []
    tokens_of = cache(vocabulary.encode)  # a prompt has nearly all the texts of the one before it
    for index, message in enumerate(prompt.messages):
        if message.role == "assistant":
            asked = prompt.model_copy(update={"messages": prompt.messages[:index]})
            shown = encode(asked, chat, wire, vocabulary, tokens_of)
            said = _said(message, asked, wire, vocabulary, urls, behind=shown[-1:])
            turns.append(_Turn(shown, said, _end(message, chat, vocabulary)))
    if not turns:
        raise ValueError("no assistant speaks in the conversation, so there is nothing to learn")
    return turns


def _said(
    message: Message, asked: Prompt, wire: Wire, vocabulary: Vocabulary, urls: Mapping[str, str], behind: Sequence[int]
) -> Lesson:  # fmt: skip
    """A reply as serving has it written: what it must begin with is read in before anything is chosen, so it stands apart.

    behind: the last token of the prompt.
    """
    cards = {card.name: card for card in asked.offered}
    calls = [Asked(call.name, call.arguments, urls.get(call.id, "")) for call in message.calls]
    opening, *rest = pieces = wire.said(message.content, calls, cards)
    if calls and message.content:
        return _spelled(pieces, vocabulary, behind)
    if not calls and not asked.offered and all(each.role != "tool" for each in asked.messages):
        opening = Markup("")  # nobody told this model how to begin an answer
    first = _spelled((opening,), vocabulary)
    then = _spelled(rest, vocabulary, first.tokens or behind)
    return Lesson([*first.tokens, *then.tokens], [*first.kinds, *then.kinds])


def _spelled(pieces: Iterable[str], vocabulary: Vocabulary, behind: Sequence[int] = ()) -> Lesson:
    """The tokens of `services.llm.chat.spelled`, with kinds; a token of several parts has the kind that comes last in KINDS.

    behind: the tokens that the text goes on from, if it does not stand alone.
    """
    tokens: list[int] = []
    kinds: list[int] = []
    plain = ""
    of: list[int] = []  # the kind of each character of it

    def flush() -> None:
        last = (tokens or behind)[-1:]
        goes_on = vocabulary.blank_first and last and not vocabulary.is_special(last[0])
        for token, begin, end in vocabulary.spans(plain, behind="\n" if goes_on else ""):
            tokens.append(token)
            kinds.append(max(of[begin:end], default=of[min(begin, len(of) - 1)]))

    for piece in pieces:
        kind = _KIND_OF.get(type(piece), MARKUP)
        for part in parts(piece, vocabulary) if isinstance(piece, Markup) else (piece,):
            if isinstance(part, str):
                plain += part
                of += [kind] * len(part)
            else:
                flush()
                plain, of = "", []
                tokens.append(part)
                kinds.append(kind)
    flush()
    return Lesson(tokens, kinds)


def _end(message: Message, chat: ChatFormat, vocabulary: Vocabulary) -> int:
    """The token that ends a message: of what follows it, or else with what the next role begins, the first that can."""
    following = chat.roles.get("tool", ("", "")) if message.calls else chat.roles["user"]
    ends = [vocabulary.special(end) for end in chat.ends]
    for markup in (chat.roles["assistant"][1], following[0]):
        for part in parts(markup, vocabulary):
            if isinstance(part, int) and part in ends:
                return part
    end = vocabulary.special(chat.ends[0])
    if end is None:  # encode has seen to it
        raise ValueError(f"the vocabulary has no {chat.ends[0]}, so it does not speak {chat.name}")
    return end
