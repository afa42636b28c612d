"""Receipts: a tenant's chain of what the recorder signed, held against the log and against checkpoints."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json, Run
from infra.cli.show import as_json, console, local, plain, print_json, print_json_line, print_table, use_json
from infra.cli.verify import CODES, KeyFiles, Keys, sentence, told, trusted_keys, verdict, worst
from infra.cli.words import say
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from infra.wiring import World
    from runtime.client import Client
    from runtime.proving import Finding
    from runtime.receipts import SignedCheckpoint
    from schemas.events import RunSealed

PAGE = 200
READERS = 16
RECENT = 200

receipts = typer.Typer(no_args_is_help=True, help="What the recorder signed: the chain of receipts, and checkpoints of it.")


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    for command in (ls, show, check, checkpoint, seal):
        receipts.command()(command)
    app.add_typer(receipts, name="receipts")


def ls(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500, help="How many.")] = 20,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """List the last receipts of the tenant's chain."""
    from infra.cli.client import connected

    use_json(json)
    rows = connected(lambda _, world: _ask(world, {"last": limit}), home)
    if as_json():
        print_json([row.receipt.model_dump(mode="json") for row in rows])
        return
    columns = ("number", "sealed", "run", "part", "outcome", "events", "key")
    print_table([say(f"column {name}") for name in columns], [
        (str(each.number), local(each.sealed), each.run, str(each.part), each.outcome, str(each.size), each.key)
        for each in (row.receipt for row in rows)
    ], right=[say(f"column {name}") for name in ("number", "part", "events")],
       spare=[say(f"column {name}") for name in ("part", "events", "outcome", "sealed")])  # fmt: skip


def seal(home: Home = None, json: Json = False) -> None:
    """Have the runs sealed that ended before there were receipts."""
    from infra.cli.client import ask, connected
    from infra.cli.run_query import matching
    from services.recorder.ports import RunFilter

    use_json(json)

    async def work(_: Client, world: World) -> int:
        ended = RunFilter(status=("completed", "failed", "cancelled"))
        missing = [each.run async for each in matching(world, ended) if each.receipt is None]
        for start in range(0, len(missing), PAGE):
            asked = {"tenant": world.settings.tenant, "runs": missing[start : start + PAGE]}
            await ask(world, "recorder", "seal", asked)
        return len(missing)

    count = connected(work, home)
    if as_json():
        print_json({"noted": count})
    else:
        console().print(plain(say("receipts to seal", count=count)))


def show(run: Run, home: Home = None, json: Json = False) -> None:
    """Show a run's receipts: the one it ended with, and amendments."""
    from infra.cli.client import connected, find_run

    use_json(json)

    async def work(_: Client, world: World) -> list[RunSealed]:
        return await _ask(world, {"run": await find_run(world, run)})

    rows = connected(work, home)
    if not rows:
        raise MilepostError(
            "The run has no receipt.", why="it has not ended, or was not sealed yet", hint=f"milepost verify {run}"
        )
    said = [{**row.model_dump(mode="json", exclude={"nodes", "kind"}), "hash": _hash(row)} for row in rows]
    if as_json():
        print_json(said)
        return
    for row in rows:
        receipt = row.receipt.model_dump(mode="json", exclude={"unanswered"}) | {"hash": _hash(row), "signature": row.signature}
        for name, value in receipt.items():
            console().print(plain(f"{name:>10}  ", "dim") + plain(str(value)))
        for each in row.receipt.unanswered:
            console().print(plain("unanswered  ", "dim") + plain(f"{each.kind} {each.id}"))
        console().print()


def check(
    checkpoints: Annotated[
        Path | None, typer.Option("--checkpoint", help="A checkpoint that was kept elsewhere.", show_default=False)
    ] = None,
    keys: KeyFiles = None, key: Keys = None, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Check the whole chain: numbers, links and signatures, every receipt in the log, every run against its receipts.

    Checkpoints of the data directory are held against it, and one from elsewhere, which alone can tell if the end of the chain
    and those were cut off together. Exit codes as of `milepost verify`.
    """
    from infra.cli.client import connected

    use_json(json)
    trusted = trusted_keys(keys, key, home)
    count, findings = connected(lambda _, world: _check(world, trusted, checkpoints), home)
    word = worst(each for _, each in findings)
    if as_json():
        said = [{**told(each), **({"run": run} if run else {})} for run, each in findings]
        print_json({"verdict": word, "receipts": count, "findings": said})
    else:
        out = console()
        out.print(plain(say("receipts chain", count=count) + "  ") + verdict(word))
        for run, each in findings:
            where = say("receipts number", number=each.receipt) if each.receipt and not run else ""
            place = ", ".join(filter(None, (where, say("receipts run", run=run) if run else "")))
            out.print(plain(f"  {place}", "yellow") + plain((": " if place else "") + sentence(each)))
    if code := CODES[word]:
        raise typer.Exit(code)


def checkpoint(
    out: Annotated[Path | None, typer.Option(help="A file that the checkpoint is added to.", show_default=False)] = None,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Have a checkpoint of the chain signed now: kept elsewhere, it tells later if anything before it is gone."""
    from infra.cli.client import ask, connected
    from runtime.receipts import SignedCheckpoint

    use_json(json)

    async def work(_: Client, world: World) -> SignedCheckpoint:
        found = await ask(world, "recorder", "checkpoint", {"tenant": world.settings.tenant})
        return SignedCheckpoint.model_validate(found)

    signed = connected(work, home)
    if out is not None:
        _add_line(out, signed)
    if as_json() or out is None:
        print_json_line(signed.model_dump(mode="json"))  # as the files of checkpoints have it
    else:
        console().print(plain(say("receipts checkpoint", number=signed.checkpoint.number, file=out)))


def _add_line(file: Path, signed: SignedCheckpoint) -> None:
    import orjson

    try:
        with file.open("ab") as out:
            out.write(orjson.dumps(signed.model_dump(mode="json")) + b"\n")
    except OSError as error:
        raise MilepostError(f"{file} cannot be written.", why=error.strerror or str(error), hint="name another file") from error


# --- checking -------------------------------------------------------------------------------------


async def _check(world: World, trusted: Mapping[str, bytes], file: Path | None) -> tuple[int, list[tuple[str | None, Finding]]]:
    """How many receipts there are, and what is wrong: with the chain, then with runs."""
    from infra.checkpoint_files import CheckpointFiles, checkpoint_folder, load_checkpoints
    from runtime.proving import check_chain, check_checkpoint

    tenant = world.settings.tenant
    kept = CheckpointFiles(checkpoint_folder(world.settings)).all(tenant) + (load_checkpoints(file) if file else [])
    chain = await _chain(world)
    heads = {row.receipt.number: _hash(row) for row in chain}
    findings = list(check_chain(chain, trusted, tenant=tenant))
    for signed in kept:
        findings += check_checkpoint(signed, heads, _with_followed(trusted, chain), tenant=tenant)
    runs: list[tuple[str | None, Finding]] = [(None, each) for each in findings]
    return len(chain), [*runs, *await _check_runs(world, chain, trusted), *await _unlisted(world, heads)]


async def _check_runs(world: World, chain: list[RunSealed], trusted: Mapping[str, bytes]) -> list[tuple[str | None, Finding]]:
    """Whether the log has each receipt of the chain, and each run is what its receipts say."""
    import asyncio

    from infra.cli.client import whole_log
    from infra.verifying import as_lines
    from runtime.proving import Finding, prove
    from schemas.ids import checked_run

    by_run: defaultdict[str, list[RunSealed]] = defaultdict(list)
    for row in chain:
        by_run[row.receipt.run].append(row)
    log, readers = whole_log(world), asyncio.Semaphore(READERS)

    async def of(run: str) -> list[tuple[str | None, Finding]]:
        async with readers:
            raws = await log.read_raw(checked_run(run))
        proof = prove(as_lines(raws), trusted)
        stated = {receipt.part: receipt for receipt in proof.receipts}
        missing = [
            Finding("differs" if row.receipt.part in stated else "absent", str(row.receipt.number), receipt=row.receipt.number)
            for row in by_run[run] if stated.get(row.receipt.part) != row.receipt
        ]  # fmt: skip
        listed = {row.receipt.part for row in by_run[run]}
        more = [
            Finding("unlisted", str(receipt.number), receipt=receipt.number)
            for part, receipt in stated.items() if part not in listed
        ]  # fmt: skip
        return [(run, each) for each in [*missing, *more, *proof.findings]]

    return [each for found in await asyncio.gather(*map(of, by_run)) for each in found]


async def _unlisted(world: World, heads: Mapping[int, str]) -> list[tuple[str | None, Finding]]:
    """Runs of late whose receipt the index has seen in the log, and which the chain does not have."""
    from infra.cli.client import list_runs
    from runtime.proving import Finding
    from services.recorder.ports import RunFilter

    runs = await list_runs(world, RunFilter(), RECENT)
    return [
        (each.run, Finding("unlisted", str(each.receipt), receipt=each.receipt))
        for each in runs if each.receipt is not None and each.receipt not in heads
    ]  # fmt: skip


def _with_followed(trusted: Mapping[str, bytes], chain: list[RunSealed]) -> Mapping[str, bytes]:
    """Keys that the chain's last receipt is endorsed with count for checkpoints, too."""
    from runtime.proving import followed

    return followed(trusted, chain[-1].endorsements)[0] if chain else trusted


async def _chain(world: World) -> list[RunSealed]:
    rows: list[RunSealed] = []
    while True:
        page = await _ask(world, {"after": rows[-1].receipt.number if rows else 0, "limit": PAGE})
        rows.extend(page)
        if len(page) < PAGE:
            return rows


async def _ask(world: World, question: Mapping[str, object]) -> list[RunSealed]:
    from infra.cli.client import ask_list
    from schemas.events import RunSealed

    found = await ask_list(world, "recorder", "receipts", {"tenant": world.settings.tenant, **question})
    return [RunSealed.model_validate(each) for each in found]


def _hash(row: RunSealed) -> str:
    from runtime.receipts import receipt_hash

    return receipt_hash(row.receipt)
