"""A recipe: which data sets are mixed, how much of each, and what is done to them. One YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from schemas.errors import MilepostError

Share: TypeAlias = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count: TypeAlias = Annotated[int, Field(ge=0, le=10_000_000)]


class BadRecipe(MilepostError):
    """A recipe cannot be followed."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """A part of a public set, or of a folder that `dataset build` or `dataset mix` wrote.

    weight or count: how much of it; without both, weight 1. repeat: how often one conversation may be taken. per_tool,
    per_group: how many may call the same tool or be of one group; 0: any number. may_share: evaluation parts, "set/part",
    or sets that it is known to have phrases in common with; such conversations stay, and the card says so.
    """

    set: str = ""
    folder: str = ""
    part: str
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    count: Annotated[int, Field(ge=1)] | None = None
    repeat: Annotated[int, Field(ge=1, le=1000)] = 1
    per_tool: Count = 0
    per_group: Count = 0
    languages: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    may_share: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_place(self) -> Source:
        if bool(self.set) == bool(self.folder):
            raise ValueError("a source has either a set or a folder")
        if self.weight is not None and self.count is not None:
            raise ValueError("a source has either a weight or a count")
        return self

    @property
    def name(self) -> str:
        """What it is called in cards and messages."""
        told = [f"{self.set or self.folder}/{self.part}", *self.languages, *self.groups]
        return " ".join(told)


class Distractors(_Strict):
    """least to most tools are added; near: the share of them with a name like a right one's; tools: offered in all, 0: any."""

    least: Count = 0
    most: Count = 0
    near: Share = 0.5
    tools: Count = 0

    @model_validator(mode="after")
    def _ordered(self) -> Distractors:
        if self.least > self.most:
            raise ValueError("least is more than most")
        return self


class NoCall(_Strict):
    """share: of conversations without a call; made: the least share of these that is made of others; plain: of the made ones,
    the share of plain talk.
    """

    share: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
    made: Share = 0.0
    plain: Share = 0.25


class Rename(_Strict):
    """The shares of conversations whose tools and parameters get other names; neutral: of names that tell nothing."""

    tools: Share = 0.0
    parameters: Share = 0.0
    neutral: Share = 0.5


class Deduplicate(_Strict):
    """near: the share of shingles in common from which on two conversations are one; null: only word for word."""

    exact: bool = True
    near: Annotated[float, Field(ge=0.5, le=1, allow_inf_nan=False)] | None = 0.9


class Split(_Strict):
    """Parts and their shares. by: tool (a tool is called and offered in one part only) or conversation."""

    by: Literal["tool", "conversation"] = "conversation"
    parts: dict[str, Share] = Field(default_factory=lambda: {"train": 0.95, "validation": 0.05})

    @field_validator("parts")
    @classmethod
    def _whole(cls, parts: dict[str, float]) -> dict[str, float]:
        from schemas.ids import checked_token
        from services.datasets.splits import part_of

        for name in parts:
            checked_token(name, "part")
        part_of("", parts)
        return parts


class Recipe(_Strict):
    """The whole of it. size: conversations in all; 0: as many as counts and weights give. max_tokens: the longest; 0: any.

    clarifying: the share that is kept of conversations in which the assistant asks back. contamination: evaluation parts that
    nothing may touch. common_runs: a run of words that more conversations of a source have tells nothing; 0: each one tells.
    """

    title: str = ""
    seed: int = 0
    size: Count = 0
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    languages: dict[str, Share] = Field(default_factory=dict)
    clarifying: Share = 1.0
    distractors: Distractors = Distractors()
    no_call: NoCall | None = None
    rename: Rename = Rename()
    shuffle: bool = True
    max_tokens: Count = 0
    deduplicate: Deduplicate = Deduplicate()
    contamination: Literal["all", "none"] | tuple[str, ...] = "all"
    common_runs: Count = 10
    split: Split = Split()

    @field_validator("languages")
    @classmethod
    def _shares(cls, languages: dict[str, float]) -> dict[str, float]:
        if languages and abs(sum(languages.values()) - 1) > 1e-6:
            raise ValueError(f"the shares of languages add up to {sum(languages.values()):g}, not 1")
        return languages

    @model_validator(mode="after")
    def _told_apart(self) -> Recipe:
        names = [source.name for source in self.sources]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"{twice} is there twice; `repeat` takes a source more than once")
        return self


def read_recipe(path: Path) -> Recipe:
    """Raises BadRecipe, which names the line or the key that is wrong and the one that was probably meant."""
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadRecipe(
            f"{path} cannot be read.", why=error.strerror or str(error), hint="milepost dataset mix --help"
        ) from error
    except UnicodeDecodeError as error:
        raise BadRecipe(f"{path} is not UTF-8.", why=str(error), hint="save it as UTF-8") from error
    except yaml.YAMLError as error:
        raise BadRecipe(f"{path} is not YAML.", why=" ".join(str(error).split())[:300], hint="mend the line") from error
    if not isinstance(told, Mapping):
        raise BadRecipe(f"{path} is no recipe.", why="it is no mapping of keys to values", hint="it begins with `sources:`")
    try:
        return Recipe.model_validate(told)
    except ValidationError as error:
        raise _bad(path, error) from error


def _bad(path: Path, error: ValidationError) -> BadRecipe:
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")  # a key that is missing may be misspelt
    where = ".".join(str(each) for each in first["loc"]) or "the recipe"
    if first["type"] == "extra_forbidden":
        keys = _keys_at(first["loc"][:-1])
        close = get_close_matches(str(first["loc"][-1]), keys, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(keys))}"
        return BadRecipe(f"{path}: {where} is no key of a recipe.", why="it would do nothing", hint=hint)
    return BadRecipe(f"{path}: {where} is wrong.", why=first["msg"].removeprefix("Value error, "), hint=f"mend {where}")


def _keys_at(place: tuple[int | str, ...]) -> list[str]:
    """The keys that may stand where one was wrong."""
    parts: dict[str, type[BaseModel]] = {
        "sources": Source, "distractors": Distractors, "no_call": NoCall, "rename": Rename, "deduplicate": Deduplicate,
        "split": Split,
    }  # fmt: skip
    kind = parts.get(str(place[0]), Recipe) if place else Recipe
    return list(kind.model_fields)
