"""Diff: two runs beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json
from infra.cli.show import as_json, console, plain, print_json, use_json

if TYPE_CHECKING:
    from runtime.contents import Step
    from runtime.diff import Diff, Pair, Side
    from runtime.differing import Change
    from runtime.totals import Done

DIFFERENT = 4
Which = Annotated[str, typer.Argument(metavar="RUN|FILE", help="A run, or a file of `runs export`.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(diff)


def diff(
    a: Which, b: Which,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page to this file.", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what is the same, and changes whole.")] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="End with 4 if the runs differ.")] = False,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Compare two runs step by step: what was said, what the model was told, tokens, time, money, and what was written.

    Ids, moments and references are not compared. Files need no stack.
    """
    from infra.cli.reading import read_runs
    from infra.cli.words import say
    from runtime.diff import diff as compared

    use_json(json)
    first, second = read_runs([a, b], home)
    found = compared((first.run, first.facts), (second.run, second.facts))
    if html:
        _write(html, found)
    if as_json():
        print_json(told(found))
    elif html:
        console().print(plain(say("written", file=html)))
    else:
        from infra.cli.diff_lines import print_diff

        print_diff(found, everything=everything)
    if exit_code and not found.same:
        raise typer.Exit(DIFFERENT)


def _write(path: Path, found: Diff) -> None:
    from infra.exports.format import CannotWrite
    from infra.reports.run_diff import diff_page

    try:
        path.write_text(diff_page(found), encoding="utf-8")
    except OSError as error:
        raise CannotWrite(f"{path} cannot be written.", why=error.strerror or str(error), hint="name another file") from error


# --- as JSON --------------------------------------------------------------------------------------


def told(found: Diff) -> dict[str, object]:
    """All that differs, as data: also what a page or a terminal leaves out."""
    counts = {how: found.count(how) for how in ("same", "moved", "changed", "removed", "added")}
    left = found.left
    fork = {"which": left.fork, **left.at.model_dump(mode="json", exclude={"tools", "answers"})} if left else None
    return {
        "a": _side(found.a), "b": _side(found.b), "same": found.same, "fork": fork, "counts": counts,
        "first": _pair(found.first) if found.first else None, "steps": [_pair(pair) for pair in found.pairs],
        "effects": [{"how": each.how, "a": _done(each.a), "b": _done(each.b)} for each in found.effects],
    }  # fmt: skip


def _side(side: Side) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(side)


def _pair(pair: Pair) -> dict[str, object]:
    changes = [_change(each) for each in pair.changes()]
    return {"how": pair.how, "a": _step(pair.a), "b": _step(pair.b)} | ({"changes": changes} if changes else {})


def _step(step: Step | None) -> dict[str, object] | None:
    from runtime.timeline import summary

    if step is None:
        return None
    return {"event": step.number, "id": step.fact.id, "type": step.kind, "time": step.fact.time, "summary": summary(step.fact)}


def _change(change: Change) -> dict[str, object]:
    told: dict[str, object] = {"path": change.path, "how": change.how}
    if change.how != "added":
        told["old"] = change.old
    if change.how != "removed":
        told["new"] = change.new
    words = change.words
    return told | ({"words": words} if words else {})


def _done(done: Done | None) -> dict[str, object] | None:
    if done is None:
        return None
    return {
        "event": done.number, "tool": done.tool, "arguments": done.arguments, "state": done.state,
        "result": done.result.text if done.result else None, "note": done.note or None,
    }  # fmt: skip
