"""The gateway's address and connections: where it may not open, and clients that hold a connection for nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from infra.gateway import serving
from infra.gateway.http_protocol import HEAD_BYTES, BoundedHead
from infra.settings import Door, Oidc, Settings
from runtime.errors import Permanent
from services.gateway.app import create_app
from tests.support.door import gateway


def settings(**door: object) -> Settings:
    return Settings(door=Door.model_validate(door))


@asynccontextmanager
async def served(door: Door) -> AsyncIterator[int]:
    """A door that is open; gives its port."""
    listening, ready = serving.listen(door), asyncio.Event()
    serving_it = asyncio.create_task(serving.serve_app(create_app(gateway()), door, listening, ready))
    try:
        async with asyncio.timeout(10):
            await ready.wait()
        yield int(listening.getsockname()[1])
    finally:
        serving_it.cancel()
        await asyncio.wait({serving_it})


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "example.com"])
def test_an_address_that_others_reach_needs_somebody_to_let_in_and_no_plain_text(host: str) -> None:
    with pytest.raises(serving.DoorClosed, match="does not open") as refused:
        serving.check_public(settings(host=host, behind_proxy=True), has_keys=False)
    assert "door keys add" in refused.value.hint
    with pytest.raises(serving.DoorClosed) as plain:
        serving.check_public(settings(host=host), has_keys=True)
    assert "plain text" in plain.value.why
    serving.check_public(settings(host=host, behind_proxy=True), has_keys=True)
    issuer = settings(host=host, tls_cert="/a.pem").model_copy(update={"oidc": Oidc(issuer="https://id.example")})
    serving.check_public(issuer, has_keys=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_loopback_needs_neither(host: str) -> None:
    serving.check_public(settings(host=host), has_keys=False)


def test_the_usual_port_gives_way_and_a_wanted_one_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Permanent, match=str(port)):
            serving.listen(Door(port=port))
        before, serving.USUAL_PORT = serving.USUAL_PORT, port
        try:
            with serving.listen(Door()) as found:
                assert found.getsockname()[1] != port
        finally:
            serving.USUAL_PORT = before


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: 127", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"])
async def test_a_connection_that_says_no_whole_head_is_closed(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedHead, "head_s", 0.2)
    async with served(Door(port=0)) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        if said.endswith(b"\r\n\r\n"):  # one request, and then half of another
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            await reader.readexactly(len(b'{"status":"ok"}'))
            writer.write(b"GET /heal")
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


async def test_a_stream_that_lasts_is_not_closed_for_its_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is on heads alone: an answer may take longer than one."""
    monkeypatch.setattr(BoundedHead, "head_s", 0.2)
    async with served(Door(port=0)) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = b"POST /api/session HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n"
        writer.write(head)
        closed = asyncio.create_task(reader.read(1))
        done, _ = await asyncio.wait({closed}, timeout=0.6)  # three times the limit
        assert not done
        writer.write(b'{"key":"x"}')
        assert await closed == b"H"
        writer.close()


async def test_a_head_without_end_is_refused() -> None:
    async with served(Door(port=0)) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * (HEAD_BYTES + 10_000))
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
        writer.close()


async def test_tls_is_spoken_with_a_certificate(tmp_path: Path) -> None:
    import ssl

    import trustme

    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    door = Door(port=0, tls_cert=tmp_path / "cert.pem", tls_key=tmp_path / "key.pem")
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    async with served(door) as port, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("localhost", port, ssl=trusted)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 421")  # a name that this gateway does not have
        writer.close()


def test_a_port_that_is_taken_is_said_before_anything_starts(tmp_path: Path) -> None:
    from infra.cli.stack import up

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        milepost_toml = tmp_path / "milepost.toml"
        milepost_toml.write_text(f"[door]\nport = {port}\n")
        home = tmp_path / "stack"
        with contextlib.chdir(tmp_path), pytest.raises(serving.DoorClosed, match=str(port)):
            up(home=home, detach=True)
        assert not home.exists()
