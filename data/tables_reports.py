"""Tables of what people and systems report beside status events, of what is shown, and accounts.

Continues `data/tables.py` (the same metadata): returns, outages, incidents with their
attachments, declared facts, power events; the situation as it was shown and the outbox of the
stream; accounts.
"""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

from data.tables import CODE, ROLES, TIME, _batch, _earthly, _earthly_bounds, _geometry, metadata

operator_return = Table(
    "operator_return",
    metadata,
    Column("return_id", CODE, primary_key=True),
    Column("body_sha256", LargeBinary, nullable=False),
    _batch(index=True),
    Column("operator", CODE, nullable=False),
    Column("kind", CODE, nullable=False),
    Column("as_of", TIME, nullable=False),
    Column("future", Boolean, nullable=False),
    Column("rows", JSONB, nullable=False),
    Index(None, "operator", "kind", "as_of"),
)

outage = Table(
    "outage",
    metadata,
    Column("outage_id", CODE, primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("body_sha256", LargeBinary, nullable=False),
    _batch(index=True),
    Column("account", Text, nullable=False),
    Column("operator", CODE, nullable=False, server_default=""),
    Column("feature", JSONB, nullable=False),
    Column("crs", CODE, nullable=False),
    Column("geom", _geometry("GEOMETRY", nullable=True)),
    Column("facility_ids", ARRAY(CODE), nullable=False, server_default="{}"),
    Column("load_shed_kw", BigInteger, nullable=False),
    Column("customers_out", BigInteger, nullable=False),
    Column("restored_load_kw", BigInteger),
    Column("started_at", TIME, nullable=False),
    Column("restored_at", TIME),
    Column("planned", Boolean, nullable=False),
    Column("main_grid", Boolean, nullable=False),
    Column("split", JSONB, nullable=False),
    Column("adcodes", ARRAY(CODE), nullable=False),
    CheckConstraint("revision >= 0", name="revision"),
    CheckConstraint("load_shed_kw >= 0 AND customers_out >= 0", name="not_negative"),
    CheckConstraint("restored_load_kw BETWEEN 0 AND load_shed_kw", name="restored_within_lost"),
    CheckConstraint("restored_at >= started_at", name="order"),
    CheckConstraint(f"geom IS NULL OR ({_earthly_bounds('geom')})", name="geom"),
    Index("ix_outage_geom", "geom", postgresql_using="gist"),
)

INCIDENT_STATES = ("reported", "verified", "active", "resolved", "rejected", "duplicate")

incident = Table(
    "incident",
    metadata,
    Column("incident_id", UUID(as_uuid=True), primary_key=True),
    Column("body_sha256", LargeBinary, nullable=False),
    _batch(index=True),
    Column("account", Text, nullable=False),
    Column("body", JSONB, nullable=False),
    Column("plan", CODE, nullable=False),
    Column("kind", CODE, nullable=False),
    Column("occurred_at", TIME, nullable=False),
    Column("crs", CODE),
    Column("original_position", JSONB),
    Column("accuracy_m", Float(53)),
    Column("facility_id", CODE),
    Column("geom", _geometry("POINT", nullable=True)),
    Column("adcode", CODE),
    Column("unit", CODE),
    Column("warnings", JSONB, nullable=False, server_default=text("'[]'")),
    CheckConstraint(f"geom IS NULL OR ({_earthly('geom')})", name="geom"),
    CheckConstraint("accuracy_m >= 0 AND accuracy_m < 'Infinity'", name="accuracy"),
    Index("ix_incident_geom", "geom", postgresql_using="gist"),
    Index(None, "plan", "occurred_at"),
)

#: A body that arrived under an id already taken: kept for review, never applied.
incident_conflict = Table(
    "incident_conflict",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("incident_id", UUID(as_uuid=True), nullable=False, index=True),
    Column("body_sha256", LargeBinary, nullable=False),
    _batch(index=True),
    Column("account", Text, nullable=False),
    Column("body", JSONB, nullable=False),
    UniqueConstraint("incident_id", "body_sha256"),
)

incident_revision = Table(
    "incident_revision",
    metadata,
    Column("incident_id", ForeignKey("incident.incident_id"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    _batch(index=True),
    Column("account", Text, nullable=False),
    Column("reason", Text, nullable=False, server_default=""),
    Column("state", CODE, nullable=False),
    Column("facts", JSONB, nullable=False),
    Column("duplicate_of", ForeignKey("incident.incident_id"), index=True),
    CheckConstraint("state IN ({})".format(", ".join(f"'{s}'" for s in INCIDENT_STATES)), "state"),
    CheckConstraint(
        "duplicate_of IS NULL OR (state = 'duplicate' AND duplicate_of <> incident_id)",
        name="duplicate_of",
    ),
)

#: A photo or document of an incident; the files are kept by hash outside the database.
attachment = Table(
    "attachment",
    metadata,
    Column("attachment_id", UUID(as_uuid=True), primary_key=True),
    Column("incident_id", ForeignKey("incident.incident_id"), nullable=False, index=True),
    _batch(index=True),
    Column("account", Text, nullable=False),
    Column("file_name", Text, nullable=False),
    Column("media_type", CODE, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("width_px", Integer),
    Column("height_px", Integer),
    Column("display_sha256", LargeBinary),
    CheckConstraint("octet_length(sha256) = 32", name="sha256"),
    CheckConstraint("octet_length(display_sha256) = 32", name="display_sha256"),
)

plan_facts = Table(
    "plan_facts",
    metadata,
    Column("plan", CODE, primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    _batch(index=True),
    Column("account", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("facts", JSONB, nullable=False),
    Column("close_event", Boolean, nullable=False, server_default="false"),
)

situation_bytes = Table(
    "situation_bytes",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("lang", CODE, primary_key=True),
    Column("as_of", TIME, nullable=False),
    Column("etag", CODE, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("levels", JSONB, nullable=False),
)

stream_event = Table(
    "stream_event",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("sequence", BigInteger, nullable=False, index=True),
    Column("kind", CODE, nullable=False),
    Column("adcode", CODE),
    Column("payload", JSONB, nullable=False),
    CheckConstraint("kind IN ('situation', 'incident', 'warning', 'response')", name="kind"),
)

account = Table(
    "account",
    metadata,
    Column("username", CODE, primary_key=True),
    Column("role", CODE, nullable=False),
    Column("districts", ARRAY(CODE), nullable=False),
    Column("operators", ARRAY(CODE), nullable=False, server_default="{*}"),
    Column("password_hash", Text, nullable=False),
    Column("active", Boolean, nullable=False, server_default="true"),
    Column("token_epoch", Integer, nullable=False, server_default="0"),
    Column("created_at", TIME, nullable=False, server_default=text("now()")),
    CheckConstraint("role IN ({})".format(", ".join(f"'{r}'" for r in ROLES)), name="role"),
    CheckConstraint("cardinality(districts) > 0", name="districts"),
)
