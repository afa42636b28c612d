"""Values that got fields later keep the hashes that old logs hold."""

from __future__ import annotations

from schemas.agent import AgentSpec
from schemas.canonical import canonical, digest
from schemas.commands import Generate
from schemas.messages import ChoiceOutput, Generation, Manner, Message, Prompt, Sampling
from schemas.tools import ToolCard

PROMPT = Prompt(
    messages=(Message(role="system", content="Be brief."), Message(role="user", content="你好", origin="user")),
    tools=(ToolCard(name="Add", description="adds", parameters={"type": "object"}),),
    sampling=Sampling(seed=7),
    call_margin=-0.5,
)
GENERATE = Generate(model="default", after=None, inputs=("e-1",), prompt_hash="0" * 64, sampling=Sampling(seed=7))


def test_the_hashes_of_the_first_logs_stay() -> None:
    """The constants were computed by the code of version 0.1.0, before the later fields existed."""
    assert PROMPT.hash() == "95dac7a4b6188142123065c92b1cea44"
    assert digest("x", canonical(GENERATE.model_dump(mode="json"))) == "18035398a0de3294eaf516e1321f1ed6"
    assert digest("x", canonical(Generation(text="hi").model_dump(mode="json"))) == "4b4eb5472c31eb4485e3c43587109aeb"


def test_a_later_field_that_is_set_is_dumped_read_and_hashed() -> None:
    manner = Manner(constrained=False, output=ChoiceOutput(options=("yes", "no")))
    special = PROMPT.model_copy(update={"manner": manner})
    assert special.hash() != PROMPT.hash()
    assert Prompt.model_validate_json(special.model_dump_json()) == special
    assert manner.model_dump(mode="json") == {"constrained": False, "output": {"kind": "choice", "options": ["yes", "no"]}}
    second = GENERATE.model_copy(update={"fallback": ("remote",)})
    assert canonical(second.model_dump(mode="json")) != canonical(GENERATE.model_dump(mode="json"))


def test_an_agent_of_an_old_log_can_be_read() -> None:
    old = AgentSpec().model_dump(mode="json") | {"parser": "hermes"}
    assert AgentSpec.model_validate(old) == AgentSpec()
