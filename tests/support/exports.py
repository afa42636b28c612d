"""Exports for tests: a run with everything in it, and its file edited with the checksum made right again."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from datetime import timedelta

import orjson

from infra.exports.payloads import PayloadSpool, fetch
from infra.exports.references import references
from infra.exports.writing import Exported, write_export
from runtime.log import Stored
from runtime.payloads import memory_payloads
from schemas.commands import CallTool, RequestApproval
from schemas.envelope import Fact, encode, new_fact, source_of
from schemas.events import AnyEvent, ApprovalGranted, ToolReturned
from schemas.tools import Part, ToolResult
from tests.support.builders import NOW, RENEW, TENANT, RunUnderTest, call, ready
from tool_adapters.keeping import keeper

PICTURE, LIST = b"\x89PNG a chart \x00\xff" * 9, "机器,状态\ni-1,running\n".encode()


async def run_with_payloads() -> tuple[RunUnderTest, PayloadSpool]:
    """A run with an approved write whose result refers to a picture and a table, at its end; and their lines."""
    store = memory_payloads()
    keep = keeper(store, TENANT, None)
    run = ready(None, RENEW)
    run.say(call("renew", server="i-1"))
    run.plans()
    ((_, asked),) = run.open(RequestApproval)
    run.answer(ApprovalGranted(command=asked, by="ann", approval_hash=asked.approval_hash))
    parts = (
        Part(kind="text", text="renewed 续费成功"),
        await keep(PICTURE, kind="image", media_type="image/png", name="chart.png"),
        await keep(LIST, kind="table", media_type="text/csv"),
        Part(kind="file", ref="https://example.com/manual.pdf"),
    )
    run.answer(ToolReturned(command=run.one(CallTool), result=ToolResult(text="renewed", parts=parts)))
    run.say(text="It is done. 好了。")
    run.end()
    spool = PayloadSpool(io.BytesIO())
    await fetch(spool, references(each.fact for each in run.log).values(), store, TENANT)
    return run, spool


def lines_of(run: RunUnderTest) -> list[bytes]:
    """The events of a run as they are stored."""
    return [encode(stored.fact) for stored in run.log]


def written(what: Exported) -> bytes:
    """An export as bytes."""
    out = io.BytesIO()
    write_export(out, what, NOW)
    return out.getvalue()


def edited(raw: bytes, edit: Callable[[list[bytes]], list[bytes]]) -> bytes:
    """The lines before the checksum edited, and the checksum made right again: what a forger would do."""
    return summed(b"".join(line + b"\n" for line in edit(raw.splitlines()[:-1])))


def summed(body: bytes) -> bytes:
    """A body with its checksum."""
    return body + b'{"sha256":"%s"}\n' % hashlib.sha256(body).hexdigest().encode()


def with_fields(line: bytes, **changes: object) -> bytes:
    """A line of JSON with some fields changed; None takes one out."""
    said = {**orjson.loads(line), **changes}
    return orjson.dumps({key: value for key, value in said.items() if value is not None})


def caused(run: RunUnderTest, event: AnyEvent, slot: str, *causes: str, seconds: float = 0.0) -> Fact:
    """A fact of a run with causes, as a service states it."""
    return new_fact(
        event, run=run.id, tenant=TENANT, slot=slot, source=source_of(event.role, "test"), causes=causes,
        time=NOW + timedelta(seconds=seconds),
    )  # fmt: skip


def as_stored(*facts: Fact) -> list[Stored]:
    """Facts in the order of a log."""
    return [Stored(fact, position) for position, fact in enumerate(facts, start=1)]
