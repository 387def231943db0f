"""History, states and merges of incidents against a real PostGIS."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, text

from data.accounts import Account
from data.database import WHOLE_CITY, app_engine, reading, sequence_at, set_scope
from data.incident_history import incident_history
from data.incident_merge import merge_incident, read_merge, read_unmerge
from data.incident_states import NEXT_STATES, casualty_notice
from data.incident_submission import StoredIncident
from data.incidents import get_incident, list_incidents, open_incidents
from data.tables_reports import INCIDENT_STATES
from geo.errors import Conflict, InvalidInput, NotAllowed, NotFound, VersionMismatch, YutuError
from tests.data.test_incidents import PACKS, SPECIAL, edit, incident, see, submit
from tests.feeds import (
    COMMANDER,
    FIELD,
    FIELD_OTHER,
    INSIDE,
    SHAPINGBA,
    VIEWER,
    YUZHONG,
    ago,
)

HALF = Account("half", "commander", (YUZHONG,))


@pytest.fixture(scope="module")
def engine(shared_divided_url: str) -> Any:
    made = app_engine(shared_divided_url, acquire_timeout_s=30)
    yield made
    made.dispose()


def new(engine: Engine, **more: Any) -> str:
    key: str = submit(engine, incident(**more), COMMANDER).json["incident_id"]
    return key


def merge(engine: Engine, this: str, into: str, account: Account = COMMANDER) -> StoredIncident:
    body = {"into": into, "reason": "同一起"}
    return merge_incident(
        engine,
        UUID(this),
        read_merge(body),
        body=json.dumps(body).encode(),
        account=account,
        packs=PACKS,
    )


def unmerge(engine: Engine, this: str, account: Account = COMMANDER) -> StoredIncident:
    body = {"reason": "两起"}
    return merge_incident(
        engine,
        UUID(this),
        read_unmerge(body),
        body=json.dumps(body).encode(),
        account=account,
        packs=PACKS,
    )


def history(engine: Engine, key: str, account: Account = COMMANDER) -> dict[str, Any]:
    return incident_history(engine, UUID(key), account, "en")


def level_of_open(engine: Engine, *keys: str) -> dict[str, Any]:
    with reading(engine) as connection:
        found = open_incidents(connection, sequence_at(connection, None), datetime.now(UTC))
    return {i["incident_id"]: i["facts"] for i in found if i["incident_id"] in keys}


def test_history_says_who_changed_what_when_and_why(engine: Engine) -> None:
    key = new(engine, facts={"deaths": 1})
    edit(engine, key, 1, {"state": "verified", "facts": {"deaths": 3}, "reason": "到场核实"})
    edit(engine, key, 2, {"facts": {"deaths": None}, "reason": "撤回"}, COMMANDER)
    told = history(engine, key)
    assert [one["version"] for one in told["versions"]] == [1, 2, 3]
    second, third = told["versions"][1:]
    assert (second["account"], second["reason"]) == ("commander", "到场核实")
    assert second["changed"] == {
        "facts": {"deaths": {"from": 1, "to": 3}},
        "state": {"from": "reported", "to": "verified"},
    }
    assert third["changed"] == {"facts": {"deaths": {"from": 3, "to": None}}}
    times = [one["received_at"] for one in told["versions"]]
    assert times == sorted(times)
    sequences = [one["sequence"] for one in told["versions"]]
    assert sequences == sorted(set(sequences))
    assert told["conflicts"] == []


def test_a_refused_body_is_in_the_history_of_those_who_may_read_reporters(engine: Engine) -> None:
    body = incident(reporter={"name": "王某", "phone": "13900001111"})
    submit(engine, body, FIELD)
    with pytest.raises(Conflict):
        submit(engine, body | {"facts": {"deaths": 9}}, FIELD)
    kept = history(engine, body["incident_id"])["conflicts"]
    assert [one["body"]["facts"] for one in kept] == [{"deaths": 9}]
    assert "conflicts" not in history(engine, body["incident_id"], FIELD)
    assert "13900001111" not in json.dumps(history(engine, body["incident_id"], FIELD))


def test_history_outside_the_scope_is_not_found(engine: Engine) -> None:
    key = new(engine, position=list(INSIDE[YUZHONG]))
    with pytest.raises(NotFound):
        history(engine, key, FIELD_OTHER)
    assert history(engine, key, FIELD)["incident_id"] == key


@pytest.mark.parametrize("before", INCIDENT_STATES)
@pytest.mark.parametrize("after", INCIDENT_STATES)
def test_only_the_states_that_may_follow_do(engine: Engine, before: str, after: str) -> None:
    way = {"verified": ["verified"], "active": ["active"], "resolved": ["resolved"]}
    key, version = new(engine, position=None), 1
    for state in [*way.get(before, []), *(["rejected"] if before == "rejected" else [])]:
        version = edit(engine, key, version, {"state": state}).version
    if before == "duplicate":
        version = merge(engine, key, new(engine, position=None)).version
    assert see(engine, key, COMMANDER)["next_states"] == NEXT_STATES[before]
    if after == before or after in NEXT_STATES[before]:
        assert edit(engine, key, version, {"state": after}).json["state"] == after
    else:
        with pytest.raises(InvalidInput) as refused:
            edit(engine, key, version, {"state": after})
        assert refused.value.faults[0].field == "state"
        assert see(engine, key, COMMANDER)["version"] == version


def test_changed_casualties_start_a_clock_of_24_hours_and_are_graded_anew(engine: Engine) -> None:
    key = new(engine, facts={"deaths": 2}, occurred_at=ago(days=29))
    edited = edit(engine, key, 1, {"facts": {"deaths": 3}, "state": "resolved"}).json
    assert edited["assessment"]["level"] == 3
    notice = edited["notice"]
    assert (notice["code"], notice["clause"]) == ("casualties_changed", "4.1.3")
    runs = datetime.fromisoformat(notice["due_at"]) - datetime.fromisoformat(notice["changed_at"])
    assert runs == timedelta(hours=24)
    late = edit(engine, key, 2, {"facts": {"serious_injuries": 1}}).json["notice"]
    assert late["code"] == "casualties_changed", "also after the incident is resolved"
    assert edit(engine, key, 3, {"facts": {"exploded": False}}).json["notice"] is None
    assert [bool(one["notice"]) for one in history(engine, key)["versions"]] == [
        False,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("after", "plan", "expected"),
    [
        (timedelta(days=30), SPECIAL, True),
        (timedelta(days=30, microseconds=1), SPECIAL, False),
        (timedelta(0), SPECIAL, True),
        (timedelta(0), "power-outage-2021", False),
    ],
)
def test_the_clock_runs_within_30_days_of_the_accident(
    after: timedelta, plan: str, expected: bool
) -> None:
    then = datetime(2026, 1, 1, tzinfo=UTC)
    told = casualty_notice(plan, then, then + after, {"deaths": 1}, "zh")
    assert (told is not None) == expected


def test_what_may_happen_is_listed_apart_from_what_has(engine: Engine) -> None:
    since = datetime.now(UTC) - timedelta(minutes=11)
    actual = new(engine, facts={"deaths": 1}, position=list(INSIDE[SHAPINGBA]))
    maybe = new(engine, facts={"deaths": 1, "possible": True}, position=list(INSIDE[SHAPINGBA]))

    def listed(possible: bool | None) -> tuple[set[str], int]:
        found = list_incidents(
            engine, FIELD_OTHER, PACKS, since=since, adcode=SHAPINGBA, possible=possible
        )
        keys = {one["id"] for one in found["features"]} & {actual, maybe}
        return keys, found["numberPossible"]

    assert listed(None) == ({actual, maybe}, 1)
    assert listed(False) == ({actual}, 0)
    assert listed(True) == ({maybe}, 1)
    shown = get_incident(engine, UUID(maybe), VIEWER, PACKS)["properties"]
    assert shown["possible"] is True
    assert shown["assessment"]["possible"] is True


def test_merging_keeps_both_records_and_adds_no_casualties(engine: Engine) -> None:
    first = new(engine, facts={"deaths": 2})
    second = new(engine, facts={"deaths": 2})
    assert first in see(engine, second, COMMANDER)["probable_duplicates"]
    merged = merge(engine, second, first)
    assert (merged.json["state"], merged.json["duplicate_of"]) == ("duplicate", first)
    assert merged.json["facts"]["deaths"] == 2
    open_now = level_of_open(engine, first, second)
    assert set(open_now) == {first}
    assert open_now[first]["deaths"] == 2, "casualties are never pooled"
    assert see(engine, first, COMMANDER)["version"] == 1
    assert history(engine, first)["duplicates"] == [second]
    assert history(engine, second)["versions"][-1]["duplicate_of"] == first
    assert second not in see(engine, first, COMMANDER)["probable_duplicates"]


@pytest.mark.parametrize("state", ["reported", "verified", "active", "resolved", "rejected"])
def test_undoing_a_merge_restores_the_former_state_and_facts(engine: Engine, state: str) -> None:
    first, second = new(engine), new(engine, facts={"deaths": 1})
    version = 1
    if state != "reported":
        version = edit(engine, second, 1, {"state": state}).version
    assert merge(engine, second, first).version == version + 1
    edit(engine, second, version + 1, {"facts": {"deaths": 2}})
    restored = unmerge(engine, second)
    assert (restored.json["state"], restored.json["duplicate_of"]) == (state, None)
    assert restored.json["facts"]["deaths"] == 2
    assert [one["state"] for one in history(engine, second)["versions"]][-3:] == [
        "duplicate",
        "duplicate",
        state,
    ]
    assert history(engine, first)["duplicates"] == []
    with pytest.raises(Conflict, match="not merged"):
        unmerge(engine, second)


def test_the_same_merge_again_changes_nothing(engine: Engine) -> None:
    first, second = new(engine), new(engine)
    merged = merge(engine, second, first)
    again = merge(engine, second, first)
    assert (again.status, again.version, again.sequence) == ("identical", merged.version, None)
    with pytest.raises(Conflict):
        merge(engine, second, new(engine))


def test_neither_circles_nor_chains_are_made(engine: Engine) -> None:
    a, b, c = new(engine), new(engine), new(engine)
    merge(engine, b, a)
    with pytest.raises(Conflict, match="merged into it"):
        merge(engine, a, c)
    with pytest.raises(Conflict, match="itself duplicate"):
        merge(engine, c, b)
    with pytest.raises(InvalidInput, match="itself"):
        merge(engine, c, c)


def test_what_is_not_one_accident_by_its_plan_or_state_is_refused(engine: Engine) -> None:
    a = new(engine)
    power = new(engine, plan="power-outage-2021", kind="outage")
    with pytest.raises(InvalidInput, match="another plan"):
        merge(engine, a, power)
    refused = new(engine)
    edit(engine, refused, 1, {"state": "rejected"})
    with pytest.raises(Conflict, match="rejected"):
        merge(engine, a, refused)
    with pytest.raises(NotFound):
        merge(engine, a, str(uuid4()))


def test_a_commander_of_one_district_merges_only_there(engine: Engine) -> None:
    here, there = new(engine), new(engine, position=list(INSIDE[SHAPINGBA]))
    for this, into in ((here, there), (there, here)):
        with pytest.raises((NotFound, NotAllowed)):
            merge(engine, this, into, HALF)
    assert merge(engine, here, new(engine), HALF).json["state"] == "duplicate"


def test_two_that_are_merged_into_each_other_at_once_end_as_one(engine: Engine) -> None:
    for _ in range(5):
        a, b = new(engine), new(engine)

        def attempt(pair: tuple[str, str]) -> bool:
            try:
                merge(engine, *pair)
            except YutuError:
                return False
            return True

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(attempt, [(a, b), (b, a)])) == [False, True]
        assert len(level_of_open(engine, a, b)) == 1


def test_merges_and_edits_at_once_lose_nothing(engine: Engine) -> None:
    a, b = new(engine), new(engine)

    def change(n: int) -> bool:
        try:
            if n == 0:
                merge(engine, b, a)
            else:
                edit(engine, b, 1, {"facts": {"deaths": n}})
        except VersionMismatch:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(change, range(4)))
    assert len(history(engine, b)["versions"]) == 1 + sum(done)


def test_the_database_itself_refuses_a_duplicate_of_itself(
    engine: Engine, shared_divided_url: str
) -> None:
    key = new(engine)
    with engine.connect() as connection:
        set_scope(connection, WHOLE_CITY)
        with pytest.raises(Exception, match="duplicate_of"):
            connection.execute(
                text(
                    "INSERT INTO incident_revision SELECT incident_id, 2, batch_id, account, '',"
                    " 'duplicate', facts, incident_id FROM incident_revision"
                    " WHERE incident_id = :id"
                ),
                {"id": key},
            )
