"""services.gateway.history.History over the log, the archive, and files that were imported."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from infra.archive.whole import WholeLog
from infra.exports.imported import imported_path, imported_runs, open_imported
from infra.exports.payloads import fetch, payload_spool
from infra.exports.references import references
from infra.exports.writing import exported, save_export
from infra.wiring import World, open_payloads
from runtime.client import UnknownRun
from runtime.log import Stored
from runtime.sealing import Erased
from schemas.canonical import canonical, read_json
from schemas.ids import RunId, checked_run
from schemas.runs import ListRuns, RunFilter
from schemas.subjects import question

SHORTEST = 10
_LOOKED_AT = 1000
_ANSWER_S = 15.0
_PIECE = 256 * 1024


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

    async def both(self, tenant: str, run: RunId) -> list[tuple[Stored, bytes]]:
        facts = await self._journal(tenant).read_both(run)
        if not facts and run in self._imported(tenant):
            imported = await asyncio.to_thread(open_imported, self._world.settings.home, run)
            facts = list(imported.both) if imported else []
        if not facts:
            raise UnknownRun(f"There is no run {run}.", why="no log holds it", hint="look at the list of runs")
        return facts

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
