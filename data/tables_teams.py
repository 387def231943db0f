"""Tables of where teams are: every position received, and the one that counts.

Continues `data/tables.py` (the same metadata). Row-level security is in the migration.
"""

from __future__ import annotations

from sqlalchemy import (
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
)

from data.tables import CODE, TIME, _batch, _earthly, _geometry, metadata


def _said() -> list[Column[object]]:
    """What one message says of a team; lengths in metres, speed in m/s, course in degrees."""
    return [
        Column("callsign", Text, nullable=False),
        Column("cot_type", CODE, nullable=False),
        Column("how", CODE, nullable=False),
        Column("group_name", Text),
        Column("group_role", Text),
        Column("observed_at", TIME, nullable=False),
        Column("stale_at", TIME, nullable=False),
        Column("geom", _geometry("POINT"), nullable=False),
        Column("accuracy_m", Float(53)),
        Column("height_m", Float(53)),
        Column("speed_mps", Float(53)),
        Column("course_deg", Float(53)),
        Column("battery_percent", Integer),
        Column("adcode", CODE),
    ]


def _checks() -> list[CheckConstraint]:
    """NaN compares greater than every number, so each upper bound keeps it out."""
    return [
        CheckConstraint(_earthly("geom"), name="geom"),
        CheckConstraint("accuracy_m >= 0 AND accuracy_m < 'Infinity'", name="accuracy"),
        CheckConstraint("height_m > '-Infinity' AND height_m < 'Infinity'", name="height"),
        CheckConstraint("speed_mps >= 0 AND speed_mps < 'Infinity'", name="speed"),
        CheckConstraint("course_deg >= 0 AND course_deg <= 360", name="course"),
        CheckConstraint("battery_percent BETWEEN 0 AND 100", name="battery"),
        CheckConstraint("stale_at >= observed_at", name="order"),
    ]


#: Append-only. One message per team and instant; `future` ones are kept and never applied.
team_position = Table(
    "team_position",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("uid", CODE, nullable=False),
    *_said(),
    Column("future", Boolean, nullable=False),
    Column("account", Text, nullable=False),
    Column("body_sha256", LargeBinary, nullable=False),
    Column("row", Integer, nullable=False),
    _batch(index=True),
    UniqueConstraint("uid", "observed_at"),
    CheckConstraint("octet_length(body_sha256) = 32", name="sha256"),
    *_checks(),
)

#: The newest applied position of each team. `account` is who sent it first, and goes on owning it.
team = Table(
    "team",
    metadata,
    Column("uid", CODE, primary_key=True),
    *_said(),
    Column("account", Text, nullable=False),
    Column("position_id", ForeignKey("team_position.id"), nullable=False, index=True),
    _batch(index=True),
    Index("ix_team_geom", "geom", postgresql_using="gist"),
    *_checks(),
)
