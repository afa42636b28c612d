"""Who answers under a name, asked of the store once in a while: a request should not wait for a database each time."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import cast

from starlette.requests import HTTPConnection

from schemas.agent import AgentSpec
from services.gateway.agents.agent import spec_named
from services.gateway.gateway import Gateway

FRESH_S = 1.0
"""How long somebody else's change of an agent may go unseen."""
_KNOWN = 1000


class Specs:
    """Agents and models by tenant and name."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._known: OrderedDict[tuple[str, str], tuple[float, AgentSpec]] = OrderedDict()

    async def named(self, tenant: str, name: str) -> AgentSpec:
        """Raises NotThere, Unreachable."""
        now, key = time.monotonic(), (tenant, name)
        at, spec = self._known.get(key, (float("-inf"), None))
        if spec is None or now - at > FRESH_S:
            spec = await spec_named(self._gateway.agents, tenant, name, self._gateway.models)
            self._known[key] = now, spec
            if len(self._known) > _KNOWN:
                self._known.popitem(last=False)
        return spec


def specs_of(connection: HTTPConnection) -> Specs:
    """Those of this app."""
    state = connection.app.state
    if not hasattr(state, "openai_specs"):
        state.openai_specs = Specs(state.gateway)
    return cast("Specs", state.openai_specs)
