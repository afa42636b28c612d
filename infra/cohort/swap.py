"""What a cohort exchanges: a model, the instructions or the whole agent, the tools that are offered, the rules for writes.

A swap holds the content of the files it was read from, so that it means the same on every machine that works on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import Field, TypeAdapter, ValidationError

from schemas.agent import AgentSpec
from schemas.canonical import canonical, digest, read_json
from schemas.errors import MilepostError, ProtocolError
from schemas.policy import Policy
from schemas.tools import ToolCard, Value
from services.llm.scripted import Script

LIMIT = 4 * 1024 * 1024
_FORM = "--swap llm=MODEL, prompt=FILE, tools=FILE or policy=FILE"
_CARDS = TypeAdapter(tuple[ToolCard, ...])


class BadSwap(MilepostError):
    """What is to be swapped is not there, or is nothing that can be put in its place."""


class Swap(Value):
    """What is put in the place of what was recorded; None: that is left as it was.

    llm: a model's name, or "scripted" with its script. instructions: of every agent; agent: in place of every agent.
    tools: the cards that are offered. said: as it was asked for, for people.
    """

    llm: str | None = None
    script: Script | None = None
    instructions: str | None = None
    agent: AgentSpec | None = None
    tools: tuple[ToolCard, ...] | None = None
    policy: Policy | None = None
    said: tuple[str, ...] = Field(default=(), repr=False)

    @property
    def nothing(self) -> bool:
        """Whether the runs are driven again just as they were."""
        return self == Swap(said=self.said)

    @property
    def speaks(self) -> bool:
        """Whether a model is needed: another one, or the recorded one, which is asked something new."""
        return any(each is not None for each in (self.llm, self.instructions, self.agent, self.tools))

    def hash(self) -> str:
        """Digest over all that is swapped, whatever the files are called."""
        return digest("swap", canonical(self.model_dump(mode="json", by_alias=True, exclude={"said"})))


def swap_of(asked: Sequence[str]) -> Swap:
    """What `--swap` asks for, its files read and checked. Raises BadSwap, BadAgent, BadPolicyFile, MilepostError."""
    parts: dict[str, object] = {}
    for each in asked:
        kind, equals, what = each.partition("=")
        read = _READERS.get(kind)
        if not equals or read is None or not what:
            raise BadSwap(f"{each!r} is nothing that can be swapped.", hint=_FORM)
        found = read(what)
        if twice := parts.keys() & found.keys():
            raise BadSwap(f"{' and '.join(sorted(twice))} would be swapped twice.", hint=_FORM)
        parts |= found
    if {"agent", "instructions"} <= parts.keys():
        raise BadSwap("An agent and its instructions would both be swapped.", hint="write them into the agent's file")
    return Swap.model_validate({**parts, "said": tuple(asked)})


def _llm(what: str) -> dict[str, object]:
    """A model's name, or a script (services/llm/scripted.py) in a file."""
    from services.llm.scripted import ScriptedModel

    path = Path(what)
    if path.suffix != ".json" and not path.is_file():
        return {"llm": what}
    ScriptedModel.load(path)
    return {"llm": "scripted", "script": Script.model_validate(read_json(_bytes(path, "llm"), limit=LIMIT))}


def _prompt(what: str) -> dict[str, object]:
    """An agent in TOML, JSON or YAML; else the text of the instructions."""
    from infra.cli.agents import agent_from

    path = Path(what)
    if path.suffix in (".toml", ".json", ".yaml", ".yml"):
        return {"agent": agent_from(path)}
    text = _text(path, "prompt")
    try:
        AgentSpec(instructions=text)
    except ValidationError as error:
        raise BadSwap(f"{path} holds no instructions that an agent may have.", why=_why(error), hint=_FORM) from error
    return {"instructions": text}


def _tools(what: str) -> dict[str, object]:
    path = Path(what)
    hint = "it is a JSON list of tool cards, as `milepost tools ls --json` prints them"
    try:
        values = read_json(_bytes(path, "tools"), limit=LIMIT)
        cards = _CARDS.validate_python(_bare(values))
    except ValidationError as error:
        raise BadSwap(f"{path} holds no tool cards.", why=_why(error), hint=hint) from error
    except ProtocolError as error:
        raise BadSwap(f"{path} holds no tool cards.", why=error.why or error.what, hint=hint) from error
    names = [card.name for card in cards]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise BadSwap(f"{path} has two cards of the name {doubled[0]}.", hint="leave one out")
    return {"tools": cards}


def _bare(values: object) -> object:
    """Cards as they are, or each under "card", as lists of tools have them."""
    if not isinstance(values, list):
        return values
    return [each["card"] if isinstance(each, dict) and isinstance(each.get("card"), dict) else each for each in values]


def _policy(what: str) -> dict[str, object]:
    from infra.cli.policy_file import read_policy

    return {"policy": read_policy(Path(what))[0]}


_READERS: dict[str, Callable[[str], dict[str, object]]] = {
    "llm": _llm, "prompt": _prompt, "tools": _tools, "policy": _policy,
}  # fmt: skip


def _bytes(path: Path, kind: str) -> bytes:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadSwap(f"{path} cannot be read.", why=error.strerror or str(error), hint=f"--swap {kind}=FILE") from error
    if len(raw) > LIMIT:
        raise BadSwap(f"{path} is larger than {LIMIT // 2**20} MiB.", hint=f"--swap {kind}=FILE")
    return raw


def _text(path: Path, kind: str) -> str:
    try:
        return _bytes(path, kind).decode()
    except UnicodeDecodeError as error:
        raise BadSwap(f"{path} is no text in UTF-8.", why=str(error), hint=f"--swap {kind}=FILE") from error


def _why(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:3])
