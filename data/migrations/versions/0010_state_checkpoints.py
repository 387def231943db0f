"""Checkpoints of the states of all facilities"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "state_checkpoint",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("pks", sa.Integer(), nullable=False),
        sa.Column("states", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint(
            "pks >= 0 AND octet_length(states) = (pks + 3) / 4",
            name=op.f("ck_state_checkpoint_pks"),
        ),
        sa.ForeignKeyConstraint(
            ["sequence"], ["change.sequence"], name=op.f("fk_state_checkpoint_sequence")
        ),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_state_checkpoint")),
    )
    op.execute("GRANT SELECT, INSERT ON state_checkpoint TO yutu_app")


def downgrade() -> None:
    op.drop_table("state_checkpoint")
