"""Evaluations that are kept: listed, shown, and compared with each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Json
from infra.cli.show import as_json, console, local, plain, print_json, print_table, use_json
from infra.cli.words import language, say
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from infra.evaluation.comparing import Change
    from infra.evaluation.result import Outcome, Result

SHOWN = 5
KEPT = Path(".milepost-eval")
Out = Annotated[Path, typer.Option("--out", envvar="MILEPOST_EVAL", help="Where replies and results are kept.")]
Data = Annotated[
    Path | None,
    typer.Option("--data", envvar="MILEPOST_DATA", help="The folder that holds bfcl/, hammerbench/ ...", show_default=False),
]
Html = Annotated[Path | None, typer.Option("--html", help="Write a report with plots.", show_default=False)]
Part = Annotated[str, typer.Option("--part", help="Which part of it; the usual one without.", show_default=False)]
Chosen = Annotated[str, typer.Argument(help="A result's folder, the beginning of its id, or who was examined.")]


def results(out: Out = KEPT, json: Json = False) -> None:
    """List the results that are kept, newest first."""
    from infra.evaluation.report import number
    from infra.evaluation.result import kept

    use_json(json)
    found = list(kept(out))
    if as_json():
        print_json([as_data(folder, each) for folder, each in found])
        return
    if not found:
        console(stderr=True).print(plain(say("eval no results", out=out), "dim"))
        return
    rows = [
        (
            plain(each.id[:8], "bold"), local(each.began), each.who.name, f"{each.benchmark} {each.part}", each.how.name,
            f"{each.items}", number(each.right.value or 0.0),
        )
        for _, each in found
    ]  # fmt: skip
    names = ("id", "began", "who", "benchmark", "manner", "items", "right")
    columns = [say(f"eval {each}") if each != "id" else "id" for each in names]
    print_table(columns, rows, right=(say("eval items"), say("eval right")))


def show(
    name: Chosen,
    wrong: Annotated[int, typer.Option("--wrong", min=0, help="How many of the wrong items to show.")] = SHOWN,
    out: Out = KEPT, html: Html = None, json: Json = False,
) -> None:  # fmt: skip
    """Show a result: figures, what it took, and items that went wrong."""
    from infra.evaluation.result import find, read

    use_json(json)
    folder = find(out, name)
    tell(folder, read(folder), html, wrong)


def as_data(folder: Path, result: Result) -> dict[str, object]:
    """A result and where it is, as JSON."""
    return {"folder": str(folder), **result.model_dump(mode="json")}


def tell(folder: Path, result: Result, html: Path | None, wrong: int = 0) -> None:
    """Show a result in the terminal or as JSON, and write its report. wrong: how many of the wrong items."""
    from infra.evaluation import report
    from infra.evaluation.result import outcomes

    if html is not None:
        write_report(folder, result, html)
    if as_json():
        print_json(as_data(folder, result))
        return
    out = console()
    out.print(plain(report.heading(result, say), "bold"))
    columns = (say("eval figure"), say("eval value"), say("eval interval"), "n")
    print_table(columns, report.rows(result, say), right=columns[1:])
    print_table(("", ""), [(plain(name, "dim"), value) for name, value in report.spending(result, say)])
    _tell_troubles(result)
    for each in [each for each in outcomes(folder) if not each.right][:wrong] if wrong else []:
        _print_wrong(each)
    if html is not None:
        out.print(plain(say("eval report", file=html), "dim"))
    else:
        out.print(plain(say("eval kept in", folder=folder, id=result.id[:8]), "dim"))


def compare(
    names: Annotated[list[str], typer.Argument(help="Results: folders, ids, or who was examined; the first is the measure.")],
    benchmark: Annotated[str, typer.Option(help="Of those examined with several.", show_default=False)] = "",
    part: Part = "",
    shared: Annotated[bool, typer.Option("--shared", help="Over the items that all have, where they differ.")] = False,
    changed: Annotated[int, typer.Option("--changed", min=0, help="How many of the items that changed to show.")] = SHOWN,
    out: Out = KEPT, html: Html = None, json: Json = False,
) -> None:  # fmt: skip
    """Compare results over the same items: figures, paired differences to the first with intervals, items that changed."""
    from infra.evaluation import comparing
    from infra.evaluation.result import find

    use_json(json)
    found = comparing.compare([find(out, name, benchmark=benchmark, part=part) for name in names], shared=shared)
    if html is not None:
        _write(html, comparing.report(found, say, language()))
    if as_json():
        print_json(comparing.as_data(found))
        return
    screen, columns = console(), comparing.columns(found, say)
    about = say("eval compared", items=found.shared, part=found.results[0].part, left=found.left_out)
    screen.print(plain(f"{found.results[0].benchmark} · {about}", "bold"))
    print_table(columns, comparing.rows(found, say), right=columns[1:])
    screen.print(plain(say("eval star"), "dim"))
    for name, gained, lost in comparing.verdicts(found):
        screen.print(plain(say("eval gained", name=name, gained=gained, lost=lost)))
    for each in found.changed[:changed]:
        _print_change(each, found.names())
    if len(found.changed) > changed:
        screen.print(plain(say("eval more changed", count=len(found.changed) - changed), "dim"))
    if html is not None:
        screen.print(plain(say("eval report", file=html), "dim"))


def _print_change(change: Change, names: Sequence[str]) -> None:
    from infra.evaluation.report import asked, said
    from runtime.timeline import short

    screen = console()
    screen.print(plain(f"{change.id}  ") + plain(short(asked(change.sides[0]), 100), "dim"))
    for name, side in zip(names, change.sides, strict=True):
        mark = plain("  ✓ ", "green") if side.right else plain("  ✗ ", "red")
        screen.print(mark + plain(f"{name}: {short(said(side, say), 160)}"))


def write_report(folder: Path, result: Result, html: Path) -> None:
    """Write a result's report. Raises MilepostError where it cannot be written."""
    from infra.evaluation.report import report
    from infra.evaluation.result import outcomes

    _write(html, report(result, outcomes(folder), say, language()))


def _tell_troubles(result: Result) -> None:
    if not result.troubled:
        return
    out = console()
    out.print(plain(say("eval troubled", count=sum(result.troubled.values())), "yellow"))
    for reason, count in list(result.troubled.items())[:SHOWN]:
        out.print(plain(f"  {count} × {reason}", "yellow"))


def _print_wrong(outcome: Outcome) -> None:
    from infra.evaluation.report import asked, gold, said
    from runtime.timeline import short

    out = console()
    out.print(plain(outcome.reason, "red") + plain(f"  {outcome.id}  ") + plain(short(asked(outcome), 100), "dim"))
    out.print(plain(f"  - {short(gold(outcome, say), 200)}"))
    out.print(plain(f"  + {short(said(outcome, say), 200)}"))


def _write(html: Path, text: str) -> None:
    try:
        html.write_text(text, encoding="utf-8")
    except OSError as error:
        why = error.strerror or str(error)
        raise MilepostError(f"{html} cannot be written.", why=why, hint="--html FILE in a folder that is there") from error
