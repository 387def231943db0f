"""The table of saved scenarios: what somebody supposed, and what came of it then.

Not part of the records: no change is published for a scenario, and no situation reads this table.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

from data.tables import CODE, TIME, metadata
from data.tables_reports import account

scenario = Table(
    "scenario",
    metadata,
    Column("scenario_id", UUID(as_uuid=True), primary_key=True),
    Column("name", Text, nullable=False),
    Column("owner", CODE, ForeignKey(account.c.username), nullable=False),
    Column("shared", Boolean, nullable=False, server_default="false"),
    Column("body", JSONB, nullable=False),
    Column("body_sha256", LargeBinary, nullable=False),
    Column("result", JSONB, nullable=False),
    Column("created_at", TIME, nullable=False, server_default=text("now()")),
    Column("retired_at", TIME),
    CheckConstraint("octet_length(body_sha256) = 32", name="sha256"),
    CheckConstraint("name <> ''", name="name"),
    Index(
        "ix_scenario_owner_name",
        "owner",
        "name",
        unique=True,
        postgresql_where=text("retired_at IS NULL"),
    ),
)
