"""What went wrong, as a run's log tells it."""

from __future__ import annotations

from schemas.events import Failure
from schemas.tools import ToolCall
from tool_adapters.tool import ToolError


def failure_of(error: ToolError) -> Failure:
    """A tool's error in its own words."""
    return Failure(type=type(error).__name__, what=error.what, why=error.why, hint=error.hint)


def late(call: ToolCall) -> Failure:
    """It took longer than its card allows."""
    return Failure(type="Timeout", what=f"{call.name} did not answer in time.", hint="raise timeout_s of its card")


def raised(call: ToolCall, error: Exception) -> Failure:
    """The tool raised something else than a ToolError."""
    return Failure(type=type(error).__name__, what=f"{call.name} failed.", why=str(error)[:500])


def unplanned(call: ToolCall) -> Failure:
    """A write without a plan."""
    return Failure(type="Unplanned", what=f"{call.name} changes the world and was called without a plan.")


def foreign_key(call: ToolCall, why: str) -> Failure:
    """Its write key belongs to another effect, or to none: under it the ledger could not tell what was done."""
    return Failure(
        type="ForeignKey", what=f"{call.name} was called with a write key that is not its own.", why=why, hint="ask again"
    )


def under_way(call: ToolCall, by: str) -> Failure:
    """Another command is about to cause the same effect."""
    return Failure(type="EffectUnderWay", what=f"The same {call.name} is under way elsewhere.", why=f"command {by}")


def doubted(call: ToolCall, key: str) -> Failure:
    """Nobody knows whether the same effect has happened."""
    return Failure(
        type="InDoubt", what=f"An earlier {call.name} of the same kind is in doubt.",
        why="whether it happened is not known", hint=f"milepost effects show {key[:12]}",
    )  # fmt: skip


def in_doubt(call: ToolCall, why: str, key: str) -> Failure:
    """Nobody knows whether this one has happened."""
    return Failure(
        type="InDoubt", what=f"Whether {call.name} happened is not known.", why=why, hint=f"milepost effects show {key[:12]}"
    )


def changed(call: ToolCall) -> Failure:
    """The world is another one than it was planned and approved on."""
    return Failure(
        type="StateChanged", what=f"What {call.name} is about has changed since it was planned.",
        why="the approval was for the earlier state", hint="ask again",
    )  # fmt: skip


def not_plannable(call: ToolCall, why: str) -> Failure:
    """It cannot be looked at any more."""
    return Failure(type="NotPlannable", what=f"{call.name} cannot be done any more.", why=why[:500])
