"""A data set's folder as token files: what a model reads and is to say, in the form in which it will be served.

What gives no sequence (infra/training/teaching.py) is skipped, counted and named.
"""

from __future__ import annotations

import json
import os
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import TypeAlias

from infra.datasets.building import Tally
from infra.datasets.writing import file_sum
from infra.training.source import NOT_UTF8, Lines, NothingToLearn, read_line, reencode, source
from infra.training.teaching import Form, Teacher
from schemas.canonical import canonical, digest
from schemas.errors import MilepostError
from schemas.messages import Message
from schemas.tools import ToolCall, ToolCard
from services.datasets.example import Example, Row, Skipped
from services.datasets.splits import part_of
from services.training.token_file import TokenFile

__all__ = ["Encoded", "Form", "NothingToLearn", "Report", "encode_dataset"]

FORM = "1"  # raise it when token files or reports change; what a wire or the instructions write is in their key by itself
LINES = 64  # of a data file, given to a process at once
HELD_OUT = 0.02
REPORT = "report.json"

OnProgress: TypeAlias = Callable[[str, int, int], None]
"""Told of a part, how many of its lines are done, and how many there are."""


@dataclass
class Report:
    """What a part gave. skipped: what gave nothing; cut: conversations that lost their beginning; kinds: tokens of each.

    sequences: of them a conversation has several where one cannot be served so (services.llm.lesson); longest: in tokens.
    """

    examples: int = 0
    sequences: int = 0
    tokens: int = 0
    longest: int = 0
    cut: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    skipped: Tally = field(default_factory=Tally)

    def told(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "examples": self.examples, "sequences": self.sequences, "tokens": self.tokens, "longest": self.longest,
            "cut": self.cut, "kinds": dict(self.kinds.most_common()), "skipped": self.skipped.told(),
        }  # fmt: skip


@dataclass(frozen=True)
class Encoded:
    """Token files of a data set. report: of "train" and "dev" what `Report.told` says; made: not found as they were."""

    train: Path
    dev: Path
    report: Mapping[str, Mapping[str, object]]
    made: bool


def encode_dataset(
    data: Path, form: Form, home: Path, *, longest: int = 2048, cut: bool = False, processes: int = 0,
    on_progress: OnProgress | None = None,
) -> Encoded:  # fmt: skip
    """train.npz, dev.npz and report.json of a data set or a file, in a folder of `home` named by all they hang on, made once.

    A data set without a part dev or validation has HELD_OUT of its conversations held out, by their names. processes: 0 for one
    on each core. Raises NoDataset, ForEvaluation, NothingToLearn, FileUnreadable.
    """
    found = source(data)
    train, dev = found.train, found.dev
    out = home / _key(form, [each for each in (train, dev) if each], longest, cut)
    files = Encoded(out / "train.npz", out / "dev.npz", {}, made=False)
    if (out / REPORT).is_file():
        return replace(files, report=json.loads((out / REPORT).read_text(encoding="utf-8")))
    told: dict[str, Mapping[str, object]] = {}
    held: dict[Path, TokenFile] = {}
    for part, target, lines in (("train", files.train, train), ("dev", files.dev, dev or train)):
        worker = _Worker(form, longest, cut, lines.path.name, lines.form, None if dev else part)
        tell = _teller(on_progress, part)
        held[target], report = _encoded(lines, worker, processes or len(os.sched_getaffinity(0)), tell)
        if not report.sequences and part == "train":
            raise _nothing(lines.path, report)
        told[part] = report.told()
    _write(out, held, told)
    return replace(files, report=told, made=True)


def _nothing(path: Path, report: Report) -> NothingToLearn:
    reasons = report.skipped.counts.most_common(3)
    hint = "milepost dataset show prints them; --length allows longer ones"
    if reasons and reasons[0][0] == NOT_UTF8:
        hint = reencode(path)
    why = "; ".join(f"{why}: {count}" for why, count in reasons) or "it has no rows"
    return NothingToLearn(f"No conversation of {path} can be learnt from.", why=why, hint=hint)


def _write(out: Path, held: Mapping[Path, TokenFile], told: Mapping[str, object]) -> None:
    """The report comes last: without it a folder counts for nothing."""
    scratch = out / f"{REPORT}.part"
    try:
        out.mkdir(parents=True, exist_ok=True)
        for target, file in held.items():
            file.write(target)
        scratch.write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        scratch.replace(out / REPORT)
    except OSError as error:
        raise MilepostError(
            f"{out} cannot be written.", why=error.strerror or str(error), hint="`df -h` shows the room; --home names another"
        ) from error


@dataclass(frozen=True)
class _Worker:
    """Encodes lines, here or in a process of its own.

    lines: their format; half: of a part without a dev part beside it, which half of it.
    """

    form: Form
    longest: int
    cut: bool
    file: str
    lines: str
    half: str | None

    @cached_property
    def teacher(self) -> Teacher:
        """Made where it is used, as a tokenizer does not travel between processes."""
        return Teacher(self.form, self.form.vocabulary(), self.longest, self.cut)

    def work(self, lines: Sequence[tuple[int, bytes]]) -> list[tuple[int, _Result]]:
        """Numbered lines, each as what became of it."""
        return [(number, self._one(number, line)) for number, line in lines]

    def _one(self, number: int, line: bytes) -> _Result:
        read = read_line(f"{self.file}:{number + 1}", line, self.lines)
        if self.half and part_of(_name(read), {"train": 1 - HELD_OUT, "dev": HELD_OUT}) != self.half:
            return None
        taught = read if isinstance(read, Skipped) else self.teacher.teach(read)
        if isinstance(taught, Skipped):
            return taught
        return _Held([(array("i", each.tokens), array("B", each.kinds)) for each in taught.lessons], taught.cut)


@dataclass(frozen=True)
class _Held:
    """Sequences of tokens and kinds, as they come back from a process."""

    sequences: list[tuple[array[int], array[int]]]
    cut: bool


_Result: TypeAlias = _Held | Skipped | None
"""None: the line belongs to the other half."""


def _name(read: Row) -> str:
    return read.row if isinstance(read, Skipped) else read.id


def _encoded(source: Lines, worker: _Worker, processes: int, tell: Callable[[int, int], None]) -> tuple[TokenFile, Report]:
    from services.llm.lesson import KINDS

    report, done = Report(), 0
    held: list[tuple[int, Sequence[int], Sequence[int]]] = []
    lines = source.read()
    for results in _spread(worker, [lines[at : at + LINES] for at in range(0, len(lines), LINES)], processes):
        for number, result in results:
            if isinstance(result, Skipped):
                report.skipped.add(result)
            elif result:
                report.examples += 1
                report.cut += result.cut
                held += ((number, tokens, kinds) for tokens, kinds in result.sequences)
        done += len(results)
        tell(done, len(lines))
    file = TokenFile.of(held, KINDS)
    report.sequences, report.tokens, report.longest = len(file), len(file.tokens), int(file.lengths.max(initial=0))
    report.kinds = Counter({name: int((file.kinds == kind).sum()) for kind, name in enumerate(file.names)})
    return file, report


def _spread(
    worker: _Worker, batches: Sequence[Sequence[tuple[int, bytes]]], processes: int
) -> Iterator[list[tuple[int, _Result]]]:  # fmt: skip
    """What becomes of each batch, in order; more than a few are never under way."""
    if processes == 1 or len(batches) == 1:
        yield from map(worker.work, batches)
        return
    waiting: deque[Future[list[tuple[int, _Result]]]] = deque()
    with ProcessPoolExecutor(
        min(processes, len(batches)), mp_context=get_context("spawn"), initializer=_begin, initargs=(worker,)
    ) as pool:
        for batch in batches:
            waiting.append(pool.submit(_work, batch))
            if len(waiting) > 4 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_worker: list[_Worker] = []
"""That of this process."""


def _begin(worker: _Worker) -> None:
    _worker[:] = [worker]


def _work(lines: Sequence[tuple[int, bytes]]) -> list[tuple[int, _Result]]:
    return _worker[0].work(lines)


def _key(form: Form, files: Iterable[Lines], longest: int, cut: bool) -> str:
    """A name for all that token files hang on: what of the code they do is told by how it encodes a conversation of its own."""
    chat = canonical(form.chat.model_dump(mode="json")).decode()
    sums = [file_sum(form.tokenizer), *(f"{each.form} {file_sum(each.path)}" for each in files)]
    return digest("token files", FORM, form.wire, chat, f"{longest} {cut}", *sums, _written(form))[:16]


def _written(form: Form) -> str:
    """How the code of this version encodes a conversation with all that there is in one."""
    taught = Teacher(form, form.vocabulary(), longest=1 << 30).teach(PROBE)
    return taught.why if isinstance(taught, Skipped) else repr([(each.tokens, each.kinds) for each in taught.lessons])


def _teller(on_progress: OnProgress | None, part: str) -> Callable[[int, int], None]:
    return (lambda done, total: on_progress(part, done, total)) if on_progress else (lambda *_: None)


_CARD = ToolCard(
    name="look_up", description="Look up.", parameters={"properties": {"b": {"type": "string"}, "a": {}}, "required": ["b"]}
)
_CALL = ToolCall(id="c1", name=_CARD.name, arguments={"a": [1, {"c": None}], "b": '"é"\n中🙂'})
PROBE = Example(
    id="probe", runs=(), system="", tools=(_CARD,),
    messages=(
        Message(role="user", content="看 a1b2c and a1b2d"), Message(role="assistant", content="", calls=(_CALL,)),
        Message(role="tool", name=_CARD.name, content="{}\n"), Message(role="assistant", content="It is\n- so."),
        Message(role="user", content="Thanks"), Message(role="assistant", content="Gern."),
    ),
)  # fmt: skip
"""A conversation with all that makes wires differ."""
