"""Models behind OpenAI-compatible endpoints, by a name of one's own. Keys are never stored: a variable holds them."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.models.catalogue import CATALOGUE
from schemas.errors import MilepostError
from schemas.ids import checked_token

FILE = "remotes.json"
# What agents call the model that the settings name.
DEFAULT = "default"


class Remote(BaseModel):
    """An endpoint. model: the model's name there; key_env: the environment variable with the API key, if it wants one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str = Field(pattern=r"^https?://[^/\s]+")
    model: str = Field(min_length=1, max_length=200)
    key_env: str = Field(default="", pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$")
    timeout_s: float = Field(default=120.0, gt=0, le=3600)

    def key(self, name: str) -> str:
        """The API key. Raises MilepostError when its variable is not set."""
        if not self.key_env:
            return ""
        try:
            return os.environ[self.key_env]
        except KeyError:
            raise MilepostError(
                f"The model {name} needs an API key.", why=f"{self.key_env} is not set where the llm service runs",
                hint=f"export {self.key_env}=..., then milepost down && milepost up -d",
            ) from None  # fmt: skip


class _File(BaseModel):
    remotes: dict[str, Remote] = {}


def remotes(home: Path) -> dict[str, Remote]:
    """The remote models that were added, by name. Raises MilepostError when the file cannot be read."""
    path = home / FILE
    try:
        return _File.model_validate_json(path.read_text(encoding="utf-8")).remotes
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise MilepostError(f"{path} cannot be read.", why=str(error)[:300], hint="mend or remove it") from error


def add_remote(home: Path, name: str, remote: Remote) -> None:
    """Remember a remote model; the name must be free in the catalogue. Raises ProtocolError for a name that is no token."""
    if checked_token(name, "model name") in CATALOGUE:
        raise MilepostError(f"{name} is a model of the catalogue.", hint="choose another name")
    if name == DEFAULT:
        raise MilepostError(
            f"No model can be called {name}.",
            why="to agents that is the model of MILEPOST_MODEL_NAME",
            hint="choose another name",
        )
    _write(home, {**remotes(home), name: remote})


def drop_remote(home: Path, name: str) -> bool:
    """Forget a remote model; False if there was none of that name."""
    known = remotes(home)
    if name not in known:
        return False
    _write(home, {each: remote for each, remote in known.items() if each != name})
    return True


def _write(home: Path, known: dict[str, Remote]) -> None:
    home.mkdir(parents=True, exist_ok=True)
    path = home / FILE
    fresh = path.with_name(f".{FILE}.{os.getpid()}")
    fresh.write_text(_File(remotes=known).model_dump_json(indent=1), encoding="utf-8")
    fresh.replace(path)
