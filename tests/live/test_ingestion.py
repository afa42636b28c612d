"""Documents on their way in: what is passed over, what goes on, what waits, and what never arrives."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from infra.ingestion.ingest import Ingest, Outcome, Plan, Watch
from infra.ingestion.originals import NoDocuments, Original, find_originals
from runtime.clock import SystemClock
from runtime.errors import Unreachable
from schemas.canonical import Json
from schemas.errors import MilepostError
from services.retrieval.embedder import HashEmbedder, Kind
from services.retrieval.ingestion import Ingestion, SectionAdded
from services.retrieval.knowledge import Knowledge
from services.retrieval.knowledge_index import Document
from services.retrieval.memory_knowledge_index import MemoryKnowledgeIndex
from services.retrieval.memory_uploads import MemoryUploads
from services.retrieval.questions import ANSWER_BYTES
from tests.support import files
from tests.support.stack import LocalStack

PLAN = Plan("acme", "default")


class Retrieval:
    """The service's answers in this process. away: how many questions find nobody; asked: the verbs that found it."""

    def __init__(self) -> None:
        self.index, self.uploads, embedder, clock = MemoryKnowledgeIndex(), MemoryUploads(), HashEmbedder(), SystemClock()
        self._answers = {
            **Knowledge(self.index, embedder, clock).answers,
            **Ingestion(self.index, self.uploads, embedder, clock).answers,
        }
        self.away = 0
        self.asked: list[str] = []

    async def ask(self, verb: str, question: dict[str, object], timeout_s: float) -> Json:
        if self.away > 0:
            self.away -= 1
            raise Unreachable("Nobody answers.")
        self.asked.append(verb)
        answer: Json = orjson.loads(await self._answers[verb](orjson.dumps(question)))
        return answer

    async def documents(self, collection: str = "default") -> dict[str, Document]:
        return {each.source: each for each in await self.index.documents("acme", collection)}


class Diary(Watch):
    """What was told."""

    def __init__(self, at_section: Callable[[int], None] = lambda _: None) -> None:
        self.read: list[str] = []
        self.sections: list[SectionAdded | None] = []
        self.waited = 0
        self._at_section = at_section

    def began(self, original: Original, characters: int) -> None:
        self.read.append(original.name)

    def moved(self, original: Original, characters: int, added: SectionAdded | None) -> None:
        self.sections.append(added)
        self._at_section(len(self.sections))

    def waits(self, error: Unreachable) -> None:
        self.waited += 1


@pytest.fixture
def retrieval() -> Retrieval:
    return Retrieval()


async def run(retrieval: Retrieval, named: list[str], plan: Plan = PLAN, diary: Diary | None = None) -> dict[str, Outcome]:
    outcomes = await Ingest(retrieval.ask, plan, diary or Diary()).run(find_originals(named))
    return {each.original.name: each for each in outcomes}


def long_text(words: str = "word", size: int = 60_000) -> str:
    paragraph = f"{words} in a paragraph that goes on for a while.\n\n"
    return "".join(f"{number} {paragraph}" for number in range(size // len(paragraph)))


async def test_a_folder_is_added_and_the_second_time_nothing_is_read(retrieval: Retrieval, tmp_path: Path) -> None:
    files.write_docx(tmp_path / "policy.docx")
    (tmp_path / "guide.md").write_text("# Guide\n\nText.\n")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7\n")
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    outcomes = await run(retrieval, [str(tmp_path)])
    states = {name: each.state for name, each in outcomes.items()}
    assert states == {"broken.pdf": "refused", "guide.md": "added", "photo.png": "skipped", "policy.docx": "added"}
    assert "broken" in outcomes["broken.pdf"].why
    known = await retrieval.documents()
    assert {each.title for each in known.values()} == {"Guide", "Leave policy"}

    (tmp_path / "broken.pdf").unlink()
    diary = Diary()
    outcomes = await run(retrieval, [str(tmp_path)], diary=diary)
    assert {each.state for each in outcomes.values()} == {"unchanged", "skipped"} and diary.read == []
    assert await retrieval.documents() == known


async def test_of_a_changed_document_only_what_is_new_is_embedded(retrieval: Retrieval, tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    parts = [f"# Part {number}\n\n{long_text(f'topic{number}', 880)}" for number in range(5)]
    path.write_text("\n".join(parts))
    first = (await run(retrieval, [str(path)]))["a.md"]
    path.write_text("\n".join([*parts[:2], f"# New\n\n{'One more. ' * 30}\n", *parts[2:]]))
    second = (await run(retrieval, [str(path)]))["a.md"]
    assert (second.added, second.removed, second.kept) == (1, 0, first.added)
    assert 0 < second.tokens < first.tokens / 10


async def test_metadata_and_title_are_changed_without_embedding(retrieval: Retrieval, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Text.")
    await run(retrieval, [str(tmp_path)])
    plan = Plan("acme", "default", {"team": "sre"}, "Runbook")
    outcome = (await run(retrieval, [str(tmp_path)], plan))["a.txt"]
    assert (outcome.state, outcome.tokens) == ("added", 0)
    (document,) = (await retrieval.documents()).values()
    assert (document.metadata, document.title) == ({"team": "sre"}, "Runbook")
    assert (await run(retrieval, [str(tmp_path)], plan))["a.txt"].state == "unchanged"


async def test_what_was_stopped_in_the_middle_goes_on_there(retrieval: Retrieval, tmp_path: Path) -> None:
    text = long_text()
    (tmp_path / "long.txt").write_text(text)
    going = asyncio.ensure_future(run(retrieval, [str(tmp_path)], diary=Diary(lambda n: n == 3 and going.cancel())))  # type: ignore[func-returns-value,arg-type]
    await asyncio.wait([going])
    assert going.cancelled() and await retrieval.documents() == {}

    diary = Diary()
    outcome = (await run(retrieval, [str(tmp_path)], diary=diary))["long.txt"]
    assert outcome.state == "added"
    assert [added is None for added in diary.sections[:4]] == [True, True, True, False]
    (document,) = (await retrieval.documents()).values()
    await run(retrieval, [str(tmp_path)], Plan("acme", "undisturbed"))
    (undisturbed,) = (await retrieval.documents("undisturbed")).values()
    assert document.chunks == outcome.added == undisturbed.chunks


async def test_a_server_that_is_away_is_waited_for(retrieval: Retrieval, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text(long_text(size=30_000))

    def go_away(section: int) -> None:
        retrieval.away = 2 if section == 2 else 0

    diary = Diary(go_away)
    outcome = (await run(retrieval, [str(tmp_path)], diary=diary))["long.txt"]
    assert outcome.state == "added" and diary.waited == 2
    assert len(await retrieval.documents()) == 1


async def test_a_document_whose_last_answer_was_lost_is_in(retrieval: Retrieval, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# A\n\nText.\n")
    ask, lost = retrieval.ask, []

    async def losing(verb: str, question: dict[str, object], timeout_s: float) -> Json:
        answer = await ask(verb, question, timeout_s)
        if verb == "finish_document" and not lost:
            lost.append(answer)
            raise Unreachable("No answer in time.")
        return answer

    (outcome,) = await Ingest(losing, PLAN).run(find_originals([str(tmp_path)]))
    assert lost and (outcome.state, outcome.added) == ("added", 1)


async def test_a_document_finished_twice_counts_what_was_added_by_both(retrieval: Retrieval, tmp_path: Path) -> None:
    """The chunks were in, and the service died before it forgot the upload and answered."""
    (tmp_path / "a.md").write_text("# A\n\nText.\n")
    drop, died = retrieval.uploads.drop, []

    async def dying(tenant: str, upload: str, before: datetime) -> None:
        if not died:
            died.append(upload)
            raise Unreachable("The service was killed.")
        await drop(tenant, upload, before)

    retrieval.uploads.drop = dying  # type: ignore[method-assign]
    (outcome,) = await Ingest(retrieval.ask, PLAN).run(find_originals([str(tmp_path)]))
    assert died and (outcome.state, outcome.kept, outcome.added) == ("added", 0, 1)


async def test_sections_that_no_longer_fit_are_sent_again(retrieval: Retrieval, tmp_path: Path) -> None:
    """Laid aside were chunks that the document had; then the document was removed, and with it their vectors."""
    path = tmp_path / "long.txt"
    path.write_text(long_text())
    await run(retrieval, [str(path)])
    plan = Plan("acme", "default", again=True)
    going = asyncio.ensure_future(run(retrieval, [str(path)], plan, Diary(lambda n: n == 3 and going.cancel())))  # type: ignore[func-returns-value,arg-type]
    await asyncio.wait([going])
    await retrieval.index.remove("acme", "default", str(path))
    outcome = (await run(retrieval, [str(path)], plan))["long.txt"]
    assert (outcome.state, outcome.kept) == ("added", 0)


async def test_a_long_document_comes_in_small_messages_and_is_whole(retrieval: Retrieval, tmp_path: Path) -> None:
    text = long_text(size=400_000)
    (tmp_path / "long.txt").write_text(text)
    sizes: list[int] = []
    ask = retrieval.ask

    async def weighed(verb: str, question: dict[str, object], timeout_s: float) -> Json:
        sizes.append(len(orjson.dumps(question)))
        return await ask(verb, question, timeout_s)

    (outcome,) = await Ingest(weighed, PLAN).run(find_originals([str(tmp_path)]))
    assert max(sizes) < 100_000
    (document,) = (await retrieval.documents()).values()
    assert document.chunks == outcome.added > 300


async def test_two_documents_are_on_their_way_at_once_and_all_are_told_in_order(retrieval: Retrieval, tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"{number}.md").write_text(f"# {number}\n\nText {number}.\n")
    assert list(await run(retrieval, [str(tmp_path)])) == [f"{number}.md" for number in range(6)]


# --- which documents are meant ---


def test_folders_are_walked_hidden_files_are_not(tmp_path: Path) -> None:
    for name in ("a.md", "b.txt", "deep/c.md", "deep/er/d.html", ".hidden.md", ".git/e.md", "deep/.x/f.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    os.mkfifo(tmp_path / "pipe.txt")

    def names(glob: str | None = None) -> list[str]:
        return [str(each.path and each.path.relative_to(tmp_path)) for each in find_originals([str(tmp_path)], glob)]

    assert names() == ["a.md", "b.txt", "deep/c.md", "deep/er/d.html"]
    assert names("*.md") == ["a.md", "deep/c.md"]
    assert names("deep/**/*.html") == ["deep/er/d.html"] and names("**/*.md") == ["a.md", "deep/c.md"]
    assert names("deep/*.md") == ["deep/c.md"] and names("deep/*.html") == []
    both = find_originals([str(tmp_path / "a.md"), str(tmp_path)])
    assert [each.named for each in both] == [True, False, False, False]
    for named in (tmp_path / "gone", tmp_path / "pipe.txt"):
        with pytest.raises(NoDocuments):
            find_originals([str(named)])


# --- the web ---


async def answer(request: web.Request) -> web.StreamResponse:
    match request.path:
        case "/page":
            return web.Response(text="<title>Rules</title><h1>Rules</h1><p>Renew early.</p>", content_type="text/html")
        case "/notes.md":
            return web.Response(text="# Notes\n\nText.\n", content_type="text/plain")
        case "/picture":
            return web.Response(body=b"\x89PNG", content_type="image/png")
        case "/inward":
            raise web.HTTPFound("http://169.254.169.254/latest/meta-data")
        case _:
            return web.Response(status=404)


@pytest.fixture
async def site() -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_pages_of_the_web_are_added_by_their_address(retrieval: Retrieval, site: str) -> None:
    plan = Plan("acme", "default", allowed=(site,))
    named = [f"http://{site}/{page}" for page in ("page", "notes.md", "picture", "inward", "gone")]
    outcomes = await run(retrieval, named, plan)
    assert {name: each.state for name, each in outcomes.items()} == {
        "page": "added", "notes.md": "added", "picture": "refused", "inward": "refused", "gone": "refused"
    }  # fmt: skip
    assert "image/png" in outcomes["picture"].why and "404" in outcomes["gone"].why
    assert "may not be read" in outcomes["inward"].why
    assert {each.title for each in (await retrieval.documents()).values()} == {"Rules", "Notes"}
    assert {each.state for each in (await run(retrieval, named[:2], plan)).values()} == {"unchanged"}


async def test_an_address_that_is_not_public_is_refused(retrieval: Retrieval, site: str) -> None:
    outcomes = await run(retrieval, [f"http://{site}/page", "http://[::1]/", "http://10.0.0.1/x"])
    assert {each.state for each in outcomes.values()} == {"refused"} and await retrieval.documents() == {}


# --- the service refuses what does not fit ---


async def test_the_service_refuses_what_is_no_section_and_what_is_not_whole(retrieval: Retrieval) -> None:
    place = {"tenant": "acme", "source": "a.txt", "upload": "u"}
    with pytest.raises(MilepostError, match="too long"):
        await retrieval.ask("add_section", {**place, "number": 0, "section": {"text": "x" * 12_001}}, 1.0)
    await retrieval.ask("add_section", {**place, "number": 0, "section": {"text": "x"}}, 1.0)
    with pytest.raises(MilepostError, match="Section 1"):
        await retrieval.ask("finish_document", {**place, "sections": 2}, 1.0)
    assert await retrieval.documents() == {}


async def test_a_file_whose_name_is_no_utf8_is_read_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("A good text.")
    name = os.fsencode(tmp_path) + b"/" + "报告".encode("gbk") + b".txt"
    Path(os.fsdecode(name)).write_bytes(b"Its name is in an older encoding.")
    retrieval = Retrieval()
    originals = find_originals([str(tmp_path), os.fsdecode(name)])
    assert len(originals) == 2
    outcomes = await Ingest(retrieval.ask, PLAN).run(originals)
    assert [each.state for each in outcomes] == ["added", "added"]
    assert "\\xb1\\xa8\\xb8\\xe6.txt" in " ".join(await retrieval.documents())


async def test_of_a_long_question_the_ends_are_searched_with() -> None:
    asked: list[str] = []

    class Noting(HashEmbedder):
        async def embed(self, texts: Sequence[str], kind: Kind) -> list[list[float]]:
            asked.extend(texts)
            return await super().embed(texts, kind)

    knowledge = Knowledge(MemoryKnowledgeIndex(), Noting(), SystemClock())
    await knowledge.find_knowledge(orjson.dumps({"text": "first " + "x " * 9000 + "last"}))
    assert len(asked[0]) <= 2001 and asked[0].startswith("first") and asked[0].endswith("last")


async def test_lists_of_documents_and_passages_fit_into_a_message() -> None:
    retrieval = Retrieval()
    told = {f"key{number}": "很" * 1000 for number in range(32)}
    for number in range(8):
        asked = {"tenant": "acme", "source": f"{number}.txt", "text": f"{number} " + "quagga " * 8000, "metadata": told}
        await retrieval.ask("add_document", asked, 1.0)
    after, seen = "", 0
    while page := await retrieval.ask("list_documents", {"tenant": "acme", "after": after, "limit": 1000}, 1.0):
        assert isinstance(page, list) and len(orjson.dumps(page)) <= ANSWER_BYTES
        seen, after = seen + len(page), Document.model_validate(page[-1]).id
    assert seen == 8
    wide = {"tenant": "acme", "text": "quagga", "k": 100, "neighbours": 10}
    assert 0 < len(orjson.dumps(await retrieval.ask("find_knowledge", wide, 1.0))) <= ANSWER_BYTES
    with pytest.raises(MilepostError, match="AddDocument"):
        await retrieval.ask("add_document", {"tenant": "acme", "source": "a", "text": "b", "metadata": {"k": "v" * 1001}}, 1.0)


# --- real servers ---


async def test_postgres_and_the_service_are_killed_on_the_way_and_every_chunk_is_there_once(
    scripted_stack: LocalStack, tmp_path: Path
) -> None:
    text = long_text(size=150_000)
    (tmp_path / "long.txt").write_text(text)
    (tmp_path / "other.md").write_text("# Other\n\nText.\n")
    async with scripted_stack.session() as (client, world):
        from infra.cli.client import ask

        plan = Plan(client.tenant, "killed")
        killed: list[asyncio.Task[float]] = []

        def kill(section: int) -> None:
            if victim := {3: "postgres", 8: "retrieval"}.get(section):
                killed.append(asyncio.ensure_future(scripted_stack.kill(victim)))

        ingest = Ingest(lambda verb, asked, s: ask(world, "retrieval", verb, asked, min(s, 5.0)), plan, Diary(kill))
        outcomes = await ingest.run(find_originals([str(tmp_path)]))
        await asyncio.gather(*killed)
        assert len(killed) == 2 and {each.state for each in outcomes} == {"added"}

        calm = Plan(client.tenant, "calm")
        undisturbed = await Ingest(lambda verb, asked, s: ask(world, "retrieval", verb, asked, s), calm).run(
            find_originals([str(tmp_path)])
        )
        assert [each.added for each in outcomes] == [each.added for each in undisturbed]
        again = await Ingest(lambda verb, asked, s: ask(world, "retrieval", verb, asked, s), plan).run(
            find_originals([str(tmp_path)])
        )
        assert {each.state for each in again} == {"unchanged"}
