"""Months of the log of events that lie in files, and what of them was read back"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

#: What is read back from a file is no record: unlogged, and gone after a crash with its mark.
#: The view has the log's name and columns: with `archive` before `public` in the search path, a
#: query over `status_log` sees all of it.
ARCHIVE = """
CREATE SCHEMA archive;
CREATE TABLE archive.status_row (LIKE public.status_log, kept boolean NOT NULL)
    PARTITION BY RANGE (received_at);
CREATE INDEX ON archive.status_row (batch_id);
CREATE INDEX ON archive.status_row (facility_pk, observed_at);
CREATE INDEX ON archive.status_row (facility_id) WHERE facility_pk IS NULL;
CREATE UNLOGGED TABLE archive.loaded (
    title text COLLATE "C" PRIMARY KEY,
    read_at timestamptz NOT NULL DEFAULT now()
);
CREATE VIEW archive.status_log WITH (security_invoker = true) AS
SELECT received_at, batch_id, "row", event_id, facility_id, facility_pk, state, observed_at, cause,
       future FROM public.status_log
UNION ALL
SELECT received_at, batch_id, "row", event_id, facility_id, facility_pk, state, observed_at, cause,
       future FROM archive.status_row;
GRANT USAGE ON SCHEMA archive TO yutu_app;
GRANT SELECT ON archive.status_log TO yutu_app;
GRANT SELECT, INSERT, DELETE ON archive.status_row TO yutu_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON archive.loaded TO yutu_app;
GRANT SELECT ON retired_month TO yutu_app;
"""


def upgrade() -> None:
    op.create_table(
        "retired_month",
        sa.Column("title", sa.Text(collation="C"), nullable=False),
        sa.Column("from_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("to_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("kept", sa.BigInteger(), nullable=False),
        sa.Column("file_bytes", sa.BigInteger(), nullable=False),
        sa.Column("file_sha256", sa.LargeBinary(), nullable=False),
        sa.Column(
            "retired_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("octet_length(file_sha256) = 32", name=op.f("ck_retired_month_sha256")),
        sa.CheckConstraint("from_at < to_at", name=op.f("ck_retired_month_period")),
        sa.CheckConstraint("0 <= kept AND kept <= events", name=op.f("ck_retired_month_kept")),
        sa.PrimaryKeyConstraint("title", name=op.f("pk_retired_month")),
    )
    op.execute(ARCHIVE)


def downgrade() -> None:
    op.execute("DROP SCHEMA archive CASCADE")
    op.drop_table("retired_month")
