"""Tables of who did what, and of how much each account asks.

Continues `data/tables.py` (the same metadata). Rows of `audit` are appended by the function
`append_audit` alone (migration 0013), which numbers, dates and chains them.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, Integer, LargeBinary, Table, Text, text

from data.tables import CODE, TIME, metadata

OUTCOMES = ("done", "refused")

#: `detail` is the text of a JSON object, kept as it was hashed. `sha256` is over all other columns,
#: `previous_sha256` among them: docs/meanings.md, "Audit trail".
audit = Table(
    "audit",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", TIME, nullable=False, index=True),
    Column("act", CODE, nullable=False, index=True),
    Column("outcome", CODE, nullable=False),
    Column("account", CODE, index=True),
    Column("address", CODE),
    Column("means", CODE, nullable=False),
    Column("subject", CODE, index=True),
    Column("detail", Text, nullable=False),
    Column("previous_sha256", LargeBinary, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    CheckConstraint("number > 0", name="number"),
    CheckConstraint("outcome IN ('done', 'refused')", name="outcome"),
    CheckConstraint("jsonb_typeof(detail::jsonb) = 'object'", name="detail"),
    CheckConstraint(
        "octet_length(previous_sha256) = 32 AND octet_length(sha256) = 32", name="sha256"
    ),
)

#: Requests of an account or a key within a few seconds, of all processes together; not a record:
#: a crash may forget them.
request_count = Table(
    "request_count",
    metadata,
    Column("subject", CODE, primary_key=True),
    Column("stretch", BigInteger, primary_key=True, autoincrement=False),
    Column("requests", Integer, nullable=False),
    Column("told_at", TIME, nullable=False, server_default=text("now()"), index=True),
    CheckConstraint("requests > 0", name="requests"),
    prefixes=["UNLOGGED"],
)
