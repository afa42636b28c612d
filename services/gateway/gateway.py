"""All that a route may use: the log and the bus as any client has them, and ports to what only the outside knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from runtime.bus import Bus
from runtime.client import Client
from runtime.clock import Clock
from runtime.log import Log
from runtime.payloads import Payloads
from runtime.tracing import Spans
from schemas import subjects
from schemas.canonical import Json, canonical, read_json
from schemas.commands import Role
from schemas.errors import ProtocolError
from schemas.runs import ListRuns, RunFilter
from services.gateway.agents.agent import AgentStore
from services.gateway.agents.evaluations import Evaluations
from services.gateway.channels.store import ChannelStore
from services.gateway.keys import KeyRing, KeyStore
from services.gateway.oidc import Tokens
from services.gateway.ports.history import History
from services.gateway.ports.library import Library
from services.gateway.ports.machinery import Machinery
from services.gateway.ports.outside import Outside
from services.gateway.ports.workshop import Workshop
from services.gateway.principal import Principal
from services.gateway.rules import Rules
from services.gateway.seed import Seed
from services.gateway.telemetry.metrics import Readings
from services.gateway.triggers.store import TriggerStore

ANSWER_S = 15.0
ANSWER_BYTES = 8 * 1024 * 1024


@dataclass(slots=True)
class Gateway:
    """Made once a process by infra.gateway.wiring; a route gets it through services.gateway.door.

    journal: the log, and behind it the archive, as one tenant may read it. local: whom the data directory's own key stands for.
    """

    journal: Callable[[str], Log]
    bus: Bus
    clock: Clock
    rules: Rules
    seed: Seed
    keys: KeyStore
    ring: KeyRing
    tokens: Tokens | None
    local: Principal
    agents: AgentStore
    triggers: TriggerStore
    history: History
    library: Library
    workshop: Workshop
    machinery: Machinery
    evaluations: Evaluations
    payloads: Payloads
    readings: Readings
    channels: ChannelStore
    outside: Outside
    spans: Spans | None = None
    models: tuple[str, ...] = ("default",)
    version: str = "0"

    def client(self, who: Principal) -> Client:
        """A client that speaks for this principal, and finds the runs of its tenant only."""
        return Client(self.journal(who.tenant), self.bus, self.clock, tenant=who.tenant, user=who.user)

    async def ask(self, role: Role, verb: str, question: object = None, timeout_s: float = ANSWER_S) -> Json:
        """A service's answer to a question. The caller puts the principal's tenant into it: services trust the bus.

        Raises what it answered with, or Unreachable.
        """
        raw = await self.bus.ask(subjects.question(role, verb), canonical(question or {}), timeout_s)
        return read_json(raw, limit=ANSWER_BYTES)

    async def ask_list(self, role: Role, verb: str, question: object = None, timeout_s: float = ANSWER_S) -> list[Json]:
        """As ask, for answers that are lists."""
        answer = await self.ask(role, verb, question, timeout_s)
        if not isinstance(answer, list):
            raise ProtocolError(f"{role} answered {verb} with something else than a list.", hint="milepost doctor")
        return answer

    async def waiting(self, tenant: str) -> int:
        """How many runs of a tenant wait for a person, 1,000 at most. Raises Unreachable."""
        asked = ListRuns(which=RunFilter(tenant=tenant, status="waiting"), limit=1000)
        return len(await self.ask_list("recorder", "runs", asked.model_dump(mode="json")))
