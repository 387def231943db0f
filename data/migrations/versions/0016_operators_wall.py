"""An account held to operators sees their facilities alone"""

from __future__ import annotations

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

#: Each setting is read once a statement; unset, nothing is seen.
DISTRICTS = """
    (SELECT current_setting('app.districts', true)) = '*'
    OR adcode = ANY ((SELECT string_to_array(current_setting('app.districts', true), ','))::text[])
"""
OPERATORS = """
    (SELECT current_setting('app.operators', true)) = '*'
    OR operator = ANY ((SELECT string_to_array(current_setting('app.operators', true), ','))::text[])
"""
POLICIES = (("scope", "facility"), ("scope", "facility_past"), ("reader_scope", "facility"))


def upgrade() -> None:
    for policy, table in POLICIES:
        op.execute(f"ALTER POLICY {policy} ON {table} USING (({DISTRICTS}) AND ({OPERATORS}))")


def downgrade() -> None:
    for policy, table in POLICIES:
        op.execute(f"ALTER POLICY {policy} ON {table} USING ({DISTRICTS})")
