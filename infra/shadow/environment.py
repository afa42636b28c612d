"""What a shadow's process knows of the world: an environment without credentials, and a folder of its own as its home.

Only what is named here is passed on. It reaches the bus, and that is all it has: no key that signs rights, no ledger of
effects, no database, no keys of a cloud. Its home is a folder beside those of the stack, so no file of keys is found by its
name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from infra.settings import FILE, Settings
from infra.shadow.shadow import Shadow
from schemas.errors import MilepostError

PARENT = "MILEPOST_SHADOW_PARENT"
_NAMES = frozenset({
    "PATH", "LANG", "LANGUAGE", "TZ", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "HOME", "PWD", "MILEPOST_HOME", "MILEPOST_TENANT", "MILEPOST_NATS_URL",
    "MILEPOST_LOG_LEVEL", "MILEPOST_LOG_FORMAT", "MILEPOST_LANGUAGE", "__CF_USER_TEXT_ENCODING", PARENT,
})  # fmt: skip
_BEGINNINGS = ("LC_", "MILEPOST_MODEL_")


class NotScrubbed(MilepostError):
    """A shadow was started with more in its environment than it may know."""


def allowed(name: str) -> bool:
    """Whether a variable is one of those that a shadow may have, whatever it is a shadow of."""
    return name in _NAMES or name.startswith(_BEGINNINGS)


def home_of(settings: Settings, shadow: Shadow) -> Path:
    """The folder of a shadow; its own milepost.toml, which is empty, keeps that of the stack from being read."""
    folder = settings.home / "shadows" / shadow.tenant / shadow.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).touch()
    return folder


def scrubbed(settings: Settings, shadow: Shadow, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """All that a shadow's process is given. settings: of the stack, with the address of its bus."""
    environ = os.environ if environ is None else environ
    home = str(home_of(settings, shadow))
    kept = {name: value for name, value in environ.items() if allowed(name)}
    own = _key_of_model(settings, shadow)
    return kept | {name: environ[name] for name in own if name in environ} | {
        "HOME": home, "PWD": home, "MILEPOST_HOME": home, "MILEPOST_TENANT": shadow.tenant,
        "MILEPOST_NATS_URL": settings.nats.url or "", "MILEPOST_MODEL_HOME": str(settings.model.home),
    }  # fmt: skip


def check_scrubbed(settings: Settings, shadow: Shadow, environ: Mapping[str, str] | None = None) -> None:
    """Raises NotScrubbed if there is a variable that a shadow is not given."""
    known = _key_of_model(settings, shadow)
    more = sorted(name for name in (os.environ if environ is None else environ) if not allowed(name) and name not in known)
    if more:
        raise NotScrubbed(
            "A shadow is not started with the environment of a person.", why=f"it has {', '.join(more[:5])}",
            hint=f"milepost shadow run {shadow.name}",
        )  # fmt: skip


def _key_of_model(settings: Settings, shadow: Shadow) -> tuple[str, ...]:
    """The one variable that a remote model as the candidate cannot do without: the key of its own endpoint."""
    from infra.models.remote import remotes

    name = shadow.candidate.swap.llm
    remote = remotes(settings.model.home).get(name) if name else None
    return (remote.key_env,) if remote and remote.key_env else ()
