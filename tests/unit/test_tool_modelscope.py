"""ModelScope-Agent's class form of a tool."""

from __future__ import annotations

import pytest

from tool_adapters.modelscope import Tool
from tool_adapters.tool import CallContext, InvalidArguments, InvalidTool

CONTEXT = CallContext(tenant="acme", run="202611-1", user="ann")


class RenewInstance(Tool):
    name = "renew"
    description = "Renew a server."
    parameters = (
        {"name": "instance_id", "description": "the id"},
        {"name": "period", "description": "months", "required": False},
    )

    def _local_call(self, *args: object, **kwargs: object) -> dict[str, object]:
        return {"result": f"renewed {kwargs['instance_id']} for {kwargs.get('period', '1')}"}


def test_the_card_has_string_parameters_and_keeps_required() -> None:
    assert RenewInstance().card.parameters == {
        "type": "object",
        "properties": {
            "instance_id": {"type": "string", "description": "the id"},
            "period": {"type": "string", "description": "months"},
        },
        "required": ["instance_id"],
        "additionalProperties": False,
    }


async def test_a_call_unwraps_the_result() -> None:
    result = await RenewInstance().call({"instance_id": "i-1", "period": "10"}, CONTEXT)

    assert result.text == "renewed i-1 for 10"
    assert RenewInstance()(instance_id="i-1") == {"result": "renewed i-1 for 1"}


async def test_wrong_arguments_never_reach_the_class() -> None:
    with pytest.raises(InvalidArguments):
        await RenewInstance().call({"period": "10"}, CONTEXT)


def test_wrong_parameters_and_a_remote_tool_without_url_are_refused() -> None:
    class Broken(Tool):
        name = "broken"
        description = "x"
        parameters = ({"title": "no name"},)

    with pytest.raises(InvalidTool):
        Broken()
    with pytest.raises(InvalidTool, match="url"):
        RenewInstance({"renew": {"is_remote_tool": True}})
