"""What a shadow is: the candidate, how much of the traffic it sees, what became of it; and what it came to for each answer."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Literal, TypeAlias

from pydantic import Field

from infra.cohort.driving import Result
from infra.cohort.swap import Swap
from schemas.canonical import JsonObject
from schemas.errors import MilepostError
from schemas.ids import Token
from schemas.tools import Value
from services.evaluation.agreement import Risk
from services.tools.sources import Source, Spec

State: TypeAlias = Literal["running", "stopped", "promoted", "rolled back"]
Kind: TypeAlias = Literal["llm", "policy", "tool"]


class UnknownShadow(MilepostError):
    """There is no such shadow."""


class ShadowTaken(MilepostError):
    """The name is that of another shadow."""


class Candidate(Value):
    """What is asked beside what serves: a model or rules (swap), or a tool as its source describes it now."""

    swap: Swap = Swap()
    source: Source | None = None
    spec: Spec | None = None

    @property
    def kind(self) -> Kind:
        """Which answers of the log it is compared with."""
        if self.spec is not None:
            return "tool"
        return "policy" if self.swap.policy is not None else "llm"


class Shadow(Value):
    """A candidate beside live traffic.

    said: as it was asked for. share: of the runs that it sees, 0 to 1. tokens_per_hour: that its model may read and write.
    since: the answers from then on are compared. trouble: why its process cannot go on. before: what a promotion replaced.
    """

    tenant: Token
    name: Token
    candidate: Candidate
    said: str
    share: float = Field(default=1.0, gt=0, le=1)
    tokens_per_hour: int | None = Field(default=None, ge=1, lt=2**62)
    since: datetime
    state: State = "running"
    by: str
    created: datetime
    trouble: str = ""
    before: JsonObject | None = None
    promoted: datetime | None = None
    note: str = ""

    @property
    def group(self) -> str:
        """Its own reading of the log."""
        return f"shadow-{self.tenant}-{self.name}"

    def sees(self, run: str) -> bool:
        """Whether a run is in its share: whole runs are, and always the same."""
        drawn = int.from_bytes(hashlib.sha256(f"{self.group} {run}".encode()).digest()[:8], "big")
        return drawn < self.share * 2**64


class Compared(Value):
    """What a shadow came to for one answer of the log: RUN#event.

    risk: how it differs; "skipped" and "failed" say in `why` what kept it from being compared. tokens: that the candidate took.
    result: figures; what it quotes stands sealed in it, or not at all.
    """

    run: str
    event: int = Field(ge=1)
    risk: Risk | Literal["skipped", "failed"]
    why: str = Field(default="", max_length=200)
    tokens: int = 0
    at: datetime
    result: Result


class Told(Value):
    """A shadow, with how many answers were compared so far, by risk, and when the last one was."""

    shadow: Shadow
    counts: dict[str, int] = Field(default_factory=dict)
    last: datetime | None = None
