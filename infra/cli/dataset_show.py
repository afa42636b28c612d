"""`milepost dataset show`: one conversation of a data set, as a person reads it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json, settings_from
from infra.cli.show import clean, console, plain, print_json, use_json
from infra.cli.words import say

if TYPE_CHECKING:
    from rich.text import Text

    from schemas.messages import Message
    from schemas.tools import ToolCall, ToolCard
    from services.datasets.example import Example

LONGEST = 100_000
"""Tokens of a conversation that is shown so."""
_COLOURS = {"user": "cyan", "assistant": "green", "tool": "magenta", "system": "dim"}

Folder = Annotated[Path, typer.Argument(help="A data set's folder, or a file of JSON lines.", show_default=False)]
Part = Annotated[str | None, typer.Option("--part", help="Which part; the first without.", show_default=False)]


def add_to(dataset: typer.Typer) -> None:
    """Add this file's command."""
    dataset.command()(show)


def show(
    folder: Folder,
    which: Annotated[str, typer.Argument(help="Its id, or its number in the part, from 1 on.", show_default=False)] = "1",
    part: Part = None,
    tokens: Annotated[
        str | None, typer.Option(metavar="MODEL", help="As this model is taught it, in the colours of the loss.")
    ] = None,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Show one conversation: the tools that are offered, who says what, and which calls are made."""
    from infra.datasets.folder import one, part_file, parts_in
    from services.datasets.formats.writing import milepost

    use_json(json)
    path = part_file(folder, part) if part else next(iter(parts_in(folder).values()))
    example = one(path, which)
    if json:
        print_json(milepost(example))
        return
    out = console()
    if tokens:
        _taught(example, tokens, settings_from(home).settings.model.home)
        return
    for line in _lines(example):
        out.print(line)


def _taught(example: Example, model: str, home: Path) -> None:
    from infra.datasets.lengths import form_of
    from infra.training.preview import legend, preview
    from infra.training.teaching import Teacher

    form = form_of(model, home)
    out = console()
    out.print(preview(example, Teacher(form, form.vocabulary(), LONGEST), clean=clean), soft_wrap=True)
    out.print(legend(lambda kind: say(f"train kind {kind}")))


def _lines(example: Example) -> list[Text]:
    told = " · ".join(filter(None, (example.source, example.group, example.language)))
    lines = [plain(example.id, "bold"), plain(told, "dim"), plain("")]
    if example.system:
        lines += [*_said("system", example.system), plain("")]
    lines.append(plain(say("dataset tools offered", count=len(example.tools)), "bold"))
    lines += [_tool(card, card.name in example.calls) for card in example.tools]
    for message in example.messages:
        lines += [plain(""), *_message(message)]
    return lines


def _tool(card: ToolCard, called: bool) -> Text:
    from services.llm.wire.bare_json import function_line

    line = clean(" ".join(function_line(card).split()))
    made = plain("  * " if called else "    ", "bold green")
    made.append(line)
    made.stylize("bold" if called else "", 4, 4 + len(card.name))
    return made


def _message(message: Message) -> list[Text]:
    lines = _said(message.role, message.content, message.name or "") if message.content or not message.calls else []
    for call in message.calls:
        lines.append(_call(call, first=not lines))
    return lines


def _said(role: str, text: str, name: str = "") -> list[Text]:
    label = say(f"dataset role {role}") + (f" {name}" if name else "")
    first = plain(f"{label}: ", f"bold {_COLOURS[role]}")
    first.append(clean(text), "dim" if role in ("system", "tool") else "")
    return [first]


def _call(call: ToolCall, *, first: bool) -> Text:
    import orjson

    made = plain(f"{say('dataset role assistant')}: " if first else "  ", f"bold {_COLOURS['assistant']}")
    made.append(f"→ {clean(call.name)}", "bold yellow")
    made.append(f" {clean(orjson.dumps(call.arguments).decode())}", "yellow")
    return made
