"""A run's facts folded into a turn as a page shows it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from runtime.fold import fold
from runtime.log import Stored
from schemas.agent import AgentSpec
from schemas.commands import CallTool, Generate, PlanCall, RequestApproval
from schemas.envelope import new_fact, source_of
from schemas.events import AnyEvent, Failure
from schemas.ids import RunId
