"""Every table of Yutu, as SQLAlchemy Core; `docs/architecture.md` says why each exists.

Positions are EPSG:4326 (WGS-84, lon lat). Power is in kW, people, customers and facilities are
integers (docs/meanings.md, "Integers"). Times are timestamptz. `batch_id` ties each row to the
write that brought it; `change` gives that write its sequence and the time from which it is known.
Triggers, partitions, roles and row-level security are in the migration.
"""

from __future__ import annotations

from geoalchemy2 import Geometry
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Enum,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

CODE = Text(collation="C")
TIME = DateTime(timezone=True)

#: Ordered by gravity, so that SQL compares states as docs/meanings.md breaks ties.
STATES = ("up", "unknown", "degraded", "down")
state_type = Enum(*STATES, name="status_state", metadata=metadata)

ROLES = ("viewer", "field", "utility", "planner", "commander", "admin")


def _geometry(kind: str, *, nullable: bool = False) -> Geometry:
    return Geometry(kind, srid=4326, spatial_index=False, nullable=nullable)


def _earthly(column: str) -> str:
    """SQL: a point is finite and on Earth. NaN compares greater than every number."""
    return (
        f"ST_X({column}) BETWEEN -180 AND 180 AND ST_Y({column}) BETWEEN -90 AND 90"
        f" AND NOT ST_IsEmpty({column})"
    )


def _earthly_bounds(column: str) -> str:
    """SQL: every vertex is finite and on Earth (empty geometries have null bounds and fail)."""
    return (
        f"coalesce(ST_XMin({column}) >= -180 AND ST_XMax({column}) <= 180"
        f" AND ST_YMin({column}) >= -90 AND ST_YMax({column}) <= 90, false)"
        f" AND ST_IsValid({column})"
    )


def _batch(*, index: bool = False) -> Column[int]:
    return Column("batch_id", BigInteger, ForeignKey("batch.id"), nullable=False, index=index)


# --- writes and their order -------------------------------------------------------------------

batch = Table(
    "batch",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("channel", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("opened_at", TIME, nullable=False, server_default=text("clock_timestamp()")),
    Column("content_type", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("body_sha256", LargeBinary, nullable=False),
    Column("request", JSONB, nullable=False, server_default=text("'{}'")),
    CheckConstraint("length(body_sha256) = 32", name="sha256"),
)

change = Table(
    "change",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("batch_id", BigInteger, ForeignKey("batch.id"), unique=True),
    Column("kind", Text, nullable=False),
    Column("received_at", TIME, nullable=False),
    Column("detail", JSONB, nullable=False, server_default=text("'{}'")),
    Index(None, "received_at"),
)

# --- divisions --------------------------------------------------------------------------------

division_version = Table(
    "division_version",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("label", Text, nullable=False),
    Column("valid_from", TIME, nullable=False, unique=True),
    Column("valid_to", TIME),
    Column("source", Text, nullable=False),
    Column("licence", Text, nullable=False),
    Column("note", Text, nullable=False, server_default=""),
    Column("recorded_at", TIME, nullable=False, server_default=text("now()")),
    CheckConstraint("valid_to > valid_from", name="order"),
)

district = Table(
    "district",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("version_id", ForeignKey("division_version.id"), nullable=False),
    Column("adcode", CODE, nullable=False),
    Column("name", Text, nullable=False),
    Column("name_en", Text),
    Column("population", Integer),
    Column("population_source", Text),
    Column("area_m2", Float(53), nullable=False),
    Column("approximate", Boolean, nullable=False, server_default="false"),
    Column("source", Text, nullable=False),
    Column("geom", _geometry("MULTIPOLYGON"), nullable=False),
    UniqueConstraint("version_id", "adcode"),
    CheckConstraint(_earthly_bounds("geom"), name="geom"),
    CheckConstraint("adcode ~ '^[0-9]{6}$'", name="adcode"),
    CheckConstraint("area_m2 > 0 AND area_m2 < 'Infinity'", name="area"),
    Index("ix_district_geom", "geom", postgresql_using="gist"),
)

unit = Table(
    "unit",
    metadata,
    Column("version_id", ForeignKey("division_version.id"), primary_key=True),
    Column("code", CODE, primary_key=True),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("adcodes", ARRAY(CODE), nullable=False),
    Column("source", Text, nullable=False, server_default=""),
    Column("geom", _geometry("MULTIPOLYGON", nullable=True)),
    CheckConstraint("kind IN ('district', 'functional_zone')", name="kind"),
    CheckConstraint(f"geom IS NULL OR ({_earthly_bounds('geom')})", name="geom"),
)

placement = Table(
    "placement",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("key", CODE, nullable=False, unique=True),
)

placement_division = Table(
    "placement_division",
    metadata,
    Column("placement_id", ForeignKey("placement.id"), primary_key=True),
    Column("version_id", ForeignKey("division_version.id"), primary_key=True),
    Column("adcode", CODE),
    Column("unit", CODE),
)

# --- facilities -------------------------------------------------------------------------------


def _facility_columns(*, past: bool) -> list[Column[object]]:
    return [
        Column("facility_id", CODE, nullable=False),
        Column("name", Text, nullable=False),
        Column("kind", CODE, nullable=False),
        Column("operator", CODE, nullable=False, server_default=""),
        Column("network", CODE, nullable=False, server_default=""),
        Column("unit", CODE),
        Column("main_grid", Boolean, nullable=False, server_default="true"),
        Column("load_kw", BigInteger, nullable=False, server_default="0"),
        Column("customers", BigInteger, nullable=False, server_default="0"),
        Column("population", BigInteger, nullable=False, server_default="0"),
        Column("feeds_from", CODE),
        Column("battery_hours", Float(53)),
        Column("key_level", CODE),
        Column("rescue_code", CODE),
        Column("state_at_import", state_type, nullable=False, server_default="unknown"),
        Column("synthetic", Boolean, nullable=False, server_default="false"),
        Column("attributes", JSONB),
        Column("crs", CODE, nullable=False),
        Column("original_x", Float(53), nullable=False),
        Column("original_y", Float(53), nullable=False),
        Column("geom", _geometry("POINT"), nullable=False),
        Column("placement_id", ForeignKey("placement.id"), nullable=False),
        Column("adcode", CODE),
        Column("valid_from", TIME, nullable=False),
        Column(
            "version",
            Integer,
            nullable=False,
            primary_key=past,
            server_default="1",
            autoincrement=False,
        ),
        Column("batch_id", BigInteger, ForeignKey("batch.id"), nullable=False),
    ]


def _facility_checks() -> list[CheckConstraint]:
    return [
        CheckConstraint(_earthly("geom"), name="geom"),
        CheckConstraint("load_kw >= 0 AND customers >= 0 AND population >= 0", name="not_negative"),
        CheckConstraint("battery_hours >= 0 AND battery_hours <= 8760", name="battery"),
        CheckConstraint("key_level IN ('district', 'city')", name="key_level"),
        CheckConstraint("rescue_code ~ '^[0-9]{6}$'", name="rescue_code"),
    ]


facility = Table(
    "facility",
    metadata,
    Column("pk", Integer, Identity(), primary_key=True),
    *_facility_columns(past=False),
    Column("retired_at", TIME),
    *_facility_checks(),
    # with what a batch of events asks of each facility, so that the index alone answers
    UniqueConstraint("facility_id", postgresql_include=["pk", "operator", "kind", "adcode"]),
    Index("ix_facility_geom", "geom", postgresql_using="gist"),
    Index(None, "adcode", "kind"),
    Index(
        None,
        "rescue_code",
        unique=True,
        postgresql_where=text("rescue_code IS NOT NULL AND retired_at IS NULL"),
    ),
    Index(None, "feeds_from", postgresql_where=text("feeds_from IS NOT NULL")),
)

facility_past = Table(
    "facility_past",
    metadata,
    Column("pk", Integer, primary_key=True, autoincrement=False),
    *_facility_columns(past=True),
    Column("valid_to", TIME, nullable=False),
    Column("replaced_by", BigInteger, ForeignKey("batch.id"), nullable=False),
    *_facility_checks(),
)

counter_group = Table(
    "counter_group",
    metadata,
    Column("id", Integer, Identity(), primary_key=True),
    Column("placement_id", ForeignKey("placement.id"), nullable=False),
    Column("kind", CODE, nullable=False),
    Column("operator", CODE, nullable=False),
    Column("network", CODE, nullable=False),
    Column("main_grid", Boolean, nullable=False),
    Column("synthetic", Boolean, nullable=False),
    UniqueConstraint("placement_id", "kind", "operator", "network", "main_grid", "synthetic"),
)

facility_state = Table(
    "facility_state",
    metadata,
    Column("facility_pk", ForeignKey("facility.pk"), primary_key=True, autoincrement=False),
    Column("group_id", ForeignKey("counter_group.id"), nullable=False),
    Column("state", state_type, nullable=False),
    Column("counted", Boolean, nullable=False, server_default="true"),
    Column("observed_at", TIME, nullable=False, server_default="-infinity"),
    Column("event_id", CODE, nullable=False, server_default=""),
    Column("load_kw", BigInteger, nullable=False),
    Column("customers", BigInteger, nullable=False),
    Column("valid_from", TIME),
    Column("batch_id", BigInteger, nullable=False),
    postgresql_with={"fillfactor": "70"},
)

# --- status events ----------------------------------------------------------------------------

status_ledger = Table(
    "status_ledger",
    metadata,
    Column("event_key", UUID(as_uuid=True), primary_key=True),
    Column("body_sha256", LargeBinary, nullable=False),
)

status_log = Table(
    "status_log",
    metadata,
    Column("received_at", TIME, nullable=False),
    Column("batch_id", BigInteger, nullable=False),
    Column("row", Integer, nullable=False),
    Column("event_id", CODE, nullable=False),
    Column("facility_id", CODE, nullable=False),
    Column("facility_pk", Integer),
    Column("state", state_type, nullable=False),
    Column("observed_at", TIME, nullable=False),
    Column("cause", Text),
    Column("future", Boolean, nullable=False),
    Index(None, "facility_pk", "observed_at"),
    Index(
        "ix_status_log_waiting",
        "facility_id",
        postgresql_where=text("facility_pk IS NULL"),
    ),
    Index(None, "batch_id"),
    postgresql_partition_by="RANGE (received_at)",
)

MEASURES = (
    "total",
    "unknown",
    "degraded",
    "down",
    "load_kw",
    "load_unknown_kw",
    "load_down_kw",
    "customers",
    "customers_unknown",
    "customers_down",
)


def _measures() -> list[Column[int]]:
    return [Column(name, BigInteger, nullable=False) for name in MEASURES]


counter_delta = Table(
    "counter_delta",
    metadata,
    Column("batch_id", BigInteger, nullable=False),
    Column("group_id", Integer, nullable=False),
    *_measures(),
    Column("valid_from", TIME),
    Index(None, "batch_id"),
    Index(None, "valid_from", postgresql_where=text("valid_from IS NOT NULL")),
)

counter = Table(
    "counter",
    metadata,
    Column("group_id", ForeignKey("counter_group.id"), primary_key=True, autoincrement=False),
    *_measures(),
)

counter_checkpoint = Table(
    "counter_checkpoint",
    metadata,
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("group_id", Integer, primary_key=True, autoincrement=False),
    *_measures(),
)

state_checkpoint = Table(
    "state_checkpoint",
    metadata,
    Column("sequence", ForeignKey("change.sequence"), primary_key=True, autoincrement=False),
    Column("pks", Integer, nullable=False),
    Column("states", LargeBinary, nullable=False),
    CheckConstraint("pks >= 0 AND octet_length(states) = (pks + 3) / 4", name="pks"),
)

fold = Table(
    "fold",
    metadata,
    Column("one", Boolean, primary_key=True, server_default="true"),
    Column("through", BigInteger, nullable=False, server_default="0"),
    Column("rows_since_checkpoint", BigInteger, nullable=False, server_default="0"),
    CheckConstraint("one", name="one"),
)

source_report = Table(
    "source_report",
    metadata,
    Column("batch_id", ForeignKey("batch.id"), primary_key=True),
    Column("operator", CODE, primary_key=True),
    Column("kind", CODE, primary_key=True),
    Column("channel", CODE, primary_key=True),
    Column("observed_at", TIME),
    CheckConstraint("channel IN ('site', 'return', 'heartbeat')", name="channel"),
    Index(None, "operator", "kind"),
)

#: The same folded: per operator and kind the newest of each channel, so that reading does not grow
#: with history.
source_latest = Table(
    "source_latest",
    metadata,
    Column("operator", CODE, primary_key=True),
    Column("kind", CODE, primary_key=True),
    Column("site_at", TIME),
    Column("return_at", TIME),
    Column("heard_at", TIME, nullable=False),
)
