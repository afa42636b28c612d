"""The four requests of the demo, asked of a running stack; what happens is told to a stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

import orjson

from infra.exports.reading import load_export
from infra.exports.writing import exported, save_export
from infra.wiring import World
from runtime.client import Client, Update, answer_of
from runtime.replay import Replayed, replay
from runtime.speech import Delta, hear_text
from runtime.state import Plan
from runtime.timeline import summary
from schemas import subjects
from schemas.agent import AgentSpec
from schemas.commands import RequestApproval
from schemas.events import KnowledgeRetrieved, Passage
from schemas.ids import CommandId, RunId
from schemas.tools import Preview

DOCUMENTS = Path(__file__).parent / "documents"
AGENT = AgentSpec(name="ops")
INSTANCE_EN = "i-bp1f8k2m9x4q7web01"
INSTANCE_ZH = "i-bp1c3n6v8z2w5api01"


@dataclass(frozen=True, slots=True)
class Scene:
    """One request, and what it is to show."""

    title: str
    task: str


SCENES = (
    Scene("A write: found among all tools, planned, approved, done once",
          f"Please help me renew ECS instance {INSTANCE_EN} for 3 months"),
    Scene("The same wish in Chinese, for another instance", f"请帮我把 ECS 实例 {INSTANCE_ZH} 续费 3 个月"),
    Scene("A question answered from documents", "How long are nightly snapshots of the web platform kept?"),
    Scene("A question that needs no tool", "What is the capital of France?"),
)  # fmt: skip


@dataclass(slots=True)
class Played:
    """What a scene came to. steps: (time, who, what happened, ms since the request)."""

    scene: Scene
    run: RunId
    answer: str = ""
    steps: list[tuple[datetime, str, str, str, float]] = field(default_factory=list)
    sources: tuple[Passage, ...] = ()
    approvals: list[Preview] = field(default_factory=list)
    seconds: float = 0.0


class Stage(Protocol):
    """Where the demo is shown."""

    def scene(self, number: int, scene: Scene) -> None: ...

    def step(self, who: str, event: str, line: str, ms: float) -> None: ...

    def text(self, piece: str, *, anew: bool) -> None: ...

    async def approve(self, asked: RequestApproval, preview: Preview) -> bool: ...

    def end(self, played: Played) -> None: ...


async def ingest(client: Client) -> int:
    """Add the demo's documents; only what is new is embedded. Returns how many there are."""
    paths = sorted(DOCUMENTS.glob("*.md"))
    for path in paths:
        text = path.read_text(encoding="utf-8")
        body = {"tenant": client.tenant, "source": path.name, "title": text.splitlines()[0].lstrip("# "), "text": text}
        await client.bus.ask(subjects.question("retrieval", "add_document"), orjson.dumps(body), 120.0)
    return len(paths)


async def play(client: Client, scene: Scene, stage: Stage) -> Played:
    """Ask one request and follow it to its end. Raises MilepostError when it ends without an answer."""
    asked = await client.ask(scene.task, agent=AGENT)
    played, spoken = Played(scene, asked.run), set[str]()

    def hear(delta: Delta) -> None:
        stage.text(delta.text, anew=f"{delta.command}/{delta.attempt}" not in spoken)
        spoken.add(f"{delta.command}/{delta.attempt}")

    update: Update | None = None
    answered: set[CommandId] = set()
    async with hear_text(client.bus, client.tenant, asked.run, hear):
        async for update in client.follow(asked.run):
            _note(update, played, stage)
            await _answer_approvals(client, update, played, stage, answered)
    if update is not None:
        played.answer = answer_of(update.state)
    stage.end(played)
    return played


def _note(update: Update, played: Played, stage: Stage) -> None:
    fact = update.stored.fact
    begun = update.state.requested_at or fact.time
    ms = (fact.time - begun).total_seconds() * 1000
    event, line = type(fact.body).__name__, summary(fact)
    played.steps.append((fact.time, fact.role, event, line, ms))
    played.seconds = ms / 1000
    if isinstance(fact.body, KnowledgeRetrieved):
        played.sources = fact.body.passages
    stage.step(fact.role, event, line, ms)


async def _answer_approvals(client: Client, update: Update, played: Played, stage: Stage, answered: set[CommandId]) -> None:
    for id, asked in update.state.approvals().items():
        if id in answered:
            continue
        answered.add(id)
        preview = _preview(asked, update.state.plan_of(asked))
        played.approvals.append(preview)
        if await stage.approve(asked, preview):
            await client.approve(played.run, id)
        else:
            await client.refuse(played.run, id)


def _preview(asked: RequestApproval, plan: Plan | None) -> Preview:
    return plan.planned.preview if plan else Preview(summary=asked.call.name)


async def play_all(client: Client, stage: Stage) -> list[Played]:
    """Every scene in order."""
    played = []
    for number, scene in enumerate(SCENES, start=1):
        stage.scene(number, scene)
        played.append(await play(client, scene, stage))
    return played


async def export(world: World, run: RunId, path: Path) -> None:
    """Write the run's log to a file that needs nothing but itself."""
    facts = await world.log.read_both(run)
    save_export(path, await exported(run, facts, world.keyring), facts[-1][0].fact.time, replace=True)


def replay_file(path: Path) -> Replayed:
    """Replay an exported run with nothing but its file."""
    found = load_export(path)
    return replay(found.run, found.facts)
