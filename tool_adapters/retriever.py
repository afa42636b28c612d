"""A function of one's own as a retriever: it answers RetrieveKnowledge on a lane of its own, beside Milepost's index."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeAlias

from pydantic import Field, ValidationError

from runtime.errors import Permanent, Retryable
from runtime.service import Context, Service
from schemas.canonical import digest
from schemas.commands import RetrieveKnowledge
from schemas.errors import MilepostError
from schemas.events import AnyEvent, KnowledgeRetrieved, Passage
from schemas.ids import checked_token
from schemas.tools import Value

LONGEST = 20_000


class InvalidRetriever(MilepostError):
    """The function cannot be a retriever."""


class InvalidPassages(Permanent):
    """The function gave something else than passages."""


class Found(Value):
    """A passage as a retriever of one's own gives it: the text, and what is known of its place for the citation.

    start, end: character offsets in the document. score: larger is better; without scores the order counts.
    similarity: cosine to the question, if there is one.
    """

    text: str = Field(min_length=1, max_length=LONGEST)
    title: str = ""
    source: str = ""
    heading: str = ""
    start: int = Field(default=0, ge=0)
    end: int | None = None
    page: int | None = None
    score: float | None = Field(default=None, allow_inf_nan=False)
    similarity: float | None = Field(default=None, allow_inf_nan=False)


Given: TypeAlias = Iterable[str | Mapping[str, object] | Found | Passage]
Find: TypeAlias = Callable[[str, int, dict[str, str]], Given | Awaitable[Given]]


def retriever(name: str, *, timeout_s: float = 10.0, at_once: int = 8) -> Callable[[Find], Service]:
    """A decorator: `find(text, k, filters)`, plain or async, becomes the service that agents name as their knowledge_host.

    It gives texts, mappings with the fields of `Found`, or Passages, best first; more than k are cut. What it raises is
    tried again, what it gives wrongly is not. Raises InvalidRetriever.
    """
    if checked_token(name, "name of a retriever") == "main":
        raise InvalidRetriever("A retriever cannot be called main.", why="that is Milepost's own", hint="give it another name")

    def made(find: Find) -> Service:
        _check(find)
        about = inspect.getdoc(find) or name
        service = Service("retrieval", about.splitlines()[0], lane=name, attempts=3, at_once=at_once)

        async def retrieve(command: RetrieveKnowledge, context: Context) -> AnyEvent:
            try:
                given = await asyncio.wait_for(_call(find, command, context), timeout_s)
            except TimeoutError as error:
                raise Retryable(f"The retriever {name} did not answer in {timeout_s:g} s.") from error
            return KnowledgeRetrieved(command=command, passages=passages(name, given)[: command.k])

        service.on(RetrieveKnowledge)(retrieve)
        return service

    return made


def passages(name: str, given: Given) -> tuple[Passage, ...]:
    """What a retriever gave, as passages, best first. Raises InvalidPassages."""
    try:
        whole = [_passage(name, each, at) for at, each in enumerate(given)]
    except (ValidationError, TypeError) as error:
        fault = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        raise InvalidPassages(
            f"The retriever {name} gave something else than passages.",
            why=f"{'.'.join(str(part) for part in fault['loc'])} {fault['msg']}".strip(),
            hint='give a list of texts, or of {"text": ..., "title": ..., "source": ...}',
        ) from error  # fmt: skip
    return tuple(sorted(whole, key=lambda each: -each.score))


def _passage(name: str, given: str | Mapping[str, object] | Found | Passage, at: int) -> Passage:
    if isinstance(given, Passage):
        return given
    found = Found.model_validate({"text": given} if isinstance(given, str) else given)
    source = found.source or found.title or name
    return Passage(
        document=digest("found", name, source), title=found.title or source.rsplit("/", 1)[-1], heading=found.heading,
        start=found.start, end=found.start + len(found.text) if found.end is None else found.end, text=found.text,
        hash=digest(found.heading, found.text), score=1 / (at + 1) if found.score is None else found.score,
        similarity=found.similarity, source=source, page=found.page,
    )  # fmt: skip


def _check(find: Find) -> None:
    try:
        inspect.signature(find).bind("text", 1, {})
    except TypeError as error:
        raise InvalidRetriever(
            f"{getattr(find, '__name__', find)} cannot be a retriever.", why=f"it is called as find(text, k, filters): {error}"
        ) from error


async def _call(find: Find, command: RetrieveKnowledge, context: Context) -> Given:
    asked = context.text("query"), command.k, dict(command.filters)
    given = await asyncio.to_thread(find, *asked) if not inspect.iscoroutinefunction(find) else find(*asked)
    return await given if inspect.isawaitable(given) else given
