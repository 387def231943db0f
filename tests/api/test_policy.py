"""The matrix role × route, made from the application's own routes, and the gate before the body."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import APIRouter, FastAPI

from api.app import create_app
from api.authorization import authorization_table
from api.deps import Configuration
from api.policy import ANY_ACCOUNT, NO_PLACE, OPEN, POLICY, PolicyTable, Rule, roles, rule
from api.routes import ROUTERS
from api.routing import make_router, served_routes
from data.api_keys import NARROWER
from data.tables import ROLES
from tests.api.conftest import assert_problem
from tests.summary import Record

pytestmark = pytest.mark.usefixtures("ready")
Key = Callable[[str], dict[str, str]]
ACCOUNT_OF = {role: role for role in ROLES}
OPEN_PATHS = {"/health", "/ready", "/v1/token", "/login", "/static/{path:path}", "/ca.crt"} | {
    "/login/oidc",
    "/login/oidc/callback",
}
STREAMS = {"/v1/situation/stream"}


def filled(template: str) -> str:
    """The template with a value in each parameter."""
    plain = template.replace("{path:path}", "x").replace(":path}", "}")
    return plain.replace("{", "").replace("}", "")


def matrix() -> list[tuple[Rule, str]]:
    return [(row, role) for row in POLICY for role in ROLES if row.path not in STREAMS]


@pytest.mark.parametrize(("row", "role"), matrix(), ids=str)
def test_each_role_gets_exactly_what_the_policy_says(
    row: Rule, role: str, client: httpx.Client, key: Key, record_property: Record
) -> None:
    record_property("matrix", {"cells tested": 1})
    answer = client.request(row.method, filled(row.path), headers=key(ACCOUNT_OF[role]))
    if row.roles is OPEN or role in row.roles:
        # 403 would be the gate, or a handler's own refusal, which must then say so elsewhere
        assert answer.status_code not in {401, 405} or row.path in {"/v1/token", "/login"}
        assert answer.status_code != 403 or row.path == "/login"
        assert answer.status_code < 500
    else:
        assert_problem(answer, 403)


@pytest.mark.parametrize("row", POLICY, ids=str)
def test_only_the_open_paths_answer_without_credentials(
    row: Rule, client: httpx.Client, record_property: Record
) -> None:
    record_property("matrix", {"cells tested": 1})
    answer = client.request(row.method, filled(row.path))
    assert (row.roles is OPEN) == (row.path in OPEN_PATHS)
    if row.roles is not OPEN:
        assert_problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("row", [row for row in POLICY if row.roles is not OPEN], ids=str)
def test_an_anonymous_browser_is_sent_to_sign_in_only_from_pages(
    row: Rule, client: httpx.Client
) -> None:
    answer = client.request(row.method, filled(row.path), headers={"Accept": "text/html,*/*"})
    if row.page:
        assert answer.status_code == 303
        assert answer.headers["location"] == f"/login?next={filled(row.path)}"
    else:
        assert_problem(answer, 401)


def test_the_way_back_keeps_the_query_and_stays_a_local_path(client: httpx.Client) -> None:
    answer = client.get("/docs?a=1&b=//evil", headers={"Accept": "text/html"})
    assert answer.headers["location"] == "/login?next=/docs%3Fa%3D1%26b%3D//evil"


@pytest.mark.parametrize("path", ["/nope", "/v1/nope", "/docs/", "//docs", "/v1/session/x"])
def test_anonymous_callers_cannot_tell_what_exists(client: httpx.Client, path: str) -> None:
    missing = client.get(path)
    existing = client.delete("/v1/session")
    assert missing.content == existing.content
    assert_problem(missing, 401)


def test_known_callers_learn_what_is_not_there(client: httpx.Client, key: Key) -> None:
    assert_problem(client.get("/v1/nope", headers=key("viewer")), 404)
    answer = client.delete("/v1/session", headers=key("viewer"))
    assert_problem(answer, 405)
    assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PROPFIND"])
def test_other_methods_are_refused_like_everything_else(
    client: httpx.Client, key: Key, method: str
) -> None:
    assert client.request(method, "/v1/session").status_code == 401
    assert client.request(method, "/v1/session", headers=key("admin")).status_code == 405


def test_every_route_has_a_row_and_every_row_a_route(app: FastAPI) -> None:
    assert {(row.method, row.path) for row in POLICY} == set(served_routes(app.routes))


def test_a_route_without_a_row_stops_the_start(configuration: Configuration) -> None:
    extra = make_router("extra")
    extra.add_api_route("/v1/forgotten", lambda: None, methods=["DELETE"])
    with pytest.raises(RuntimeError, match="no policy row for DELETE /v1/forgotten"):
        create_app(configuration, routers=(*ROUTERS, extra))


def test_a_row_without_a_route_stops_the_start(configuration: Configuration) -> None:
    with pytest.raises(RuntimeError, match="no route for the policy row GET /v1/unbuilt"):
        create_app(
            configuration, policy=(*POLICY, rule("GET", "/v1/unbuilt", ANY_ACCOUNT, NO_PLACE))
        )


def test_a_route_without_the_police_stops_the_start(configuration: Configuration) -> None:
    extra = APIRouter()
    extra.add_api_route("/v1/plain", lambda: None, methods=["GET"])
    policy = (*POLICY, rule("GET", "/v1/plain", ANY_ACCOUNT, NO_PLACE))
    with pytest.raises(RuntimeError, match="/v1/plain is not made by"):
        create_app(configuration, routers=(*ROUTERS, extra), policy=policy)


@pytest.mark.parametrize(("role", "narrower"), [(r, n) for r in ROLES for n in sorted(NARROWER[r])])
def test_a_keys_role_may_do_nothing_its_account_may_not(role: str, narrower: str) -> None:
    assert {str(r) for r in POLICY if r.roles and narrower in r.roles} <= {
        str(r) for r in POLICY if r.roles and role in r.roles
    }


def test_a_role_that_does_not_exist_cannot_be_allowed() -> None:
    with pytest.raises(ValueError, match="root"):
        roles("viewer", "root")


def test_an_exact_path_wins_over_a_template_and_methods_add_up() -> None:
    table = PolicyTable(
        [
            rule("GET", "/a/{id}", ANY_ACCOUNT, NO_PLACE),
            rule("GET", "/a/template", roles("planner"), NO_PLACE),
            rule("PATCH", "/a/{id}", roles("admin"), NO_PLACE),
        ]
    )
    exact = table.match("GET", "/a/template")
    assert exact is not None
    assert exact.rule is not None
    assert exact.rule.path == "/a/template"
    patched = table.match("PATCH", "/a/template")
    assert patched is not None
    assert patched.rule is not None
    assert patched.rule.path == "/a/{id}"
    wrong = table.match("PUT", "/a/template")
    assert wrong is not None
    assert wrong.rule is None
    assert wrong.methods == {"GET", "PATCH"}
    assert table.match("GET", "/a/b/c") is None


@pytest.mark.parametrize("framing", ["Content-Length: 199000000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("path", ["/v1/plans/communications-2024/assess", "/v1/nope"])
def test_anonymous_denial_comes_before_the_body(server: str, path: str, framing: str) -> None:
    """The body never comes, and the answer does."""
    parts = urlsplit(server)
    with socket.create_connection((str(parts.hostname), parts.port or 0), timeout=10) as line:
        line.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n".encode())
        started = time.monotonic()
        answer = line.recv(65536)
        assert time.monotonic() - started < 5  # and not when the body has come
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in answer.lower()


def test_a_body_that_says_it_is_too_large_is_refused_unread(server: str, key: Key) -> None:
    parts = urlsplit(server)
    head = f"POST /v1/plans/communications-2024/assess HTTP/1.1\r\nHost: x\r\nX-API-Key: {key('viewer')['X-API-Key']}\r\n"
    with socket.create_connection((str(parts.hostname), parts.port or 0), timeout=5) as line:
        line.sendall(f"{head}Content-Length: 1048577\r\n\r\n".encode())
        assert line.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_a_chunked_body_is_cut_off_at_the_limit(server: str, key: Key) -> None:
    parts = urlsplit(server)
    head = f"POST /v1/plans/communications-2024/assess HTTP/1.1\r\nHost: x\r\nX-API-Key: {key('viewer')['X-API-Key']}\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    with socket.create_connection((str(parts.hostname), parts.port or 0), timeout=5) as line:
        line.sendall(head.encode())
        for _ in range(17):  # 1 MiB and one chunk, no end
            line.sendall(chunk)
        assert line.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_the_limit_itself_is_let_through(client: httpx.Client, key: Key) -> None:
    body = b"{}" + b" " * (2**20 - 2)
    url = "/v1/plans/special-equipment-2023/assess"
    assert client.post(url, content=body, headers=key("viewer")).status_code == 200


def test_the_printed_table_is_the_policy(app: FastAPI) -> None:
    """`python -m api.authorization > docs/authorization.md` after a change."""
    page = Path(__file__).resolve().parents[2] / "docs" / "authorization.md"
    assert page.read_text(encoding="utf-8") == authorization_table()
    for method, path in served_routes(app.routes):
        assert f"| {method} | `{path}` |" in authorization_table()


def test_a_row_without_a_scope_is_none() -> None:
    with pytest.raises(ValueError, match="the scope is one of"):
        rule("GET", "/x", ANY_ACCOUNT, "")
