"""Which tools on the bus are listened for, as a real nats-server tells."""

from __future__ import annotations

import pytest

from infra.jetstream.listeners import tools_heard
from tests.support.brokers import Place
from tests.support.servers import RealNats


async def test_tools_are_those_that_somebody_subscribes_to(nats: Place, nats_alone: RealNats) -> None:
    connection = (await nats.member()).connection
    assert connection is not None
    subjects = ("mp.tool._all.weather", "mp.tool.acme.till", "mp.tool.*.clock", "mp.card.acme.bus.no", "x.tool.a.b")
    told = [await connection.client.subscribe(subject) for subject in subjects]
    await connection.reached()
    assert await tools_heard(nats_alone.monitor) == {"weather", "till", "clock"}
    await told[0].unsubscribe()
    await connection.reached()
    assert await tools_heard(nats_alone.monitor) == {"till", "clock"}


@pytest.mark.parametrize("subject", ["mp.>", "mp.*.>", "mp.tool.acme.>", "mp.tool.*.*"])
async def test_who_listens_to_all_of_them_hides_who_does_not(nats: Place, nats_alone: RealNats, subject: str) -> None:
    connection = (await nats.member()).connection
    assert connection is not None
    await connection.client.subscribe(subject)
    await connection.reached()
    assert await tools_heard(nats_alone.monitor) is None


async def test_without_a_monitor_nobody_can_tell() -> None:
    assert await tools_heard(None) is None
    assert await tools_heard("http://127.0.0.1:9") is None
