"""An account held to operators sees their returns alone"""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

#: The setting is read once a statement; unset, nothing is seen.
SEEN = """
    (SELECT current_setting('app.operators', true)) = '*'
    OR operator = ANY ((SELECT string_to_array(current_setting('app.operators', true), ','))::text[])
"""


def upgrade() -> None:
    op.execute("ALTER TABLE operator_return ENABLE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY scope ON operator_return TO yutu_app USING ({SEEN})")


def downgrade() -> None:
    op.execute("DROP POLICY scope ON operator_return")
    op.execute("ALTER TABLE operator_return DISABLE ROW LEVEL SECURITY")
