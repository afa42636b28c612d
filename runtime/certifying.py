"""Certifying: what a run's models said, each with the prompt as it was asked, and what executing it again comes to.

A certified generation (schemas.messages.Certificate) says the same again, token for token, where model, tokenizer, library,
instruction sets, precision, threads and chunks are the same. Where one of them is another one nothing is proved either way, and
nothing here says that it were.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from runtime.fold import Folded
from runtime.log import Stored
from runtime.prompt import build
from runtime.recording import said
from runtime.state import RunState
from schemas.canonical import canonical
from schemas.commands import Generate
from schemas.events import AnswerCopied, Generated
from schemas.ids import CommandId, RunId
from schemas.messages import Certificate, Generation, Prompt
from schemas.tools import Value

SHOWN = 40
"""Characters of a text that stand beside the place where it differs."""
_CERTIFICATION = b"milepost certification\n"

Verdict: TypeAlias = Literal["match", "different", "elsewhere", "uncertified", "no prompt", "copied"]
"""match, different: as a certificate promises, or not. elsewhere: it cannot be told here. uncertified: nothing was promised.
no prompt: the log does not give the prompt that was asked. copied: another run was told this, and a fork of it copied it."""
Overall: TypeAlias = Literal["match", "different", "unattested"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A generation in a log. number: of its event, from 1; event: its id; prompt: None if the log does not give it."""

    number: int
    event: str
    command: Generate
    generation: Generation
    prompt: Prompt | None
    copied: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition under which a generation ran, that is another one here."""

    name: str
    recorded: str
    here: str


@dataclass(frozen=True, slots=True)
class Parting:
    """Where two replies part. token: which of the reply's tokens that is, from 1; None if it cannot be told.

    before: the end of what they share; recorded and now: how each goes on.
    """

    before: str
    recorded: str
    now: str
    token: int | None = None


@dataclass(frozen=True, slots=True)
class Narrow:
    """A token that could have been another one. margin: by how much its logit led that of `other`; token: from 1."""

    token: int
    text: str
    other: str
    margin: float


@dataclass(frozen=True, slots=True)
class Spread:
    """How much what a model said depends on the way in which its prompt is read.

    chosen: tokens that were chosen, and not forced; drawn: at random, so that no margin is told. least: the smallest margin.
    shift: by how much a token's lead over another one changed at the most when the same was read in other pieces; narrow: the
    tokens whose margin is not above it; turned: how many would have been others in that reading. call: how far the decision
    between a call and words was from the other one, and how much that shifted, in log-odds; None where there was none to make.
    """

    chosen: int
    drawn: bool
    least: float
    shift: float
    turned: int = 0
    narrow: tuple[Narrow, ...] = ()
    call: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """What executing a generation again came to. same: whether text and calls are; None if it was not executed again.

    parting: where they are not. conditions: those that are others here; may: what else may be, as the log tells it. why: why it
    was not executed again. now: what was said, and under what.
    """

    asked: Asked
    verdict: Verdict
    same: bool | None = None
    parting: Parting | None = None
    conditions: tuple[Condition, ...] = ()
    may: tuple[tuple[str, int], ...] = ()
    spread: Spread | None = None
    why: str = ""
    now: Generation | None = None


class Step(Value):
    """One generation in an attestation. event: its number in the run; id: of that event; asked: the prompt's hash."""

    event: int
    id: str
    asked: str
    verdict: Verdict
    model: str
    model_hash: str
    tokenizer_hash: str
    certificate: Certificate | None
    differs: tuple[str, ...] = ()


class Attestation(Value):
    """What `milepost certify` states: which generations of a run were executed again, under what, and what came of it.

    receipt: hash of the run's last receipt, if the run is proved by it; by: the version that executed it; key: the id of the
    key that signs.
    """

    version: Literal[1] = 1
    run: str
    tenant: str
    receipt: str = ""
    result: Overall
    steps: tuple[Step, ...]
    at: datetime
    by: str
    key: str = ""


@dataclass(slots=True)
class _Prompts:
    """The prompts of a run's generations, as they are decided."""

    folded: Folded
    found: dict[CommandId, Prompt] = field(default_factory=dict)

    def add(self, stored: Stored) -> None:
        for decision in self.folded.add(stored):
            if isinstance(decision.command, Generate):
                self.found[decision.id] = build(self.folded.state)


def asked_in(run: RunId, facts: Iterable[Stored]) -> list[Asked]:
    """The generations of a run in order, with their prompts as the log gives them."""
    prompts = _Prompts(Folded(RunState(run=run)))
    found = []
    for number, stored in enumerate(facts, start=1):
        fact, event = stored.fact, said(stored.fact)
        if isinstance(event, Generated):
            prompt = prompts.found.get(CommandId(fact.slot))
            if prompt is not None and prompt.hash() != event.command.prompt_hash:
                prompt = None
            copied = isinstance(fact.body, AnswerCopied)
            found.append(Asked(number, fact.id, event.command, event.generation, prompt, copied))
        prompts.add(stored)
    return found


def conditions(recorded: Generation, here: Generation) -> tuple[Condition, ...]:
    """What was otherwise than it is here, of all that decides which tokens a certified generation has."""
    pairs = [
        ("model", recorded.model_hash, here.model_hash),
        ("tokenizer", recorded.tokenizer_hash, here.tokenizer_hash),
        ("prompt tokens", str(recorded.usage.prompt_tokens), str(here.usage.prompt_tokens)),
        ("cut", ", ".join(recorded.cut), ", ".join(here.cut)),
    ]
    if recorded.certificate and here.certificate:
        a, b = recorded.certificate, here.certificate
        names = ("engine", "machine", "precision", "threads", "chunk")
        pairs[2:2] = [(name, str(getattr(a, name)), str(getattr(b, name))) for name in names]
    else:
        pairs.insert(2, ("provider", recorded.provider, here.provider))
    if _has_less_room(recorded, here) or _has_less_room(here, recorded):
        pairs.append(("context", _read_and_written(recorded), _read_and_written(here)))
    return tuple(Condition(*each) for each in pairs if each[1] != each[2])


def _has_less_room(a: Generation, b: Generation) -> bool:
    """Whether a reply is the beginning of the other one, cut off where the model's context ended: no certificate tells that."""
    shorter = a.usage.completion_tokens < b.usage.completion_tokens
    return shorter and a.finish == "length" and b.text.startswith(a.text.rstrip("\ufffd"))


def _read_and_written(generation: Generation) -> str:
    return str(generation.usage.prompt_tokens + generation.usage.completion_tokens)


def judged(recorded: Generation, here: Generation) -> Verdict:
    """What a generation that was executed again in certified mode says of a recorded one. Never a match by default."""
    if recorded.certificate is None or here.certificate is None:
        return "uncertified"
    if conditions(recorded, here):
        return "elsewhere"
    same = recorded.certificate.tokens_hash == here.certificate.tokens_hash
    return "match" if same and says_the_same(recorded, here) else "different"


def says_the_same(a: Generation, b: Generation) -> bool:
    """Whether two generations are the same reply."""
    return (a.text, a.calls, a.malformed, a.finish) == (b.text, b.calls, b.malformed, b.finish)


def parting(recorded: str, now: str, token: int | None = None) -> Parting:
    """Two texts where they part."""
    at = shared(recorded, now)
    return Parting(recorded[max(0, at - SHOWN) : at], recorded[at : at + SHOWN], now[at : at + SHOWN], token)


def shared(a: str, b: str) -> int:
    """How many characters two texts share from their beginning."""
    return next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def may_differ(recorded: Generation) -> tuple[tuple[str, int], ...]:
    """What of an uncertified generation may have been otherwise than in certified mode, with its number of tokens if known."""
    usage = recorded.usage
    found = [("reuse", usage.cached_tokens)] if usage.cached_tokens else []
    if recorded.drafted:
        found.append(("speculation", recorded.drafted))
    return (*found, ("pieces", 0), ("batching", 0), ("machine", 0))


def overall(checked: Sequence[Checked]) -> Overall:
    """What all generations of a run come to, copied ones aside: a match only if each of them is one."""
    counted = [each.verdict for each in checked if each.verdict != "copied"]
    if "different" in counted:
        return "different"
    return "match" if counted and set(counted) == {"match"} else "unattested"


def attestation(
    run: RunId, tenant: str, checked: Sequence[Checked], *, receipt: str, at: datetime, by: str, key: str = ""
) -> Attestation:
    """What is stated of a run."""
    steps = tuple(
        Step(
            event=each.asked.number, id=each.asked.event, asked=each.asked.command.prompt_hash, verdict=each.verdict,
            model=each.asked.generation.model, model_hash=each.asked.generation.model_hash,
            tokenizer_hash=each.asked.generation.tokenizer_hash, certificate=each.asked.generation.certificate,
            differs=tuple(condition.name for condition in each.conditions),
        )
        for each in checked
    )  # fmt: skip
    return Attestation(run=run, tenant=tenant, receipt=receipt, result=overall(checked), steps=steps, at=at, by=by, key=key)


def said_of_attestation(stated: Attestation) -> bytes:
    """What an attestation's signature is over."""
    return _CERTIFICATION + canonical(stated.model_dump(mode="json"))
