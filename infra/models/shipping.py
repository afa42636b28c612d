"""Models that come with Milepost as adapters: made where they are wanted, of their base and a few megabytes."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from infra.models import adapters
from infra.models.adapters import CONFIG, TENSORS, Trained, card_of, origin, shipped
from infra.models.catalogue import CATALOGUE

if TYPE_CHECKING:
    from infra.models.catalogue import ModelCard
    from infra.models.fetch import OnProgress


def is_to_make(name: str, home: Path) -> bool:
    """Whether a name is an adapter's of which no model was made here yet, or one of an older state of it."""
    from infra.models.added import read_card

    if name in CATALOGUE or name not in shipped():
        return False
    there = read_card(name, home)
    if there is None:
        return not (home / name).exists()
    return there.added_from == origin(name) and there.trained is not None and there.trained.sha256 != shipped()[name].sha256


async def make(name: str, *, home: Path, offline: bool, folder: Path | None, on_progress: OnProgress) -> None:
    """Fetch an adapter's base, merge and register the model. Two processes may ask at once: one makes it, the other waits.

    Raises what fetching the base raises, BadAdapter, WrongBase, NoBase, BuildFailed.
    """
    from filelock import AsyncFileLock

    from infra.models.added import remove
    from infra.models.fetch import ensure

    card = shipped()[name]
    await ensure(card.base, home=home, offline=offline, folder=folder, on_progress=on_progress)
    async with AsyncFileLock(home / f".making-{name}.lock"):
        if not is_to_make(name, home):
            return
        if (home / name).exists():
            await asyncio.to_thread(remove, name, home)
        await added(adapters.SHIPPED / name, name, card, home, added_from=origin(name))


async def added(
    adapter: Path, name: str, trained: Trained, home: Path, *, added_from: str, precision: str = "int8"
) -> ModelCard:  # fmt: skip
    """The model that an adapter makes of its base, registered and built under a name; only its links stay of the merge."""
    from infra.models.adding import add
    from infra.training.base import base
    from infra.training.merging import merge

    model = base(trained.base, home)
    scratch = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=".merged-", dir=home))
    try:
        merged = await asyncio.to_thread(merge, adapter, model, scratch / name)
        languages = trained.languages or model.languages
        return await add(
            merged, home=home, name=name, chat=model.chat, licence=trained.licence, precision=precision,
            added_from=added_from, trained=trained.model_copy(update={"languages": languages}),
        )  # fmt: skip
    finally:
        await asyncio.to_thread(shutil.rmtree, scratch, ignore_errors=True)


def ship(source: Path, name: str) -> Trained:
    """Put a trained adapter where the repository keeps its own, in bfloat16; commit the folder to have it come with Milepost.

    Raises BadAdapter for what is no adapter, or too large for the repository, NotPublished for one whose training is not known.
    """
    from infra.models.publishing import WITHIN, NotPublished, seal
    from infra.training.adapters import BadAdapter, narrow, read
    from schemas.ids import checked_token

    folder = next((each for each in (source, *(source / place for place in WITHIN)) if (each / CONFIG).is_file()), source)
    read(folder)
    card = card_of(folder)
    if card is None:
        raise NotPublished(
            f"It is not known how {source} was trained.", why="no card.json is there", hint="milepost train writes it"
        )
    into = adapters.SHIPPED
    target = into / checked_token(name, "model name")
    with tempfile.TemporaryDirectory(prefix=".shipping-", dir=into) as scratch:
        made = Path(scratch) / name
        made.mkdir()
        narrow(folder / TENSORS, made / TENSORS)
        if (size := (made / TENSORS).stat().st_size) > adapters.LARGEST:
            why = f"it has {size / 2**20:.1f} MiB in bfloat16, {adapters.LARGEST / 2**20:.0f} may be"
            raise BadAdapter(folder, why, "train it again with a lower --rank")
        shutil.copyfile(folder / CONFIG, made / CONFIG)
        card = seal(made, card.model_copy(update={"name": name}))
        (made / "README.md").write_text(about(card), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        made.rename(target)
    return card


def about(card: Trained) -> str:
    """The README of a shipped adapter, from its card, with the front matter that model hubs read."""
    data = "\n".join(
        f"- {each.get('name')}: {each.get('license', 'licence unknown')}, SHA-256 {each.get('sha256')}" for each in card.data
    )
    dev = card.metrics.get("dev")
    loss = f" Weighted loss on the dev data: {dev.get('loss')}." if isinstance(dev, dict) else ""
    return (
        f"---\nlicense: {card.licence.lower()}\nbase_model: {card.base}\nlibrary_name: peft\n---\n# {card.name}\n\n"
        f"An adapter ({card.method}) of {card.base} (SHA-256 {card.base_sha256}, weights {card.base_weights}), trained to call "
        f"tools in the wire `{card.wire}`.{loss}\n\nTrained on:\n\n{data}\n\nPlan, versions and figures are in `card.json`. "
        f"Use it: `milepost models pull {card.name}`.\n"
    )


if __name__ == "__main__":
    import sys

    from schemas.errors import MilepostError

    try:
        print(about(ship(Path(sys.argv[1]), sys.argv[2])))
    except MilepostError as error:
        sys.exit(str(error))
    except IndexError:
        sys.exit("python -m infra.models.shipping RUN_OR_ADAPTER NAME")
