"""What one tenant has at the door, a piece of every kind, each with a word in it that no other tenant may ever read."""

from __future__ import annotations

import json
from dataclasses import dataclass

from services.gateway.openai.ids import call_id
from tests.support.talker import RENEW, Talker

WORD = "zanzibar"
DOCUMENT = f"# Secrets\n\n## Treasure\n\nThe treasure of {WORD} lies under the third palm.\n".encode()
AGENT = {"name": "sec-agent", "title": WORD, "description": WORD, "spec": {"instructions": f"Guard {WORD}.", "tool_k": 0}}
TRIGGER = {"name": "sec-hook", "source": {"kind": "webhook"}, "task": f"Tell of {WORD}", "description": WORD}
CHANNEL = {"name": "secdoor", "secret_env": "MILEPOST_SECRET_DEFAULT__SEC", "agent": "assistant"}


@dataclass(frozen=True, slots=True)
class Property:
    """Ids of what is kept. waiting, command: a run that waits for approval, and what asks; payload: of the run `done`."""

    done: str
    conversation: str
    payload: str
    waiting: str
    command: str
    held: str
    document: str
    collection: str
    key: str
    evaluation: str

    @property
    def call(self) -> str:
        """The approval as a client of /v1 names it."""
        return call_id(self.waiting, self.command)


async def acquired(kim: Talker, collection: str = "sec-manuals") -> Property:
    """All of it, made by an administrator."""
    http, put = kim.http, kim.http.put
    done, conversation = await kim.told(f"Make a QR code of {WORD}")
    part = next(piece for item in done["items"] for piece in item.get("pieces", ()) if piece["url"])
    approval, held = await kim.waiting(f"{RENEW.format(n=3)}, for {WORD}")
    added = await http.post(f"/api/knowledge/{collection}/documents", files={"file": (f"{WORD}.md", DOCUMENT)})
    assert '"added"' in added.text or '"unchanged"' in added.text, added.text
    documents = (await http.get(f"/api/knowledge/{collection}/documents")).json()["documents"]
    for path, body in (
        ("/api/agents/sec-agent", AGENT), ("/api/triggers/sec-hook", {"trigger": TRIGGER}),
        ("/api/channels/secdoor", {"channel": CHANNEL}),
    ):  # fmt: skip
        said = await put(path, json=body)
        assert said.status_code == 200, said.text
    assert (await http.post("/api/agents/sec-agent/publish", json={})).status_code == 200
    key = await http.post("/api/system/keys", json={"name": WORD, "roles": ["viewer"]})
    run = done["run"]
    await kim.get(
        f"/api/runs?conversation={conversation}", lambda said: any(each["status"] == "completed" for each in said["runs"])
    )
    begun = await http.post("/api/agents/sec-agent/evaluate", json={"runs": 1, "of": done["agent"]})
    assert begun.status_code == 200, begun.text
    return Property(
        done=run, conversation=conversation, payload=part["url"].rsplit("/", 1)[-1], waiting=approval["run"],
        command=approval["id"], held=held, document=documents[0]["id"], collection=collection, key=key.json()["id"],
        evaluation=begun.json()["id"],
    )  # fmt: skip


async def looked_at(kim: Talker, own: Property) -> str:
    """All of it as its owner sees it now, in one text."""
    paths = (
        f"/api/runs/{own.done}/tree", f"/api/runs/{own.waiting}/tree", "/api/agents/sec-agent", "/api/triggers/sec-hook",
        f"/api/knowledge/{own.collection}/documents", "/api/system/keys", "/api/channels", "/api/agents/sec-agent/versions",
        f"/api/conversations/{own.conversation}",
    )  # fmt: skip
    found = {}
    for path in paths:
        said = await kim.http.get(path)
        assert said.status_code == 200, (path, said.text)
        found[path] = said.json()
    return json.dumps(found, sort_keys=True)
