"""What hooks and channels need of the outside: secrets that stand in the environment, and a few HTTP requests. The port."""

from __future__ import annotations

from typing import Protocol

from runtime.errors import Permanent, Unreachable
from schemas.canonical import JsonObject

PREFIX = "MILEPOST_SECRET_"


class Outside(Protocol):
    """Addresses were checked by whoever asks; nothing follows a redirect, and answers are bounded."""

    base: str
    """A messenger's own address in its place, for tests: an http address; empty elsewhere."""

    def secret(self, name: str) -> str | None:
        """A variable of the environment."""
        ...

    async def post(self, address: str, body: JsonObject) -> JsonObject:
        """The JSON object that a POST of JSON is answered with. Raises Unreachable."""
        ...

    async def fetch(self, address: str) -> bytes:
        """What stands at an address. Raises Unreachable."""
        ...


class EnvironmentNotOwn(Permanent):
    """A tenant named a variable that is not its own to name."""

    def __init__(self, tenant: str, name: str) -> None:
        super().__init__(
            f"{name} is not a variable that {tenant} may name.", why="the environment holds other secrets, too",
            hint=f"call it {own_prefix(tenant)}NAME",
        )  # fmt: skip


class NoOutside:
    """Knows no secret and reaches nothing."""

    base = ""

    def secret(self, name: str) -> str | None:
        return None

    async def post(self, address: str, body: JsonObject) -> JsonObject:
        raise Unreachable(f"{address} cannot be reached from here.")

    async def fetch(self, address: str) -> bytes:
        raise Unreachable(f"{address} cannot be reached from here.")


def tenants_own(tenant: str, name: str) -> bool:
    """Whether a tenant may name this variable: MILEPOST_SECRET_TENANT__NAME, in capitals, with _ for -.

    NAME begins with no _ and has no __ in it: else it could be read as that of a tenant whose name is longer.
    """
    rest = name.removeprefix(own_prefix(tenant))
    return rest not in ("", name) and not rest.startswith("_") and "__" not in rest


def own_prefix(tenant: str) -> str:
    """What the names of a tenant's variables begin with."""
    return f"{PREFIX}{tenant.upper().replace('-', '_')}__"
