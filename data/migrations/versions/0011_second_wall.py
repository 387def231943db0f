"""Row-level security on what hangs on an incident, and on what the stream tells"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

#: Whoever sees the incident sees its revisions and conflicts. The first condition is looked
#: at once a statement, so that work for the whole city asks no further.
CITY = "(SELECT current_setting('app.districts', true)) = '*'"
HANGS_ON_INCIDENT = ("incident_revision", "incident_conflict")


def upgrade() -> None:
    for table in HANGS_ON_INCIDENT:
        seen = (
            f"{CITY} OR EXISTS (SELECT 1 FROM incident i WHERE i.incident_id = {table}.incident_id)"
        )
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY scope ON {table} TO yutu_app USING ({seen})")
    seen = f"{CITY} OR EXISTS (SELECT 1 FROM incident i WHERE i.incident_id = incident_revision.incident_id)"
    op.execute(
        f"CREATE POLICY reader_scope ON incident_revision FOR SELECT TO yutu_reader USING ({seen})"
    )
    op.execute("ALTER TABLE stream_event ENABLE ROW LEVEL SECURITY")
    op.execute(
        "CREATE POLICY scope ON stream_event FOR SELECT TO yutu_app USING ("
        f" {CITY} OR kind <> 'incident' OR adcode = ANY"
        " ((SELECT string_to_array(current_setting('app.districts', true), ','))::text[]))"
    )
    op.execute("CREATE POLICY told ON stream_event FOR INSERT TO yutu_app WITH CHECK (true)")


def downgrade() -> None:
    op.execute("DROP POLICY told ON stream_event")
    op.execute("DROP POLICY reader_scope ON incident_revision")
    for table in (*HANGS_ON_INCIDENT, "stream_event"):
        op.execute(f"DROP POLICY scope ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
