"""services.gateway.ports.history.History over the log, the archive, and files that were imported."""

from __future__ import annotations

import asyncio
import base64
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path

from infra.archive.member import placed
from infra.archive.whole import WholeLog
from infra.cli.words import say_in
from infra.exports.imported import imported_path, imported_runs, open_imported
from infra.exports.payloads import fetch, payload_spool
from infra.exports.references import references
from infra.exports.writing import exported, save_export
from infra.receipt_keys import key_file, public_file, read_public
from infra.verifying import verified, verify_file
from infra.wiring import World, open_payloads
from runtime.client import UnknownRun
from runtime.log import Raw, Stored
from runtime.proving import Finding
from runtime.sealing import Erased, Sealing, Tampered
from schemas.canonical import canonical, read_json
from schemas.errors import ProtocolError
from schemas.ids import RunId, checked_run
from schemas.runs import ListRuns, RunFilter
from schemas.subjects import question
from services.gateway.ports.history import Found, TrustedKey, Verification

SHORTEST = 10
_LOOKED_AT = 1000
_ANSWER_S = 15.0
_PIECE = 256 * 1024
_AT_ONCE = 32


class WholeHistory:
    """Runs of any tenant, one tenant at a time. Imported files are the data directory's, so its own tenant alone sees them."""

    def __init__(self, world: World, journal: Callable[[str], WholeLog]) -> None:
        self._world, self._journal = world, journal

    async def find(self, tenant: str, name: str) -> RunId:
        if not SHORTEST <= len(name) < len("YYYYMM-") + 32:
            return checked_run(name)
        asked = ListRuns(which=RunFilter(tenant=tenant), limit=_LOOKED_AT).model_dump(mode="json")
        raw = await self._world.bus.ask(question("recorder", "runs"), canonical(asked), _ANSWER_S)
        said = read_json(raw, limit=16 * 1024 * 1024)
        runs = [str(each["run"]) for each in said if isinstance(each, dict)] if isinstance(said, list) else []
        found = [run for run in (*runs, *self._imported(tenant)) if run.startswith(name)]
        if len(set(found)) != 1:
            raise UnknownRun(f"{len(set(found)) or 'No'} runs begin with {name}.", hint="write the whole id")
        return checked_run(found[0])

    async def both(self, tenant: str, run: RunId, after: int = 0) -> list[tuple[Stored, bytes]]:
        raws = await self._journal(tenant).read_raw(run, after)
        if raws or after:  # what was imported never grows
            return await self._opened(raws)
        imported = None
        if run in self._imported(tenant):
            imported = await asyncio.to_thread(open_imported, self._world.settings.home, run)
        if imported is None:
            raise _unknown(run)
        return list(imported.both)

    async def _opened(self, raws: Sequence[Raw]) -> list[tuple[Stored, bytes]]:
        """The facts of some messages; others are served between them, for ten thousand take a while."""
        sealing, found = Sealing(self._world.keyring), []
        for index, raw in enumerate(raws, 1):
            if index % _AT_ONCE == 0:
                await asyncio.sleep(0)
            with suppress(ProtocolError):  # what belongs elsewhere is none of it
                if (fact := placed(raw)) is not None:
                    found.append((Stored(await sealing.fact(fact), raw.position), raw.data))
        return found

    async def readable(self, tenant: str, datakey: str) -> bool:
        return (await self._world.keyring.key(tenant, datakey)).secret is not None

    async def verify(self, tenant: str, run: RunId) -> Verification:
        own = read_public(public_file(key_file(self._world.settings)))
        trusted = own.by_id() if own else {}
        raws = await self._journal(tenant).read_raw(run)
        if raws:
            opened = await self._readable_facts(raws)
            found = await asyncio.to_thread(verified, run, raws, opened, trusted)
        elif run in self._imported(tenant):
            found = await asyncio.to_thread(verify_file, imported_path(self._world.settings.home, run), trusted)
        else:
            raise _unknown(run)
        proof = found.proof
        return Verification(
            run=run, verdict=proof.verdict, events=proof.events, content=found.opened, receipts=proof.receipts,
            findings=tuple(_found(each) for each in proof.findings), absent=found.absent,
            keys=tuple(TrustedKey(key=id, public=base64.b64encode(raw).decode()) for id, raw in trusted.items()),
        )  # fmt: skip

    async def _readable_facts(self, raws: Sequence[Raw]) -> list[Stored]:
        try:
            return [stored for stored, _ in await self._opened(raws)]
        except (Erased, Tampered):
            return []

    async def export(self, tenant: str, run: RunId) -> AsyncIterator[bytes]:
        facts = await self.both(tenant, run)
        messages = await self._journal(tenant).read_raw(run)
        with tempfile.TemporaryDirectory(prefix="milepost-") as folder:
            file = Path(folder) / f"{run}.jsonl"
            if messages:
                with payload_spool(Path(folder)) as spool:
                    wanted = references(stored.fact for stored, _ in facts)
                    await fetch(spool, wanted.values(), open_payloads(self._world), tenant)
                    what = await exported(run, facts, self._world.keyring, messages=messages, payloads=spool)
                    if what.sealed and what.key is None:
                        raise Erased(f"run {run}")
                    await asyncio.to_thread(save_export, file, what, self._world.clock.now())
            else:
                file = imported_path(self._world.settings.home, run)
            with file.open("rb") as read:
                while piece := await asyncio.to_thread(read.read, _PIECE):
                    yield piece

    def _imported(self, tenant: str) -> list[RunId]:
        return imported_runs(self._world.settings.home) if tenant == self._world.settings.tenant else []


def _unknown(run: RunId) -> UnknownRun:
    return UnknownRun(f"There is no run {run}.", why="no log holds it", hint="look at the list of runs")


def _found(finding: Finding) -> Found:
    key = f"finding {finding.kind}"
    return Found(
        kind=finding.kind, wrong=finding.wrong, event=finding.event, message=finding.line, receipt=finding.receipt,
        en=say_in("en", key, detail=finding.detail), zh=say_in("zh", key, detail=finding.detail),
    )  # fmt: skip
