"""The policies that every table with tenants has (see 0007), for tables that came later."""

from __future__ import annotations

from alembic import op


def secure(*tables: str) -> None:
    """Show each tenant its own rows of these tables (and those of `*`, to read), and the keeper all of them."""
    for name in tables:
        op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY own ON {name} TO milepost_service USING (tenant = current_setting('milepost.tenant', true))")
        op.execute(f"CREATE POLICY shared ON {name} FOR SELECT TO milepost_service USING (tenant = '*')")
        op.execute(f"CREATE POLICY every ON {name} TO milepost_keeper USING (true)")
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {name} TO milepost_service, milepost_keeper")
