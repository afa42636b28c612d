"""The secret behind the local key and the sessions, in door.key of the data directory (0600)."""

from __future__ import annotations

from pathlib import Path

from infra.key_file import KeyFile
from infra.settings import Settings
from runtime.errors import Permanent
from services.gateway.seed import Seed

FILE = "door.key"


class DoorSecretError(Permanent):
    """The door's secret is missing, malformed or open to others."""


_FILE = KeyFile("door's secret", "door.secret", DoorSecretError)


def door_seed(settings: Settings) -> Seed:
    """The seed that was given, or that stands in the file. Raises DoorSecretError."""
    given = settings.door.secret.get_secret_value() if settings.door.secret else None
    return Seed(_FILE.read(given, door_file(settings)))


def make_door_secret(settings: Settings) -> None:
    """Make the file if there is none and nothing is given in its place. Raises DoorSecretError."""
    if settings.door.secret is None:
        settings.home.mkdir(parents=True, exist_ok=True)
        _FILE.make(door_file(settings))


def door_file(settings: Settings) -> Path:
    """Where it stands."""
    return settings.home / FILE
