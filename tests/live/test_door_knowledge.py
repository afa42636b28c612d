"""Documents over the door: in with progress, found with scores, cited, shown in chunks, and gone again."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from runtime.client import answer_of
from schemas.agent import AgentSpec
from tests.support.stack import LocalStack, see_through
from tests.support.visitors import events, visitor

HANDBOOK = (
    b"# Handbook\n\n## Backups\n\nBackups are kept for thirty days.\n\n## Lunch\n\nLunch is served at noon in the yard.\n"
)


async def put(http: httpx.AsyncClient, collection: str, name: str, content: bytes) -> list[dict[str, object]]:
    """Upload a document; its progress."""
    answer = await http.post(f"/api/knowledge/{collection}/documents", files={"file": (name, content)})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = events(answer.text)
    assert {name for name, _ in told} == {"progress"}
    return [said for _, said in told]


async def test_an_uploaded_document_is_found_shown_cited_and_forgotten(two_doors: LocalStack) -> None:
    async with visitor(two_doors) as http, two_doors.session() as (client, _):
        told = await put(http, "door-manuals", "handbook.md", HANDBOOK)
        assert told[0]["state"] == "reading" and told[-1]["state"] == "added"
        assert told[-1] | {"characters": len(HANDBOOK), "chunks": 2, "source": "upload:handbook.md"} == told[-1]
        assert (await put(http, "door-manuals", "handbook.md", HANDBOOK))[-1]["state"] == "unchanged"
        shelves = (await http.get("/api/knowledge")).json()["collections"]
        assert {"documents": 1, "chunks": 2, "version": 1}.items() <= next(
            e for e in shelves if e["name"] == "door-manuals"
        ).items()

        hits = (
            await http.get("/api/knowledge/search", params={"text": "how long are backups kept", "collections": "door-manuals"})
        ).json()
        best = hits["passages"][0]
        assert "thirty days" in best["text"] and best["fits"] and best["similarity"] >= hits["least"]
        at = f"/api/knowledge/door-manuals/documents/{best['document']}"
        shown = (await http.get(f"{at}/chunks")).json()
        assert [each["heading"] for each in shown["chunks"]] == ["Handbook > Backups", "Handbook > Lunch"]
        for each in shown["chunks"]:
            assert HANDBOOK.decode()[each["start"] : each["end"]] == each["text"]

        agent = AgentSpec(collections=("door-manuals",), tool_k=0)
        asked = await client.ask("How long are backups kept?", agent=agent)
        assert "(Handbook" in answer_of((await see_through(client, asked.run)).state)  # the script cites what it says

        async def used() -> list[dict[str, str]]:
            found: list[dict[str, str]] = (await http.get("/api/knowledge/used", params={"name": best["document"]})).json()[
                "uses"
            ]
            return found

        async with asyncio.timeout(30):  # the index is some moments behind the log
            while asked.run not in [each["run"] for each in await used()]:
                await asyncio.sleep(0.05)
        assert (await http.delete(at)).json() == {"source": "upload:handbook.md", "chunks": 2}
        assert (await http.get(f"{at}/chunks")).status_code == 404
        gone = await http.get("/api/knowledge/search", params={"text": "backups", "collections": "door-manuals"})
        assert gone.json()["passages"] == []


@pytest.mark.parametrize(
    ("name", "source"),
    [("../../../etc/passwd.md", "upload:passwd.md"), ("C:\\docs\\plan.txt", "upload:plan.txt"), ("/.md.txt", "upload:md.txt")],
)
async def test_a_name_never_leads_out_of_its_place(two_doors: LocalStack, name: str, source: str) -> None:
    async with visitor(two_doors) as http:
        assert (await put(http, "door-names", name, b"A text with words."))[-1]["source"] == source


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("tool.exe", b"MZ", "does not end in one of"),
        ("scan.pdf", b"hello", "no pdf"),
        ("empty.md", b"", "empty"),
        ("", b"x", None),
    ],
)
async def test_what_cannot_be_read_is_refused_with_the_reason(
    two_doors: LocalStack, name: str, content: bytes, why: str | None
) -> None:
    async with visitor(two_doors) as http:
        if why is None:
            answer = await http.post("/api/knowledge/door-names/documents", files={"file": (name, content)})
            assert answer.status_code == 422
            return
        last = (await put(http, "door-names", name, content))[-1]
        assert last["state"] == "refused" and why in str(last["why"])


async def test_roles_and_tenants_keep_to_their_own_documents(two_doors: LocalStack) -> None:
    async with visitor(two_doors) as http:
        await put(http, "door-own", "own.md", HANDBOOK)
        document = (await http.get("/api/knowledge/door-own/documents")).json()["documents"][0]
        at = f"/api/knowledge/door-own/documents/{document['id']}"
        assert (await http.get(f"/api/knowledge/other/documents/{document['id']}/chunks")).status_code == 404
    async with visitor(two_doors, "viewer") as viewer, visitor(two_doors, "operator") as operator:
        assert (await viewer.post("/api/knowledge/door-own/documents", files={"file": ("a.md", b"x")})).status_code == 403
        assert (await operator.delete(at)).status_code == 403
        assert (await viewer.get(f"{at}/chunks")).status_code == 200
    async with visitor(two_doors, "admin", tenant="stranger") as stranger:
        assert (await stranger.get("/api/knowledge")).json() == {"collections": []}
        assert (await stranger.get("/api/knowledge/door-own/documents")).json()["documents"] == []
        assert [(await stranger.get(f"{at}/chunks")).status_code, (await stranger.delete(at)).status_code] == [404, 404]
        found = await stranger.get("/api/knowledge/search", params={"text": "backups", "collections": "door-own"})
        assert found.json()["passages"] == []
