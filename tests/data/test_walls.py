"""The walls of a migrated database are those written down, and one that was altered is told of."""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import CheckConstraint, Connection, Engine, text
from typer.testing import CliRunner

import data
from api.cli import app
from data.cluster import Cluster
from data.database import migrate, owner_engine
from data.tables import metadata
from data.walls import FILE, file_text, meant_walls, read_walls, wall_faults

QUICK_S = 0.3


@pytest.fixture(scope="module")
def owner(database_url: str) -> Iterator[Engine]:
    engine = owner_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def altering(owner: Engine) -> Iterator[Connection]:
    """A transaction of the owner's; what it alters is as before afterwards."""
    with owner.connect() as connection:
        yield connection
        connection.rollback()


def faults(connection: Connection) -> list[str]:
    return wall_faults(read_walls(connection), meant_walls())


def test_the_migrations_build_every_wall_that_is_written_down_and_no_other(owner: Engine) -> None:
    with owner.connect() as connection:
        found = read_walls(connection)
    told = "after a change of the migrations that means it: .venv/bin/python -m data.walls"
    assert wall_faults(found, meant_walls()) == [], told
    if found.postgresql == meant_walls().postgresql:
        assert file_text(found) == FILE.read_text(encoding="utf-8"), told
    kinds = {wall.kind for wall in found.walls}
    assert kinds == {
        *("CHECK", "FOREIGN KEY", "PRIMARY KEY", "UNIQUE", "unique index", "trigger", "policy"),
        *("row-level security", "right", "function", "view", "LEAKPROOF", "role"),
    }


def test_every_check_of_the_code_is_in_the_database_and_none_else(owner: Engine) -> None:
    for module in Path(data.__path__[0]).glob("tables*.py"):
        importlib.import_module(f"data.{module.stem}")
    declared = {
        (table.fullname, str(one.name))
        for table in metadata.tables.values()
        for one in table.constraints
        if isinstance(one, CheckConstraint)
    }
    with owner.connect() as connection:
        walls = read_walls(connection).walls
    assert len(declared) > 50
    assert declared == {
        (one.of, one.name) for one in walls if one.kind == "CHECK" and one.of in metadata.tables
    }


ALTERED = [
    (
        "ALTER TABLE facility DROP CONSTRAINT ck_facility_rescue_code",
        "the CHECK ck_facility_rescue_code of facility is missing",
    ),
    ("DROP POLICY scope ON outage", "the policy scope of outage is missing"),
    (
        "ALTER TABLE incident DISABLE ROW LEVEL SECURITY",
        "row-level security of incident is off",
    ),
    (
        "GRANT DELETE ON ALL TABLES IN SCHEMA public TO yutu_app",
        "yutu_app may DELETE on audit, which is not meant",
    ),
    (
        "ALTER TABLE audit DISABLE TRIGGER refuse_change",
        "the trigger refuse_change of audit is disabled, not enabled",
    ),
    (
        "ALTER FUNCTION st_intersects(geometry, geometry) NOT LEAKPROOF",
        "st_intersects(geometry,geometry) is not LEAKPROOF",
    ),
    (
        "ALTER TABLE change DROP CONSTRAINT uq_change_batch_id",
        "the UNIQUE uq_change_batch_id of change is missing",
    ),
    (
        "ALTER TABLE facility DROP CONSTRAINT ck_facility_rescue_code, ADD CONSTRAINT"
        " ck_facility_rescue_code CHECK (rescue_code ~ '^[0-9]{6}$') NOT VALID",
        "the CHECK ck_facility_rescue_code of facility is unvalidated, not validated",
    ),
    (
        "ALTER POLICY scope ON attachment USING (true)",
        "the policy scope of attachment is USING true WITH CHECK -, not USING (EXISTS (",
    ),
    (
        "CREATE POLICY all_of_it ON facility TO PUBLIC USING (true)",
        "the policy all_of_it of facility is not one of the migrations'",
    ),
    (
        "GRANT SELECT (body) ON incident TO yutu_reader",
        "yutu_reader may SELECT on incident (body), which is not meant",
    ),
    (
        "GRANT INSERT ON status_log_default TO yutu_app",
        "yutu_app may INSERT on status_log_default, which is not meant",
    ),
    (
        "REVOKE INSERT ON incident FROM yutu_app",
        "yutu_app may not INSERT on incident, as it must",
    ),
    (
        "GRANT EXECUTE ON FUNCTION outage_newest(bigint) TO PUBLIC",
        "PUBLIC may EXECUTE on function outage_newest(bigint), which is not meant",
    ),
    ("GRANT CREATE ON SCHEMA public TO PUBLIC", "PUBLIC may CREATE on schema public, which is"),
    (
        "ALTER TABLE facility OWNER TO yutu_app",
        "yutu_app owns facility, which is not meant",
    ),
    (
        "ALTER ROLE yutu_app BYPASSRLS",
        "the role yutu_app is ordinary, BYPASSRLS, not ordinary",
    ),
    (
        "GRANT pg_write_all_data TO yutu_app",
        "yutu_app is a member of pg_write_all_data, which is not meant",
    ),
    (
        "CREATE OR REPLACE FUNCTION refuse_changing_audit() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN RETURN NULL; END'",
        "the function refuse_changing_audit() is SECURITY INVOKER, body ",
    ),
    (
        "ALTER VIEW facility_division SET (security_invoker = false)",
        "the view facility_division is security_invoker=false, not security_invoker=true",
    ),
]


@pytest.mark.parametrize(("statement", "told"), ALTERED, ids=[one for one, _ in ALTERED])
def test_an_altered_wall_is_named(altering: Connection, statement: str, told: str) -> None:
    assert faults(altering) == []
    altering.execute(text(statement))
    found = faults(altering)
    assert any(fault.startswith(told) for fault in found), found
    assert "\n" not in "".join(found)


def test_what_is_made_at_run_time_or_published_beside_is_no_fault(altering: Connection) -> None:
    altering.execute(text("SELECT ensure_status_partitions(5)"))
    altering.execute(text("CREATE TABLE ogc.shelter (id integer PRIMARY KEY, beds integer)"))
    altering.execute(text("CREATE VIEW ogc.shelters AS SELECT * FROM ogc.shelter"))
    altering.execute(text("SET LOCAL search_path = ogc"))
    assert faults(altering) == []
    assert altering.execute(text("SHOW search_path")).scalar_one() == "ogc"


def test_another_server_words_definitions_otherwise_and_only_they_may_differ(
    owner: Engine,
) -> None:
    with owner.connect() as connection:
        found = read_walls(connection)
    worded = tuple(one._replace(definition=f"{one.definition};") for one in found.walls)
    newer = dataclasses.replace(found, postgresql=meant_walls().postgresql + 1, walls=worded)
    assert wall_faults(newer, meant_walls()) == []
    lacking = dataclasses.replace(newer, walls=worded[1:])
    assert len(wall_faults(lacking, meant_walls())) == 1
    here = dataclasses.replace(newer, postgresql=meant_walls().postgresql)
    assert len(wall_faults(here, meant_walls())) == len(worded)


def test_a_database_migrated_by_no_superuser_has_every_wall_but_the_marks(
    cluster: Cluster, bare_database_url: str
) -> None:
    """As docs/operations.md sets a database of one's own up."""
    name = bare_database_url.split("?")[0].rsplit("/", 1)[1]
    theirs = owner_engine(bare_database_url)
    try:
        with theirs.begin() as connection:
            connection.execute(text("CREATE ROLE walls_owner LOGIN CREATEROLE"))
            connection.execute(text(f"ALTER DATABASE {name} OWNER TO walls_owner"))
            connection.execute(text("CREATE SCHEMA theirs; CREATE EXTENSION postgis SCHEMA theirs"))
            connection.execute(text("GRANT USAGE ON SCHEMA theirs TO PUBLIC"))
            connection.execute(text(f"ALTER DATABASE {name} SET search_path = public, theirs"))
        migrate(cluster.url(name, "walls_owner"))
        ours = owner_engine(cluster.url(name, "walls_owner"))
        with ours.connect() as connection:
            assert faults(connection) == []
            assert "LEAKPROOF" not in {wall.kind for wall in read_walls(connection).walls}
        ours.dispose()
        with theirs.connect() as connection:
            assert faults(connection) == [
                "geometry_overlaps(geometry,geometry) is not LEAKPROOF",
                "st_intersects(geometry,geometry) is not LEAKPROOF",
            ]
    finally:
        theirs.dispose()
        server = owner_engine(cluster.url("postgres")).execution_options(
            isolation_level="AUTOCOMMIT"
        )
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
            connection.execute(text("DROP OWNED BY walls_owner; DROP ROLE walls_owner"))
        server.dispose()


def test_the_walls_are_read_and_compared_quickly(owner: Engine) -> None:
    with owner.connect() as connection:
        faults(connection)
        times = []
        for _ in range(5):
            began = time.perf_counter()
            assert faults(connection) == []
            times.append(time.perf_counter() - began)
    assert min(times) < QUICK_S


def test_the_command_ends_with_0_or_with_1_and_a_line_for_each_wall(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUTU_DATABASE_URL", empty_database_url.replace("+psycopg", ""))
    whole = CliRunner().invoke(app, ["db", "check"])
    assert whole.exit_code == 0, whole.output
    engine = owner_engine(empty_database_url)
    with engine.begin() as connection:
        for statement, _ in ALTERED[:3]:
            connection.execute(text(statement))
    engine.dispose()
    altered = CliRunner().invoke(app, ["db", "check"])
    assert altered.exit_code == 1
    assert altered.output.splitlines() == [
        *(told for _, told in ALTERED[:3]),
        "yutu: the schema was changed by hand: 3 of its walls",
    ]
