"""Attachments of incidents"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

#: Whoever sees the incident sees its attachments: the subquery is itself under `incident`'s policy.
SCOPE = """
ALTER TABLE attachment ENABLE ROW LEVEL SECURITY;
CREATE POLICY scope ON attachment TO yutu_app USING (
    EXISTS (SELECT 1 FROM incident i WHERE i.incident_id = attachment.incident_id)
);
GRANT SELECT, INSERT ON attachment TO yutu_app;
"""


def upgrade() -> None:
    op.create_table(
        "attachment",
        sa.Column("attachment_id", sa.UUID(), nullable=False),
        sa.Column("incident_id", sa.UUID(), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(collation="C"), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("width_px", sa.Integer(), nullable=True),
        sa.Column("height_px", sa.Integer(), nullable=True),
        sa.Column("display_sha256", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint("octet_length(sha256) = 32", name=op.f("ck_attachment_sha256")),
        sa.CheckConstraint(
            "octet_length(display_sha256) = 32", name=op.f("ck_attachment_display_sha256")
        ),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_attachment_batch_id")),
        sa.ForeignKeyConstraint(
            ["incident_id"], ["incident.incident_id"], name=op.f("fk_attachment_incident_id")
        ),
        sa.PrimaryKeyConstraint("attachment_id", name=op.f("pk_attachment")),
    )
    op.create_index(op.f("ix_attachment_batch_id"), "attachment", ["batch_id"], unique=False)
    op.create_index(op.f("ix_attachment_incident_id"), "attachment", ["incident_id"], unique=False)
    op.execute(SCOPE)
