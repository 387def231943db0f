"""Tables of what comes by other roads: work orders of the hotline.

Continues `data/tables.py` (the same metadata).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Table,
    Text,
    text,
)

from data.tables import CODE, TIME, _batch, metadata

EMERGENCY_LINES = ("110", "119", "120", "122")

#: Pairs that a person found to be two accidents, the smaller id first; a merge takes one back.
incident_distinct = Table(
    "incident_distinct",
    metadata,
    Column("incident_id", ForeignKey("incident.incident_id"), primary_key=True),
    Column("other", ForeignKey("incident.incident_id"), primary_key=True, index=True),
    _batch(index=True),
    Column("account", Text, nullable=False),
    Column("reason", Text, nullable=False),
    CheckConstraint("incident_id < other", name="order"),
)

#: Which incidents were made from a work order: the first, and later ones that name it again.
hotline_order = Table(
    "hotline_order",
    metadata,
    Column("order_number", CODE, primary_key=True),
    Column("incident_id", ForeignKey("incident.incident_id"), primary_key=True, index=True),
    Column("first", Boolean, nullable=False),
    _batch(index=True),
    Index("ix_hotline_order_first", "order_number", unique=True, postgresql_where=text("first")),
)

#: Who was told of a work order, and when; append-only.
hotline_notice = Table(
    "hotline_notice",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("order_number", CODE, nullable=False, index=True),
    _batch(index=True),
    Column("account", Text, nullable=False),
    Column("line", CODE),
    Column("unit", Text),
    Column("told_at", TIME),
    Column("city_office_informed_at", TIME),
    CheckConstraint("line IN ({})".format(", ".join(f"'{n}'" for n in EMERGENCY_LINES)), "line"),
    CheckConstraint("num_nulls(line, unit, told_at) IN (0, 3)", name="told"),
    CheckConstraint("line IS NOT NULL OR city_office_informed_at IS NOT NULL", name="something"),
)
