"""Wire formats by name: the forms in which models are shown tools and write calls."""

from __future__ import annotations

from services.llm.wire.bare_json import BareJson
from services.llm.wire.chatglm3 import ChatGLM3
from services.llm.wire.form import Wire
from services.llm.wire.hermes import Hermes
from services.llm.wire.mrkl import Mrkl
from services.llm.wire.msagent import MSAgent
from services.llm.wire.openai import OpenAI

WIRES: dict[str, Wire] = {wire.name: wire for wire in (BareJson(), Hermes(), OpenAI(), MSAgent(), Mrkl(), ChatGLM3())}
