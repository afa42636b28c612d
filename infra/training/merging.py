"""An adapter and its base as one model: W + s B A in float32, without torch. Checked against peft in tests/training."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from infra.models.adapters import card_of
from infra.training.adapters import Adapter, WrongBase, read
from infra.training.base import Base, NoBase, refuse_without_room
from infra.training.hugging_face import Kind, tensors_of, write_folder
from services.llm.weights.safetensors import CONFIG, INDEX, WHOLE, hugging_face_name

if TYPE_CHECKING:
    from services.llm.weights import Array, Weights

OnTensor: TypeAlias = Callable[[int, int], None]


def silent(_done: int, _total: int) -> None:
    """Progress for nobody."""


def merge(adapter: Path, base: Base, out: Path, *, kind: Kind = "fp32", on_tensor: OnTensor = silent) -> Path:
    """Write the model that an adapter makes of its base as a Hugging Face folder; all of it or nothing.

    out: a folder that is not there yet. on_tensor: hears how many tensors of how many are written.
    Raises BadAdapter, WrongBase, NoBase, UnsupportedModel.
    """
    from services.llm.weights import Weights

    known, read_adapter = card_of(adapter), read(adapter)
    if known and known.base_sha256 != base.sha256:
        why = f"it was trained upon {known.base} ({known.base_sha256[:12]}), and this is {base.name} ({base.sha256[:12]})"
        raise WrongBase(adapter, base.name, why, f"name the model it was trained upon: --model {known.base}")
    if out.exists():
        raise NoBase(f"{out} is there already.", hint="name a folder that is not there yet, or remove it")
    weights = Weights(base.source)
    _check_shapes(read_adapter, weights, base)
    total, done = sum(1 for _ in tensors_of(weights)), 0

    def change(name: str, values: Array) -> Array:
        nonlocal done
        done += 1
        on_tensor(done, total)
        module = name.removesuffix(".weight")
        return values + read_adapter.delta(module) if module != name and module in read_adapter.pairs else values

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        refuse_without_room(base, out.parent, kind)
        with tempfile.TemporaryDirectory(prefix=".merging-", dir=out.parent) as scratch:
            made = Path(scratch) / "made"
            made.mkdir()
            write_folder(base.source, made, kind=kind, change=change)
            made.rename(out)
    except OSError as error:
        raise NoBase(f"The merged model cannot be written to {out}.", why=error.strerror or str(error)) from error
    return out


def _check_shapes(adapter: Adapter, weights: Weights, base: Base) -> None:
    """Every module of the adapter must be one of the base's, of the same size."""
    there = {hugging_face_name(name).removesuffix(".weight"): dims for name, dims in tensors_of(weights) if len(dims) == 2}
    for module, (down, up) in adapter.pairs.items():
        if module not in there:
            raise WrongBase(adapter.folder, base.name, f"it changes {module}, which {base.name} has not")
        if there[module] != (up.shape[0], down.shape[1]):
            why = f"it changes {module} of {(up.shape[0], down.shape[1])}, which has {there[module]} in {base.name}"
            raise WrongBase(adapter.folder, base.name, why)


def is_whole_model(folder: Path) -> bool:
    """Whether a folder holds a model by itself: what full training writes, or a merge."""
    return (folder / CONFIG).is_file() and ((folder / WHOLE).is_file() or (folder / INDEX).is_file())
