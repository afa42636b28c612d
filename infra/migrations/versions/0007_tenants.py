"""Roles that own nothing, and policies that show each tenant its own rows.

milepost_service sees the rows of the tenant that its transaction names (milepost.tenant) and reads those that belong to all
('*'). milepost_keeper sees the rows of every tenant: it indexes the log, embeds what waits, and forgets people. Both are
made without a login; an operator gives them one, or lets the owner of the tables change into them.
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ROLES = """
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['milepost_service', 'milepost_keeper'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another database of this server was faster
        END;
        IF NOT pg_has_role(current_user, name, 'SET') THEN
            EXECUTE format('GRANT %I TO CURRENT_USER', name);
        END IF;
        EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO %I', name);
        EXECUTE format('GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO %I', name);
    END LOOP;
END $$
"""

_POLICIES = """
DO $$
DECLARE name text;
BEGIN
    FOR name IN
        SELECT c.relname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND a.attname = 'tenant'
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY own ON %I TO milepost_service USING (tenant = current_setting(''milepost.tenant'', true))', name);
        EXECUTE format('CREATE POLICY shared ON %I FOR SELECT TO milepost_service USING (tenant = ''*'')', name);
        EXECUTE format('CREATE POLICY every ON %I TO milepost_keeper USING (true)', name);
    END LOOP;
END $$
"""


def upgrade() -> None:
    op.execute(_ROLES)
    op.execute(_POLICIES)
    op.execute("REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM milepost_service, milepost_keeper")
