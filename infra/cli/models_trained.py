"""Models that were trained: an adapter merged with its base, and trained weights published as a model that agents can use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json, settings_from
from infra.cli.show import as_json, console, plain, print_json, print_table, use_json
from infra.cli.words import say
from schemas.errors import Mistyped

if TYPE_CHECKING:
    from rich.progress import Progress

    from infra.models.adapters import Trained
    from infra.models.publishing import Bound, Examine, Published, Scored, Source
    from infra.settings import Settings

OPEN = "none"
GATE = "bfcl"
POINTS = 2.0

Adapter = Annotated[Path, typer.Argument(help="A run of `milepost train`, or an adapter in peft's form.", show_default=False)]
Gate = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME, NAME=POINTS or NAME/FIGURE=POINTS, of `eval ls`; again for more; none: no gate.",
        show_default=f"{GATE}={POINTS:g}",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option("--data", envvar="MILEPOST_DATA", help="The folder that holds bfcl/ and others.", show_default=False),
]


def add_to(models: typer.Typer) -> None:
    """Add this file's commands."""
    models.command()(merge)
    models.command()(publish)


def about(card: Trained | None) -> list[tuple[str, str]]:
    """What `models show` tells of a model that was trained."""
    if card is None:
        return []
    data = ", ".join(f"{each.get('name')} ({each.get('license', 'unknown')})" for each in card.data)
    return [(say("models trained from"), f"{card.base}, SHA-256 {card.base_sha256[:12]}"), (say("models trained on"), data)]


def merge(
    adapter: Adapter,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.", show_default=False)],
    model: Annotated[str, typer.Option("--model", "--base", help="The base; its card tells it.", show_default=False)] = "",
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Write the model that an adapter makes of its base as a Hugging Face folder, without torch."""
    from infra.models.publishing import NotPublished, find_source
    from infra.training.base import base
    from infra.training.merging import merge as merged

    use_json(json)
    where = settings_from(home).settings.model.home
    if precision not in ("fp32", "bf16"):
        raise Mistyped(f"{precision!r} is no way to write weights.", hint="--precision fp32|bf16")
    source = find_source(adapter, model or None, where)
    if source.whole:
        raise NotPublished(
            f"{adapter} is a whole model: there is nothing to merge.", hint=f"milepost models publish {adapter} --as NAME"
        )
    with _bars() as bars:
        task = bars.add_task(say("models stage merge", name=adapter.name, base=source.card.base), total=None)
        merged(
            source.folder, base(source.card.base, where), out, kind="bf16" if precision == "bf16" else "fp32",
            on_tensor=lambda done, total: bars.update(task, completed=done, total=total),
        )  # fmt: skip
    size = sum(path.stat().st_size for path in out.iterdir())
    if as_json():
        print_json({"adapter": str(source.folder), "base": source.card.base, "out": str(out), "size": size})
        return
    console().print(
        plain(say("models merged", adapter=adapter, base=source.card.base, out=out, size=size / 1e6)), soft_wrap=True
    )
    console(stderr=True).print(plain(say("models merge next", out=out), "dim"), soft_wrap=True)


def publish(
    source: Adapter,
    name: Annotated[str, typer.Option("--as", help="What to call the model.", show_default=False)],
    base: Annotated[str, typer.Option(help="What it was trained upon; its card tells it.", show_default=False)] = "",
    precision: Annotated[str, typer.Option(help="int8, int4, fp32 ...; others can be built later.")] = "int8",
    gate: Gate = None, data: Data = None,
    limit: Annotated[int, typer.Option(min=1, help="Items of each benchmark of the gate.")] = 100,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Make a model of trained weights: merged, built, and kept unless it does worse than its base at the gate's benchmarks."""
    import asyncio

    from infra.models.publishing import find_source
    from infra.models.publishing import publish as published

    use_json(json)
    settings = settings_from(home).settings
    wanted = gate or [f"{GATE}={POINTS:g}"]
    bounds = [] if wanted == [OPEN] else [bound_of(each) for each in wanted]
    found = find_source(source, base or None, settings.model.home)
    with _bars() as bars:
        task = bars.add_task("", total=None)
        examine = examiner(settings, data, limit, precision) if bounds else None
        if examine is not None:
            _check(bounds, data)
        made = asyncio.run(published(
            found, name, home=settings.model.home, precision=precision, examine=examine, bounds=bounds,
            on_stage=lambda stage: bars.update(task, description=say(f"models stage {stage}", name=name, base=found.card.base)),
        ))  # fmt: skip
    _tell(made, found)


def bound_of(text: str) -> Bound:
    """A bound from NAME[/FIGURE][=POINTS]. Raises Mistyped."""
    from infra.models.publishing import Bound

    what, _, points = text.partition("=")
    name, _, figure = what.partition("/")
    try:
        allowed = float(points) if points else POINTS
    except ValueError:
        allowed = -1.0
    if not name or name == OPEN or not 0 <= allowed <= 100:
        raise Mistyped(
            f"{text!r} is no gate.", hint=f"--gate {GATE}={POINTS:g}, --gate {GATE}/argument_f1=3, or --gate none alone"
        )
    return Bound(name, figure or "right", allowed)


def _check(bounds: list[Bound], data: Path | None) -> None:
    """What cannot be asked is refused before anything is merged. Raises NoSuchPart, NoData, SetMissing."""
    from infra.evaluation.wiring import Wanted, questions_of

    for benchmark in {bound.benchmark for bound in bounds}:
        questions_of(benchmark, Wanted(data=data, limit=1))


def examiner(settings: Settings, data: Path | None, limit: int, precision: str) -> Examine:
    """Examines models by their names as `milepost eval` does, in the precision in which the candidate is built."""

    async def examine(model: str, benchmark: str) -> Mapping[str, float]:
        from infra.evaluation.wiring import Subject, Wanted, evaluate
        from infra.models.build import build
        from infra.models.fetch import ensure

        await ensure(model, home=settings.model.home, offline=settings.model.offline, folder=settings.model.folder)
        await build(model, settings.model.home, precision)
        subject = Subject(model=model, precision=precision)
        _, result = await evaluate(subject, benchmark, Wanted(data=data, limit=limit), settings)
        figures = {"right": result.right, **result.figures}
        return {name: 100 * rate.value for name, rate in figures.items() if rate.value is not None}

    return examine


def _bars() -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    out = console(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=out, disable=as_json() or not out.is_terminal, transient=True)


def _tell(made: Published, source: Source) -> None:
    card, name = made.card, made.card.name
    if as_json():
        print_json({
            "name": name, "sha256": card.file.sha256, "licence": card.licence, "precision": card.precision,
            "base": source.card.base, "gate": [each.told() for each in made.scores],
        })  # fmt: skip
        return
    out = console()
    if made.scores:
        print_scores(made.scores)
    out.print(
        plain(
            say("models published", name=name, base=source.card.base, precision=card.precision, licence=card.licence), "green"
        ),
        soft_wrap=True,
    )
    if not made.scores:
        out.print(plain(say("models gate open"), "yellow"))
    hints = console(stderr=True)
    for key in ("models shadow", "models serve"):
        hints.print(plain(say(key, name=name), "dim"), soft_wrap=True)


def print_scores(scores: tuple[Scored, ...]) -> None:
    """How a candidate did beside its base."""
    numbers = [say(f"models gate {key}") for key in ("base", "candidate", "allowed")]
    rows = [
        (
            f"{each.bound.benchmark}/{each.bound.metric}", f"{each.base:.1f}", f"{each.candidate:.1f}",
            f"{each.bound.points:g}",
            plain(say("models gate holds"), "green") if each.holds else plain(say("models gate fails"), "red"),
        )
        for each in scores
    ]  # fmt: skip
    print_table((say("models gate metric"), *numbers, ""), rows, right=numbers)
