"""Incidents against a real PostGIS: one per id, edited by version, seen within a scope."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from data.accounts import Account
from data.database import Scope, app_engine, reading, sequence_at
from data.incident_submission import StoredIncident, edit_incident, read_change, store_incident
from data.incidents import IncidentSettings, get_incident, list_incidents, open_incidents
from data.rulepacks import load_packs
from geo.crs import from_wgs84
from geo.errors import (
    Conflict,
    InvalidInput,
    NotAllowed,
    NotFound,
    VersionMismatch,
    YutuError,
)
from tests.feeds import (
    CHENGDU,
    COMMANDER,
    FIELD,
    FIELD_COLLEAGUE,
    FIELD_OTHER,
    INSIDE,
    NANAN,
    SHAPINGBA,
    VIEWER,
    YUZHONG,
    ago,
    facility,
    load_facilities,
)
from tests.feeds import incident as lift_incident

PACKS = load_packs()
SPECIAL = "special-equipment-2023"


@pytest.fixture(scope="module")
def engine(shared_divided_url: str) -> Any:
    made = app_engine(shared_divided_url, acquire_timeout_s=30)
    load_facilities(made, [facility("LIFT-1", *INSIDE[NANAN], kind="special_equipment")])
    yield made
    made.dispose()


def incident(**more: Any) -> dict[str, Any]:
    """Of `tests.feeds`, without the members given as None."""
    return {k: v for k, v in lift_incident(**more).items() if v is not None}


def submit(engine: Engine, body: Any, account: Account = FIELD) -> StoredIncident:
    raw = json.dumps(body).encode()
    return store_incident(engine, body, body=raw, account=account, packs=PACKS, lang="en")


def edit(
    engine: Engine, incident_id: str, version: int, change: Any, account: Account = COMMANDER
) -> StoredIncident:
    return edit_incident(
        engine,
        UUID(incident_id),
        read_change(change),
        expected_version=version,
        body=json.dumps(change).encode(),
        account=account,
        packs=PACKS,
    )


def see(engine: Engine, incident_id: str, account: Account) -> dict[str, Any]:
    properties: dict[str, Any] = get_incident(engine, UUID(incident_id), account, PACKS)[
        "properties"
    ]
    return properties


def faults(engine: Engine, body: Any) -> set[str | None]:
    with pytest.raises(InvalidInput) as refused:
        submit(engine, body)
    return {f.field for f in refused.value.faults}


def test_the_first_is_created_the_same_again_identical(engine: Engine) -> None:
    body = incident(facts={"deaths": 3})
    first = submit(engine, body)
    assert (first.status, first.version) == ("created", 1)
    assert (first.json["adcode"], first.json["unit"]) == (YUZHONG, YUZHONG)
    assert first.json["assessment"]["level"] == 3
    assert first.json["facts"] == {"deaths": 3, "equipment": "elevator"}
    again = submit(engine, dict(reversed(body.items())))
    assert (again.status, again.sequence) == ("identical", None)
    assert again.json["incident_id"] == first.json["incident_id"]


def test_another_body_is_a_conflict_kept_for_review_and_never_applied(engine: Engine) -> None:
    body = incident(facts={"deaths": 3})
    submit(engine, body)
    for _ in range(2):
        with pytest.raises(Conflict, match="review"):
            submit(engine, body | {"facts": {"deaths": 30}})
    assert see(engine, body["incident_id"], FIELD)["facts"]["deaths"] == 3
    with reading(engine) as connection:
        kept = connection.execute(
            text(
                "SELECT body -> 'facts' -> 'deaths' FROM incident_conflict WHERE incident_id = :i"
            ),
            {"i": body["incident_id"]},
        ).scalars()
        assert list(kept) == [30]


def test_an_id_outside_the_scope_is_taken_and_nothing_more_is_said(engine: Engine) -> None:
    body = incident()
    submit(engine, body, FIELD)
    for sent in (body, body | {"kind": "boiler"}):
        with pytest.raises(Conflict) as refused:
            submit(engine, sent, FIELD_OTHER)
        assert str(refused.value) == "this incident_id is taken"
    with pytest.raises(Conflict, match="review"):
        submit(engine, body | {"kind": "boiler"}, FIELD_COLLEAGUE)
    assert submit(engine, body, FIELD_COLLEAGUE).status == "identical"


def test_forty_ids_posted_fifty_times_at_once_are_forty_incidents(engine: Engine) -> None:
    bodies = [incident(kind="crane", occurred_at=ago(days=n + 1)) for n in range(8)]
    with ThreadPoolExecutor(12) as pool:
        jobs = [pool.submit(submit, engine, body) for _ in range(50) for body in bodies]
        found = [job.result().status for job in jobs]
    assert found.count("created") == len(bodies)
    assert found.count("identical") == 49 * len(bodies)
    with reading(engine) as connection:
        rows = connection.execute(
            text("SELECT count(*) FROM incident_revision WHERE incident_id = ANY (:ids)"),
            {"ids": [UUID(b["incident_id"]) for b in bodies]},
        ).scalar_one()
    assert rows == len(bodies)


def test_every_fault_is_named_at_once(engine: Engine) -> None:
    body = incident(
        incident_id="17",
        plan="flood-2020",
        occurred_at="noon",
        position="near the bridge",
        accuracy_m=-1,
        device_time="x",
        description=5,
        reporter={"name": 3, "mail": "x"},
    )
    assert faults(engine, body) >= {
        *("incident_id", "plan", "occurred_at", "position", "accuracy_m", "device_time"),
        *("description", "reporter.name", "reporter"),
    }


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"kind": "bicycle"}, "kind"),
        ({"kind": None}, "kind"),
        ({"facts": {"deaths": -1}}, "facts.deaths"),
        ({"facts": {"people": 1}}, "facts.people"),
        ({"facts": {"equipment": "boiler"}}, "facts.equipment"),
        ({"facts": {"stranded_since": ago(hours=-20)}}, "facts.stranded_since"),
        ({"facts": []}, "facts"),
        ({"occurred_at": ago(hours=-20)}, "occurred_at"),
        ({"crs": "Beijing54"}, "crs"),
        ({"crs": 4326}, "crs"),
        ({"position": [106.5]}, "position"),
        ({"position": ["106.5", "29.5"]}, "position"),
        ({"position": [True, 29.5]}, "position"),
        ({"position": [200, 95]}, "position"),
        ({"position": [29.553, 106.553]}, "position"),
        ({"incident_id": "{0190b7a2-3c4d-7e5f-8a6b-1c2d3e4f5a6}"}, "incident_id"),
    ],
)
def test_an_impossible_incident_is_refused_by_the_field_at_fault(
    engine: Engine, more: dict[str, Any], field: str
) -> None:
    assert faults(engine, {k: v for k, v in (incident() | more).items() if v is not None}) == {
        field
    }


def test_exchanged_numbers_are_hinted_at(engine: Engine) -> None:
    with pytest.raises(InvalidInput, match="exchanged"):
        submit(engine, incident(position=[29.553, 106.553]))


def test_a_clock_a_little_ahead_is_accepted(engine: Engine) -> None:
    assert submit(engine, incident(occurred_at=ago(minutes=-4))).status == "created"


def test_outside_the_city_it_is_kept_without_a_district(engine: Engine) -> None:
    stored = submit(engine, incident(position=list(CHENGDU)))
    assert (stored.json["adcode"], stored.json["unit"]) == (None, None)
    assert [w["code"] for w in stored.json["warnings"]] == ["outside"]
    assert see(engine, stored.json["incident_id"], COMMANDER)["adcode"] is None


def test_without_a_position_it_stands_at_its_facility_or_unplaced(engine: Engine) -> None:
    at = submit(engine, incident(position=None, facility_id="LIFT-1"))
    assert at.json["adcode"] == NANAN
    assert [w["code"] for w in at.json["warnings"]] == ["placed_by_facility"]
    nowhere = submit(engine, incident(position=None, facility_id="LIFT-X"))
    assert nowhere.json["adcode"] is None
    assert {w["code"] for w in nowhere.json["warnings"]} == {"facility_unknown", "unplaced"}


@pytest.mark.parametrize("crs", ["GCJ-02", "BD-09", "EPSG:4545"])
def test_a_declared_datum_is_converted_and_the_original_kept(engine: Engine, crs: str) -> None:
    x, y = from_wgs84(*INSIDE[NANAN], crs)
    stored = submit(engine, incident(position=[x, y], crs=crs))
    feature = get_incident(engine, UUID(stored.json["incident_id"]), COMMANDER, PACKS)
    assert feature["geometry"]["coordinates"] == pytest.approx(INSIDE[NANAN], abs=1e-7)
    assert feature["properties"]["original_position"] == [x, y]
    assert feature["properties"]["crs"] == crs
    assert stored.json["adcode"] == NANAN


def test_near_in_place_and_time_is_a_probable_duplicate(engine: Engine) -> None:
    lon, lat = 106.35, 29.60
    first = submit(engine, incident(kind="boiler", position=[lon, lat]), COMMANDER)
    near = submit(engine, incident(kind="boiler", position=[lon + 0.004, lat]), COMMANDER)
    assert near.json["probable_duplicates"] == [first.json["incident_id"]]
    for other in (
        incident(kind="boiler", position=[lon, lat + 0.02]),
        incident(kind="elevator", position=[lon, lat]),
        incident(kind="boiler", position=[lon, lat], occurred_at=ago(hours=4)),
    ):
        assert submit(engine, other, COMMANDER).json["probable_duplicates"] == []


def test_a_duplicate_the_account_may_not_see_is_not_named(engine: Engine) -> None:
    place = list(INSIDE[SHAPINGBA])
    submit(engine, incident(kind="passenger_ropeway", position=place), FIELD_OTHER)
    mine = submit(engine, incident(kind="passenger_ropeway", position=place), FIELD)
    assert mine.json["probable_duplicates"] == []


def test_two_reports_at_once_see_each_other(engine: Engine) -> None:
    bodies = [incident(kind="pressure_vessel", position=list(INSIDE[NANAN])) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda b: submit(engine, b, COMMANDER), bodies))
    assert sorted(len(f.json["probable_duplicates"]) for f in found) == [0, 1, 2, 3, 4, 5]


def test_the_radius_and_hours_of_a_duplicate_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YUTU_INCIDENT_DUPLICATE_RADIUS_M", "50")
    assert IncidentSettings.load().duplicate_radius_m == 50
    monkeypatch.setenv("YUTU_INCIDENT_DUPLICATE_HOURS", "-1")
    with pytest.raises(InvalidInput, match="YUTU_INCIDENT_DUPLICATE_HOURS"):
        IncidentSettings.load()


def test_an_edit_adds_a_version_and_merges_facts(engine: Engine) -> None:
    stored = submit(engine, incident(facts={"deaths": 1, "serious_injuries": 2}))
    key = stored.json["incident_id"]
    edited = edit(
        engine,
        key,
        1,
        {
            "state": "verified",
            "facts": {"deaths": 10, "serious_injuries": None},
            "reason": "on site",
        },
    )
    assert (edited.version, edited.json["state"]) == (2, "verified")
    assert edited.json["facts"] == {"deaths": 10, "serious_injuries": None, "equipment": "elevator"}
    assert edited.json["assessment"]["level"] == 2
    with pytest.raises(VersionMismatch):
        edit(engine, key, 1, {"state": "resolved"})
    with pytest.raises(VersionMismatch):
        edit(engine, key, 3, {"state": "resolved"})
    assert see(engine, key, COMMANDER)["version"] == 2


def test_of_a_hundred_edits_on_one_version_exactly_one_succeeds(engine: Engine) -> None:
    key = submit(engine, incident()).json["incident_id"]

    def attempt(n: int) -> str:
        try:
            return edit(engine, key, 1, {"facts": {"deaths": n}}).status
        except VersionMismatch:
            return "stale"

    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(attempt, range(100)))
    assert (found.count("edited"), found.count("stale")) == (1, 99)
    assert see(engine, key, COMMANDER)["version"] == 2


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"reason": "x"},
        {"state": "closed"},
        {"facts": 3},
        {"position": [1, 2]},
        [],
        {"facts": {"deaths": -1}},
    ],
)
def test_an_impossible_edit_is_refused(engine: Engine, change: Any) -> None:
    key = submit(engine, incident()).json["incident_id"]
    with pytest.raises(InvalidInput):
        edit(engine, key, 1, change)
    assert see(engine, key, COMMANDER)["version"] == 1


def test_a_field_account_edits_its_districts_and_only_reads_its_other_submissions(
    engine: Engine,
) -> None:
    here = submit(engine, incident(), FIELD).json["incident_id"]
    there = submit(engine, incident(position=list(INSIDE[SHAPINGBA])), FIELD).json["incident_id"]
    assert edit(engine, here, 1, {"state": "active"}, FIELD_COLLEAGUE).version == 2
    assert see(engine, there, FIELD)["incident_id"] == there
    with pytest.raises(NotAllowed):
        edit(engine, there, 1, {"state": "active"}, FIELD)
    with pytest.raises(NotFound):
        edit(engine, there, 1, {"state": "active"}, FIELD_COLLEAGUE)
    with pytest.raises(NotFound):
        see(engine, there, FIELD_COLLEAGUE)
    with pytest.raises(NotFound):
        see(engine, str(uuid4()), COMMANDER)


@pytest.mark.parametrize(
    ("account", "shown"),
    [(COMMANDER, True), (FIELD, True), (VIEWER, False), (FIELD_COLLEAGUE, False)],
)
def test_the_reporter_is_for_commanders_and_whoever_submitted(
    engine: Engine, account: Account, shown: bool
) -> None:
    reporter = {"name": "王某", "phone": "13800009999"}
    key = submit(engine, incident(reporter=reporter), FIELD).json["incident_id"]
    one = json.dumps(get_incident(engine, UUID(key), account, PACKS))
    many = json.dumps(list_incidents(engine, account, PACKS, limit=10_000))
    assert ("13800009999" in one) is ("13800009999" in many) is shown


def listed(engine: Engine, account: Account = COMMANDER, **asked: Any) -> set[str]:
    return {
        f["id"] for f in list_incidents(engine, account, PACKS, limit=10_000, **asked)["features"]
    }


def test_filters_and_scope_choose_what_is_listed(engine: Engine) -> None:
    key = submit(engine, incident(occurred_at=ago(days=40)), FIELD).json["incident_id"]
    assert key in listed(engine)
    assert key in listed(engine, adcode=YUZHONG, plan=SPECIAL, states=["reported", "active"])
    assert key in listed(engine, bbox=(106.55, 29.55, 106.56, 29.56))
    assert key not in listed(engine, bbox=(106.56, 29.55, 106.57, 29.56))
    assert key not in listed(engine, adcode=NANAN)
    assert key not in listed(engine, plan="power-outage-2021")
    assert key not in listed(engine, states=["resolved"])
    assert key not in listed(engine, since=datetime.fromisoformat(ago(days=39)))
    assert key in listed(engine, FIELD_COLLEAGUE)
    assert key not in listed(engine, FIELD_OTHER)
    page = list_incidents(engine, COMMANDER, PACKS, limit=1, offset=1)
    assert (page["numberReturned"], page["numberMatched"]) == (1, len(listed(engine)))


def test_a_list_of_the_past_shows_state_and_level_as_known_then(engine: Engine) -> None:
    before = datetime.now(UTC)
    key = submit(engine, incident(facts={"deaths": 1}), FIELD).json["incident_id"]
    reported = datetime.now(UTC)
    edit(engine, key, 1, {"state": "resolved", "facts": {"deaths": 3}})

    def seen(at: datetime | None) -> tuple[str, int | None] | None:
        page = list_incidents(engine, COMMANDER, PACKS, at=at, limit=10_000)
        found = {f["id"]: f["properties"] for f in page["features"]}
        return (found[key]["state"], found[key]["level"]) if key in found else None

    assert seen(before) is None
    assert seen(reported) == ("reported", 4)
    assert seen(None) == ("resolved", 3)


def test_a_list_says_between_which_levels_an_incident_lies_and_what_is_unknown(
    engine: Engine,
) -> None:
    harmless = {"deaths": 0, "serious_injuries": 0, "direct_loss_yuan": 0}
    vague = submit(engine, incident(facts={"people_stranded": 3}), FIELD).json["incident_id"]
    clear = submit(
        engine, incident(facts=harmless | {"people_stranded": 0, "stranded_hours": 0}), FIELD
    )
    found = {
        f["id"]: f["properties"]
        for f in list_incidents(engine, COMMANDER, PACKS, limit=10_000)["features"]
    }
    assert found[vague]["level"] is None
    assert found[vague]["bounds"] == {"at_least": None, "at_most": 1}
    assert {"deaths", "serious_injuries"} <= set(found[vague]["unknown"])
    one = found[clear.json["incident_id"]]
    assert one["level"] is None
    assert one["bounds"] == {"at_least": None, "at_most": None}
    assert one["unknown"] == []


def test_row_level_security_alone_hides_other_districts(engine: Engine) -> None:
    key = submit(engine, incident(), FIELD).json["incident_id"]
    with reading(engine, Scope((SHAPINGBA,))) as connection:
        seen = connection.execute(
            text("SELECT CAST(incident_id AS text), adcode FROM incident")
        ).all()
    assert key not in {one[0] for one in seen}
    assert {one[1] for one in seen} <= {SHAPINGBA}


def test_open_incidents_are_those_known_and_not_over_at_a_sequence(engine: Engine) -> None:
    stored = submit(engine, incident(facts={"deaths": 1}))
    key = stored.json["incident_id"]
    edited = edit(engine, key, 1, {"facts": {"deaths": 3}})
    over = edit(engine, key, 2, {"state": "resolved"})

    def known(sequence: int | None) -> dict[str, dict[str, Any]]:
        with reading(engine) as connection:
            newest = sequence_at(connection, None) if sequence is None else sequence
            found = open_incidents(connection, newest, datetime.now(UTC))
        return {one["incident_id"]: one for one in found}

    assert stored.sequence is not None
    assert edited.sequence is not None
    assert key not in known(stored.sequence - 1)
    assert known(stored.sequence)[key]["facts"]["deaths"] == 1
    assert known(edited.sequence)[key]["facts"]["deaths"] == 3
    assert known(stored.sequence)[key]["plan"] == SPECIAL
    assert key not in known(over.sequence)


def test_the_change_says_which_incident_for_the_stream(engine: Engine) -> None:
    stored = submit(engine, incident())
    with reading(engine) as connection:
        kind, detail = connection.execute(
            text("SELECT kind, detail FROM change WHERE sequence = :n"), {"n": stored.sequence}
        ).one()
    assert kind == "incident"
    assert detail == {
        "incident_id": stored.json["incident_id"],
        "adcode": YUZHONG,
        "plan": SPECIAL,
        "version": 1,
    }


@pytest.mark.parametrize("body", [None, [], "x", 3, {}])
def test_what_is_no_incident_is_refused_on_purpose(engine: Engine, body: Any) -> None:
    with pytest.raises(YutuError):
        submit(engine, body)
