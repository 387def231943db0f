"""What the database itself keeps out: drift of the schema, impossible places, other districts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from alembic import command
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError, ProgrammingError

from data.database import Scope, alembic_config, app_engine, migrate, owner_engine, reading
from tests.feeds import (
    INSIDE,
    NANAN,
    SHAPINGBA,
    YUZHONG,
    facility,
    load_facilities,
)

MANY = 6000


@pytest.fixture(scope="module")
def owner(shared_divided_url: str) -> Iterator[Engine]:
    engine = owner_engine(shared_divided_url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def app(shared_divided_url: str, owner: Engine) -> Iterator[Engine]:
    engine = app_engine(shared_divided_url)
    rows = [
        facility(f"F{i}", lon + (i % 80) * 1e-4, lat + (i // 80) * 1e-4, kind="base_station")
        for i in range(MANY // 3)
        for lon, lat in [INSIDE[YUZHONG]]
    ]
    for n, code in enumerate((SHAPINGBA, NANAN)):
        lon, lat = INSIDE[code]
        rows += [
            facility(f"G{n}-{i}", lon + (i % 80) * 1e-4, lat + (i // 80) * 1e-4)
            for i in range(MANY // 3)
        ]
    load_facilities(engine, rows)
    with owner.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    yield engine
    engine.dispose()


def test_the_migrations_give_exactly_the_tables_of_the_code(shared_divided_url: str) -> None:
    command.check(alembic_config(shared_divided_url))  # raises when they differ
    migrate(shared_divided_url)  # a second time changes nothing
    command.check(alembic_config(shared_divided_url))


IMPOSSIBLE_POINTS = [
    "POINT(NaN 29)",
    "POINT(106 NaN)",
    "POINT(Infinity 29)",
    "POINT(106 -Infinity)",
    "POINT(106 95)",
    "POINT(181 29)",
    "POINT EMPTY",
]


def _point(words: str) -> str:
    """A point PostGIS's text reader refuses, built from numbers as a driver would send it."""
    if "EMPTY" in words:
        return "ST_GeomFromText('POINT EMPTY', 4326)"
    x, y = words[6:-1].split()
    return f"ST_SetSRID(ST_MakePoint('{x}'::float8, '{y}'::float8), 4326)"


@pytest.mark.parametrize("words", IMPOSSIBLE_POINTS)
def test_no_facility_stands_at_an_impossible_place(owner: Engine, app: Engine, words: str) -> None:
    with owner.connect() as connection, pytest.raises(IntegrityError, match="ck_facility_geom"):
        connection.execute(
            text(f"UPDATE facility SET geom = {_point(words)} WHERE facility_id = 'F1'")
        )


@pytest.mark.parametrize(
    "shape",
    [
        "POLYGON((0 0, 1 1, 1 0, 0 1, 0 0))",
        "POLYGON((106 29, 107 29, 107 95, 106 29))",
        "POLYGON EMPTY",
    ],
)
def test_no_outage_has_an_impossible_shape(owner: Engine, app: Engine, shape: str) -> None:
    insert = (
        "INSERT INTO outage (outage_id, revision, body_sha256, batch_id, account, feature, crs,"
        " geom, load_shed_kw, customers_out, started_at, planned, main_grid, split, adcodes)"
        " SELECT 'O', 1, body_sha256, id, 'a', '{}', 'WGS84', ST_GeomFromText(:shape, 4326), 1, 1,"
        " now(), false, true, '{}', '{}' FROM batch LIMIT 1"
    )
    with owner.connect() as connection, pytest.raises(IntegrityError, match="ck_outage_geom"):
        connection.execute(text(insert), {"shape": shape})


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM batch",
        "DELETE FROM status_log",
        "DELETE FROM status_ledger",
        "DELETE FROM facility",
        "DELETE FROM counter_delta",
        "UPDATE status_log SET state = 'up'",
        "UPDATE change SET received_at = now()",
        "UPDATE batch SET body = ''",
        "UPDATE incident_revision SET facts = '{}'",
        "TRUNCATE facility_state",
        "INSERT INTO status_log_default SELECT * FROM status_log",
        "INSERT INTO counter_delta SELECT * FROM counter_delta",
        "CREATE TABLE mine (a int)",
        "ALTER TABLE facility DISABLE ROW LEVEL SECURITY",
    ],
)
def test_the_api_role_cannot_touch_the_record(app: Engine, statement: str) -> None:
    with app.connect() as connection, pytest.raises(ProgrammingError, match=r"permission|owner"):
        connection.execute(text(statement))


def test_a_state_row_is_never_deleted_even_by_the_owner(owner: Engine, app: Engine) -> None:
    with owner.connect() as connection, pytest.raises(DBAPIError, match="never deleted"):
        connection.execute(text("DELETE FROM facility_state"))


def _seen(connection: Connection) -> set[str]:
    return set(connection.execute(text("SELECT DISTINCT adcode FROM facility")).scalars())


def test_a_transaction_sees_only_the_districts_it_named(app: Engine) -> None:
    with app.connect() as connection:
        assert _seen(connection) == set()
    with reading(app, Scope((YUZHONG,))) as connection:
        assert _seen(connection) == {YUZHONG}
    with reading(
        app,
        Scope(
            (
                YUZHONG,
                NANAN,
            )
        ),
    ) as connection:
        assert _seen(connection) == {YUZHONG, NANAN}
    with reading(app) as connection:
        assert _seen(connection) == {YUZHONG, SHAPINGBA, NANAN}
    with app.connect() as connection:
        assert _seen(connection) == set(), "a scope must not outlive its transaction"


def test_a_scoped_spatial_query_uses_the_index(app: Engine) -> None:
    lon, lat = INSIDE[YUZHONG]
    box = f"ST_MakeEnvelope({lon}, {lat}, {lon + 3e-4}, {lat + 3e-4}, 4326)"
    for predicate in (f"geom && {box}", f"ST_Intersects(geom, {box})"):
        with reading(app, Scope((YUZHONG,))) as connection:
            plan = connection.execute(
                text(f"EXPLAIN SELECT pk FROM facility WHERE {predicate}")
            ).scalars()
            assert "ix_facility_geom" in "\n".join(plan)


def test_partitions_are_made_ahead_and_the_default_catches_the_rest(owner: Engine) -> None:
    with owner.begin() as connection:
        assert connection.execute(text("SELECT ensure_status_partitions(2)")).scalar() == 0
        assert connection.execute(text("SELECT ensure_status_partitions(4)")).scalar() == 2
        names = connection.execute(
            text(
                "SELECT inhrelid::regclass::text FROM pg_inherits"
                " WHERE inhparent = 'status_log'::regclass ORDER BY 1"
            )
        ).scalars()
        found = list(names)
    assert found[-1] == "status_log_default"
    assert len(found) == 1 + 5, "this month, two made by the migration, two more, and the default"


def test_rows_already_in_the_default_partition_do_not_stop_the_next_months(owner: Engine) -> None:
    with owner.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO status_log (received_at, batch_id, row, event_id, facility_id, state,"
                " observed_at, future) VALUES (now() + interval '8 months', 1, 1, 'e', 'f', 'up',"
                " now(), false)"
            )
        )
        made = connection.execute(text("SELECT ensure_status_partitions(10)")).scalar()
        assert made == 5, "the months after the four made, without the one already in the default"
