"""A training run as one HTML file: what was asked, what came of it, and its curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from infra.reports.page import escaped, page
from infra.training.curves import Curve, curves
from infra.training.run_folder import REPORT, RESULT, Notes, events, read_notes, result
from schemas.canonical import JsonObject
from services.training.plan import Plan

Say = Callable[..., str]
_COLOURS = {
    "name": "--accent",
    "parameters": "--added",
    "markup": "--quiet",
    "answer": "--changed",
    "end": "--ink",
    "url": "--removed",
}


def write(folder: Path, say: Say, language: str) -> Path:
    """report.html of a run's folder, as far as the run is. Raises BadRun."""
    plan, notes = read_notes(folder)
    told = result(folder) if (folder / RESULT).exists() else {}
    path = folder / REPORT
    path.write_text(report(plan, notes, events(folder), told, say, language), encoding="utf-8")
    return path


def report(plan: Plan, notes: Notes, told: Sequence[JsonObject], outcome: JsonObject, say: Say, language: str) -> str:
    """The whole document. told: the trainer's events; outcome: its result, empty while there is none."""
    title = say("train title", name=notes.name, model=notes.model)
    state = say(f"train reason {outcome['reason']}") if outcome.get("reason") else say("train unfinished")
    body = [
        f"<h1>{escaped(title)}</h1>",
        f'<p class="quiet">{escaped(notes.made)} · {escaped(plan.method)} · {escaped(state)}</p>',
        facts(outcomes(plan, notes, told, outcome, say)),
        _losses(told, say), _by_kind(told, say), _speed(told, say),
        f"<h2>{escaped(say('train data'))}</h2>", _data(notes, say),
        f"<h2>{escaped(say('train plan'))}</h2>", facts(_asked(plan)),
        f"<h2>{escaped(say('train versions'))}</h2>", facts(_pairs(outcome.get("versions"))),
    ]  # fmt: skip
    return page(title, "\n".join(filter(None, body)), "zh" if language == "zh" else "en")


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values under each other."""
    listed = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in rows)
    return f'<dl class="facts">{listed}</dl>'


def outcomes(plan: Plan, notes: Notes, told: Sequence[JsonObject], outcome: JsonObject, say: Say) -> list[tuple[str, str]]:
    """What came of a run so far, in words."""
    steps, seen = _of(told, "step"), _of(told, "evaluated")
    rows = [(say("train model"), f"{notes.model} ({notes.base_weights}) · SHA-256 {notes.base_sha256[:12]}")]
    begun = _of(told, "begun")
    if begun:
        learnt, whole = _real(begun[-1].get("trainable")), _real(begun[-1].get("parameters"))
        rows.append((say("train learns"), say("train of parameters", learnt=f"{learnt:,.0f}", whole=f"{whole:,.0f}")))
    if steps:
        tokens = say("train so many tokens", count=f"{_real(steps[-1].get('tokens')):,.0f}")
        rows.append((say("train steps"), f"{_real(steps[-1]['step']):,.0f} · {tokens}"))
        rows.append((say("train loss"), f"{_real(steps[0].get('loss')):.3f} → {_real(steps[-1].get('loss')):.3f}"))
    if seen:
        best = min(seen, key=lambda event: _real(event.get("loss")))
        said = say("train best at", loss=f"{_real(best.get('loss')):.4f}", step=best.get("step"))
        rows.append((say("train dev loss"), f"{_real(seen[0].get('loss')):.4f} → {said}"))
        right = (f"{say(f'train kind {kind}')} {share:.1%}" for kind, share in _numbers(best.get("accuracy")))
        rows.append((say("train dev right"), " · ".join(right)))
    if outcome:
        rows.append((say("train speed"), f"{_real(outcome.get('tokens_per_second')):,.0f} {say('train tokens a second')}"))
        rows.append((say("train time"), duration(_real(outcome.get("seconds")))))
        device = f"{outcome.get('device')} × {outcome.get('devices')}"
        rows.append((say("train memory"), f"{_real(outcome.get('memory_mib')):,.0f} MiB · {device}"))
    return rows


def duration(seconds: float) -> str:
    """Seconds as people say them: 45 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def _losses(told: Sequence[JsonObject], say: Say) -> str:
    trained = Curve(say("train loss"), _series(told, "step", "loss"), "--quiet", smooth=True)
    measured = Curve(say("train dev loss"), _series(told, "evaluated", "loss"), "--accent", points=True)
    return curves(say("train plot loss"), say("train steps"), [trained, measured])


def _by_kind(told: Sequence[JsonObject], say: Say) -> str:
    drawn = []
    for kind, colour in _COLOURS.items():
        values = [
            (_real(event["step"]), 100 * _real(share))
            for event in _of(told, "evaluated") for name, share in _numbers(event.get("accuracy")) if name == kind
        ]  # fmt: skip
        drawn.append(Curve(say(f"train kind {kind}"), values, colour, points=True))
    return curves(say("train plot right"), say("train steps"), drawn)


def _speed(told: Sequence[JsonObject], say: Say) -> str:
    speed = Curve(say("train tokens a second"), _series(told, "step", "tokens_per_second"), "--added", smooth=True)
    rate = Curve(say("train rate"), _series(told, "step", "learning_rate"), "--changed")
    return curves(say("train plot speed"), say("train steps"), [speed], from_zero=True) + curves(
        say("train plot rate"), say("train steps"), [rate], from_zero=True
    )


def _data(notes: Notes, say: Say) -> str:
    rows = []
    for each in notes.data:
        licence = each.get("license") or say("train licence unknown")
        rows.append((str(each.get("name")), f"SHA-256 {str(each.get('sha256'))[:12]} · {licence}"))
        for name, taken in _items(each.get("sources")):
            rows.append((name, " · ".join(value for _, value in _pairs(taken))))
    for part, said in notes.tokens.items():
        if isinstance(said, Mapping):
            skipped = sum(_real(cast("JsonObject", each).get("count")) for _, each in _items(said.get("skipped")))
            rows.append((part, say(
                "train part", examples=said.get("examples"), sequences=said.get("sequences"),
                tokens=f"{_real(said.get('tokens')):,.0f}", skipped=f"{skipped:.0f}",
            )))  # fmt: skip
    return facts(rows)


def _asked(plan: Plan) -> list[tuple[str, str]]:
    from dataclasses import asdict

    return [(name, str(value)) for name, value in asdict(plan).items() if name not in ("base", "train", "dev", "out")]


def _of(told: Sequence[JsonObject], kind: str) -> list[JsonObject]:
    return [event for event in told if event.get("event") == kind]


def _series(told: Sequence[JsonObject], kind: str, name: str) -> list[tuple[float, float]]:
    found = ((event.get("step"), event.get(name)) for event in _of(told, kind))
    return [(float(step), float(value)) for step, value in found if isinstance(step, int) and isinstance(value, int | float)]


def _items(value: object) -> list[tuple[str, object]]:
    return [(str(name), each) for name, each in value.items()] if isinstance(value, Mapping) else []


def _pairs(value: object) -> list[tuple[str, str]]:
    return [(name, str(each)) for name, each in _items(value)]


def _numbers(value: object) -> list[tuple[str, float]]:
    return [(name, _real(each)) for name, each in _items(value)]


def _real(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
