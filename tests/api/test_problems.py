"""Every error is a problem that tells the caller what to do and nothing of the inside."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated

import httpx
import psycopg
import pytest
import structlog
from fastapi import FastAPI, Query, Response
from pydantic import BaseModel
from sqlalchemy import exc as sa
from sqlalchemy import text

from api.app import create_app
from api.deps import At, Configuration, LangDep, ServicesDep
from api.language import parse_at, preferred
from api.policy import ANY_ACCOUNT, NO_PLACE, POLICY, rule
from api.routes import ROUTERS
from api.routing import make_router
from data.accounts import Account
from geo.errors import (
    Conflict,
    CrsError,
    Fault,
    InvalidInput,
    NotAllowed,
    NotFound,
    PlanError,
    TooLarge,
    Unavailable,
    VersionMismatch,
)
from tests.api.conftest import Credentials, assert_problem, served
from tests.api.test_strict_json import CANARY, HOSTILE

Key = Callable[[str], dict[str, str]]
SECRET_INSIDE = "relation secret_table at /work/inside.py"


def database_error(kind: type[sa.DBAPIError], orig: Exception) -> sa.DBAPIError:
    return kind(f"SELECT {SECRET_INSIDE}", {"phone": CANARY}, orig)


RAISED: dict[str, tuple[Exception, int]] = {
    "invalid": (InvalidInput([Fault("is down more than there are", 3, "down")]), 422),
    "crs": (CrsError("crs is required"), 422),
    "large": (TooLarge("more than 20,000 vertices"), 413),
    "absent": (NotFound("no such incident"), 404),
    "conflict": (Conflict("the id is taken"), 409),
    "version": (VersionMismatch("is at version 3"), 412),
    "forbidden": (NotAllowed("§4.1: the district confirms"), 403),
    "later": (Unavailable("the builder is behind", retry_after_s=7), 503),
    "plan": (PlanError(SECRET_INSIDE), 500),
    "pool": (sa.TimeoutError(f"QueuePool limit {SECRET_INSIDE}"), 503),
    "lost": (database_error(sa.OperationalError, psycopg.OperationalError(SECRET_INSIDE)), 503),
    "full": (database_error(sa.OperationalError, psycopg.errors.DiskFull(SECRET_INSIDE)), 503),
    "replica": (
        database_error(sa.InternalError, psycopg.errors.ReadOnlySqlTransaction(SECRET_INSIDE)),
        503,
    ),
    "value": (database_error(sa.DataError, psycopg.DataError(SECRET_INSIDE)), 422),
    "query": (database_error(sa.ProgrammingError, psycopg.ProgrammingError(SECRET_INSIDE)), 500),
    "bug": (KeyError(SECRET_INSIDE), 500),
    "assertion": (AssertionError(SECRET_INSIDE), 500),
    "recursion": (RecursionError(SECRET_INSIDE), 500),
}


class Report(BaseModel):
    """A body for the tests."""

    state: str
    total: int


router = make_router("tests")


@router.get("/v1/raise/{name}")
def raise_it(name: str) -> Response:
    raise RAISED[name][0]


@router.post("/v1/reports")
def take(reports: list[Report]) -> dict[str, int]:
    return {"taken": len(reports)}


@router.get("/v1/asked")
def asked(lang: LangDep, at: At, n: Annotated[int, Query(ge=0)] = 0) -> dict[str, str | None]:
    return {"lang": lang, "at": at.isoformat() if at else None}


@router.get("/v1/broken")
def broken() -> Report:
    return {"state": SECRET_INSIDE}  # type: ignore[return-value]


@router.get("/v1/slow")
def slow(services: ServicesDep) -> Response:
    with services.engine.connect() as connection:
        connection.execute(text("SELECT pg_sleep(10)"))
    return Response()


ROWS = [("GET", "/v1/raise/{name}"), ("POST", "/v1/reports"), ("GET", "/v1/asked")]
ROWS += [("GET", "/v1/broken"), ("GET", "/v1/slow")]


@pytest.fixture(scope="module")
def app(database_url: str) -> FastAPI:
    """The application with routes that fail in every way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YUTU_DATABASE_STATEMENT_TIMEOUT_MS", "1000")
        configuration = Configuration.load(database_url)
    rows = tuple(rule(method, path, ANY_ACCOUNT, NO_PLACE) for method, path in ROWS)
    return create_app(configuration, routers=(*ROUTERS, router), policy=(*POLICY, *rows))


@pytest.mark.parametrize(("name", "status"), [(name, s) for name, (_, s) in RAISED.items()])
def test_each_error_has_its_status_and_keeps_the_inside(
    client: httpx.Client, key: Key, name: str, status: int
) -> None:
    with structlog.testing.capture_logs() as logged:
        answer = client.get(f"/v1/raise/{name}", headers=key("viewer"))
    body = assert_problem(answer, status)
    assert "secret_table" not in answer.text
    assert CANARY not in answer.text
    assert ("retry-after" in answer.headers) == (status == 503)
    if status == 500:
        entry = next(one for one in logged if one["event"] == "internal error")
        assert body["error_id"] == entry["error_id"]


def test_faults_are_listed_with_row_field_and_reason(client: httpx.Client, key: Key) -> None:
    body = assert_problem(client.get("/v1/raise/invalid", headers=key("viewer")), 422)
    assert body["errors"] == [{"row": 3, "field": "down", "reason": "is down more than there are"}]
    later = client.get("/v1/raise/later", headers=key("viewer"))
    assert later.headers["retry-after"] == "7"


def test_a_body_of_the_wrong_shape_names_row_and_field(client: httpx.Client, key: Key) -> None:
    rows = [{"state": "up", "total": 1}, {"state": 5, "total": CANARY, CANARY: 1}, {}]
    answer = client.post("/v1/reports", json=rows, headers=key("viewer"))
    body = assert_problem(answer, 422)
    assert [(fault["row"], fault["field"]) for fault in body["errors"]] == [
        (2, "state"),
        (3, "state"),
        (3, "total"),
    ]
    assert CANARY not in answer.text


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_json_is_a_problem_on_every_kind_of_route(
    client: httpx.Client, key: Key, body: bytes
) -> None:
    json_type = {"Content-Type": "application/json"}
    for url in ("/v1/reports", "/v1/plans/power-outage-2021/assess"):
        answer = client.post(url, content=body, headers=key("viewer") | json_type)
        assert answer.status_code in {413, 422}
        assert_problem(answer, answer.status_code)
        assert CANARY not in answer.text


def test_an_answer_of_the_wrong_shape_is_our_own_fault(client: httpx.Client, key: Key) -> None:
    answer = client.get("/v1/broken", headers=key("viewer"))
    assert_problem(answer, 500)
    assert "secret_table" not in answer.text


def test_a_statement_that_takes_too_long_is_503(client: httpx.Client, key: Key) -> None:
    assert_problem(client.get("/v1/slow", headers=key("viewer")), 503)


def test_a_bad_query_is_a_problem(client: httpx.Client, key: Key) -> None:
    for query in ("n=-1", f"n={CANARY}x", "at=yesterday", "lang=fr", "at=2026-11-21T08:00:00"):
        answer = client.get(f"/v1/asked?{query}", headers=key("viewer"))
        body = assert_problem(answer, 422)
        assert body["errors"][0]["field"] == query.partition("=")[0]
        assert CANARY not in answer.text


@pytest.mark.parametrize(
    ("query", "accept", "lang"),
    [
        ("", "", "zh"),
        ("", "en", "en"),
        ("", "en-GB;q=0.8, zh;q=0.9", "zh"),
        ("", "zh-CN;q=0.1, en-US", "en"),
        ("", "fr, de;q=0.5", "zh"),
        ("", "en;q=0", "zh"),
        ("", "en;q=nonsense, ,;;", "zh"),
        ("?lang=en", "zh", "en"),
        ("?lang=zh", "en", "zh"),
    ],
)
def test_the_language_is_the_querys_then_the_headers(
    client: httpx.Client, key: Key, query: str, accept: str, lang: str
) -> None:
    headers = key("viewer") | {"Accept-Language": accept}
    assert client.get(f"/v1/asked{query}", headers=headers).json()["lang"] == lang
    title = client.get(f"/v1/raise/absent{query}", headers=headers).json()["title"]
    assert title == {"zh": "没有找到", "en": "Not found"}[lang]
    assert not accept or query or preferred(accept) == lang


@pytest.mark.parametrize(
    "asked",
    [
        "2026-07-01T08:00:00+08:00",
        "2026-07-01T08:00:00 08:00",
        "2026-07-01 08:00:00 08:00",
        "2026-07-01T00:00:00Z",
        "2026-07-01t00:00:00.000z",
        "2026-06-30T19:00:00-05:00",
    ],
)
def test_a_plus_that_arrives_as_a_space_is_a_plus(
    client: httpx.Client, key: Key, asked: str
) -> None:
    assert parse_at(asked) == datetime(2026, 7, 1, tzinfo=UTC)
    raw = client.get(f"/v1/asked?at={asked}".replace(" ", "%20"), headers=key("viewer"))
    plus = client.get(f"/v1/asked?at={asked}".replace(" ", "+"), headers=key("viewer"))
    assert raw.json()["at"] == plus.json()["at"] == "2026-07-01T00:00:00+00:00"


@pytest.mark.parametrize(
    "asked",
    [
        "",
        "now",
        "2026-07-01",
        "2026-07-01T08:00:00",
        "2026-07-01T08:00:00+8",
        "2026-13-01T08:00:00Z",
        "2026-07-01T24:00:01Z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "２０２６-07-01T08:00:00Z",
        "2026-07-01T08:00:00Z" + " " * 10_000,
    ],
)
def test_an_instant_without_offset_or_sense_is_refused(asked: str) -> None:
    with pytest.raises(InvalidInput):
        parse_at(asked)


def test_the_future_begins_in_five_minutes() -> None:
    now = datetime(2026, 7, 1, tzinfo=UTC)
    soon, late = now + timedelta(minutes=5), now + timedelta(minutes=5, seconds=1)
    assert parse_at(soon.isoformat(), now) == soon
    with pytest.raises(InvalidInput, match="future"):
        parse_at(late.isoformat(), now)


def test_a_scope_is_the_city_or_its_districts() -> None:
    city = Account("a", "viewer", ("*",))
    field = Account("b", "field", ("500103",), ("mobile",))
    assert city.sees("500103")
    assert city.sees(None)
    assert field.sees("500103")
    assert not field.sees("500106")
    assert not field.sees(None)
    assert field.speaks_for("mobile")
    assert not field.speaks_for("unicom")


def test_every_problem_is_json_that_a_program_can_read(
    client: httpx.Client, credentials: Credentials
) -> None:
    answer = client.get("/v1/session", headers={"X-API-Key": "x"})
    assert json.loads(answer.content)["type"] == "urn:yutu:problem:authentication-required"
    assert len(credentials) == 7


def test_serving_goes_on_after_an_application_stops(app: FastAPI, credentials: Credentials) -> None:
    with served(app) as url:
        deadline = time.monotonic() + 20
        while httpx.get(f"{url}/ready").status_code != 200:
            assert time.monotonic() < deadline, "no situation is built"
            time.sleep(0.05)


READS = [
    ("/v1/situation", "att"),
    ("/v1/districts", "att"),
    ("/v1/incidents", "stat"),
    ("/v1/outages", "att"),
    ("/v1/plans", "foo"),
    ("/v1/scenarios", "foo"),
    ("/v1/export/facilities.csv", "knd"),
    ("/tiles/facilities/8/203/105.mvt", "knd"),
]


@pytest.mark.parametrize(("path", "name"), READS)
def test_a_misspelt_parameter_of_a_question_is_refused(
    client: httpx.Client, key: Key, path: str, name: str
) -> None:
    headers = {**key("planner"), "Accept-Language": "en"}
    problem = assert_problem(client.get(path, params={name: "x"}, headers=headers), 422)
    (error,) = problem["errors"]
    assert error["field"] == name
    assert "known are" in error["reason"]


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"kind": "basestation"}, "kind"),
        ({"operator": "china_mobil"}, "operator"),
        ({"adcode": "999999"}, "adcode"),
    ],
)
def test_an_export_of_what_there_is_none_of_is_refused(
    client: httpx.Client, key: Key, params: dict[str, str], field: str
) -> None:
    answer = client.get("/v1/export/facilities.csv", params=params, headers=key("planner"))
    (error,) = assert_problem(answer, 422)["errors"]
    assert error["field"] == field
