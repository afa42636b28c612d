"""Triggers: what begins runs by itself. And channels: chats of messengers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.options import Home, Json
from infra.cli.show import as_json, console, local, plain, print_json, print_table, use_json
from infra.cli.words import say
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from collections.abc import Mapping

triggers = typer.Typer(no_args_is_help=True, help="What begins runs by itself: clocks, webhooks, subjects, alarms.")
channels = typer.Typer(no_args_is_help=True, help="Chats of messengers whose messages become runs.")

Name = Annotated[str, typer.Argument(help="The trigger's name.", show_default=False)]
Payload = Annotated[Path | None, typer.Option("--payload", help="A JSON file: what would come.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    for name, command in (
        ("ls", list_), ("add", add), ("show", show), ("test", test), ("fire", fire), ("enable", enable), ("disable", disable),
        ("rm", remove), ("history", history), ("secret", secret),
    ):  # fmt: skip
        triggers.command(name)(command)
    for name, command in (("ls", list_channels), ("add", add_channel), ("show", show_channel), ("rm", remove_channel)):
        channels.command(name)(command)
    app.add_typer(triggers, name="triggers")
    app.add_typer(channels, name="channels")


def list_(home: Home = None, json: Json = False) -> None:
    """List the triggers: what fires each, when next, and what came of it last."""
    use_json(json)
    found = _ask(home, "GET", "/api/triggers")
    if as_json():
        print_json(found)
        return
    if not found:
        console(stderr=True).print(plain(say("triggers none")))
        return
    rows = [(
        each["trigger"]["name"], _source(each["trigger"]["source"]), "on" if each["trigger"]["enabled"] else "off",
        _local(each["next"][0]) if each["next"] else "", _outcome(each["last"]),
    ) for each in found]  # fmt: skip
    print_table(("name", "fired by", "state", "next", "last"), rows)


def add(
    file: Annotated[Path, typer.Argument(help="A trigger in YAML or JSON, see docs/triggers.md.", show_default=False)],
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Keep the trigger of a file, in place of the one before of this name; it fires from now on."""
    from services.gateway.triggers.file import read_trigger

    use_json(json)
    text = _text(file)
    name = read_trigger(text.encode(), str(file)).name
    found = _ask(home, "PUT", f"/api/triggers/{name}", {"yaml": text})
    if as_json():
        print_json(found)
        return
    console().print(plain(say("triggers kept", name=name, version=found["version"])))
    if found["url"]:
        console().print(plain(found["url"]), soft_wrap=True)
        console().print(plain(say("triggers sign", name=name), "dim"))


def show(name: Name, home: Home = None, json: Json = False) -> None:
    """Print a trigger as YAML, to be kept in a file."""
    use_json(json)
    found = _ask(home, "GET", f"/api/triggers/{name}")
    print_json(found) if as_json() else console().print(plain(found["yaml"].rstrip()), soft_wrap=True)


def test(name: Name, payload: Payload = None, home: Home = None, json: Json = False) -> None:
    """Say what a trigger would do: the task, the key, who answers. Nothing is begun. NAME may be a YAML file."""
    use_json(json)
    file = Path(name)
    which = {"yaml": _text(file)} if file.suffix in (".yaml", ".yml", ".json") else {"name": name}
    found = _ask(home, "POST", "/api/triggers/test", {**which, "payload": _payload(payload)})
    if as_json():
        print_json(found)
        return
    for each in found:
        rows = [
            ("fires", say("triggers fires" if each["fires"] else "triggers does not fire")), ("key", each["key"]),
            ("agent", each["agent"]), ("user", each["user"]), ("task", each["task"]), ("named by you", each["said"]),
        ]  # fmt: skip
        print_table(("", ""), rows)
    if not found:
        console().print(plain(say("triggers nothing")))


def fire(name: Name, payload: Payload = None, home: Home = None, json: Json = False) -> None:
    """Fire a trigger by hand, whether it is enabled or not."""
    use_json(json)
    found = _ask(home, "POST", f"/api/triggers/{name}/fire", {"payload": _payload(payload)})
    if as_json():
        print_json(found)
        return
    for each in found["firings"]:
        console().print(plain(_outcome(each)), soft_wrap=True)


def enable(name: Name, home: Home = None, json: Json = False) -> None:
    """Let a trigger fire."""
    _enabled(name, True, home, json)


def disable(name: Name, home: Home = None, json: Json = False) -> None:
    """Let a trigger fire no more; it stays as it is."""
    _enabled(name, False, home, json)


def remove(name: Name, home: Home = None, json: Json = False) -> None:
    """Forget a trigger and its history; its runs stay."""
    use_json(json)
    _ask(home, "DELETE", f"/api/triggers/{name}")
    print_json({"removed": name}) if as_json() else console().print(plain(say("triggers removed", name=name)))


def history(
    name: Name,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """List what fired a trigger and what came of it, newest first."""
    use_json(json)
    found = _ask(home, "GET", f"/api/triggers/{name}/firings", query={"limit": str(limit)})
    if as_json():
        print_json(found)
        return
    rows = [(_local(each["at"]), each["outcome"], each["key"], each["run"] or each["why"]) for each in found]
    print_table(("at", "outcome", "key", "run, or why not"), rows)


def secret(name: Name, home: Home = None, json: Json = False) -> None:
    """Show where to post to, and what to sign with."""
    use_json(json)
    found = _ask(home, "GET", f"/api/triggers/{name}/secret")
    if as_json():
        print_json(found)
        return
    rows = [("url", found["url"]), ("scheme", found["scheme"]), ("secret", found["secret"] or f"in {found['env']}"),
            ("headers", ", ".join(found["headers"]))]  # fmt: skip
    print_table(("", ""), rows)
    if not found["known"]:
        console().print(plain(say("triggers no secret", env=found["env"]), "red"))


# --- channels ------------------------------------------------------------------------------------


def list_channels(home: Home = None, json: Json = False) -> None:
    """List the channels, and where their messengers are to post to."""
    use_json(json)
    found = _ask(home, "GET", "/api/channels")
    if as_json():
        print_json(found)
        return
    if not found:
        console(stderr=True).print(plain(say("channels none")))
        return
    rows = [(
        each["channel"]["name"], each["channel"]["kind"], each["channel"]["agent"], each["url"],
        say("channels ready") if each["ready"] else say("channels no secret", env=each["channel"]["secret_env"]),
    ) for each in found]  # fmt: skip
    print_table(("name", "kind", "agent", "address", "state"), rows)


def add_channel(
    file: Annotated[Path, typer.Argument(help="A channel in YAML or JSON, see docs/channels.md.", show_default=False)],
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Keep the channel of a file, in place of the one before of this name."""
    from services.gateway.agents.file import read_yaml

    use_json(json)
    values = read_yaml(_text(file).encode())
    if not isinstance(values, dict):
        raise MilepostError(f"{file} holds no channel.", hint="docs/channels.md has an example")
    name = str(values.get("name", "dingtalk"))
    found = _ask(home, "PUT", f"/api/channels/{name}", {"channel": values})
    print_json(found) if as_json() else console().print(plain(found["url"]), soft_wrap=True)


def show_channel(name: Name, home: Home = None, json: Json = False) -> None:
    """Print a channel as YAML."""
    from services.gateway.agents.file import write_yaml

    use_json(json)
    found = next((each for each in _ask(home, "GET", "/api/channels") if each["channel"]["name"] == name), None)
    if found is None:
        raise MilepostError(f"There is no channel {name}.", hint="milepost channels ls")
    print_json(found) if as_json() else console().print(plain(write_yaml(found["channel"]).rstrip()), soft_wrap=True)


def remove_channel(name: Name, home: Home = None, json: Json = False) -> None:
    """Forget a channel; its runs stay."""
    use_json(json)
    _ask(home, "DELETE", f"/api/channels/{name}")
    print_json({"removed": name}) if as_json() else console().print(plain(say("triggers removed", name=name)))


def _ask(
    home: Home, method: str, path: str, body: Mapping[str, object] | None = None, query: Mapping[str, str] | None = None
) -> Any:  # JSON as the API's models say
    from infra.cli.door_client import ask_door

    return ask_door(home, method, path, body, query)


def _enabled(name: str, enabled: bool, home: Home, json: Json) -> None:
    use_json(json)
    found = _ask(home, "POST", f"/api/triggers/{name}/enabled", {"enabled": enabled})
    print_json(found) if as_json() else console().print(plain(say("triggers on" if enabled else "triggers off", name=name)))


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MilepostError(
            f"{file} cannot be read.", why=getattr(error, "strerror", None) or str(error), hint="check the path"
        ) from error


def _payload(file: Path | None) -> object:
    from schemas.canonical import read_json

    found = read_json(_text(file), limit=256 * 1024) if file else {}
    if not isinstance(found, dict):
        raise MilepostError(f"{file} holds no JSON object.", hint="write the event as {...}")
    return found


def _source(source: Mapping[str, Any]) -> str:
    """What fires it, in a few words."""
    what = {"cron": "expression", "webhook": "scheme", "subject": "pattern", "alarm": "source"}[source["kind"]]
    zone = f" {source['timezone']}" if source["kind"] == "cron" else ""
    return f"{source['kind']} {source[what]}{zone}"


def _local(moment: str) -> str:
    from datetime import datetime

    return local(datetime.fromisoformat(moment))


def _outcome(firing: Mapping[str, Any] | None) -> str:
    if firing is None:
        return ""
    return f"{firing['outcome']} {firing['run'] or firing['why']}".strip()
