"""Fixtures that every test may ask for."""

from __future__ import annotations

from tests.support.brokers import nats, nats_alone, place
from tests.support.dingtalk import hooked_stack
from tests.support.gateways import two_doors
from tests.support.node import node, node_modules
from tests.support.servers import home, migrate, nats_url, postgres_cluster, postgres_url, real_nats
from tests.support.stack import doubled_stack, scripted_stack

__all__ = [
    "doubled_stack", "home", "hooked_stack", "migrate", "nats", "nats_alone", "nats_url", "node", "node_modules", "place",
    "postgres_cluster", "postgres_url", "real_nats", "scripted_stack", "two_doors",
]  # fmt: skip
