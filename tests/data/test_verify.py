"""`yutu db verify` finds every kind of damage, says where, and is silent about what is right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import orjson
import pytest
from click.testing import Result
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from api.cli import app
from data.check import EXAMPLES
from data.counters import fold
from data.database import WHOLE_CITY, app_engine, owner_engine, sequence_at, set_scope
from data.facilities import retire_facilities
from data.facility_states import StatesNow
from data.incident_submission import store_incident
from data.outages import store_outage
from data.returns import store_return
from data.rulepacks import load_packs
from data.teams import store_positions
from data.verify import verify
from tests.data.stored import assert_verified, bring, event, inventory, send
from tests.feeds import COMMANDER, FIELD, INSIDE, NANAN, YUZHONG, ago, facility

CHECKS = {
    *("archive", "audit"),
    *("order", "bodies", "orphans", "ledger", "log", "states", "counters", "deltas"),
    *(
        "checkpoints",
        "remembered",
        "history",
        "placements",
        "placed by SQL",
        "submissions",
        "events",
        "teams",
    ),
}


@pytest.fixture(scope="module")
def lived_url(make_database: Any, divided_template: str) -> str:
    """A database in which every kind of thing has happened."""
    url: str = make_database(divided_template)
    engine = app_engine(url)
    rows = inventory(12)
    bring(engine, *rows, valid_from=datetime(2020, 1, 1, tzinfo=UTC))
    send(engine, *(event(f"e{i}", f"F{i}", "down", i) for i in range(6)))
    with engine.begin() as connection:
        fold(connection)
        connection.execute(
            text("INSERT INTO counter_checkpoint SELECT f.through, c.* FROM counter c, fold f")
        )
        set_scope(connection, WHOLE_CITY)
        StatesNow().at(connection, sequence_at(connection, None))
    body = b"\n".join(orjson.dumps(event(f"n{i}", f"F{i}", "up", 9, cause="电")) for i in range(3))
    from data.status import ingest_status

    events = [orjson.loads(line) for line in body.split(b"\n")]
    ingest_status(engine, events, body=body, account="u", content_type="application/x-ndjson")
    bring(engine, rows[0] | {"load_kw": 123}, rows[1] | {"name": "renamed"})
    retire_facilities(engine, ["F2"], account="planner", body=b"r", reason="gone")
    send(engine, event("waits", "LATE", "down", 3), event("never", "NOBODY", "down", 3))
    bring(engine, facility("LATE", *INSIDE[NANAN]))
    feature = {
        "type": "Feature",
        "geometry": None,
        "properties": {
            "outage_id": "O1",
            "revision": 1,
            "load_shed_kw": 10,
            "customers_out": 1,
            "started_at": ago(hours=1),
            "facility_ids": ["F0"],
        },
    }
    store_outage(engine, feature, body=json.dumps(feature).encode(), account="u")
    incident = {
        "incident_id": str(uuid4()),
        "plan": "special-equipment-2023",
        "kind": "elevator",
        "occurred_at": ago(hours=1),
        "position": [*INSIDE[YUZHONG]],
    }
    store_incident(
        engine, incident, body=json.dumps(incident).encode(), account=COMMANDER, packs=load_packs()
    )
    given = {
        "return_id": "R1",
        "operator": "mobile",
        "kind": "base_station",
        "as_of": ago(hours=1),
        "rows": [{"adcode": YUZHONG, "total": 5, "down": 1}],
    }
    store_return(engine, given, body=json.dumps(given).encode(), account="u")
    store_positions(engine, _positions(("T1", 9), ("T1", 3), ("T2", 5), ("T2", -60)), account=FIELD)
    engine.dispose()
    return url


def _positions(*seen: tuple[str, int]) -> bytes:
    """CoT events of teams, each seen that many minutes ago."""
    lon, lat = INSIDE[YUZHONG]
    stale = ago(minutes=-120)
    events = [
        f'<event version="2.0" uid="{uid}" type="a-f-G-U-C" how="m-g" time="{ago(minutes=minutes)}"'
        f' start="{ago(minutes=minutes)}" stale="{stale}"><point lat="{lat}" lon="{lon}" hae="0"'
        ' ce="8" le="9"/><detail><contact callsign="c"/></detail></event>'
        for uid, minutes in seen
    ]
    return f"<events>{''.join(events)}</events>".encode()


@pytest.fixture
def owner(cluster: Any, make_database: Any, lived_url: str) -> Iterator[Engine]:
    """A copy of it, to be damaged, as superuser."""
    from tests.conftest import drop_database

    url = make_database(lived_url.split("?")[0].rsplit("/", 1)[1])
    engine = owner_engine(url)
    yield engine
    engine.dispose()
    drop_database(cluster, url)


def test_what_happened_as_it_should_is_clean_and_every_check_looked_at_something(
    owner: Engine,
) -> None:
    report = assert_verified(owner)
    looked_at = {check.name: check.looked_at for check in report.checks}
    assert set(looked_at) == CHECKS
    assert looked_at.pop("archive") == 0  # tests/api/test_retired_log.py has retired months
    assert all(looked_at.values()), looked_at
    assert looked_at["events"] == looked_at["ledger"] == 11
    assert looked_at["placements"] == 2 * (13 + 3)
    assert report.sequence == 11
    assert looked_at["teams"] == 2
    assert {c.name for c in verify(owner).checks} == CHECKS - {"events"}


def test_the_role_of_the_api_may_verify_too(divided: Engine) -> None:
    bring(divided, *inventory(3))
    assert_verified(divided)


#: What is done to the database as superuser → the checks that must notice, and a word they say.
DAMAGE: list[tuple[str, set[str], str]] = [
    (
        "UPDATE facility_state SET state = 'up' WHERE event_id = 'e5'",
        {"states", "history"},
        "state is up, follows down",
    ),
    (
        "ALTER TABLE facility_state DISABLE TRIGGER USER;"
        "UPDATE facility_state SET state = 'up' WHERE event_id = 'e5'",
        {"states", "counters", "deltas"},
        "state is up, follows down",
    ),
    (
        "ALTER TABLE facility_state DISABLE TRIGGER USER;"
        "UPDATE facility_state SET event_id = 'e4', observed_at = now() WHERE event_id = 'e5'",
        {"states"},
        "event_id is e4, follows e5",
    ),
    (
        "ALTER TABLE facility_state DISABLE TRIGGER USER;"
        "UPDATE facility_state SET counted = true WHERE NOT counted",
        {"states", "counters", "deltas"},
        "counted is 1, follows 0",
    ),
    ("UPDATE counter SET down = down + 1 WHERE group_id = 1", {"counters"}, "down is"),
    ("DELETE FROM counter WHERE group_id = 1", {"counters"}, "group_id 1"),
    ("UPDATE fold SET through = 0", {"counters"}, "total is"),
    (
        "UPDATE counter_delta SET load_kw = load_kw + 1 WHERE group_id = 1",
        {"deltas", "checkpoints", "history"},
        "load_kw is",
    ),
    (
        "DELETE FROM counter_delta WHERE ctid IN (SELECT max(ctid) FROM counter_delta)",
        {"counters", "deltas", "history"},
        "follows",
    ),
    ("UPDATE counter_delta SET valid_from = now()", {"history"}, "valid_from"),
    (
        "INSERT INTO counter_delta SELECT 999, 888, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0",
        {"deltas", "orphans"},
        "batch 999 has no change",
    ),
    (
        "UPDATE counter_checkpoint SET customers = customers + 1 WHERE group_id = 1",
        {"checkpoints"},
        "customers is",
    ),
    ("DELETE FROM counter_checkpoint WHERE group_id = 1", {"checkpoints"}, "group_id 1"),
    (
        "UPDATE state_checkpoint SET states = set_byte(states, 0, 255 - get_byte(states, 0))",
        {"remembered"},
        "facility 1 is up",
    ),
    ("DELETE FROM status_log WHERE event_id = 'never'", {"ledger"}, "not in the log"),
    (
        "DELETE FROM status_log WHERE event_id = 'e3'",
        {"ledger", "states", "history"},
        "not in the log",
    ),
    (
        "INSERT INTO status_log SELECT * FROM status_log WHERE event_id = 'never'",
        {"ledger"},
        "event never is in the log 2 times",
    ),
    (
        "DELETE FROM status_ledger WHERE event_key IN (SELECT event_key FROM status_ledger LIMIT 1)",
        {"ledger", "events"},
        "not in the ledger",
    ),
    (
        "UPDATE status_ledger SET body_sha256 = sha256('') WHERE event_key IN"
        " (SELECT event_key FROM status_ledger LIMIT 1)",
        {"events"},
        "the ledger has another hash",
    ),
    (
        "UPDATE status_log SET state = 'up' WHERE event_id = 'never'",
        {"events"},
        "batch 6 row 2, event never: the log says otherwise",
    ),
    (
        "UPDATE status_log SET cause = NULL WHERE event_id = 'n0'",
        {"events"},
        "event n0: the log says otherwise",
    ),
    (
        "UPDATE status_log SET observed_at = observed_at + interval '1 ms' WHERE event_id = 'never'",
        {"events"},
        "event never: the log says otherwise",
    ),
    (
        "UPDATE status_log SET facility_pk = 9 WHERE event_id = 'never'",
        {"orphans", "states", "history"},
        "names facility NOBODY but belongs to F8",
    ),
    (
        "UPDATE status_log SET batch_id = 999 WHERE event_id = 'never'",
        {"orphans"},
        "batch 999 row 2 has no batch",
    ),
    ("UPDATE status_log SET future = true WHERE event_id = 'never'", {"log"}, "future is true"),
    (
        "UPDATE status_log SET received_at = received_at - interval '1 s' WHERE event_id = 'never'",
        {"log"},
        "received_at is not that of its batch",
    ),
    (
        "UPDATE batch SET body = body || ' ' WHERE id = 2",
        {"bodies"},
        "batch 2 (status from utility)",
    ),
    (
        "UPDATE batch SET body = replace(encode(body, 'escape'), 'never', 'nevar')::bytea,"
        " body_sha256 = sha256(replace(encode(body, 'escape'), 'never', 'nevar')::bytea)"
        " WHERE id = 6",
        {"events"},
        "event never: the ledger has another hash",
    ),
    (
        'UPDATE batch SET request = \'{"operators": ["tower"]}\' WHERE id = 6',
        {"states", "history"},
        "facility LATE: state is down, follows up",
    ),
    (
        "UPDATE change SET received_at = received_at - interval '1 day' WHERE sequence = 4",
        {"order"},
        "sequence 4 received",
    ),
    (
        "INSERT INTO batch (channel, account, content_type, body, body_sha256)"
        " VALUES ('status', 'u', 'x', '', sha256(''))",
        {"orphans"},
        "batch 12 is no change",
    ),
    (
        "ALTER TABLE facility_state DISABLE TRIGGER USER;"
        "DELETE FROM facility_state WHERE facility_pk = 12",
        {"orphans", "counters", "deltas"},
        "facility F11 has no state",
    ),
    (
        "UPDATE facility SET geom = ST_SetSRID(ST_MakePoint(106.40, 29.62), 4326)"
        " WHERE facility_id = 'F4'",
        {"placements", "placed by SQL"},
        "facility F4 version 1",
    ),
    (
        "UPDATE facility_past SET geom = ST_SetSRID(ST_MakePoint(106.40, 29.62), 4326)"
        " WHERE facility_id = 'F0'",
        {"placements"},
        "facility F0 version 1",
    ),
    ("UPDATE facility SET adcode = '500106' WHERE facility_id = 'F4'", {"placements"}, "500106"),
    (
        "UPDATE placement_division SET unit = '500106' WHERE placement_id = 1 AND version_id = 1",
        {"placements"},
        "500106",
    ),
    (
        "DELETE FROM placement_division WHERE placement_id = 1 AND version_id = 1",
        {"placements", "orphans"},
        "placement 1 says nothing",
    ),
    (
        "UPDATE facility SET load_kw = load_kw + 1 WHERE facility_id = 'F5'",
        {"states", "history"},
        "facility F5: load_kw is",
    ),
    (
        "DELETE FROM facility_past WHERE facility_id = 'F1'",
        {"history"},
        "follows",
    ),
    ("UPDATE outage SET feature = '{}'", {"submissions"}, "outage O1 revision 1"),
    ("UPDATE outage SET body_sha256 = sha256('')", {"submissions"}, "outage O1 revision 1"),
    ('UPDATE incident SET body = body || \'{"kind": "crane"}\'', {"submissions"}, "incident"),
    ("UPDATE operator_return SET body_sha256 = sha256('')", {"submissions"}, "return R1"),
    (
        "UPDATE team SET position_id = (SELECT id FROM team_position WHERE uid = 'T1'"
        " ORDER BY observed_at LIMIT 1) WHERE uid = 'T1'",
        {"teams"},
        "team T1: shows position ",
    ),
    (
        "UPDATE team SET geom = ST_SetSRID(ST_MakePoint(106.40, 29.62), 4326) WHERE uid = 'T2'",
        {"teams"},
        "team T2: differs from its position",
    ),
    ("UPDATE team SET callsign = 'x' WHERE uid = 'T2'", {"teams"}, "team T2: differs"),
    ("UPDATE team SET adcode = NULL WHERE uid = 'T2'", {"teams"}, "team T2: differs"),
    ("DELETE FROM team WHERE uid = 'T1'", {"teams"}, "team T1: has positions and is not shown"),
    (
        "UPDATE team_position SET future = true WHERE uid = 'T2'",
        {"teams"},
        "team T2: is shown without a position that holds",
    ),
    (
        "UPDATE team_position SET future = false WHERE uid = 'T2'",
        {"teams"},
        "team T2: shows position ",
    ),
    ("UPDATE team SET account = 'other' WHERE uid = 'T1'", {"teams"}, "belongs to other"),
]


@pytest.mark.parametrize(("damage", "noticed", "word"), DAMAGE)
def test_damage_is_noticed_and_named(
    owner: Engine, damage: str, noticed: set[str], word: str
) -> None:
    with owner.begin() as connection:
        for statement in damage.split(";"):
            changed = connection.execute(text(statement.replace(":", "\\:")))
            assert changed.rowcount != 0
    report = verify(owner, deep=True)
    wrong = {check.name for check in report.checks if check.wrong}
    assert noticed <= wrong, "\n".join(report.lines())
    assert not report.clean
    assert any(word in line for line in report.lines()), "\n".join(report.lines())


def test_many_faults_are_counted_and_a_few_are_shown(owner: Engine) -> None:
    with owner.begin() as connection:
        connection.execute(text("UPDATE batch SET body_sha256 = sha256('')"))
    report = verify(owner)
    check = next(c for c in report.checks if c.name == "bodies")
    assert (check.wrong, len(check.examples)) == (11, EXAMPLES)
    assert "    and 6 more" in report.lines()


def ran(owner: Engine, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    url = owner.url.render_as_string(hide_password=False)
    monkeypatch.setenv("YUTU_DATABASE_URL", url.replace("+psycopg", ""))
    return CliRunner().invoke(app, ["db", "verify", *arguments])


def test_the_command_ends_with_0_or_with_1_and_what_differs(
    owner: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = ran(owner, monkeypatch, "--deep")
    assert clean.exit_code == 0, clean.output
    assert "everything follows from what was received, as of sequence 11" in clean.output
    with owner.begin() as connection:
        connection.execute(text("UPDATE counter SET down = down + 1 WHERE group_id = 1"))
    damaged = ran(owner, monkeypatch)
    assert damaged.exit_code == 1
    assert "as of sequence 11: counters" in damaged.output
    assert "group_id 1: down is" in damaged.output
