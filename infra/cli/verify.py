"""Verify: whether a run is what the recorder signed; from a file without a stack, or from the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json
from infra.cli.show import as_json, console, local, plain, print_json, use_json
from infra.cli.words import say

if TYPE_CHECKING:
    from rich.text import Text

    from infra.verifying import Verified
    from infra.wiring import World
    from runtime.client import Client
    from runtime.proving import Finding

UNPROVED, TAMPERED = 3, 4
CODES = {"proved": 0, "unproved": UNPROVED, "tampered": TAMPERED}
_COLOURS = {"proved": "bold green", "unproved": "bold yellow", "tampered": "bold red"}

KeyFiles = Annotated[
    Path | None,
    typer.Option("--keys", help="The recorder.pub to trust; that of the data directory if not given.", show_default=False),
]
Keys = Annotated[
    list[str] | None,
    typer.Option("--key", metavar="ID=BASE64", help="A public key to trust; may be given again.", show_default=False),
]


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(verify)


def verify(
    run: Annotated[str, typer.Argument(metavar="RUN|FILE", help="A run, or a file of `runs export`.", show_default=False)],
    keys: KeyFiles = None, key: Keys = None, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Verify that a run is what the recorder signed, and say what is wrong where.

    A file needs no stack, only the public keys that you trust; what stands in it adds none. Exit code: 0 proved, 3 not
    changed as far as one can tell but not sealed yet, or signed with a key that nobody vouches for, 4 tampered with.
    """
    from infra.cli.reading import names_file

    use_json(json)
    trusted = trusted_keys(keys, key, home)
    if names_file(run):
        from infra.verifying import verify_file

        found = verify_file(Path(run), trusted)
    else:
        found = _verify_run(run, trusted, home)
    if as_json():
        print_json(_said(found))
    else:
        _print(found, "line" if names_file(run) else "message", bool(trusted))
    if code := CODES[found.proof.verdict]:
        raise typer.Exit(code)


def trusted_keys(keys: Path | None, key: list[str] | None, home: Path | None) -> dict[str, bytes]:
    """The keys to trust: those that are named, else those of the data directory; none if there are none."""
    from infra import receipt_keys

    if key:
        return receipt_keys.parsed(key)
    if keys is not None:
        found = receipt_keys.read_public(keys)
        if found is None:
            raise receipt_keys.ReceiptKeyError(f"There is no file {keys}.", hint="name the recorder.pub of who ran the stack")
        return found.by_id()
    from infra.cli.options import settings_from

    own = receipt_keys.read_public(receipt_keys.public_file(receipt_keys.key_file(settings_from(home).settings)))
    return own.by_id() if own else {}


def _verify_run(name: str, trusted: Mapping[str, bytes], home: Path | None) -> Verified:
    from infra.cli.client import connected, find_run, whole_log
    from infra.exports.imported import imported_path
    from infra.verifying import verify_file, verify_run
    from runtime.client import UnknownRun

    async def work(_: Client, world: World) -> Verified:
        run = await find_run(world, name)
        found = await verify_run(whole_log(world), run, trusted)
        imported = imported_path(world.settings.home, run)
        if found is None and imported.is_file():
            return verify_file(imported, trusted)
        if found is None:
            raise UnknownRun(f"There is no run {run}.", why="no log holds it", hint="milepost runs ls")
        return found

    return connected(work, home)


# --- what is said ---------------------------------------------------------------------------------


def sentence(finding: Finding) -> str:
    """What was found, without the place."""
    return say(f"finding {finding.kind}", detail=finding.detail)


def told(finding: Finding) -> dict[str, object]:
    """A finding as JSON."""
    said: dict[str, object] = {"kind": finding.kind, "wrong": finding.wrong, "what": sentence(finding)}
    place = {"line": finding.line, "event": finding.event, "receipt": finding.receipt}
    return {**said, **{name: number for name, number in place.items() if number is not None}, "detail": finding.detail}


def _said(found: Verified) -> dict[str, object]:
    proof = found.proof
    return {
        "run": proof.run, "tenant": proof.tenant, "verdict": proof.verdict, "events": proof.events, "content": found.opened,
        "receipts": [receipt.model_dump(mode="json") for receipt in proof.receipts], "absent_payloads": list(found.absent),
        "findings": [told(each) for each in proof.findings],
    }  # fmt: skip


def _print(found: Verified, place: str, any_keys: bool) -> None:
    out, proof = console(), found.proof
    out.print(plain(say("verify run"), "dim") + plain(f" {proof.run or '?'}  ") + verdict(proof.verdict))
    for each in proof.findings:
        where = _where(each, place)
        out.print(plain(f"  {where}", "yellow") + plain((": " if where else "") + sentence(each)))
    if proof.verdict != "tampered":
        for receipt in proof.receipts:
            out.print(plain("  " + say(
                "verify receipt", number=receipt.number, part=receipt.part, size=receipt.size, by=receipt.key,
                sealed=local(receipt.sealed),
            ), "dim"))  # fmt: skip
        out.print(plain("  " + say("verify content" if found.opened else "verify closed"), "dim"))
    if found.absent:
        out.print(plain("  " + say("verify absent", count=len(found.absent)), "dim"))
    if not any_keys:
        out.print(plain("  " + say("verify no keys"), "dim"))
    elif any(each.kind == "unvouched" for each in proof.findings):
        out.print(plain("  " + say("verify other keys"), "dim"))


def verdict(word: str) -> Text:
    """The verdict in its colour."""
    return plain(say(f"verify {word}"), _COLOURS[word])


def _where(finding: Finding, place: str) -> str:
    parts = [
        say(f"verify {place}", number=finding.line) if finding.line else "",
        say("verify event", number=finding.event) if finding.event else "",
        say("verify part", number=finding.receipt) if finding.receipt and not finding.event else "",
    ]  # fmt: skip
    return ", ".join(filter(None, parts))


def worst(findings: Iterable[Finding]) -> str:
    """The verdict that findings come to."""
    found = list(findings)
    return "tampered" if any(each.wrong for each in found) else "unproved" if found else "proved"
