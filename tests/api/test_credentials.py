"""Tokens, keys and sessions: what is taken, what is not, and how fast a revoked one ends."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest
from pwdlib import PasswordHash
from sqlalchemy import Engine, text

from api.credentials import SESSION_COOKIE
from api.deps import Configuration
from api.security import ISSUER, SESSION_AUDIENCE, TOKEN_AUDIENCE, Signer
from data import accounts
from data.accounts import create_account, lock_account, reset_account
from geo.errors import InvalidInput
from tests.api.conftest import Credentials, assert_problem

Key = Callable[[str], dict[str, str]]


@pytest.fixture(scope="module")
def hashing() -> PasswordHash:
    """The real one: what a sign-in costs is tested here."""
    return accounts._hashing


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def get_token(client: httpx.Client, account: dict[str, Any]) -> str:
    form = {"username": account["username"], "password": account["password"]}
    answer = client.post("/v1/token", data=form)
    assert answer.status_code == 200, answer.text
    assert answer.json()["token_type"] == "bearer"
    return str(answer.json()["access_token"])


def sign_in(client: httpx.Client, account: dict[str, Any], **more: str) -> httpx.Response:
    page = client.get("/login")
    csrf = page.text.partition('name="csrf" value="')[2].partition('"')[0]
    form = {"username": account["username"], "password": account["password"], "csrf": csrf}
    return client.post("/login", data={**form, **more})


def claims(**changes: object) -> dict[str, object]:
    now = int(time.time())
    base: dict[str, object] = {
        "iss": ISSUER,
        "aud": TOKEN_AUDIENCE,
        "sub": "admin",
        "epoch": 0,
        "jti": "1",
        "iat": now,
        "exp": now + 600,
    }
    return {**base, **changes}


def unsigned(header: dict[str, object], payload: dict[str, object]) -> str:
    parts = (json.dumps(part).encode() for part in (header, payload))
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


def test_a_token_and_a_key_say_who_is_asking(
    client: httpx.Client, credentials: Credentials, key: Key
) -> None:
    token = get_token(client, credentials["field"])
    for headers in (bearer(token), key("field"), bearer(token) | key("field")):
        answer = client.get("/v1/session", headers=headers).json()
        assert (answer["username"], answer["role"]) == ("field", "field")
        assert answer["districts"] == credentials["field"]["districts"] == ["500103"]


def test_our_own_signature_with_other_claims_is_the_control(
    client: httpx.Client, configuration: Configuration
) -> None:
    good = jwt.encode(claims(), configuration.secret, "HS256")
    assert client.get("/v1/session", headers=bearer(good)).status_code == 200


ATTACKS: dict[str, Callable[[str], str]] = {
    "no algorithm": lambda _: unsigned({"alg": "none", "typ": "JWT"}, claims()),
    "no algorithm, capitals": lambda _: unsigned({"alg": "NONE"}, claims()),
    "no signature": lambda s: jwt.encode(claims(), s, "HS256").rpartition(".")[0] + ".",
    "another secret": lambda _: jwt.encode(claims(), "x" * 64, "HS256"),
    "another algorithm": lambda s: jwt.encode(claims(), s, "HS512"),
    "key id as path": lambda _: jwt.encode(
        claims(), b"\0" * 32, "HS256", headers={"kid": "../../../dev/null"}
    ),
    "expired": lambda s: jwt.encode(claims(exp=int(time.time()) - 1), s, "HS256"),
    "without expiry": lambda s: jwt.encode(
        {name: value for name, value in claims().items() if name != "exp"}, s, "HS256"
    ),
    "expiry as text": lambda s: jwt.encode(claims(exp="never"), s, "HS256"),
    "from the future": lambda s: jwt.encode(claims(iat=int(time.time()) + 600), s, "HS256"),
    "session as bearer": lambda s: jwt.encode(claims(aud=SESSION_AUDIENCE), s, "HS256"),
    "other audience": lambda s: jwt.encode(claims(aud="x"), s, "HS256"),
    "other issuer": lambda s: jwt.encode(claims(iss="x"), s, "HS256"),
    "old epoch": lambda s: jwt.encode(claims(epoch=-1), s, "HS256"),
    "new epoch": lambda s: jwt.encode(claims(epoch=1), s, "HS256"),
    "epoch as truth": lambda s: jwt.encode(claims(epoch=False), s, "HS256"),
    "unknown user": lambda s: jwt.encode(claims(sub="nobody"), s, "HS256"),
    "changed claims": lambda s: _tampered(jwt.encode(claims(sub="viewer"), s, "HS256")),
    "rubbish": lambda _: "a.b.c",
    "latin": lambda _: "é.é.é",
    "long": lambda _: "a" * 20_000,
}


def _tampered(token: str) -> str:
    head, _, signature = token.split(".")
    payload = unsigned({}, claims(sub="admin")).split(".")[1]
    return f"{head}.{payload}.{signature}"


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_forged_tokens_are_refused(
    client: httpx.Client, configuration: Configuration, attack: Callable[[str], str]
) -> None:
    token = attack(configuration.secret)
    headers = [(b"Authorization", f"Bearer {token}".encode("latin-1"))]
    assert_problem(client.get("/v1/session", headers=headers), 401)


def test_a_public_key_is_never_a_shared_secret(client: httpx.Client) -> None:
    header = {"alg": "RS256", "typ": "JWT"}
    token = unsigned(header, claims()) + base64.urlsafe_b64encode(b"x" * 256).decode()
    assert_problem(client.get("/v1/session", headers=bearer(token)), 401)


@pytest.mark.parametrize(
    "wrong",
    [
        {"X-API-Key": "yutu_wrong"},
        {"X-API-Key": ""},
        {"Authorization": "Basic YWRtaW46YWRtaW4="},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer x"},
        {"Cookie": f"{SESSION_COOKIE}=x"},
        {"Cookie": f"{SESSION_COOKIE}=a; {SESSION_COOKIE}=b"},
    ],
    ids=str,
)
def test_an_invalid_credential_counts_even_beside_a_valid_one(
    client: httpx.Client, credentials: Credentials, key: Key, wrong: dict[str, str]
) -> None:
    valid = bearer(get_token(client, credentials["admin"])) | key("admin")
    assert client.get("/v1/session", headers=valid).status_code == 200
    assert_problem(client.get("/v1/session", headers=valid | wrong), 401)


def test_credentials_of_two_accounts_are_nobodys(
    client: httpx.Client, credentials: Credentials, key: Key
) -> None:
    token = get_token(client, credentials["viewer"])
    assert_problem(client.get("/v1/session", headers=bearer(token) | key("admin")), 401)


def test_a_wrong_password_and_an_unknown_user_look_and_cost_the_same(client: httpx.Client) -> None:
    seconds: dict[str, float] = {}
    bodies = set()
    for username in ("viewer", "nobody-here", "Not A Name", "admin' --"):
        started = time.perf_counter()
        answer = client.post("/v1/token", data={"username": username, "password": "x" * 20})
        seconds[username] = time.perf_counter() - started
        bodies.add(answer.content)
        assert_problem(answer, 401)
    assert len(bodies) == 1
    assert max(seconds.values()) < 5 * min(seconds.values())


def test_what_was_revoked_ends_within_a_second(client: httpx.Client, owner: Engine) -> None:
    with owner.begin() as connection:
        made = create_account(connection, "shortlived", "viewer")
    account = made.as_json()
    by_key = {"X-API-Key": account["api_key"]}
    assert client.get("/v1/session", headers=by_key).status_code == 200  # known at once
    token = bearer(get_token(client, account))
    assert client.get("/v1/session", headers=token).status_code == 200
    with owner.begin() as connection:
        lock_account(connection, "shortlived")
    time.sleep(1.0)
    for headers in (by_key, token):
        assert_problem(client.get("/v1/session", headers=headers), 401)
    form = {"username": "shortlived", "password": account["password"]}
    assert_problem(client.post("/v1/token", data=form), 401)
    with owner.begin() as connection:
        again = reset_account(connection, "shortlived")
    time.sleep(1.0)
    for headers in (by_key, token):  # opened again, and the old secrets stay ended
        assert_problem(client.get("/v1/session", headers=headers), 401)
    fresh = {"X-API-Key": again.api_key}
    assert client.get("/v1/session", headers=fresh).status_code == 200


def test_a_token_of_the_newest_epoch_is_known_at_once(client: httpx.Client, owner: Engine) -> None:
    with owner.begin() as connection:
        create_account(connection, "renewed", "viewer")
        account = reset_account(connection, "renewed").as_json()
    token = get_token(client, account)
    assert client.get("/v1/session", headers=bearer(token)).status_code == 200


@pytest.mark.parametrize("secret", ["", "short", "x" * 31, "é" * 15])
def test_a_secret_under_32_bytes_is_refused(secret: str) -> None:
    with pytest.raises(InvalidInput, match="32 bytes"):
        Signer(secret)


def test_signing_in_by_the_page_sets_a_cookie_that_reads(
    client: httpx.Client, credentials: Credentials
) -> None:
    answer = sign_in(client, credentials["commander"], next="/docs?a=1")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/docs?a=1"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    session = client.get("/v1/session").json()
    assert session["username"] == "commander"
    assert len(session["csrf"]) == 64


def test_writes_by_cookie_need_the_sessions_own_csrf_token(
    client: httpx.Client, server: str, credentials: Credentials
) -> None:
    url = "/v1/plans/special-equipment-2023/assess"
    sign_in(client, credentials["viewer"])
    csrf = client.get("/v1/session").json()["csrf"]
    with httpx.Client(base_url=server) as other:
        sign_in(other, credentials["viewer"])
        others = other.get("/v1/session").json()["csrf"]
    for wrong in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": others}, {"X-CSRF-Token": "é"}):
        headers = [(name.encode(), value.encode()) for name, value in wrong.items()]
        assert_problem(client.post(url, json={}, headers=headers), 403)
    assert client.post(url, json={}, headers={"X-CSRF-Token": csrf}).status_code == 200


def test_a_key_beside_the_cookie_needs_no_csrf_token(
    client: httpx.Client, credentials: Credentials, key: Key
) -> None:
    sign_in(client, credentials["viewer"])
    url = "/v1/plans/special-equipment-2023/assess"
    assert client.post(url, json={}, headers=key("viewer")).status_code == 200


def test_the_session_cookie_is_no_bearer_token(
    client: httpx.Client, credentials: Credentials
) -> None:
    sign_in(client, credentials["admin"])
    stolen = client.cookies[SESSION_COOKIE]
    client.cookies.clear()
    assert_problem(client.get("/v1/session", headers=bearer(stolen)), 401)
    token = get_token(client, credentials["admin"])
    cookie = {"Cookie": f"{SESSION_COOKIE}={token}"}
    assert_problem(client.get("/v1/session", headers=cookie), 401)


def test_signing_out_takes_the_cookie_and_needs_the_token(
    client: httpx.Client, credentials: Credentials
) -> None:
    sign_in(client, credentials["viewer"])
    assert_problem(client.post("/logout"), 403)
    csrf = client.get("/v1/session").json()["csrf"]
    answer = client.post("/logout", data={"csrf": csrf})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert_problem(client.get("/v1/session"), 401)


def test_a_form_from_elsewhere_cannot_sign_anyone_in(
    client: httpx.Client, credentials: Credentials
) -> None:
    account = credentials["viewer"]
    form = {"username": account["username"], "password": account["password"]}
    for csrf in ("", "guess"):
        answer = client.post("/login", data={**form, "csrf": csrf})
        assert answer.status_code == 403
        assert SESSION_COOKIE not in answer.headers.get("set-cookie", "")


def test_a_wrong_password_shows_the_page_again(client: httpx.Client) -> None:
    answer = sign_in(client, {"username": "viewer", "password": "wrong"})
    assert answer.status_code == 401
    assert "用户名或密码不正确" in answer.text
    assert "script-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example",
        "https:evil.example",
        "javascript:alert(1)",
        "/\t/evil.example",
        "/\n/evil.example",
        "evil.example",
        " //evil.example",
        "/x\r\nSet-Cookie: a=b",
        "",
    ],
)
def test_nobody_is_sent_to_another_host(
    client: httpx.Client, credentials: Credentials, target: str
) -> None:
    answer = sign_in(client, credentials["viewer"], next=target)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    client.cookies.clear()
    shown = client.get("/login", params={"next": target}).text
    assert 'name="next" value="/"' in shown


def test_a_stale_cookie_does_not_keep_anyone_from_the_sign_in_page(client: httpx.Client) -> None:
    stale = {"Cookie": f"{SESSION_COOKIE}=stale", "Accept": "text/html"}
    assert client.get("/login", headers=stale).status_code == 200
    assert client.get("/docs", headers=stale).status_code == 303


def test_no_secret_is_in_the_database(owner: Engine, credentials: Credentials) -> None:
    with owner.connect() as connection:
        rows = str(connection.execute(text("SELECT account::text FROM account")).all())
    assert "argon2id" in rows
    for account in credentials.values():
        assert account["password"] not in rows
        assert account["api_key"] not in rows
