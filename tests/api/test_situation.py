"""The situation over HTTP: stored bytes, their ETag, languages, waiting, and the past."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine, text

from api.app import create_app
from api.deps import Configuration
from data.cluster import Cluster
from data.database import app_engine
from tests.api.conftest import Credentials, assert_problem, served
from tests.conftest import drop_database
from tests.feeds import INSIDE, YUZHONG, ago, facility, incident, load_facilities

Key = Callable[[str], dict[str, str]]
URL = "/v1/situation"
COMMS, SPECIAL = "communications-2024", "special-equipment-2023"


@pytest.fixture(scope="module")
def database_url(
    cluster: Cluster, make_database: Callable[[str | None], str], divided_template: str
) -> Iterator[str]:
    url = make_database(divided_template)
    engine = app_engine(url)
    rows = [
        facility(f"B{i}", *INSIDE[YUZHONG], kind="base_station", operator="mobile")
        for i in range(10)
    ]
    load_facilities(engine, rows)
    engine.dispose()
    yield url
    drop_database(cluster, url)


def send(client: httpx.Client, key: Key, facility_id: str, state: str) -> int:
    event = {
        "event_id": str(uuid.uuid4()),
        "facility_id": facility_id,
        "state": state,
        "observed_at": ago(seconds=1),
    }
    answer = client.post("/v1/status", json=[event], headers=key("utility"))
    assert answer.status_code == 200, answer.text
    assert answer.json()["accepted"] == 1
    return int(answer.json()["sequence"])


def shown(client: httpx.Client, key: Key, sequence: int = 0, **headers: str) -> httpx.Response:
    asked = {"min_sequence": sequence}
    answer = client.get(URL, params=asked, headers={**key("viewer"), **headers})
    assert answer.status_code == 200, answer.text
    return answer


# --- bytes ------------------------------------------------------------------------------------


def test_the_situation_has_an_etag_and_is_304_when_unchanged(
    client: httpx.Client, key: Key
) -> None:
    first = shown(client, key)
    etag = first.headers["etag"]
    assert first.headers["content-type"] == "application/json"
    assert first.headers["cache-control"] == "private, no-cache"
    again = client.get(URL, headers=key("viewer") | {"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    listed = client.get(URL, headers=key("viewer") | {"If-None-Match": f'"x", W/{etag}'})
    assert listed.status_code == 304
    sequence = send(client, key, "B0", "degraded")
    changed = shown(client, key, sequence, **{"If-None-Match": etag})
    assert changed.headers["etag"] != etag
    assert changed.json()["sequence"] >= sequence


@pytest.mark.parametrize("name", ["viewer", "field", "utility", "planner", "commander", "admin"])
def test_every_role_reads_the_whole_city(client: httpx.Client, key: Key, name: str) -> None:
    answer = client.get(URL, headers=key(name))
    assert len(answer.json()["districts"]) == 37


def test_without_credentials_it_is_401(client: httpx.Client) -> None:
    assert_problem(client.get(URL), 401)
    assert_problem(client.get(f"{URL}/stream"), 401)


@pytest.mark.parametrize(
    ("query", "accept", "name"),
    [
        ("", None, "渝中区"), ("", "en", "Yuzhong"), ("", "en-GB,en;q=0.9,zh;q=0.4", "Yuzhong"),
        ("", "fr", "渝中区"), ("?lang=en", None, "Yuzhong"), ("?lang=zh", "en", "渝中区"),
    ],
)  # fmt: skip
def test_names_come_in_the_readers_language(
    client: httpx.Client, key: Key, query: str, accept: str | None, name: str
) -> None:
    headers = key("viewer") | ({"Accept-Language": accept} if accept else {})
    now = client.get(URL + query, headers=headers)
    assert [d["name"] for d in now.json()["districts"] if d["adcode"] == YUZHONG] == [name]
    at = f"{query}{'&' if query else '?'}at={quote(datetime.now(UTC).isoformat())}"
    past = client.get(URL + at, headers=headers)
    assert [d["name"] for d in past.json()["districts"] if d["adcode"] == YUZHONG] == [name]
    assert_problem(client.get(f"{URL}?lang=fr", headers=key("viewer")), 422)


def test_both_languages_have_their_own_etag_and_one_sequence(
    client: httpx.Client, key: Key
) -> None:
    zh, en = (client.get(f"{URL}?lang={lang}", headers=key("viewer")) for lang in ("zh", "en"))
    assert zh.headers["etag"] != en.headers["etag"]
    assert zh.json()["sequence"] == en.json()["sequence"]
    other = client.get(f"{URL}?lang=en", headers=key("viewer") | {"If-None-Match": zh.headers["etag"]})  # fmt: skip
    assert other.status_code == 200


# --- waiting ----------------------------------------------------------------------------------


def test_a_write_is_seen_by_who_waits_for_its_sequence(client: httpx.Client, key: Key) -> None:
    for state, down in (("down", 1), ("up", 0), ("down", 1)):
        sequence = send(client, key, "B1", state)
        started = time.monotonic()
        document = shown(client, key, sequence).json()
        assert time.monotonic() - started < 2
        assert document["sequence"] >= sequence
        row = next(d for d in document["districts"] if d["adcode"] == YUZHONG)
        assert row["facilities"]["base_station"]["down"] == down


def test_a_sequence_nobody_has_is_503_after_two_seconds(client: httpx.Client, key: Key) -> None:
    started = time.monotonic()
    answer = client.get(f"{URL}?min_sequence=999999", headers=key("viewer"))
    assert_problem(answer, 503)
    assert 1.9 <= time.monotonic() - started < 4
    for wrong in ("-1", "x", "1.5", ""):
        assert_problem(client.get(f"{URL}?min_sequence={wrong}", headers=key("viewer")), 422)


# --- the past ---------------------------------------------------------------------------------


def test_at_gives_what_was_shown_then(client: httpx.Client, key: Key) -> None:
    sequence = send(client, key, "B2", "down")
    before = shown(client, key, sequence).json()
    later = send(client, key, "B2", "up")
    shown(client, key, later)
    asked = {"at": before["as_of"]}
    past = client.get(URL, params=asked, headers=key("viewer"))
    assert past.headers["cache-control"] == "no-store"
    then, now = past.json(), client.get(URL, headers=key("viewer")).json()
    for document in (before, then, now):
        for row in document["districts"]:  # areas are added when their grids are ready
            del row["area_share"], row["population_affected"]
    assert then == before
    assert then != now


def test_a_plus_that_arrives_as_a_space_is_a_plus(client: httpx.Client, key: Key) -> None:
    city = datetime.now(timezone(timedelta(hours=8)))
    written = city.isoformat(timespec="milliseconds")
    assert written.endswith("+08:00")
    answers = [
        client.get(f"{URL}?at={form}", headers=key("viewer")).json()
        for form in (written, quote(written), written.replace("+", "%20"))
    ]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0]["sequence"] > 0


@pytest.mark.parametrize(
    "wrong",
    ["", "yesterday", "2026-11-21", "2026-11-21T08:00:00", "2026-13-01T00:00:00Z", "1e9", "2999-01-01T00:00:00Z", "2026-11-21T08:00:00+25:00"],
)  # fmt: skip
def test_a_time_that_is_none_is_refused(client: httpx.Client, key: Key, wrong: str) -> None:
    body = assert_problem(client.get(URL, params={"at": wrong}, headers=key("viewer")), 422)
    assert "at" in str(body["errors"])


def test_before_the_reform_38_districts_answer_and_before_any_none(
    client: httpx.Client, key: Key
) -> None:
    then = client.get(f"{URL}?at=2025-11-05T23:59:59+08:00", headers=key("viewer")).json()
    assert len(then["districts"]) == 38
    assert then["inventory"]["facilities"] == 0
    early = client.get(f"{URL}?at=1990-01-01T00:00:00Z", headers=key("viewer"))
    assert_problem(early, 404)


# --- two processes ----------------------------------------------------------------------------


def test_two_processes_answer_with_the_same_bytes_and_one_outlives_the_other(
    server: str, app: FastAPI, configuration: Configuration, key: Key, owner: Engine
) -> None:
    with ExitStack() as stack:
        other = stack.enter_context(served(create_app(configuration)))
        one, two = (
            stack.enter_context(httpx.Client(base_url=url, timeout=10)) for url in (server, other)
        )
        for state in ("down", "up", "degraded"):
            sequence = send(two, key, "B3", state)
            for lang in ("zh", "en"):
                asked = {"min_sequence": sequence, "lang": lang}
                a, b = (c.get(URL, params=asked, headers=key("viewer")) for c in (one, two))
                assert a.content == b.content
                assert a.headers["etag"] == b.headers["etag"]
                assert a.json()["sequence"] == sequence
        # whichever builds loses its connection: the next write is shown by both all the same
        with owner.begin() as connection:
            ended = connection.execute(
                text(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE objid = 7106"
                    " AND locktype = 'advisory' AND granted AND database ="
                    " (SELECT oid FROM pg_database WHERE datname = current_database())"
                )
            ).scalar_one()
        assert ended == 1
        sequence = send(one, key, "B3", "down")
        deadline = time.monotonic() + 6
        for client in (one, two):
            while client.get(URL, headers=key("viewer")).json()["sequence"] < sequence:
                assert time.monotonic() < deadline, "nobody builds any more"
                time.sleep(0.1)


# --- the clock --------------------------------------------------------------------------------


def test_two_hours_in_a_lift_become_a_level_by_the_clock_alone(
    client: httpx.Client, key: Key, credentials: Credentials
) -> None:
    stranded = {"people_stranded": 3, "stranded_since": ago(minutes=119, seconds=55)}
    body = incident(occurred_at=ago(minutes=120), facts=stranded)
    with client.stream("GET", f"{URL}/stream", headers=key("viewer"), timeout=12) as stream:
        lines = stream.iter_lines()
        posted = client.post("/v1/incidents", json=body, headers=key("commander"))
        assert posted.status_code == 201, posted.text
        assert posted.json()["assessment"]["level"] is None
        started = time.monotonic()
        for line in lines:
            if line.startswith("data:") and f'"{SPECIAL}":4' in line.replace(" ", ""):
                break
            assert time.monotonic() - started < 10, "no tick"
    document = client.get(URL, headers=key("viewer")).json()
    found = document["plans"][SPECIAL]
    assert (found["level"], found["label"]) == (4, "Ⅳ")
    assert found["findings"][0]["incident_id"] == body["incident_id"]
    assert found["findings"][0]["districts"] == [YUZHONG]
