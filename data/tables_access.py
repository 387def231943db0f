"""Tables of who gets in: API keys, sessions ended early, sign-in attempts, identities of elsewhere.

Continues `data/tables_reports.py`, where the accounts are (the same metadata).
"""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)

from data.tables import CODE, ROLES, TIME, metadata

_ROLE_NAMES = ", ".join(f"'{role}'" for role in ROLES)

#: Role, districts and operators narrow those of the account; null: as the account.
account_key = Table(
    "account_key",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("username", ForeignKey("account.username"), nullable=False, index=True),
    Column("label", Text, nullable=False),
    Column("sha256", LargeBinary, nullable=False, unique=True),
    Column("role", CODE),
    Column("districts", ARRAY(CODE)),
    Column("operators", ARRAY(CODE)),
    Column("created_at", TIME, nullable=False, server_default=text("now()")),
    Column("expires_at", TIME),
    Column("revoked_at", TIME),
    Column("last_used_at", TIME),
    CheckConstraint("octet_length(sha256) = 32", name="sha256"),
    CheckConstraint(f"role IN ({_ROLE_NAMES})", name="role"),
    CheckConstraint("cardinality(districts) > 0 AND cardinality(operators) > 0", name="scope"),
)

#: Sessions that were signed out of and one-time states that were used, until they end anyway.
ended_session = Table(
    "ended_session",
    metadata,
    Column("session_id", CODE, primary_key=True),
    Column("expires_at", TIME, nullable=False, index=True),
)

#: Failures to sign in per name, per address and per both; `subject` is a SHA-256 of which.
sign_in_limit = Table(
    "sign_in_limit",
    metadata,
    Column("subject", CODE, primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("since", TIME, nullable=False),
    Column("blocked_until", TIME),
    Column("succeeded_at", TIME),
    CheckConstraint("failures >= 0", name="failures"),
)

#: Who an identity provider's subject is here.
account_identity = Table(
    "account_identity",
    metadata,
    Column("issuer", CODE, primary_key=True),
    Column("subject", CODE, primary_key=True),
    Column("username", ForeignKey("account.username"), nullable=False, unique=True),
    Column("created_at", TIME, nullable=False, server_default=text("now()")),
)
