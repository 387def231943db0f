"""Positions of teams: every one received, and the newest of each"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from geoalchemy2 import Geometry

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

#: As for incidents: the districts of the reader, and whatever the reader's account sent itself.
SCOPE = """
ALTER TABLE team ENABLE ROW LEVEL SECURITY;
ALTER TABLE team_position ENABLE ROW LEVEL SECURITY;
CREATE POLICY scope ON team TO yutu_app USING (
    (SELECT current_setting('app.districts', true)) = '*'
    OR adcode = ANY ((SELECT string_to_array(current_setting('app.districts', true), ','))::text[])
    OR account = (SELECT current_setting('app.account', true))
);
CREATE POLICY scope ON team_position TO yutu_app USING (
    (SELECT current_setting('app.districts', true)) = '*'
    OR adcode = ANY ((SELECT string_to_array(current_setting('app.districts', true), ','))::text[])
    OR account = (SELECT current_setting('app.account', true))
);
GRANT SELECT, INSERT ON team_position TO yutu_app;
GRANT SELECT, INSERT, UPDATE ON team TO yutu_app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO yutu_app;
"""


def code(name: str, *, nullable: bool = False, primary_key: bool = False) -> sa.Column:
    return sa.Column(name, sa.Text(collation="C"), nullable=nullable, primary_key=primary_key)


def said() -> list[sa.Column]:
    point = Geometry("POINT", srid=4326, spatial_index=False, nullable=False)
    return [
        sa.Column("callsign", sa.Text(), nullable=False),
        code("cot_type"),
        code("how"),
        sa.Column("group_name", sa.Text(), nullable=True),
        sa.Column("group_role", sa.Text(), nullable=True),
        sa.Column("observed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("stale_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("geom", point, nullable=False),
        sa.Column("accuracy_m", sa.Float(53), nullable=True),
        sa.Column("height_m", sa.Float(53), nullable=True),
        sa.Column("speed_mps", sa.Float(53), nullable=True),
        sa.Column("course_deg", sa.Float(53), nullable=True),
        sa.Column("battery_percent", sa.Integer(), nullable=True),
        code("adcode", nullable=True),
    ]


def checks(table: str) -> list[sa.CheckConstraint]:
    rules = {
        "geom": "ST_X(geom) BETWEEN -180 AND 180 AND ST_Y(geom) BETWEEN -90 AND 90"
        " AND NOT ST_IsEmpty(geom)",
        "accuracy": "accuracy_m >= 0 AND accuracy_m < 'Infinity'",
        "height": "height_m > '-Infinity' AND height_m < 'Infinity'",
        "speed": "speed_mps >= 0 AND speed_mps < 'Infinity'",
        "course": "course_deg >= 0 AND course_deg <= 360",
        "battery": "battery_percent BETWEEN 0 AND 100",
        "order": "stale_at >= observed_at",
    }
    return [
        sa.CheckConstraint(rule, name=op.f(f"ck_{table}_{name}")) for name, rule in rules.items()
    ]


def upgrade() -> None:
    op.create_table(
        "team_position",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        code("uid"),
        *said(),
        sa.Column("future", sa.Boolean(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("body_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("row", sa.Integer(), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_team_position")),
        sa.UniqueConstraint("uid", "observed_at", name=op.f("uq_team_position_uid_observed_at")),
        sa.CheckConstraint("octet_length(body_sha256) = 32", name=op.f("ck_team_position_sha256")),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_team_position_batch_id")),
        *checks("team_position"),
    )
    op.create_index(op.f("ix_team_position_batch_id"), "team_position", ["batch_id"])
    op.create_table(
        "team",
        code("uid"),
        *said(),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("position_id", sa.BigInteger(), nullable=False),
        sa.Column("batch_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_team")),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_team_batch_id")),
        sa.ForeignKeyConstraint(
            ["position_id"], ["team_position.id"], name=op.f("fk_team_position_id")
        ),
        *checks("team"),
    )
    op.create_index(op.f("ix_team_batch_id"), "team", ["batch_id"])
    op.create_index(op.f("ix_team_position_id"), "team", ["position_id"])
    op.create_index("ix_team_geom", "team", ["geom"], postgresql_using="gist")
    op.execute(SCOPE)
