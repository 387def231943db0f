"""Health, readiness, metrics, docs, static files, logs."""

from __future__ import annotations

import io
import json
import logging
import re
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
import structlog
from sqlalchemy import Engine, text

from api import logs
from api.policy import OPEN, POLICY
from api.routes.static import files, missing
from tests.api.conftest import Credentials, assert_problem

pytestmark = pytest.mark.usefixtures("ready")
Key = Callable[[str], dict[str, str]]
PHONES = ["13800138000", "+86 138 0013 8000", "138-0013-8000", "023-63211234"]


@pytest.fixture
def log_lines() -> Iterator[io.StringIO]:
    """What would go to stderr, with our own configuration."""
    root = logging.getLogger()
    before, level, usual = root.handlers, root.level, structlog.get_config()
    logs.configure()
    lines = io.StringIO()
    handler = root.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(lines)
    yield lines
    structlog.configure(**usual)
    root.handlers = before
    root.setLevel(level)


def test_health_needs_no_database_and_ready_names_what_is_missing(
    client: httpx.Client, owner: Engine
) -> None:
    assert client.get("/ready").json() == {"status": "ready"}
    with owner.begin() as connection:
        kept = connection.execute(text("DELETE FROM alembic_version RETURNING version_num"))
        version = kept.scalar_one()
    try:
        body = assert_problem(client.get("/ready"), 503)
        assert body["reasons"] == ["数据库结构不是最新，请运行 yutu db migrate"]
        body = assert_problem(client.get("/ready?lang=en"), 503)
        assert body["reasons"] == ["the schema is not the newest; run yutu db migrate"]
        assert client.get("/health").json() == {"status": "ok"}
    finally:
        with owner.begin() as connection:
            connection.execute(text("INSERT INTO alembic_version VALUES (:v)"), {"v": version})
    assert client.get("/ready").status_code == 200


def test_a_part_that_is_not_ready_makes_the_process_unready(
    client: httpx.Client, app: object
) -> None:
    services = app.state.services  # type: ignore[attr-defined]
    own = list(services.readiness)
    services.readiness.append(lambda: "the situation is 12 s old")
    services.readiness.append(lambda: None)
    try:
        body = assert_problem(client.get("/ready"), 503)
        assert body["reasons"] == ["the situation is 12 s old"]
    finally:
        services.readiness[:] = own


def test_metrics_count_by_route_template_and_never_by_path(client: httpx.Client, key: Key) -> None:
    client.get("/v1/plans/no-such-plan-4711", headers=key("viewer"))
    shown = client.get("/metrics", headers=key("viewer")).text
    assert re.search(
        r'yutu_requests_total\{method="GET",route="/v1/plans/\{plan\}",status="404"\} [1-9]', shown
    )
    assert "plan-4711" not in shown
    assert "yutu_request_seconds_bucket" in shown
    assert "yutu_requests_in_progress 1.0" in shown


def test_the_description_names_credentials_roles_and_problems(
    client: httpx.Client, key: Key
) -> None:
    document = client.get("/openapi.json", headers=key("viewer")).json()
    assert set(document["components"]["securitySchemes"]) == {"token", "api_key", "session"}
    described = 0
    for row in POLICY:
        operation = document["paths"].get(row.path, {}).get(row.method.lower())
        if operation is None:
            continue
        described += 1
        assert operation["security"] == [] or row.roles is not OPEN
        assert "application/problem+json" in operation["responses"]["default"]["content"]
    assert described >= 8
    assess = document["paths"]["/v1/plans/{plan}/assess"]["post"]
    assert assess["requestBody"]["content"]["application/json"]["examples"]
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_the_docs_page_loads_nothing_from_elsewhere(client: httpx.Client, key: Key) -> None:
    page = client.get("/docs", headers=key("viewer"))
    assert page.status_code == 200
    addresses = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    local = [address for address in addresses if address != "data:,"]
    assert len(local) == 3
    for address in local:
        assert address.startswith("/static/")
        assert client.get(address).status_code == 200
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http" not in page.headers["content-security-policy"]
    assert "<form" not in page.text, "a key has no session to end"
    assert 'lang="zh-CN"' in page.text
    assert 'lang="en"' in client.get("/docs?lang=en", headers=key("viewer")).text


def test_static_files_are_those_listed_and_revalidate(client: httpx.Client) -> None:
    assert missing() == []
    url = next(name for name in files() if name.endswith(".js"))
    answer = client.get(url)
    assert answer.headers["content-type"].startswith("text/javascript")
    again = client.get(url, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for path in ("../pyproject.toml", "%2e%2e/%2e%2e/etc/passwd", "yutu", "swagger-ui/", ""):
        assert client.get(f"/static/{path}").status_code in {401, 404}


def test_plans_are_data_with_clauses_and_an_etag(client: httpx.Client, key: Key) -> None:
    every = client.get("/v1/plans", headers=key("viewer")).json()["plans"]
    assert {pack["plan"] for pack in every} == {
        "communications-2024",
        "power-outage-2021",
        "special-equipment-2023",
    }
    one = client.get("/v1/plans/power-outage-2021", headers=key("viewer"))
    assert one.json()["criteria"][0]["clause"]
    unchanged = key("viewer") | {"If-None-Match": one.headers["etag"]}
    assert client.get("/v1/plans/power-outage-2021", headers=unchanged).status_code == 304
    assert_problem(client.get("/v1/plans/nope", headers=key("viewer")), 404)
    early = client.get("/v1/plans?at=2000-01-01T00:00:00Z", headers=key("viewer"))
    assert early.json() == {"plans": []}


def test_what_if_grades_the_facts_and_refuses_impossible_ones(
    client: httpx.Client, key: Key
) -> None:
    url = "/v1/plans/communications-2024/assess"
    half = {"districts": [{"adcode": "500103", "facilities_total": 10, "facilities_down": 5}]}
    answer = client.post(url, json=half, headers=key("viewer"))
    assert answer.status_code == 200
    assert answer.json()["findings"][0]["districts"] == ["500103"]
    half["districts"][0]["facilities_down"] = 11
    assert assert_problem(client.post(url, json=half, headers=key("viewer")), 422)["errors"]
    for body in (b"[]", b"null", b'"x"', b"1"):
        assert_problem(client.post(url, content=body, headers=key("viewer")), 422)


@pytest.mark.parametrize("phone", PHONES)
def test_logs_hold_no_telephone_number(log_lines: io.StringIO, phone: str) -> None:
    log = structlog.get_logger("test")
    log.info(f"called {phone}", note=f"tel {phone};", deep={"a": [phone, {"b": phone}]})
    logging.getLogger("uvicorn.error").error("said %s", phone)
    try:
        raise ValueError(f"bad number {phone}")
    except ValueError as error:
        log.error("internal error", exc_info=error)
    written = log_lines.getvalue()
    # the server may still tell of a request of the test before
    mine = [line for line in written.splitlines() if '"event":"request"' not in line]
    assert len(mine) == 3
    assert phone not in written
    assert re.sub(r"\D", "", phone)[-8:] not in written
    assert '"class":"builtins.ValueError"' in written


def test_logs_hold_no_secret_and_no_query(
    log_lines: io.StringIO, client: httpx.Client, credentials: Credentials, key: Key
) -> None:
    account = credentials["viewer"]
    form = {"username": "viewer", "password": account["password"]}
    token = client.post("/v1/token", data=form).json()["access_token"]
    client.get(f"/v1/session?token={token}", headers={"Authorization": f"Bearer {token}"})
    client.get(f"/v1/session?key={account['api_key']}", headers=key("viewer"))
    client.get(f"/{account['api_key']}", headers=key("viewer"))
    structlog.get_logger("t").info(f"url postgresql://u:{'hunter2hunter2'}@h/db", password="pw1")
    deadline = time.monotonic() + 10
    while log_lines.getvalue().count('"event":"request"') < 4:  # written after the answer is sent
        assert time.monotonic() < deadline
        time.sleep(0.02)
    written = log_lines.getvalue()
    entries = [json.loads(line) for line in written.splitlines()]
    requests = [one for one in entries if one["event"] == "request"]
    assert [one["route"] for one in requests] == [
        "/v1/token",
        "/v1/session",
        "/v1/session",
        "unmatched",
    ]
    assert requests[1]["account"] == "viewer"
    for secret in (token, account["api_key"], account["password"], "hunter2hunter2", "pw1"):
        assert secret not in written
