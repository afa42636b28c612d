"""Certify: what a model said, executed again token for token."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json
from infra.cli.show import as_json, at_terminal, console, plain, print_json, use_json
from infra.cli.words import say

if TYPE_CHECKING:
    from rich.text import Text

    from infra.cli.reading import RunRead
    from infra.settings import Settings
    from infra.verifying import Verified
    from infra.wiring import World
    from runtime.certifying import Asked, Attestation, Checked, Parting, Spread
    from runtime.client import Client
    from runtime.signing import KeyPair

UNATTESTED, DIFFERENT = 3, 4
CODES = {"match": 0, "unattested": UNATTESTED, "different": DIFFERENT}
NARROW = 8
"""Tokens that could have gone otherwise, shown one by one."""
_COLOURS = {"match": "green", "different": "bold red", "elsewhere": "yellow", "uncertified": "yellow", "no prompt": "yellow"}


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(certify)


def certify(
    run: Annotated[str, typer.Argument(metavar="RUN|FILE", help="A run, or a file of `runs export`.", show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", help="Write what is attested to this file, as JSON.", show_default=False)
    ] = None,
    ask_again: Annotated[
        bool, typer.Option("--ask-again", help="Ask endpoints elsewhere once more, and show what they say now.")
    ] = False,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Execute what a run's models said again, and attest that it is the same, token for token.

    That can be promised of what was said in certified mode (`milepost ask --certified`), under the same conditions; of anything
    else it is told what may differ, and by how much. Exit code: 0 all model steps are certified and the same, 4 one that is
    certified differs, 3 nothing is attested: a step was not certified, its conditions are others here, or its model is not
    here. A file needs no stack.
    """
    import asyncio

    from infra.certifying import certify as executed
    from infra.cli.options import settings_from
    from infra.exports.writing import check_place
    from runtime.certifying import asked_in, overall

    use_json(json)
    if out:
        check_place(out)
    read = _read(run, home)
    settings = settings_from(home).settings
    asked = asked_in(read.run.run, read.run.facts)
    checked = asyncio.run(executed(settings, asked, ask_again=ask_again, on_step=_progress))
    stated, signature = _attested(settings, read, checked)
    if out:
        _write(out, stated, signature)
    if as_json():
        print_json({**_told(stated, signature), "steps": [_step(each) for each in checked]})
    else:
        _print(read, checked, stated, out)
    if code := CODES[overall(checked)]:
        raise typer.Exit(code)


@dataclass(frozen=True, slots=True)
class _Read:
    """A run, and what its receipt proves. name: as the person calls it."""

    name: str
    run: RunRead
    proof: Verified | None


def _read(name: str, home: Path | None) -> _Read:
    from infra.cli.reading import names_file, read_file, read_run, speak
    from infra.cli.verify import trusted_keys
    from infra.verifying import verify_file, verify_run
    from runtime.sealing import Erased
    from schemas.sealing import Sealed

    trusted = trusted_keys(None, None, home)
    if names_file(name):
        speak(home)
        read = _Read(name, read_file(name), verify_file(Path(name), trusted))
    else:
        from infra.cli.client import connected, whole_log

        async def work(_: Client, world: World) -> _Read:
            run = await read_run(world, name)
            return _Read(name, run, await verify_run(whole_log(world), run.run, trusted))

        read = connected(work, home)
    if any(isinstance(stored.fact.body, Sealed) for stored in read.run.facts):
        raise Erased(f"run {read.run.run}")
    return read


def _progress(asked: Asked) -> None:
    if at_terminal():
        text = say("certify working", event=asked.number, model=asked.generation.model)
        console(stderr=True).print(plain(text, "dim"))


# --- what is attested -----------------------------------------------------------------------------


def _attested(settings: Settings, read: _Read, checked: list[Checked]) -> tuple[Attestation, str]:
    """What is stated, and its signature; "" where the recorder's key is not at hand."""
    import base64
    from datetime import UTC, datetime

    from runtime.certifying import attestation, said_of_attestation
    from runtime.receipts import receipt_hash

    proof = read.proof.proof if read.proof else None
    proved = proof if proof and proof.verdict == "proved" else None
    key = _key(settings)
    tenant = read.run.facts[0].fact.tenant if read.run.facts else ""
    stated = attestation(
        read.run.run, tenant, checked, receipt=receipt_hash(proved.receipts[-1]) if proved and proved.receipts else "",
        at=datetime.now(UTC), by=_version(), key=key.id if key else "",
    )  # fmt: skip
    return stated, base64.b64encode(key.signature(said_of_attestation(stated))).decode() if key else ""


def _key(settings: Settings) -> KeyPair | None:
    from infra import receipt_keys

    given, file = settings.receipts.key, receipt_keys.key_file(settings)
    if given is None and not file.is_file():
        return None
    return receipt_keys.RecorderKeys(file, given.get_secret_value() if given else None).signing()


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"milepost {version('milepost')}"
    except PackageNotFoundError:
        return "milepost (a checkout that is not installed)"


def _told(stated: Attestation, signature: str) -> dict[str, object]:
    return {"attestation": stated.model_dump(mode="json"), "signature": signature, "result": stated.result}


def _write(file: Path, stated: Attestation, signature: str) -> None:
    import json

    from infra.exports.writing import whole_file

    said = {"attestation": stated.model_dump(mode="json"), "signature": signature}
    with whole_file(file) as opened:
        opened.write(json.dumps(said, ensure_ascii=False, indent=1).encode() + b"\n")


# --- what is shown --------------------------------------------------------------------------------


def _step(each: Checked) -> dict[str, object]:
    from dataclasses import asdict

    asked, now = each.asked, each.now
    spread = asdict(each.spread) if each.spread else None
    if spread and each.spread:
        spread["least"] = each.spread.least if math.isfinite(each.spread.least) else None
        spread["narrow"] = [asdict(narrow) for narrow in each.spread.narrow]
    certificate = asked.generation.certificate
    return {
        "event": asked.number, "id": asked.event, "model": asked.generation.model, "verdict": each.verdict, "same": each.same,
        "conditions": [asdict(condition) for condition in each.conditions],
        "certificate": certificate.model_dump(mode="json") if certificate else None,
        "parting": asdict(each.parting) if each.parting else None, "spread": spread, "may": dict(each.may),
        "why": _why(each), "text": now.text if now else None,
        "calls": [call.model_dump(mode="json") for call in now.calls] if now else None,
    }  # fmt: skip


def _print(read: _Read, checked: list[Checked], stated: Attestation, out: Path | None) -> None:
    page = console()
    page.print(plain(f"{say('certify run')} ", "dim") + plain(read.run.run))
    for each in checked:
        for line in _lines(each):
            page.print(line)
    page.print(_summary(checked, stated))
    if read.proof and read.proof.proof.verdict == "tampered":
        page.print(plain(f"  {say('certify tampered', name=read.name)}", "bold red"))
    if out:
        page.print(plain(say("certify signed" if stated.key else "certify unsigned", file=out, key=stated.key), "dim"))


def _summary(checked: list[Checked], stated: Attestation) -> Text:
    counted = [each for each in checked if each.verdict != "copied"]
    if not counted:
        return plain(say("certify none"), "yellow")
    wanted = "different" if stated.result == "different" else "match"
    count = sum(each.verdict == wanted for each in counted)
    colour = {"match": "bold green", "different": "bold red"}.get(stated.result, "bold yellow")
    line = plain(say(f"certify all {stated.result}", count=count, all=len(counted)), colour)
    promised = any(each.asked.generation.certificate for each in counted)
    return line if promised else line + plain(f" · {say('certify how')}", "dim")


def _lines(each: Checked) -> Iterator[Text]:
    asked = each.asked
    name = plain(f"#{asked.number}", "bold") + plain(f"  {asked.generation.model}  ")
    yield name + plain(say(f"certify {each.verdict}"), _COLOURS.get(each.verdict, "dim")) + plain(_under(each), "dim")
    if why := _why(each):
        yield plain(f"    {why}", "yellow")
    for condition in each.conditions:
        none = say("certify condition missing")
        recorded, here = _short(condition.recorded) or none, _short(condition.here) or none
        yield plain(
            f"    {say('certify condition', name=say(f'certify name {condition.name}'), recorded=recorded, here=here)}",
            "yellow",
        )
    if each.same is not None and each.verdict in ("elsewhere", "uncertified"):
        kind = "asked " if each.why == "remote" else ""
        yield plain(f"    {say(f'certify {kind}same' if each.same else f'certify {kind}other')}")
    if each.parting:
        yield from _parting(each.parting)
    if each.spread:
        yield from _spread(each.spread)
    if each.may:
        told = " · ".join(say(f"certify may {what}", count=count) for what, count in each.may)
        yield plain(f"    {say('certify may', told=told)}", "dim")


def _why(each: Checked) -> str:
    """What a person is told beside the verdict."""
    if each.verdict == "different":
        return say("certify tokens") if each.same else say("certify edited") if _is_edited(each) else ""
    if each.why in ("remote", "scripted", "own", "caller"):
        return "" if each.same is not None else say(f"certify {each.why}")
    return each.why


def _is_edited(each: Checked) -> bool:
    """Whether the log's reply is not what its own certificate is of."""
    recorded, now = each.asked.generation.certificate, each.now.certificate if each.now else None
    return bool(recorded and now and recorded.tokens_hash == now.tokens_hash)


def _under(each: Checked) -> str:
    certificate = each.asked.generation.certificate
    if certificate is None or each.verdict != "match":
        return ""
    return ": " + say(
        "certify under", tokens=each.asked.generation.usage.completion_tokens, engine=certificate.engine,
        precision=certificate.precision, threads=certificate.threads,
    )  # fmt: skip


def _parting(parting: Parting) -> Iterator[Text]:
    if parting.token is not None:
        yield plain(f"    {say('certify at', token=parting.token)}")
    if parting.before:
        yield plain(f"    {say('certify from')}: ", "dim") + plain(_quoted(parting.before))
    for key, text in (("recorded", parting.recorded), ("now", parting.now)):
        yield plain(f"    {say(f'certify {key}')}: ", "dim") + plain(_quoted(text) if text else say("certify ended"))


def _spread(spread: Spread) -> Iterator[Text]:
    kind = "drawn" if spread.drawn else "narrow" if spread.narrow else "firm"
    counts = {"chosen": spread.chosen, "count": len(spread.narrow), "turned": spread.turned}
    yield plain("    " + say(f"certify {kind}", **counts, shift=spread.shift, least=spread.least))
    for each in sorted(spread.narrow, key=lambda narrow: narrow.margin)[:NARROW]:
        told = {"token": each.token, "text": _quoted(each.text), "other": _quoted(each.other), "margin": each.margin}
        yield plain(f"      {say('certify narrow token', **told)}", "dim")
    if len(spread.narrow) > NARROW:
        yield plain(f"      {say('certify more', count=len(spread.narrow) - NARROW)}", "dim")
    if spread.call:
        yield plain("    " + say("certify call", slack=spread.call[0], shift=spread.call[1]))


def _quoted(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False)


def _short(text: str) -> str:
    """A digest by its beginning, which is enough to tell it from another one."""
    is_digest = len(text) in (32, 64) and all(character in "0123456789abcdef" for character in text)
    return text[:12] if is_digest else text
