"""How an agent would have done on runs that are recorded: they are driven again with it in place of theirs. The port."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol

from pydantic import Field

from schemas.agent import AgentSpec
from schemas.tools import Value


class ChangedRun(Value):
    """A run that would have gone otherwise. risk: how (services.evaluation.agreement.Risk), the riskiest first in a list.

    at: its first event that differs, where one does. recorded, driven: the calls that differ, or the answers.
    """

    run: str
    risk: str
    task: str = ""
    at: str = ""
    recorded: tuple[str, ...] = ()
    driven: tuple[str, ...] = ()


class Figures(Value):
    """Shares from 0 to 1, None where nothing was compared. agreement: runs in which nothing changed but words;

    actions: tools called alike; arguments: their F1; answers: how like the answers are (ROUGE-L). tokens: recorded and driven.
    """

    runs: int = 0
    changed: int = 0
    agreement: float | None = None
    low: float | None = None
    high: float | None = None
    actions: float | None = None
    arguments: float | None = None
    answers: float | None = None
    risks: dict[str, int] = Field(default_factory=dict)
    tokens: tuple[int, int] = (0, 0)


class Evaluation(Value):
    """One evaluation, as far as it is. done of `of` runs; troubled: runs that could not be driven, with why."""

    id: str
    tenant: str
    agent: str
    label: str
    by: str
    began: datetime
    state: Literal["running", "done", "failed", "stopped"] = "running"
    done: int = 0
    of: int = 0
    figures: Figures = Figures()
    changed: tuple[ChangedRun, ...] = ()
    troubled: tuple[str, ...] = ()
    trouble: str = ""


class Evaluations(Protocol):
    """Drives runs again beside everything else; nothing is written or called but models."""

    async def start(self, tenant: str, spec: AgentSpec, runs: Sequence[str], *, label: str, by: str) -> Evaluation:
        """Begin one. Raises Busy while another one goes on."""
        ...

    async def get(self, tenant: str, id: str) -> Evaluation | None:
        """One of this tenant's, while this process lives."""
        ...

    async def stop(self, tenant: str, id: str) -> None:
        """End one before its time; one that has ended stays as it is."""
        ...
