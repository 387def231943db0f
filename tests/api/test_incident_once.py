"""Exactly once over HTTP, through two worker processes: every id is one incident, one edit wins."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
import pytest
from sqlalchemy import Engine, text

from data.accounts import first_run
from data.database import owner_engine
from data.verify import verify
from tests.api.conftest import assert_problem
from tests.api.test_feeds_incidents import incident
from tests.api.test_kill_writers import Server
from tests.summary import Record

IDS, POSTS, THREADS = 40, 50, 40

Credentials = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def owner(database_url: str) -> Iterator[Engine]:
    engine = owner_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def running(
    database_url: str, owner: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Credentials]]:
    """`yutu serve` with two workers over districts and the first run's accounts."""
    folder = tmp_path_factory.mktemp("once")
    assert first_run(owner, folder / "credentials.json")
    found: Credentials = json.loads((folder / "credentials.json").read_text(encoding="utf-8"))
    server = Server(database_url, folder / "server.log")
    server.start()
    try:
        server.wait_ready()
        yield server, found
    finally:
        server.kill()


def client(running: tuple[Server, Credentials], name: str) -> httpx.Client:
    server, credentials = running
    return httpx.Client(
        base_url=server.url,
        headers={"X-API-Key": credentials[name]["api_key"]},
        timeout=60,
        limits=httpx.Limits(max_connections=THREADS),
    )


def sent(http: httpx.Client, method: str, path: str, **more: Any) -> httpx.Response:
    """One answer; a service that is busy is asked again, as every client does."""
    for _ in range(50):
        answer = http.request(method, path, **more)
        if answer.status_code != 503:
            return answer
    return answer


def stored(owner: Engine, table: str, ids: list[str]) -> int:
    with owner.connect() as connection:
        found: int = connection.execute(
            text(f"SELECT count(*) FROM {table} WHERE incident_id = ANY (CAST(:ids AS uuid[]))"),
            {"ids": ids},
        ).scalar_one()
        return found


def test_forty_ids_fifty_times_each_at_once_are_forty_incidents(
    running: tuple[Server, Credentials], owner: Engine
) -> None:
    bodies = [incident() for _ in range(IDS)]
    posts = np.random.default_rng(4).permutation(IDS * POSTS) % IDS
    with client(running, "field") as http, ThreadPoolExecutor(THREADS) as pool:
        statuses = Counter(
            pool.map(
                lambda i: sent(http, "POST", "/v1/incidents", json=bodies[i]).status_code, posts
            )
        )
    assert statuses == {201: IDS, 200: IDS * (POSTS - 1)}
    ids = [str(body["incident_id"]) for body in bodies]
    assert stored(owner, "incident", ids) == stored(owner, "incident_revision", ids) == IDS


def test_another_body_of_an_id_is_409_and_both_are_kept(
    running: tuple[Server, Credentials], owner: Engine
) -> None:
    body = incident(facts={"deaths": 1})
    other = body | {"facts": {"deaths": 30}}
    place = f"/v1/incidents/{body['incident_id']}"
    with client(running, "commander") as http, ThreadPoolExecutor(THREADS) as pool:
        assert sent(http, "POST", "/v1/incidents", json=body).status_code == 201
        answers = list(
            pool.map(lambda _: sent(http, "POST", "/v1/incidents", json=other), range(20))
        )
        for answer in answers:
            assert_problem(answer, 409)
        feature = http.get(place).json()
        assert feature["properties"]["facts"]["deaths"] == 1
        conflicts = http.get(f"{place}/history").json()["conflicts"]
    assert [one["body"]["facts"]["deaths"] for one in conflicts] == [30]
    assert stored(owner, "incident", [body["incident_id"]]) == 1
    assert stored(owner, "incident_conflict", [body["incident_id"]]) == 1


def test_a_hundred_edits_of_one_version_at_once_are_one_edit(
    running: tuple[Server, Credentials], owner: Engine, record_property: Record
) -> None:
    body = incident()
    place = f"/v1/incidents/{body['incident_id']}"
    with client(running, "commander") as http, ThreadPoolExecutor(THREADS) as pool:
        tag = sent(http, "POST", "/v1/incidents", json=body).headers["etag"]

        def edit(number: int) -> tuple[int, int]:
            change = {"facts": {"people_stranded": number + 1}, "reason": f"{number}"}
            answer = sent(http, "PATCH", place, json=change, headers={"If-Match": tag})
            return answer.status_code, number + 1

        answers = list(pool.map(edit, range(100)))
        shown = http.get(place).json()["properties"]
    statuses = Counter(status for status, _ in answers)
    others = len(answers) - statuses[200] - statuses[412]
    record_property(
        "race",
        {
            "edits of one version at once": len(answers),
            "taken": statuses[200],
            "refused (412)": statuses[412],
            "violations": abs(statuses[200] - 1) + others,
        },
    )
    assert statuses == {200: 1, 412: 99}
    won = next(people for status, people in answers if status == 200)
    assert (shown["version"], shown["facts"]["people_stranded"]) == (2, won)
    assert stored(owner, "incident_revision", [body["incident_id"]]) == 2


def test_what_was_stored_so_verifies(running: tuple[Server, Credentials], owner: Engine) -> None:
    body = incident(incident_id=str(uuid4()))
    with client(running, "field") as http:
        assert sent(http, "POST", "/v1/incidents", json=body).status_code == 201
    report = verify(owner, deep=True)
    assert report.clean, "\n".join(report.lines())
