"""Keys: which ones sign and verify rights to call tools, and receipts of runs, and how the signing ones are changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json
from infra.cli.show import as_json, console, plain, print_json, print_table, use_json
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from pathlib import Path

keys = typer.Typer(no_args_is_help=True, help="Keys that stand behind calls and receipts.")
receipts = typer.Typer(no_args_is_help=True, help="The key that signs receipts of runs.")
capability = typer.Typer(no_args_is_help=True, help="The key that signs rights to call tools.")


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    capability.command()(show)
    capability.command()(rotate)
    receipts.command("show")(show_receipts)
    receipts.command("rotate")(rotate_receipts)
    keys.add_typer(capability, name="capability")
    keys.add_typer(receipts, name="receipts")
    app.add_typer(keys, name="keys")


def show(home: Home = None, json: Json = False) -> None:
    """Show the public keys that hosts of tools trust, and the setting that gives them to hosts elsewhere."""
    import base64

    from infra.capability_keys import KeysInFiles, shown

    use_json(json)
    pairs = KeysInFiles(_file(home))
    signing, trusted = pairs.signing().id, pairs.trusted()
    if as_json():
        told = {id: base64.b64encode(raw).decode() for id, raw in trusted.items()}
        print_json({"signing": signing, "keys": told, "setting": shown(trusted)})
        return
    rows = [(id, "signs" if id == signing else "still good", base64.b64encode(raw).decode()) for id, raw in trusted.items()]
    print_table(("id", "state", "public key"), rows)
    console().print(plain(f"MILEPOST_CAPABILITY_KEYS={shown(trusted)}", "dim"))


def rotate(
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Trust nothing any more that the old keys have signed.")] = False,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Sign with a new key from now on; running conductors and hosts take it up by themselves, within a minute."""
    from infra import capability_keys

    use_json(json)
    key = capability_keys.rotate(_file(home), withdraw=withdraw)
    if as_json():
        print_json({"signing": key.id, "withdrawn": withdraw})
        return
    old = "the old ones are withdrawn" if withdraw else "what the old ones have signed stays good"
    console().print(plain(f"{key.id} signs from now on; {old}"))
    console().print(plain("hosts with keys of their own setting need the new one: milepost keys capability show", "dim"))


def _file(home: Path | None) -> Path:
    """Where the key stands. Raises MilepostError if it is given as a setting: then it is changed there."""
    from infra.cli.options import settings_from
    from infra.wiring import capability_file

    settings = settings_from(home).settings
    if settings.capability.key:
        raise MilepostError(
            "The key that signs is given as a setting.", why="MILEPOST_CAPABILITY_KEY is set, so there is no file to change",
            hint="change it there, and MILEPOST_CAPABILITY_KEYS of the hosts, first",
        )  # fmt: skip
    return capability_file(settings)


# --- receipts -------------------------------------------------------------------------------------


def show_receipts(home: Home = None, json: Json = False) -> None:
    """Show the recorder's public keys, the first one to sign above: give recorder.pub to whoever verifies elsewhere."""
    from infra.cli.show import local
    from infra.receipt_keys import RecorderKeys, path_to, public_file, shown

    use_json(json)
    file = _receipt_file(home)
    pairs = RecorderKeys(file)
    signing, public = pairs.signing().id, pairs.public()
    if as_json():
        print_json({"signing": signing, "file": str(public_file(file)), **public.model_dump(mode="json")})
        return
    rows = [
        (each.key, "signs" if each.key == signing else "has signed", local(each.since),
         ", ".join(step.by for step in path_to(each.key, public.endorsements)[-1:]), each.public)
        for each in public.keys
    ]  # fmt: skip
    print_table(("id", "state", "since", "endorsed by", "public key"), rows)
    console().print(plain(f"milepost verify FILE --key {shown(public.by_id())[0]}", "dim"))


def rotate_receipts(home: Home = None, json: Json = False) -> None:
    """Sign receipts with a new key from now on, which the old one endorses; running recorders take it up by themselves."""
    from infra.receipt_keys import public_file, rotate

    use_json(json)
    file = _receipt_file(home)
    key = rotate(file)
    if as_json():
        print_json({"signing": key.id, "file": str(public_file(file))})
        return
    console().print(plain(f"{key.id} signs from now on; what the old ones have signed stays good"))
    console().print(
        plain(f"who trusts an older key follows their endorsements; all of them stand in {public_file(file)}", "dim")
    )


def _receipt_file(home: Path | None) -> Path:
    """Where the key stands. Raises MilepostError if it is given as a setting: then it is changed there."""
    from infra.cli.options import settings_from
    from infra.receipt_keys import key_file

    settings = settings_from(home).settings
    if settings.receipts.key:
        raise MilepostError(
            "The key that signs receipts is given as a setting.",
            why="MILEPOST_RECEIPTS_KEY is set, so there is no file to change", hint="change it there",
        )  # fmt: skip
    return key_file(settings)
