"""Time travel in a terminal: what a run had come to after an event, and what its model was shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra.cli.runs_lines import heading, joined, numbers_of, print_told, spent
from infra.cli.show import console, local, outcome, plain, print_json
from infra.cli.words import language, say
from runtime.numbering import numbered, said_in
from runtime.permalink import permalink
from runtime.state import RunState
from runtime.timeline import call_line, short, summary
from runtime.travel import Asked, Moment, moment_of, prompt_at
from schemas.commands import AnyCommand, Generate
from schemas.events import Generated
from schemas.messages import Generation, Message, Prompt

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.cli.reading import RunRead
    from schemas.tools import ToolCard

_LINE = 160


@dataclass(frozen=True, slots=True)
class _Sizes:
    """How large a prompt is: the whole, and what counts a text of it and a tool; what frames them counts for the whole only."""

    whole: int
    text: Callable[[str], int]
    card: Callable[[ToolCard], int]


def show_state(read: RunRead, number: int, *, as_json: bool) -> None:
    """The state after one event. Raises NoSuchEvent."""
    moment = moment_of(read.run, read.facts, number)
    if as_json:
        print_json(state_told(moment, numbers_of(read.facts)))
    else:
        _print_state(moment)


def state_told(moment: Moment, numbers: dict[str, int]) -> dict[str, object]:
    """The state after an event, as data."""
    state, request = moment.state, moment.state.request
    return {
        "run": state.run, "event": moment.number, "id": moment.fact.id, "phase": state.phase,
        "outcome": "erased" if state.erased else state.outcome,
        "decides": [{"id": each.id, **_command(each.command)} for each in moment.decided],
        "outstanding": [
            {"id": id, **_command(command), "answered": moment.answered.get(id)} for id, command in state.outstanding.items()
        ],
        "tools": [card.name for card in state.tools],
        "knowledge": {
            "history": [turn.model_dump(mode="json") for turn in state.history],
            "similar": [turn.model_dump(mode="json") for turn in state.similar],
            "summary": state.summary.model_dump(mode="json") if state.summary else None,
            "facts": [fact.model_dump(mode="json") for fact in state.facts],
            "passages": [passage.model_dump(mode="json") for passage in state.passages],
        },
        "messages": [_message(each) for each in state.messages],
        "budget": request.agent.budget.model_dump(mode="json") if request else None,
        "used": {
            "steps": state.steps, "calls": state.calls, "tokens": state.tokens, "writes": state.writes,
            "money": {currency: f"{amount:f}" for currency, amount in state.spent.items()},
            "waited_s": state.waited.total_seconds(),
        },
        "causes": [{"id": cause, "event": numbers.get(cause)} for cause in moment.fact.causes],
    }  # fmt: skip


def _command(command: AnyCommand) -> dict[str, object]:
    return {"role": command.role, "command": command.model_dump(mode="json")}


def _message(message: Message) -> dict[str, object]:
    told = message.model_dump(mode="json", exclude={"tools"})
    return told | ({"tools": [card.name for card in message.tools]} if message.tools else {})


def _print_state(moment: Moment) -> None:
    out, state = console(), moment.state
    place = permalink(state.run, moment.number)
    print_told("state after", f"{place}  {moment.fact.kind}: {summary(moment.fact, language())}")
    out.print(heading("phase") + plain(f"{state.phase}  ") + outcome("erased" if state.erased else state.outcome))
    if state.erased:
        out.print(plain(say("was erased"), "dim"))
    for decision in moment.decided:
        print_told("decides", f"{decision.command.role}: {_brief(decision.command)}")
    if not moment.decided:
        print_told("decides", say("nothing"))
    fresh = {decision.id for decision in moment.decided}
    for id, command in state.outstanding.items():
        answer = moment.answered.get(id)
        then = say("answered at", number=answer) if answer else say("not answered")
        mark = "  *" if id in fresh else ""
        print_told("outstanding", f"{command.role}: {_brief(command)}  ({then}){mark}")
    print_told("offered", ", ".join(card.name for card in state.tools) or say("nothing"))
    counts = {"history": len(state.history), "passages": len(state.passages), "facts": len(state.facts)}
    print_told("gathered", say("gathered line", **counts))
    for passage in state.passages:
        print_told("", f"{passage.title}: {short(passage.text, _LINE)}")
    print_told("used", _used(state))
    out.print(heading("said so far") + plain("" if state.messages else say("nothing")))
    for message in state.messages:
        said = "; ".join(call_line(call) for call in message.calls) or short(message.content, _LINE)
        who = f"{message.role} {message.name}" if message.name else message.role
        out.print(joined(plain(f"  {who}: ", "cyan"), plain(short(said, _LINE))), no_wrap=True, overflow="ellipsis")


def _used(state: RunState) -> str:
    budget = state.request.agent.budget if state.request else None
    money = "".join(f" · {amount:f} {currency}" for currency, amount in state.spent.items())
    return say(
        "used line", steps=state.steps, most_steps=budget.steps if budget else "?", calls=state.calls,
        most_calls=budget.calls if budget else "?", tokens=state.tokens, writes=state.writes, money=money,
    ) + (f" · {spent(state.waited)} {say('waited_s')}" if state.waited else "")  # fmt: skip


def _brief(command: AnyCommand) -> str:
    """A command on one line."""
    call = getattr(command, "call", None)
    if call is not None:
        return f"{command.kind} {call_line(call)}"
    if isinstance(command, Generate):
        return f"{command.kind} {command.model}"
    asked = command.model_dump(mode="json", exclude={"kind"}, exclude_defaults=True)
    return short(f"{command.kind} {json.dumps(asked, ensure_ascii=False)}", _LINE)


# --- the prompt -----------------------------------------------------------------------------------


def show_prompt(read: RunRead, number: int, models: Path | None, *, as_json: bool) -> None:
    """The prompt of a model's turn, with its size. models: where built models lie. Raises NoSuchEvent, NoModelTurn."""
    asked = prompt_at(read.run, read.facts, number)
    said = _said(read, asked)
    model = said.model if said and said.model else asked.command.model
    sizes = _sizes(asked, model, models)
    cut = list(said.cut) if said else []
    if as_json:
        print_json({
            "run": read.run, "event": asked.number, "model": model, "asked": asked.since,
            "prompt_hash": asked.command.prompt_hash, "same": asked.prompt.hash() == asked.command.prompt_hash,
            "tokens": sizes.whole if sizes else None, "characters": _characters(asked.prompt), "left_out": cut,
            "prompt": asked.prompt.model_dump(mode="json"),
        })  # fmt: skip
    else:
        _print_prompt(asked, model, sizes, cut)


def _said(read: RunRead, asked: Asked) -> Generation | None:
    """What the model answered: also which one it was, and what did not fit into its context."""
    said = next((said_in(stored.fact) for number, stored in numbered(read.facts) if number and number == asked.number), None)
    return said.generation if isinstance(said, Generated) else None


def _characters(prompt: Prompt) -> int:
    cards = sum(len(card.model_dump_json()) for card in prompt.offered)
    return cards + sum(len(each.content) + sum(len(call_line(call)) for call in each.calls) for each in prompt.messages)


def _sizes(asked: Asked, model: str, models: Path | None) -> _Sizes | None:
    """Tokens of the whole prompt as its model reads it, and what counts those of parts of it; None without its tokenizer."""
    from infra.models.build import built
    from infra.models.catalogue import find
    from schemas.errors import MilepostError
    from services.llm.about import TOKENIZER
    from services.llm.build import read_manifest
    from services.llm.chat import encode as encode_prompt
    from services.llm.tokenizer import Vocabulary
    from services.llm.wire import WIRES

    if models is None:
        return None
    try:
        folder = next((folder for _, folder in built(find(model, models), models)), None)
        if folder is None:
            return None
        manifest, vocabulary = read_manifest(folder), Vocabulary.load(folder / TOKENIZER)
    except (MilepostError, OSError):
        return None
    wire = WIRES[manifest.wire if asked.prompt.manner.wire == "model" else asked.prompt.manner.wire]
    return _Sizes(
        len(encode_prompt(asked.prompt, manifest.chat, wire, vocabulary)), lambda text: len(vocabulary.encode(text)),
        lambda card: len(vocabulary.encode("".join(wire.listed([card])))),
    )  # fmt: skip


def _print_prompt(asked: Asked, model: str, sizes: _Sizes | None, cut: Sequence[str]) -> None:
    out, prompt = console(), asked.prompt
    when = {"number": asked.number, "at": local(asked.since), "model": model}
    print_told("prompt of", say("prompt line" if asked.number else "prompt open", **when))
    sized = sizes or _Sizes(_characters(prompt), len, lambda card: len(card.model_dump_json()))
    print_told("size", say("tokens" if sizes else "characters", count=f"{sized.whole:,}", model=model))
    if cut:
        print_told("left out", ", ".join(cut))
    for card in prompt.offered:
        out.print(
            joined(
                plain(f"tool {card.name}", "cyan"),
                plain(f"  {sized.card(card):,}  ", "dim"),
                plain(short(card.description, _LINE)),
            )
        )
    for message in prompt.messages:
        calls = "\n".join(call_line(call) for call in message.calls)
        offers = say("offers", names=", ".join(card.name for card in message.tools)) if message.tools else ""
        text = "\n".join(each for each in (message.content, calls) if each)
        who = " ".join(each for each in (message.role, message.name, f"[{message.part}]" if message.part else "") if each)
        out.print(joined(plain(f"── {who} ", "cyan"), plain(f"{sized.text(text):,}" if text else "", "dim")))
        out.print(plain("\n".join(each for each in (text, offers) if each)), soft_wrap=True)
