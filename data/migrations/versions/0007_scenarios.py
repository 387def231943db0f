"""Saved scenarios"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

#: What somebody supposed may be taken back, shared and retired, never erased.
RIGHTS = """
GRANT SELECT, INSERT ON scenario TO yutu_app;
GRANT UPDATE (shared, retired_at) ON scenario TO yutu_app;
"""


def upgrade() -> None:
    op.create_table(
        "scenario",
        sa.Column("scenario_id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(collation="C"), nullable=False),
        sa.Column("shared", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("body", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("body_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("octet_length(body_sha256) = 32", name=op.f("ck_scenario_sha256")),
        sa.CheckConstraint("name <> ''", name=op.f("ck_scenario_name")),
        sa.ForeignKeyConstraint(["owner"], ["account.username"], name=op.f("fk_scenario_owner")),
        sa.PrimaryKeyConstraint("scenario_id", name=op.f("pk_scenario")),
    )
    op.create_index(
        "ix_scenario_owner_name",
        "scenario",
        ["owner", "name"],
        unique=True,
        postgresql_where=sa.text("retired_at IS NULL"),
    )
    op.execute(RIGHTS)


def downgrade() -> None:
    op.drop_table("scenario")
