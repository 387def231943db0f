"""A database of the first schema, filled by the program of that time, comes to the newest whole."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psycopg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

from api.app import create_app
from api.deps import Configuration
from data.builder import Builder
from data.database import alembic_config, app_engine, libpq_url, owner_engine
from data.rulepacks import load_packs
from data.settings import SituationSettings
from data.verify import verify
from data.walls import meant_walls, read_walls, wall_faults
from tests.api.conftest import served

FIRST = "0001"
ROWS = Path(__file__).with_name("first_schema.sql")
#: What revision 0001 made, partitions and PostGIS's own left out.
TABLES = (
    *("account", "batch", "change", "counter", "counter_checkpoint", "counter_delta"),
    *("counter_group", "district", "division_version", "facility", "facility_past"),
    *("facility_state", "fold", "incident", "incident_conflict", "incident_revision"),
    *("operator_return", "outage", "placement", "placement_division", "plan_facts"),
    *("situation_bytes", "source_latest", "source_report", "status_ledger", "status_log"),
    *("stream_event", "unit"),
)
#: Per operator, counted from the states alone.
DOWN = """
SELECT f.operator, count(*) FILTER (WHERE s.state = 'down') FROM facility f
JOIN facility_state s ON s.facility_pk = f.pk
WHERE f.retired_at IS NULL AND f.kind = 'substation' GROUP BY 1
"""


def credentials() -> dict[str, dict[str, str]]:
    """Of the accounts in the rows, as their header tells them."""
    header = ROWS.read_text(encoding="utf-8").splitlines()[4]
    found: dict[str, dict[str, str]] = json.loads(header.removeprefix("-- "))
    return found


def revisions() -> list[str]:
    """From the first to the newest, in order."""
    script = ScriptDirectory.from_config(alembic_config("postgresql://nowhere/x"))
    return [one.revision for one in script.walk_revisions()][::-1]


def counts(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        return {
            table: connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
            for table in TABLES
        }


def states(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT state::text, count(*) FROM facility_state WHERE counted GROUP BY 1")
        )
        return dict(rows.all())


@pytest.fixture
def owner(bare_database_url: str) -> Iterator[Engine]:
    engine = owner_engine(bare_database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def first(bare_database_url: str, owner: Engine) -> Engine:
    """The first schema with its rows, as that program left them: triggers have counted already."""
    command.upgrade(alembic_config(bare_database_url), FIRST)
    with psycopg.connect(libpq_url(bare_database_url)) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(f"TRUNCATE {', '.join(TABLES)}".encode())
        connection.execute(ROWS.read_bytes())
    return owner


def test_the_rows_are_of_every_table_the_first_schema_has(first: Engine) -> None:
    with first.connect() as connection:
        tables = connection.execute(
            text(
                "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace"
                " AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
                " AND c.relname NOT IN ('spatial_ref_sys', 'alembic_version') ORDER BY 1"
            )
        ).scalars()
        assert list(tables) == sorted(TABLES)
    assert {table for table, rows in counts(first).items() if rows == 0} == set()


def test_a_database_of_the_first_schema_comes_to_the_newest_with_everything_it_held(
    bare_database_url: str, first: Engine
) -> None:
    config, held, known = alembic_config(bare_database_url), counts(first), states(first)
    steps = revisions()
    assert steps[0] == FIRST
    assert len(steps) >= 12
    for revision in steps[1:]:
        command.upgrade(config, revision)
        assert counts(first) == held, f"{revision} added or lost rows"
        assert states(first) == known, revision
    command.check(config)  # raises when the tables are not those of the code
    with first.connect() as connection:
        assert wall_faults(read_walls(connection), meant_walls()) == []

    report = verify(first, deep=True)
    assert report.clean, "\n".join(report.lines())
    looked_at = {check.name: check.looked_at for check in report.checks}
    assert looked_at["events"] == held["status_ledger"]
    assert looked_at["states"] == held["facility_state"]

    # what the migrations turned into something else
    with first.connect() as connection:
        keys = connection.execute(text("SELECT username, label FROM account_key ORDER BY 1")).all()
        assert {label for _, label in keys} == {"first"}
        kinds = connection.execute(text("SELECT DISTINCT kind FROM unit ORDER BY 1")).scalars()
        assert list(kinds) == ["district", "functional_zone"]
        zone = connection.execute(text("SELECT name FROM unit WHERE code = 'Z-1'")).scalars()
        assert set(zone) == {"高新区"}
        locked = connection.execute(
            text("SELECT active, token_epoch FROM account WHERE username = 'admin'")
        ).one()
        assert tuple(locked) == (False, 3)

    engine = app_engine(bare_database_url)
    built = Builder(engine, bare_database_url, load_packs(), SituationSettings()).build_once()
    engine.dispose()
    assert built is not None
    assert built >= held["change"]
    assert verify(first, deep=True).clean


def test_the_api_serves_a_database_of_the_first_schema(
    bare_database_url: str, first: Engine
) -> None:
    with first.connect() as connection:
        levels = connection.execute(
            text("SELECT levels FROM situation_bytes WHERE lang = 'zh' ORDER BY sequence DESC")
        ).scalar()
        known_at: datetime = connection.execute(
            text("SELECT max(received_at) FROM change")
        ).scalar_one()
        rows = connection.execute(
            text("SELECT operator, count(*) FROM facility WHERE retired_at IS NULL GROUP BY 1")
        )
        operators = dict(rows.all())
    known = states(first)
    command.upgrade(alembic_config(bare_database_url), "head")
    secrets = credentials()
    with (
        served(create_app(Configuration.load(bare_database_url))) as url,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        until(client, "/ready", 200)
        viewer = {"X-API-Key": secrets["viewer"]["api_key"]}  # a key from before keys had a table
        commander = {"X-API-Key": secrets["commander"]["api_key"]}
        form = {"username": "commander", "password": secrets["commander"]["password"]}
        assert client.post("/v1/token", data=form).status_code == 200

        now = client.get("/v1/situation", headers=viewer).json()
        assert len(now["districts"]) == 37
        then = client.get(
            "/v1/situation", headers=viewer, params={"at": known_at.isoformat()}
        ).json()
        assert {name: plan["level"] for name, plan in then["plans"].items()} == levels
        assert then["sequence"] == 23
        assert (
            then["inventory"]["facilities"] == now["inventory"]["facilities"] == sum(known.values())
        )
        by_site = {s["operator"]: s["down"] for s in now["sources"] if s["kind"] == "substation"}
        with first.connect() as connection:
            assert by_site == dict(connection.execute(text(DOWN)).all())

        incidents = client.get(
            "/v1/incidents", headers=commander, params={"plan": "special-equipment-2023"}
        ).json()
        assert len(incidents["features"]) == 3
        facts = [one["properties"]["facts"] for one in incidents["features"]]
        assert sorted(one["deaths"] for one in facts) == [1, 1, 2]
        outages = client.get("/v1/outages", headers=viewer).json()["features"]
        assert {one["properties"]["outage_id"] for one in outages} >= {"O2"}
        page = client.get("/v1/export/facilities.geojson", headers=viewer).json()
        exported: dict[str, int] = {}
        for feature in page["features"]:
            name = feature["properties"]["operator"]
            exported[name] = exported.get(name, 0) + 1
        assert exported == operators

        event = {
            "event_id": "after-the-upgrade",
            "facility_id": "F9",
            "state": "up",
            "observed_at": datetime.now(UTC).isoformat(),
        }
        tower = {"X-API-Key": secrets["tower"]["api_key"]}
        again = client.post("/v1/status", json=[event], headers=tower)
        assert again.status_code in {200, 201}, again.text
    report = verify(first, deep=True)
    assert report.clean, "\n".join(report.lines())


def until(client: httpx.Client, path: str, status: int) -> None:
    deadline = time.monotonic() + 30
    while client.get(path).status_code != status:
        assert time.monotonic() < deadline, client.get(path).text
        time.sleep(0.1)
