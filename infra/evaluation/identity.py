"""What tells one who is examined from every other: a digest of all that changes what it says, whatever people call it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.prompt import AFTER_RESULT_MARGIN, FIRST_MARGIN, TALKED_MARGIN
from schemas.canonical import canonical, digest
from schemas.errors import MilepostError
from schemas.messages import Message, Prompt, Wire
from schemas.tools import ToolCall, ToolCard

if TYPE_CHECKING:
    from infra.settings import Settings
    from schemas.agent import AgentSpec
    from services.llm.build import Manifest
    from services.llm.tokenizer import Vocabulary

MARGINS = (FIRST_MARGIN, AFTER_RESULT_MARGIN, TALKED_MARGIN)

_CARD = ToolCard(
    name="look_up", description="Look up.", parameters={"properties": {"b": {"type": "string"}, "a": {}}, "required": ["b"]}
)
_CALL = ToolCall(id="c1", name=_CARD.name, arguments={"a": [1, {"c": None}], "b": '"é"\n中'})
_PROBE = Prompt(
    messages=(
        Message(role="system", content="Be brief."), Message(role="user", content="看 a1b2c"),
        Message(role="assistant", content="", calls=(_CALL,)), Message(role="tool", name=_CARD.name, content="{}"),
        Message(role="assistant", content="So."), Message(role="user", content="Thanks"),
    ),
    tools=(_CARD,),
)  # fmt: skip


def local_hash(manifest: Manifest, vocabulary: Vocabulary, provider: str, wire: Wire) -> str:
    """Of a built model: its weights, how they are computed, and the tokens that this code makes of a conversation."""
    from services.llm.chat import encode
    from services.llm.wire import WIRES

    tokens = encode(_PROBE, manifest.chat, WIRES[manifest.wire if wire == "model" else wire], vocabulary)
    return digest("local", _built(manifest), provider, canonical(tokens))


def agent_hash(spec: AgentSpec, model: str, settings: Settings) -> str:
    """Of an agent: its whole specification, and the model behind its model's name as this machine has it."""
    return digest("agent", canonical(spec.model_dump(mode="json")), model, _behind(model, settings))


def _behind(model: str, settings: Settings) -> str:
    """What a model's name stands for here; "" where that is not known, as a stack may run elsewhere."""
    from infra.models.build import built_folder, precision_for
    from infra.models.catalogue import find
    from infra.models.remote import remotes
    from services.llm.build import read_manifest

    try:
        if remote := remotes(settings.model.home).get(model):
            return digest("remote", remote.base_url, remote.model)
        card = find(model, settings.model.home)
        precision = precision_for(card, settings.model.precision, settings.model.provider)
        return _built(read_manifest(built_folder(card, settings.model.home, precision)))
    except MilepostError:
        return ""


def _built(manifest: Manifest) -> str:
    known = manifest.model_dump(mode="json", exclude={"name", "files", "licence", "shape"})
    return digest("built", canonical(known))
