"""Training: a data set and a model in, an adapter with its report and card out; here, or on a machine that has a GPU."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from infra.cli.evaluating import WireName
from infra.cli.options import Home, Json, settings_from
from infra.cli.show import as_json, console, plain, print_json, print_table, use_json
from infra.cli.words import language, say
from schemas.errors import MilepostError, Mistyped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.models.adapters import Trained
    from infra.settings import Settings
    from infra.training.base import Base
    from infra.training.encoding import Encoded
    from infra.training.planning import Asked
    from schemas.canonical import JsonObject
    from schemas.messages import Wire as WireForm
    from services.training.plan import Plan

INTERRUPTED = 130
NAMED = 3  # rows that were skipped for a reason, told on the terminal; run.json names more
AGAIN_S = 1.0  # an interrupt that comes sooner is the same one, sent on by a program that stands between


class Method(StrEnum):
    """What of a model learns."""

    lora = "lora"
    qlora = "qlora"
    full = "full"


class Floats(StrEnum):
    """What is computed in."""

    auto = "auto"
    bf16 = "bf16"
    fp32 = "fp32"


Dataset = Annotated[
    Path | None,
    typer.Argument(help="A folder of `dataset build` or `dataset mix`, or a file of JSON lines.", show_default=False),
]
Model = Annotated[str, typer.Option("--model", help="A model of `models ls`, the settings' own without.", show_default=False)]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="The folder of the run.", show_default=False)]
Rate = Annotated[float | None, typer.Option("--lr", help="Learning rate; 2e-4, or 2e-5 for --method full.", show_default=False)]
Epochs = Annotated[float | None, typer.Option(help="Times over the data: 1 without --steps or --minutes.", show_default=False)]
Steps = Annotated[int | None, typer.Option(help="Updates at most.", show_default=False)]
Minutes = Annotated[float | None, typer.Option(help="Ends after so long.", show_default=False)]
Weights = Annotated[str, typer.Option(help="Loss weights by kind of token: call=2,answer=1.", show_default=False)]
Wire = Annotated[WireName, typer.Option(help="How tools are shown and called; model: as it is used to.")]
Every = Annotated[int, typer.Option(help="Updates between two measurements on the dev data, and two checkpoints.")]
Cut = Annotated[bool, typer.Option("--cut", help="Conversations that are too long lose turns at their beginning.")]
Show = Annotated[int, typer.Option(help="Print so many conversations as the model will read them, each token by its weight.")]
BaseAt = Annotated[
    str, typer.Option(help="With --plan-only: where the model lies there; else it is taken along.", show_default=False)
]
Python = Annotated[
    Path | None,
    typer.Option("--python", envvar="MILEPOST_TRAINING_PYTHON", help="One that has torch and peft.", show_default=False),
]
Collect = Annotated[Path | None, typer.Option(help="A run that was trained elsewhere, brought back.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command()(train)


def train(
    dataset: Dataset = None, model: Model = "", out: Out = None, method: Method = Method.lora,
    rank: Annotated[int, typer.Option(help="Of a LoRA adapter.")] = 16,
    lr: Rate = None,
    length: Annotated[int, typer.Option(help="Tokens of a row; longer conversations are left out.")] = 2048,
    batch: Annotated[int, typer.Option(help="Rows at once on a device.")] = 1,
    accumulate: Annotated[int, typer.Option(help="Batches of an update.")] = 8,
    epochs: Epochs = None, steps: Steps = None, minutes: Minutes = None,
    seed: Annotated[int, typer.Option(help="The same seed, data and machine give the same weights.")] = 0,
    weights: Weights = "", wire: Wire = WireName.model,
    precision: Annotated[Floats, typer.Option(help="auto: bf16 on GPUs that have it, fp32 on CPUs.")] = Floats.auto,
    checkpointing: Annotated[bool, typer.Option("--checkpointing", help="Less memory for more time.")] = False,
    every: Every = 50,
    patience: Annotated[int, typer.Option(help="Ends after so many measurements without a better one; 0: never.")] = 0,
    threads: Annotated[int, typer.Option(help="Of the CPU; 0: as torch finds.")] = 0,
    cut: Cut = False, show: Show = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be trained.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    plan_only: Annotated[bool, typer.Option("--plan-only", help="Write all that a machine with torch needs.")] = False,
    base_at: BaseAt = "", collect: Collect = None, python: Python = None, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Train a model on a data set: weighted loss, packed rows, LoRA or all weights; it stops cleanly and resumes exactly."""
    from infra.training.planning import Asked

    use_json(json)
    settings = settings_from(home).settings
    if collect is not None:
        _tell_done(collect, _finished(collect))
        return
    if resume:
        folder = _given(out, "--resume goes on with a run", "--out FOLDER --resume")
        _resume(folder, minutes, python, settings)
        return
    data = _given(
        dataset, "There is nothing to train on", "milepost train DATASET --out FOLDER; milepost dataset mix makes one"
    )
    asked = Asked(
        method=method.value, rank=rank, rate=lr, length=length, batch=batch, accumulate=accumulate, epochs=epochs, steps=steps,
        minutes=minutes, seed=seed, weights=weights, precision=precision.value, checkpointing=checkpointing, every=every,
        patience=patience, threads=threads,
    )  # fmt: skip
    run = _Run(settings, data, model or settings.model.name, asked, wire, cut)
    if dry_run or show:
        run.look(show)
        return
    folder = _given(out, "The run needs a folder", "--out runs/NAME")
    run.write(folder, carried=plan_only, base_at=base_at)
    if plan_only:
        _tell_planned(folder, base_at)
        return
    _trained(folder, python, settings)


def _given(path: Path | None, what: str, hint: str) -> Path:
    if path is None:
        raise Mistyped(f"{what}.", hint=hint)
    return path


class _Run:
    """A training that is asked for, checked and encoded."""

    def __init__(self, settings: Settings, data: Path, model: str, asked: Asked, wire: WireName, cut: bool) -> None:
        from infra.training.base import base
        from infra.training.planning import plan_of
        from infra.training.source import check_source

        check_source(data)
        plan_of(asked, base="", dev=False)  # what makes no sense is refused before anything is fetched
        self.settings, self.data, self.asked, self.cut = settings, data, asked, cut
        _fetch(settings, model)
        self.home = settings.model.home
        self.base: Base = base(model, self.home)
        self.wire: WireForm = cast("WireForm", _wire(model, self.home) if wire == WireName.model else wire.value)
        self.encoded = self._encode()

    def _encode(self) -> Encoded:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        from infra.training.base import folder_of
        from infra.training.encoding import Form, encode_dataset

        out = console(stderr=True)
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=out, disable=as_json() or not out.is_terminal, transient=True) as bars:
            task = bars.add_task(say("train exporting", model=self.base.name), total=None)
            self.folder = folder_of(self.base, self.home)
            form = Form(self.folder / "tokenizer.json", self.base.chat, self.wire)
            return encode_dataset(
                self.data, form, self.settings.home / "tokens", longest=self.asked.length, cut=self.cut,
                on_progress=lambda part, done, total: bars.update(
                    task, description=say("train encoding", part=part), completed=done, total=total
                ),
            )  # fmt: skip

    @property
    def dev(self) -> Path | None:
        """The dev data, None where there is none to speak of."""
        return self.encoded.dev if _count(self.encoded.report.get("dev", {}), "sequences") else None

    def plan(self, base: str) -> Plan:
        """What the trainer is asked."""
        from infra.training.planning import plan_of

        return plan_of(self.asked, base=base, dev=self.dev is not None)

    def look(self, show: int) -> None:
        """Say what would be trained; nothing is written."""
        from dataclasses import asdict

        from infra.cli.train_tokens import print_lessons

        plan = self.plan(str(self.folder))
        if as_json():
            print_json({"model": self.base.name, "wire": self.wire, "plan": asdict(plan), "parts": self.encoded.report})
            return
        if show:
            print_lessons(self.encoded.train, self.folder / "tokenizer.json", plan.weights, show)
            return
        _tell_data(self.base, self.encoded, self.asked.length)
        print_table(("", ""), [(plain(name, "dim"), str(value)) for name, value in asdict(plan).items()])
        console().print(plain(say("train dry")))

    def write(self, folder: Path, *, carried: bool, base_at: str) -> None:
        """Prepare the run's folder."""
        from infra.training.run_folder import BASE, Notes, about_data, prepare

        told = cast("JsonObject", self.encoded.report)
        notes = Notes.of(folder.resolve().name, self.base, self.wire, [about_data(self.data)], told)
        plan = self.plan((base_at or BASE) if carried else str(self.folder.resolve()))
        prepare(folder, plan, notes, (self.encoded.train, self.dev), self.folder if carried and not base_at else None)
        if not as_json():
            _tell_data(self.base, self.encoded, self.asked.length)


def _fetch(settings: Settings, model: str) -> None:
    """Bring the model's files, as `models pull` does."""
    import asyncio

    from infra.cli.models import fetching
    from infra.models.fetch import ensure
    from infra.models.remote import remotes

    if model in remotes(settings.model.home):
        raise MilepostError(f"{model} cannot be trained here.", why="it is a remote model", hint="milepost models ls")
    with fetching(model) as tell:
        asyncio.run(ensure(
            model, home=settings.model.home, offline=settings.model.offline, folder=settings.model.folder, on_progress=tell
        ))  # fmt: skip


def _wire(model: str, home: Path) -> str:
    from infra.models.catalogue import find

    return find(model, home).wire


# --- running --------------------------------------------------------------------------------------


def _resume(folder: Path, minutes: float | None, python: Path | None, settings: Settings) -> None:
    from dataclasses import replace

    from infra.training.run_folder import PLAN, read_notes, write_code

    plan, _ = read_notes(folder)
    if minutes is not None:
        replace(plan, seconds=60 * minutes).write(folder / PLAN)
    write_code(folder)
    _trained(folder, python, settings)


def _trained(folder: Path, python: Path | None, settings: Settings) -> None:
    from infra.training.environment import look, python_for

    out = console(stderr=True)
    quiet = as_json()
    found = python_for(python, settings.model.home, on_line=lambda line: None if quiet else out.print(plain(line, "dim")))
    _, devices = look(found)
    if _run(found, folder, devices) == "stopped":
        raise typer.Exit(INTERRUPTED)
    _tell_done(folder, _finished(folder))


def _run(python: Path, folder: Path, devices: int) -> str:
    """Begin the trainer and follow it to its end: done or stopped. Raises TrainingRefused, TrainerDied."""
    from infra.cli.train_watch import watching
    from infra.training.running import Training

    last: JsonObject | None = None
    with Training(python, folder, devices) as training, watching() as watch:
        while True:
            try:
                for event in training.events():
                    last = event
                    watch.see(event)
                break
            except KeyboardInterrupt:
                if training.stopping_for > AGAIN_S:
                    raise
                if not training.stopping_for:
                    watch.line(say("train stopping"))
                    training.stop()
        ended, step = training.ended(last), watch.step
    if ended == "stopped":
        if as_json():
            print_json({"folder": str(folder), "stopped": True, "step": step})
        else:
            console().print(plain(say("train stopped", step=step, folder=folder)), soft_wrap=True)
    return ended


def _finished(folder: Path) -> Trained:
    from infra.training.report import write
    from infra.training.run_folder import finish

    card = finish(folder)
    write(folder, say, language())
    return card


# --- telling --------------------------------------------------------------------------------------


def _tell_data(base: Base, encoded: Encoded, length: int) -> None:
    out = console(stderr=True)
    if base.dequantised:
        out.print(plain(say("train dequantised", model=base.name, weights=base.weights), "dim"), soft_wrap=True)
    for part, told in encoded.report.items():
        skipped = told.get("skipped")
        reasons = skipped if isinstance(skipped, dict) else {}
        counts = {why: _count(each, "count") for why, each in reasons.items() if isinstance(each, dict)}
        said = say(
            "train part", examples=told.get("examples"), sequences=told.get("sequences"), tokens=f"{_count(told, 'tokens'):,}",
            skipped=sum(counts.values()),
        )  # fmt: skip
        out.print(plain(f"{part}: {said}"), soft_wrap=True)
        for why, count in counts.items():
            rows = ", ".join(reasons[why].get("rows", ())[:NAMED])
            out.print(plain(say("train skipped", part=part, count=count, why=why, rows=rows), "dim"), soft_wrap=True)
        if gone := _count(told, "cut"):
            out.print(plain(say("train cut", part=part, count=gone, length=length), "dim"), soft_wrap=True)
    if not _count(encoded.report.get("dev", {}), "sequences"):
        out.print(plain(say("train no dev")), soft_wrap=True)


def _tell_planned(folder: Path, base_at: str) -> None:
    from infra.training.run_folder import TO_RUN

    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    if as_json():
        print_json({"folder": str(folder), "bytes": size, "command": TO_RUN, "base_at": base_at or None})
        return
    out = console()
    out.print(plain(say("train planned", folder=folder, size=size / 1e6)), soft_wrap=True)
    out.print(plain(f"  cd {folder.resolve().name} && {TO_RUN}", "bold"), soft_wrap=True)
    if base_at:
        out.print(plain(say("train base at", path=base_at)), soft_wrap=True)
    out.print(plain(say("train planned back", folder=folder)), soft_wrap=True)


def _tell_done(folder: Path, card: Trained) -> None:
    from infra.models.publishing import fits_in_repository
    from infra.training.report import outcomes
    from infra.training.run_folder import FINAL, REPORT, events, read_notes, result

    plan, notes = read_notes(folder)
    outcome = result(folder)
    if as_json():
        print_json({"folder": str(folder / FINAL), "report": str(folder / REPORT), "card": card.model_dump(mode="json")})
        return
    print_table(("", ""), [(plain(name, "dim"), value) for name, value in outcomes(plan, notes, events(folder), outcome, say)])
    reason = say(f"train reason {outcome['reason']}")
    out = console()
    out.print(plain(say("train done", name=card.name, reason=reason, folder=folder / FINAL), "green"), soft_wrap=True)
    if card.size:
        fits = "" if fits_in_repository(card) else say("train too large")
        out.print(plain(say("train adapter size", size=card.size / 2**20, fits=fits)), soft_wrap=True)
    out.print(plain(say("train report", path=folder / REPORT)), soft_wrap=True)
    console(stderr=True).print(plain(say("train next", folder=folder), "dim"), soft_wrap=True)


def _count(told: Mapping[str, object], name: str) -> int:
    value = told.get(name)
    return value if isinstance(value, int) else 0
