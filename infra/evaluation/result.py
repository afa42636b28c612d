"""What an examination came to: one folder with result.json and items.jsonl, a line for each item, in order of their names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import Field, ValidationError

from infra.evaluation import LONGEST
from schemas.errors import MilepostError
from schemas.messages import Message, Wire
from schemas.tools import ToolCall, Value
from services.evaluation.item import Reply
from services.evaluation.totals import Rate

RESULT, ITEMS = "result.json", "items.jsonl"
RESULTS = "results"
Kind: TypeAlias = Literal["local", "endpoint", "agent"]


class BadResult(MilepostError):
    """A result is not there, or is none."""


class Who(Value):
    """Who was examined. name: as a person calls it; model: what spoke; hash: tells it from every other one."""

    kind: Kind
    name: str
    model: str
    hash: str
    precision: str = ""
    provider: str = ""


class How(Value):
    """In what manner items are put.

    constrained: only what parses can be written (a remote model cannot be constrained). calls: whether it may call a tool or
    must. found: where the tools stand, as AgentSpec.found_tools. longest: tokens of a reply. leaning: the embedder whose view
    of a request sets the margin between calling and answering, "" where nobody looks. own_tools: an agent works with its own
    tools, and the benchmark's are not shown to it. margins: the runtime's own between calling and answering; context: tokens
    of prompt and reply; both of a model here alone. variant: of services.evaluation.variants.
    """

    constrained: bool = True
    calls: Literal["auto", "required"] = "auto"
    wire: Wire = "model"
    found: Literal["system", "request"] = "system"
    longest: int = Field(default=LONGEST, ge=1, le=8192)
    temperature: float = Field(default=0.0, ge=0, le=2)
    seed: int = 0
    leaning: str = ""
    own_tools: bool = False
    margins: tuple[float, ...] = ()
    context: int = 0
    variant: str = ""

    @property
    def name(self) -> str:
        """In a word or two, for people and files: what differs from the usual."""
        said = [
            "" if self.constrained else "free", "always" if self.calls == "required" else "",
            "" if self.wire == "model" else self.wire,
            "" if self.found == "system" else "request", f"t{self.temperature:g}" if self.temperature else "",
            f"s{self.seed}" if self.seed else "", "leaning" if self.leaning else "", "own-tools" if self.own_tools else "",
            self.variant,
        ]  # fmt: skip
        return "-".join(filter(None, said)) or "plain"


class Spent(Value):
    """What it took. estimated: replies whose tokens were counted here. Milliseconds a reply; seconds: of the whole, here.

    money: by currency, as decimal text; of replies whose price is known.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    estimated: int = 0
    ms_p50: float = 0.0
    ms_p95: float = 0.0
    first_ms_p50: float = 0.0
    seconds: float = 0.0
    money: dict[str, str] = Field(default_factory=dict)


class Outcome(Value):
    """One item. key: tells the item from every other, whoever is asked; reason: why the reply is wrong, "" if it is right.

    measured: what it adds to each figure, above and below the line.
    """

    id: str
    group: str
    key: str
    reason: str
    messages: tuple[Message, ...]
    tools: tuple[str, ...]
    calls: tuple[ToolCall, ...] = ()
    text: str = ""
    measured: dict[str, tuple[float, float]] = Field(default_factory=dict)
    reply: Reply

    @property
    def right(self) -> bool:
        """Whether nothing was wrong."""
        return not self.reason


class Result(Value):
    """The figures of one examination. set: digest of the items that were asked; of: how many the part has.

    skipped: rows of the data that are no items; kept: replies that were there from before; troubled: items without a reply,
    by the reason; unreadable: replies that are neither an answer nor a call. cut: prompts that the context did not hold whole;
    unfinished: replies that ended at the bound of their tokens.
    """

    id: str
    who: Who
    benchmark: str
    title: str
    part: str
    how: How
    draw: int = 0
    items: int
    of: int
    set: str
    skipped: int = 0
    kept: int = 0
    right: Rate
    groups: dict[str, Rate]
    figures: dict[str, Rate] = Field(default_factory=dict)
    unreadable: Rate = Rate()
    troubled: dict[str, int] = Field(default_factory=dict)
    cut: int = 0
    unfinished: int = 0
    spent: Spent
    machine: str
    versions: dict[str, str]
    began: datetime


def write(folder: Path, result: Result, outcomes: Sequence[Outcome]) -> Path:
    """Write a result into its folder of the results; whole or not at all. Raises MilepostError where that cannot be done."""
    target = folder / RESULTS / result.id
    try:
        target.mkdir(parents=True, exist_ok=True)
        lines = "".join(each.model_dump_json() + "\n" for each in outcomes)
        (target / ITEMS).write_text(lines, encoding="utf-8")
        fresh = target / f".{RESULT}"
        fresh.write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
        fresh.replace(target / RESULT)
    except OSError as error:
        raise MilepostError(
            f"{target} cannot be written.", why=error.strerror or str(error), hint="--out FOLDER that can be written"
        ) from error
    return target


def read(folder: Path) -> Result:
    """The result in a folder. Raises BadResult."""
    path = folder / RESULT if folder.is_dir() else folder
    try:
        return Result.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadResult(f"{path} cannot be read.", why=error.strerror or str(error), hint="milepost eval ls") from error
    except ValidationError as error:
        fault = error.errors()[0]
        why = f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
        raise BadResult(f"{path} is no result of an evaluation.", why=why, hint="milepost eval ls") from error


def outcomes(folder: Path) -> list[Outcome]:
    """The items of a result, in order. Raises BadResult."""
    path = (folder if folder.is_dir() else folder.parent) / ITEMS
    try:
        return [Outcome.model_validate_json(line) for line in path.read_bytes().splitlines()]
    except (OSError, ValidationError) as error:
        why = str(error).partition("\n")[0]
        raise BadResult(f"{path} cannot be read.", why=why, hint="ask for the evaluation again") from error


def kept(out: Path) -> Iterator[tuple[Path, Result]]:
    """All results that are kept, newest first; folders that hold none are passed over."""
    found: list[tuple[Path, Result]] = []
    for path in (out / RESULTS).glob(f"*/{RESULT}"):
        try:
            found.append((path.parent, read(path.parent)))
        except BadResult:
            continue
    yield from sorted(found, key=lambda each: each[1].began, reverse=True)


def find(out: Path, name: str, *, benchmark: str = "", part: str = "") -> Path:
    """The folder of a result by its path, the beginning of its id, or who was examined (the newest). Raises BadResult."""
    if (Path(name) / RESULT).is_file():
        return Path(name)
    fitting = [
        (path, each) for path, each in kept(out)
        if benchmark in ("", each.benchmark) and part in ("", each.part)
    ]  # fmt: skip
    by_id = [path for path, each in fitting if each.id.startswith(name)]
    if len(by_id) > 1:
        raise BadResult(f"{len(by_id)} results begin with {name}.", why=_listed(path.name for path in by_id), hint="write more")
    found = by_id or [path for path, each in fitting if each.who.name == name]
    if not found:
        known = _listed(dict.fromkeys(each.who.name for _, each in fitting)) or "there is none"
        raise BadResult(f"There is no result {name}.", why=f"{out} has {known}", hint="milepost eval results")
    return found[0]


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
