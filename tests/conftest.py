"""Fixtures that every test may ask for."""

from __future__ import annotations

from tests.support.servers import home, migrate, nats_url, postgres_cluster, postgres_url, real_nats

__all__ = ["home", "migrate", "nats_url", "postgres_cluster", "postgres_url", "real_nats"]
