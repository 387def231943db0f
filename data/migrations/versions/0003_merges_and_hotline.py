"""Merged incidents say into which; work orders of the hotline"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

EARTHLY = (
    "ST_X(geom) BETWEEN -180 AND 180 AND ST_Y(geom) BETWEEN -90 AND 90 AND NOT ST_IsEmpty(geom)"
)

#: Whoever sees the incident sees its work order.
SCOPE = """
ALTER TABLE hotline_order ENABLE ROW LEVEL SECURITY;
ALTER TABLE hotline_notice ENABLE ROW LEVEL SECURITY;
CREATE POLICY scope ON hotline_order TO yutu_app USING (
    EXISTS (SELECT 1 FROM incident i WHERE i.incident_id = hotline_order.incident_id)
);
CREATE POLICY scope ON hotline_notice TO yutu_app USING (
    EXISTS (SELECT 1 FROM hotline_order o WHERE o.order_number = hotline_notice.order_number)
);
ALTER TABLE incident_distinct ENABLE ROW LEVEL SECURITY;
CREATE POLICY scope ON incident_distinct TO yutu_app USING (
    EXISTS (SELECT 1 FROM incident i WHERE i.incident_id = incident_distinct.incident_id)
    AND EXISTS (SELECT 1 FROM incident i WHERE i.incident_id = incident_distinct.other)
);
GRANT SELECT, INSERT, DELETE ON incident_distinct TO yutu_app;
GRANT SELECT, INSERT ON hotline_order, hotline_notice TO yutu_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO yutu_app;
"""


def upgrade() -> None:
    op.add_column("incident_revision", sa.Column("duplicate_of", sa.UUID(), nullable=True))
    op.create_foreign_key(
        op.f("fk_incident_revision_duplicate_of"),
        "incident_revision",
        "incident",
        ["duplicate_of"],
        ["incident_id"],
    )
    op.create_check_constraint(
        op.f("ck_incident_revision_duplicate_of"),
        "incident_revision",
        "duplicate_of IS NULL OR (state = 'duplicate' AND duplicate_of <> incident_id)",
    )
    op.create_index(
        op.f("ix_incident_revision_duplicate_of"), "incident_revision", ["duplicate_of"]
    )
    op.create_table(
        "incident_distinct",
        sa.Column("incident_id", sa.UUID(), nullable=False),
        sa.Column("other", sa.UUID(), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint("incident_id < other", name=op.f("ck_incident_distinct_order")),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["batch.id"], name=op.f("fk_incident_distinct_batch_id")
        ),
        sa.ForeignKeyConstraint(
            ["incident_id"], ["incident.incident_id"], name=op.f("fk_incident_distinct_incident_id")
        ),
        sa.ForeignKeyConstraint(
            ["other"], ["incident.incident_id"], name=op.f("fk_incident_distinct_other")
        ),
        sa.PrimaryKeyConstraint("incident_id", "other", name=op.f("pk_incident_distinct")),
    )
    op.create_index(op.f("ix_incident_distinct_batch_id"), "incident_distinct", ["batch_id"])
    op.create_index(op.f("ix_incident_distinct_other"), "incident_distinct", ["other"])
    op.create_table(
        "hotline_order",
        sa.Column("order_number", sa.Text(collation="C"), nullable=False),
        sa.Column("incident_id", sa.UUID(), nullable=False),
        sa.Column("first", sa.Boolean(), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_hotline_order_batch_id")),
        sa.ForeignKeyConstraint(
            ["incident_id"], ["incident.incident_id"], name=op.f("fk_hotline_order_incident_id")
        ),
        sa.PrimaryKeyConstraint("order_number", "incident_id", name=op.f("pk_hotline_order")),
    )
    op.create_index(op.f("ix_hotline_order_batch_id"), "hotline_order", ["batch_id"])
    op.create_index(op.f("ix_hotline_order_incident_id"), "hotline_order", ["incident_id"])
    op.create_index(
        "ix_hotline_order_first",
        "hotline_order",
        ["order_number"],
        unique=True,
        postgresql_where=sa.text("first"),
    )
    op.create_table(
        "hotline_notice",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("order_number", sa.Text(collation="C"), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("line", sa.Text(collation="C"), nullable=True),
        sa.Column("unit", sa.Text(), nullable=True),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("city_office_informed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "line IN ('110', '119', '120', '122')", name=op.f("ck_hotline_notice_line")
        ),
        sa.CheckConstraint(
            "num_nulls(line, unit, told_at) IN (0, 3)", name=op.f("ck_hotline_notice_told")
        ),
        sa.CheckConstraint(
            "line IS NOT NULL OR city_office_informed_at IS NOT NULL",
            name=op.f("ck_hotline_notice_something"),
        ),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["batch.id"], name=op.f("fk_hotline_notice_batch_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hotline_notice")),
    )
    op.create_index(op.f("ix_hotline_notice_batch_id"), "hotline_notice", ["batch_id"])
    op.create_index(op.f("ix_hotline_notice_order_number"), "hotline_notice", ["order_number"])
    op.execute(SCOPE)
