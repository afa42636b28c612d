"""An examination from its parts: who is asked, in what manner, which items, and the result that is kept.

`evaluate` is all of it; what a command line, a gate or a test says goes in as a Subject and a Wanted.
"""

from __future__ import annotations

import asyncio
import difflib
import os
import platform
import re
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from infra.evaluation.cache import Replies
from infra.evaluation.identity import MARGINS, agent_hash, local_hash
from infra.evaluation.result import How, Outcome, Result, Spent, Who, write
from infra.evaluation.running import LIMIT_S, Examination, Tell, drawn, item_key, outcome_of, silent
from infra.evaluation.speakers import AgentSpeaker, Leans, ModelSpeaker, Price, Speaker
from schemas.canonical import digest
from schemas.errors import MilepostError
from services.datasets.example import Skipped
from services.evaluation.benchmark import Benchmark, unreadable
from services.evaluation.benchmarks import NAMES, benchmark
from services.evaluation.item import Item, Reply
from services.evaluation.totals import wilson
from services.evaluation.variants import varied

if TYPE_CHECKING:
    from infra.models.catalogue import ModelCard
    from infra.settings import Settings
    from schemas.agent import AgentSpec

OUT = Path(".milepost-eval")
DEFAULT = "default"
EMBEDDER = "multilingual-e5-small"
AT_ONCE = {"local": 6, "endpoint": 8, "agent": 4}
REMOTE_RETRIES = 4
_NOWHERE = Path(".no-data")


class NotBuilt(MilepostError):
    """A model is to be examined that is not on this disk in this precision."""


class NoSuchPart(MilepostError):
    """A benchmark or a part of one is asked for that there is none of."""


class NoData(MilepostError):
    """Nobody says where the data sets are."""

    def __init__(self, bench: Benchmark, hint: str) -> None:
        super().__init__(
            f"Nobody says where the data of {bench.name} are.", why=f"they are not part of Milepost; {hint}",
            hint="--data FOLDER or MILEPOST_DATA=FOLDER: the folder that holds bfcl/, hammerbench/ ...",
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is to be examined: exactly one of the first four, or the default model.

    model: `default`, a name of `milepost models ls`, or a remote one's; folder: one that `models build` wrote; endpoint: an
    OpenAI-compatible base URL, with `name` the model there and key_env the variable with its key; agent: one of the running
    stack. label: what to call it. precision: of a local model; leaning: whether retrieval's embedder sets the margin.
    """

    model: str = ""
    folder: Path | None = None
    endpoint: str = ""
    agent: AgentSpec | None = None
    name: str = ""
    key_env: str = ""
    label: str = ""
    precision: str = "auto"
    leaning: bool = True
    price: Price | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which items are asked, and how. data: the folder that holds bfcl/, hammerbench/ and the others, if any is needed.

    limit: so many items; each: so many of each group; draw: the number of the draw. at_once: items side by side; limit_s:
    seconds that one may take. threads, context: of a local model, in place of the settings'. fresh: ask again what is known.
    """

    data: Path | None
    part: str = ""
    limit: int | None = None
    each: int | None = None
    draw: int = 0
    how: How = field(default_factory=How)
    at_once: int | None = None
    limit_s: float = LIMIT_S
    threads: int | None = None
    context: int | None = None
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Questions:
    """The items that are asked. of: how many the part has; skipped: rows of it that are none."""

    benchmark: Benchmark
    part: str
    items: Sequence[Item]
    of: int
    skipped: int = 0


async def evaluate(
    subject: Subject, name: str, wanted: Wanted, settings: Settings, *, out: Path = OUT, tell: Tell = silent
) -> tuple[Path, Result]:
    """Examine somebody with a benchmark (`bfcl`, or a part of one as `bfcl:live`); the result's folder, and the result.

    What was answered before is not asked again. Raises NoSuchPart, SetMissing, NotBuilt, TooTroubled, and what goes wrong
    with the one who is asked.
    """
    questions = questions_of(name, wanted)
    async with speaking(subject, wanted, settings) as (speaker, how):
        return await examine(questions, speaker, how, wanted, out=out, tell=tell)


async def examine(
    questions: Questions, speaker: Speaker, how: How, wanted: Wanted, *, out: Path = OUT, tell: Tell = silent
) -> tuple[Path, Result]:
    """Ask these items of a speaker that is there already, and keep the result. Raises TooTroubled, RepliesBusy."""
    began, clock = datetime.now(UTC), time.perf_counter()
    bench = questions.benchmark
    path = out / "replies" / f"{_file_name(speaker.who)}-{bench.name}-{questions.part}-{how.name}.jsonl"
    with Replies(path, fresh=wanted.fresh) as replies:
        at_once = wanted.at_once or AT_ONCE[speaker.who.kind]
        asking = Examination(bench, speaker, how, replies, at_once, wanted.limit_s, tell)
        answered = await asking.ask(questions.items)
    seconds = time.perf_counter() - clock
    outcomes = sorted((outcome_of(bench, item, reply) for item, reply in answered), key=lambda each: each.id)
    result = _result(questions, speaker.who, how, answered, outcomes, began)
    result = result.model_copy(update={
        "draw": wanted.draw, "kept": asking.kept,
        "spent": result.spent.model_copy(update={"seconds": round(seconds, 2)}),
    })  # fmt: skip
    return write(out, result, outcomes), result


# --- what is asked ----------------------------------------------------------------------------------


def benchmark_named(name: str) -> Benchmark:
    """A benchmark by its name. Raises NoSuchPart, with the nearest name."""
    by_name = {each.name: each for each in known()}
    if name not in by_name:
        raise NoSuchPart(f"There is no benchmark {name!r}.", why=_nearest(name, list(by_name)), hint="milepost eval ls")
    return by_name[name]


def known() -> list[Benchmark]:
    """All benchmarks, in the order of their names' list."""
    return [benchmark(name) for name in NAMES]


def part_of(bench: Benchmark, part: str) -> str:
    """A part of a benchmark, the usual one for "". Raises NoSuchPart."""
    if part and part not in bench.parts:
        raise NoSuchPart(f"{bench.name} has no part {part!r}.", why=_nearest(part, bench.parts), hint="milepost eval ls")
    return part or bench.parts[0]


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


def questions_of(name: str, wanted: Wanted) -> Questions:
    """The items of a benchmark that are wanted. Raises NoSuchPart, NoData, SetMissing."""
    bench_name, _, part = name.partition(":")
    bench = varied(benchmark_named(bench_name), wanted.how.variant)
    part = part_of(bench, part or wanted.part)
    items: list[Item] = []
    skipped = 0
    try:
        for each in bench.items((wanted.data or _NOWHERE) / bench.data, part):
            if isinstance(each, Skipped):
                skipped += 1
            else:
                items.append(each)
    except MilepostError as error:
        if wanted.data is None:
            raise NoData(bench, error.hint) from error
        raise
    chosen = drawn(items, wanted.limit, each=wanted.each, draw=wanted.draw)
    if not chosen:
        why = f"{skipped} of its rows are no items" if skipped else "its files are empty"
        raise MilepostError(f"{bench.name} {part} has no items.", why=why, hint="milepost eval ls")
    return Questions(bench, part, chosen, len(items), skipped)


def all_there(data: Path | None) -> list[str]:
    """The names of the benchmarks whose set is there; one that is there and cannot be read is not passed over in silence."""
    return [each.name for each in known() if (data is not None and (data / each.data).is_dir()) or is_there(each, data)]


def is_there(bench: Benchmark, data: Path | None) -> bool:
    """Whether the items of a benchmark can be read: its set is there, or it needs none."""
    try:
        return bench.is_there((data or _NOWHERE) / bench.data)
    except MilepostError:
        return False


# --- who is asked -----------------------------------------------------------------------------------


@asynccontextmanager
async def speaking(subject: Subject, wanted: Wanted, settings: Settings) -> AsyncIterator[tuple[Speaker, How]]:
    """The one who is examined, ready to speak, and the manner as it will be: a remote model is not constrained, say.

    Raises NotBuilt, UnknownModel, NotRunning, MilepostError.
    """
    if subject.agent is not None:
        async with _agent(subject, subject.agent, wanted, settings) as found:
            yield found
        return
    far = _endpoint(subject, wanted, settings)
    speaker, how = far or await _local(subject, wanted, settings)
    try:
        yield speaker, how
    finally:
        await speaker.close()


@asynccontextmanager
async def _agent(subject: Subject, spec: AgentSpec, wanted: Wanted, settings: Settings) -> AsyncIterator[tuple[Speaker, How]]:
    from infra.session import session

    if not wanted.how.own_tools:  # nothing else shall be found beside the item's tools
        spec = spec.model_copy(update={"tools": (), "tool_k": 0})
    async with session(settings) as (client, _):
        model = settings.model.name if spec.model == DEFAULT else spec.model
        who = Who(kind="agent", name=subject.label or spec.name, model=model, hash=agent_hash(spec, model, settings))
        how = wanted.how.model_copy(update={"margins": MARGINS})
        yield AgentSpeaker(who, client, spec, wanted.how.own_tools, subject.price), how


def _endpoint(subject: Subject, wanted: Wanted, settings: Settings) -> tuple[Speaker, How] | None:
    """A model behind an endpoint, one that was named here or one of the catalogue; None for a local one."""
    from infra.models.remote import Remote, remotes
    from services.llm.openai_model import Endpoint, OpenAIModel

    if subject.endpoint:
        if not subject.name:
            raise MilepostError("The endpoint has many models.", why="none is named", hint="--name MODEL")
        if not re.match(r"^https?://[^/\s]+", subject.endpoint):
            raise MilepostError(f"{subject.endpoint} is no address.", hint="--endpoint http://host:8000/v1")
        remote = Remote(base_url=subject.endpoint, model=subject.name)
        name = subject.label or subject.name
        if subject.key_env and subject.key_env not in os.environ:
            raise MilepostError(
                f"The variable {subject.key_env} is not set.", why="it is to hold the endpoint's key",
                hint=f"export {subject.key_env}=...",
            )  # fmt: skip
        key = os.environ.get(subject.key_env, "") if subject.key_env else ""
    else:
        name = settings.model.name if subject.model in ("", DEFAULT) else subject.model
        found = None if subject.folder else remotes(settings.model.home).get(name)
        if found is None:
            return None
        remote, key = found, found.key(name)
        name = subject.label or name
    how = wanted.how.model_copy(update={"constrained": False})
    model = OpenAIModel(
        name, Endpoint(remote.base_url, remote.model, key, min(remote.timeout_s, wanted.limit_s), REMOTE_RETRIES)
    )
    who = Who(
        kind="endpoint", name=name, model=remote.model, hash=digest("remote", remote.base_url, remote.model),
        provider=remote.base_url,
    )  # fmt: skip
    return ModelSpeaker(who, model, how, price=subject.price), how


async def _local(subject: Subject, wanted: Wanted, settings: Settings) -> tuple[Speaker, How]:
    """A built model, loaded. Raises NotBuilt, UnknownModel, ModelBroken."""
    from services.llm.build import read_manifest
    from services.llm.onnx_model import OnnxModel

    folder, name = local_folder(subject, settings)
    manifest = read_manifest(folder)
    at_once = wanted.at_once or AT_ONCE["local"]
    leans, leaning = _leaning(settings) if subject.leaning and wanted.how.calls == "auto" else (None, "")
    context = min(wanted.context or settings.model.context, manifest.context)
    model = await asyncio.to_thread(
        OnnxModel.load, folder, slots=at_once, context=context,
        threads=wanted.threads or settings.model.threads, provider=settings.model.provider, max_waiting=at_once,
    )  # fmt: skip
    how = wanted.how.model_copy(update={"leaning": leaning, "margins": MARGINS, "context": context})
    who = Who(
        kind="local", name=name, model=manifest.name, hash=local_hash(manifest, model.vocabulary, model.provider, how.wire),
        precision=manifest.precision, provider=model.provider,
    )  # fmt: skip
    return ModelSpeaker(who, model, how, leans, subject.price, done=model.close), how


def local_folder(subject: Subject, settings: Settings) -> tuple[Path, str]:
    """Where the built model lies, and what it is called. Raises NotBuilt, UnknownModel."""
    from infra.models.build import built_folder, precision_for
    from infra.models.catalogue import find

    if subject.folder is not None:
        if not (subject.folder / "model.json").is_file():
            raise NotBuilt(
                f"{subject.folder} holds no built model.", why="there is no model.json in it", hint="milepost models build NAME"
            )
        return subject.folder, subject.label or subject.folder.name
    name = settings.model.name if subject.model in ("", DEFAULT) else subject.model
    card = find(name, settings.model.home)
    _check_text(card)
    wanted = settings.model.precision if subject.precision == "auto" else subject.precision
    precision = precision_for(card, wanted, settings.model.provider)
    folder = built_folder(card, settings.model.home, precision)
    if not folder.is_dir():
        raise NotBuilt(
            f"{name} is not built in {precision}.", why=f"there is no {folder}",
            hint=f"milepost models build {name} --precision {precision}",
        )  # fmt: skip
    return folder, subject.label or (name if precision == card.precision else f"{name}-{precision}")


def _check_text(card: ModelCard) -> None:
    if card.kind != "text":
        raise NotBuilt(f"{card.name} says nothing.", why="it is an embedding model", hint="milepost models ls")


def _leaning(settings: Settings) -> tuple[Leans | None, str]:
    """Retrieval's view of requests, where its embedder is built; nobody's otherwise."""
    from infra.models.build import built_folder
    from infra.models.catalogue import find

    card = find(EMBEDDER, settings.model.home)
    folder = built_folder(card, settings.model.home)
    if not folder.is_dir():
        return None, ""
    from services.retrieval.e5 import E5Embedder
    from services.retrieval.leaning import Leaning

    leaning = Leaning(E5Embedder(folder, threads=1))
    return leaning.of, f"{EMBEDDER} {folder.name}"


def _file_name(who: Who) -> str:
    """What was said is kept under this; what a person calls the model does not matter to it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", who.model)[:60] + f"-{who.hash[:8]}"


# --- what it came to --------------------------------------------------------------------------------


def _result(
    questions: Questions, who: Who, how: How, answered: Sequence[tuple[Item, Reply]], outcomes: Sequence[Outcome],
    began: datetime,
) -> Result:  # fmt: skip
    bench, part = questions.benchmark, questions.part
    groups: dict[str, list[bool]] = {}
    for each in outcomes:
        groups.setdefault(each.group, []).append(each.right)
    figures = bench.figures(answered)
    items = digest("items", *sorted(item_key(item) for item, _ in answered))
    told = f"{_file_name(who)}-{bench.name}-{part}-{how.name}"
    replies = [reply for _, reply in answered]
    return Result(
        id=f"{digest('result', told, items, began.isoformat())[:8]}-{told}", who=who, benchmark=bench.name, title=bench.title,
        part=part, how=how, items=len(answered), of=questions.of, set=items,
        skipped=questions.skipped,
        right=wilson(sum(each.right for each in outcomes), len(outcomes)),
        groups={name: wilson(sum(found), len(found)) for name, found in sorted(groups.items())},
        figures={name: rate for name, rate in figures.items() if name != "right"},
        unreadable=wilson(sum(not reply.trouble and bool(unreadable(reply)) for reply in replies), len(replies)),
        troubled=dict(Counter(reply.trouble for reply in replies if reply.trouble).most_common()),
        cut=sum(bool(reply.cut) for reply in replies), unfinished=sum(reply.unfinished for reply in replies),
        spent=_spent(replies), machine=_machine(), versions=_versions(), began=began,
    )  # fmt: skip


def _spent(replies: Sequence[Reply]) -> Spent:
    said = [reply for reply in replies if not reply.trouble]
    money: dict[str, Decimal] = {}
    for each in said:
        if each.cost is not None and each.currency is not None:
            money[each.currency] = money.get(each.currency, Decimal(0)) + Decimal(each.cost)
    took = [each.ms for each in said]
    return Spent(
        prompt_tokens=sum(each.prompt_tokens for each in said), cached_tokens=sum(each.cached_tokens for each in said),
        completion_tokens=sum(each.completion_tokens for each in said), estimated=sum(each.estimated for each in said),
        ms_p50=_percentile(took, 0.5), ms_p95=_percentile(took, 0.95),
        first_ms_p50=_percentile([each.first_ms for each in said], 0.5),
        money={currency: f"{amount:f}" for currency, amount in sorted(money.items())},
    )  # fmt: skip


def _percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies, between two of them where it falls there."""
    if len(values) < 2:
        return values[0] if values else 0.0
    return round(statistics.quantiles(values, n=100, method="inclusive")[round(share * 100) - 1], 1)


def _machine() -> str:
    """The processor and its cores, as far as this system tells."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    return f"{name}, {os.cpu_count()} cores, {platform.system()}"


def _versions(of: Iterable[str] = ("milepost", "onnxruntime", "openai")) -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for name in of:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
