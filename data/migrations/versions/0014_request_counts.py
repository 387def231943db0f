"""How much each account and key asks, of all server processes together"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "request_count",
        sa.Column("subject", sa.Text(collation="C"), nullable=False),
        sa.Column("stretch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column(
            "told_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint("requests > 0", name=op.f("ck_request_count_requests")),
        sa.PrimaryKeyConstraint("subject", "stretch", name=op.f("pk_request_count")),
        prefixes=["UNLOGGED"],
    )
    op.create_index(op.f("ix_request_count_told_at"), "request_count", ["told_at"])
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON request_count TO yutu_app")


def downgrade() -> None:
    op.drop_table("request_count")
