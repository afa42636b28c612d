"""Adapters that come with Milepost: small changes of a model of the catalogue, committed with the card of their training.

Each is a folder of services/llm/adapters: adapter_config.json, adapter_model.safetensors, card.json and README.md. Under its
folder's name it is a model like any other: the first who wants it has it merged with its base and built.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.canonical import JsonObject
from schemas.errors import MilepostError
from schemas.messages import Wire

SHIPPED = Path(__file__).parents[2] / "services" / "llm" / "adapters"
CONFIG, TENSORS, CARD = "adapter_config.json", "adapter_model.safetensors", "card.json"
LARGEST = 20 * 2**20  # bytes of one that may be committed


class BadCard(MilepostError):
    """The card of trained weights cannot be read."""


class Trained(BaseModel):
    """What is known of trained weights: card.json beside them.

    base: a model of `models ls`; base_sha256: of its files; base_weights: how those are stored; data: each data set's name,
    sum and licence; plan: what the trainer was asked; versions: what it ran on; metrics: what came out; gate: how it did
    beside its base; sha256: of the adapter's tensors; size: bytes of them.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    base: str
    base_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    base_weights: str = ""
    method: str = "lora"
    wire: Wire = "json"
    data: tuple[JsonObject, ...] = ()
    licence: str = "unknown"
    languages: tuple[str, ...] = ()
    plan: JsonObject = Field(default_factory=dict)
    versions: JsonObject = Field(default_factory=dict)
    metrics: JsonObject = Field(default_factory=dict)
    gate: JsonObject | None = None
    sha256: str = ""
    size: int = 0
    made: str = ""

    def write(self, folder: Path) -> None:
        """As card.json."""
        (folder / CARD).write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


def card_of(folder: Path) -> Trained | None:
    """The card in a folder, None where there is none. Raises BadCard."""
    path = folder / CARD
    if not path.is_file():
        return None
    try:
        return Trained.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        hint = "write it again with: milepost train, or remove it"
        raise BadCard(f"{path} cannot be read.", why=str(error)[:300], hint=hint) from error


def shipped() -> dict[str, Trained]:
    """The adapters that come with Milepost, by name. Raises BadCard."""
    found = {path.parent.name: card_of(path.parent) for path in sorted(SHIPPED.glob(f"*/{CARD}"))}
    return {name: card for name, card in found.items() if card is not None}


def origin(name: str) -> str:
    """What an added model that was made of a shipped adapter says it was added from."""
    return f"adapter {name}"
