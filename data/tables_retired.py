"""The table of retired months of the log; what was read back lies in the schema `archive`."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, LargeBinary, Table, text

from data.tables import CODE, TIME, metadata

retired_month = Table(
    "retired_month",
    metadata,
    Column("title", CODE, primary_key=True),
    Column("from_at", TIME, nullable=False),
    Column("to_at", TIME, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("kept", BigInteger, nullable=False),
    Column("file_bytes", BigInteger, nullable=False),
    Column("file_sha256", LargeBinary, nullable=False),
    Column("retired_at", TIME, nullable=False, server_default=text("now()")),
    CheckConstraint("octet_length(file_sha256) = 32", name="sha256"),
    CheckConstraint("from_at < to_at", name="period"),
    CheckConstraint("0 <= kept AND kept <= events", name="kept"),
)
