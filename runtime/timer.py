"""The clock as a service: a timer waits in the queue until its moment, so it survives every process."""

from __future__ import annotations

from runtime.clock import Clock
from runtime.errors import NotYet
from runtime.service import Context, Service
from schemas.commands import StartTimer
from schemas.events import AnyEvent, TimerFired

LONGEST_PAUSE_S = 3600.0


def timer_service(clock: Clock) -> Service:
    """Answers StartTimer when its moment has come, and not before."""
    service = Service("timer", "tells runs that a moment has come", attempts=0, at_once=256)

    @service.on(StartTimer)
    async def fire(command: StartTimer, context: Context) -> AnyEvent:
        left = (command.at - clock.now()).total_seconds()
        if left > 0:
            raise NotYet(min(left, LONGEST_PAUSE_S))
        return TimerFired(command=command, fired=clock.now())

    return service
