"""Signing in by the city's accounts, against an identity provider of the tests' own on loopback."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from sqlalchemy import Engine, text

from api.app import create_app
from api.credentials import SESSION_COOKIE
from api.deps import Configuration
from api.routes.sign_on import CALLBACK, WAITING_COOKIE
from data.accounts import authenticate, create_account, lock_account
from data.sign_on_settings import SignOnSettings
from geo.errors import InvalidInput
from tests.api.conftest import Credentials, assert_problem, served
from tests.api.identity_provider import CLIENT, SECRET

GROUPS = {
    "city-command": {"role": "commander"},
    "yuzhong-field": {"role": "field", "districts": ["500103"]},
    "grid": {"role": "utility", "operators": ["国网重庆"]},
}


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    script = Path(__file__).with_name("identity_provider.py")
    process = subprocess.Popen([sys.executable, script, "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.terminate()
        process.wait(5)


@pytest.fixture(scope="module")
def sign_on_server(
    provider: str, configuration: Configuration, credentials: Credentials
) -> Iterator[str]:
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("YUTU_OIDC_ISSUER", provider)
            patch.setenv("YUTU_OIDC_CLIENT_ID", CLIENT)
            patch.setenv("YUTU_OIDC_CLIENT_SECRET", SECRET)
            patch.setenv("YUTU_OIDC_GROUPS", json.dumps(GROUPS))
            url = stack.enter_context(served(create_app(configuration)))
        yield url


@pytest.fixture
def browser(sign_on_server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=sign_on_server, timeout=15) as one:
        yield one


@pytest.fixture
def say(provider: str) -> Iterator[Callable[..., None]]:
    """`say(claims=…, sign=…)`: what the next ID tokens are like."""

    def tell(**wish: Any) -> None:
        assert httpx.post(f"{provider}/_next", json=wish).status_code == 200

    tell(published=["one"])
    yield tell
    tell(published=["one"])


def leave(browser: httpx.Client, next: str = "/docs") -> str:
    """Go to the provider and come back with a code; the address to come back to."""
    away = browser.get("/login/oidc", params={"next": next})
    assert away.status_code == 303, away.text
    back = httpx.get(away.headers["location"])
    assert back.status_code == 302
    return str(back.headers["location"])


def test_a_person_is_let_in_with_the_role_and_scope_of_the_group(
    browser: httpx.Client, say: Callable[..., None]
) -> None:
    answer = browser.get(leave(browser, "/v1/plans?a=1"))
    assert (answer.status_code, answer.headers["location"]) == (303, "/v1/plans?a=1")
    cookie = next(c for c in answer.headers.get_list("set-cookie") if SESSION_COOKIE in c).lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    said = browser.get("/v1/session").json()
    assert (said["username"], said["role"], said["districts"]) == ("li.si", "field", ["500103"])
    assert len(said["csrf"]) == 64
    assert WAITING_COOKIE not in browser.cookies


def test_what_is_asked_of_the_provider_is_bound_to_this_browser(
    browser: httpx.Client, say: Callable[..., None]
) -> None:
    asked = []
    for _ in range(2):
        url = urlsplit(browser.get("/login/oidc").headers["location"])
        asked.append({name: one[0] for name, one in parse_qs(url.query).items()})
    for name in ("state", "nonce", "code_challenge"):
        assert asked[0][name] != asked[1][name]
        assert len(asked[0][name]) >= 43
    assert asked[0]["code_challenge_method"] == "S256"
    assert asked[0]["response_type"] == "code"
    assert "openid" in asked[0]["scope"].split()
    assert asked[0]["redirect_uri"].endswith(CALLBACK)
    assert SECRET not in str(asked)


WRONG: dict[str, dict[str, Any]] = {
    "another audience": {"claims": {"aud": "another-client"}},
    "several audiences, another party": {"claims": {"aud": [CLIENT, "x"], "azp": "x"}},
    "several audiences, no party": {"claims": {"aud": [CLIENT, "x"]}},
    "expired": {"claims": {"exp": 1_700_000_000}},
    "without expiry": {"claims": {"exp": None}},
    "from the future": {"claims": {"iat": 4_000_000_000}},
    "another issuer": {"claims": {"iss": "https://evil.example"}},
    "another nonce": {"claims": {"nonce": "x"}},
    "without nonce": {"claims": {"nonce": None}},
    "without subject": {"claims": {"sub": None}},
    "a number as subject": {"claims": {"sub": 5}},
    "an empty subject": {"claims": {"sub": ""}},
    "another access token": {"claims": {"at_hash": "x"}},
    "no algorithm": {"sign": "none"},
    "public key as shared secret": {"sign": "hs256 with the public key"},
    "the client's secret, published": {
        "sign": "hs256 with the client's secret",
        "header_kid": "shared",
    },
    "changed claims": {"sign": "tampered"},
    "a key of somebody else": {"kid": "foreign", "header_kid": "one"},
    "a key that is not published": {"kid": "foreign"},
    "key id as path": {"header_kid": "../../../dev/null"},
}


@pytest.mark.parametrize("wish", WRONG.values(), ids=WRONG.keys())
def test_a_token_that_does_not_hold_lets_nobody_in(
    browser: httpx.Client, say: Callable[..., None], wish: dict[str, Any]
) -> None:
    say(**wish)
    told = assert_problem(browser.get(leave(browser)), 403)
    assert set(told) == {"type", "title", "status", "detail"}
    assert_problem(browser.get("/v1/session"), 401)
    assert SESSION_COOKIE not in browser.cookies


def test_a_state_is_taken_once(browser: httpx.Client, say: Callable[..., None]) -> None:
    back = leave(browser)
    waiting = browser.cookies[WAITING_COOKIE]
    assert browser.get(back).status_code == 303
    browser.cookies.clear()
    again = {"Cookie": f"{WAITING_COOKIE}={waiting}"}
    assert_problem(browser.get(back, headers=again), 403)
    code = back.replace("code=", "code=x")
    assert_problem(browser.get(code, headers=again), 403)


@pytest.mark.parametrize(
    "change",
    [
        lambda back: back.replace("state=", "state=x"),
        lambda back: back.split("&state=")[0],
        lambda back: back.split("?")[0],
        lambda back: back.split("?")[0] + "?error=access_denied",
    ],
)
def test_coming_back_otherwise_is_refused(
    browser: httpx.Client, say: Callable[..., None], change: Callable[[str], str]
) -> None:
    assert_problem(browser.get(change(leave(browser))), 403)


def test_another_browser_cannot_finish_what_one_began(
    browser: httpx.Client, sign_on_server: str, say: Callable[..., None]
) -> None:
    back = leave(browser)
    with httpx.Client(base_url=sign_on_server) as victim:
        assert_problem(victim.get(back), 403)
        leave(victim)  # its own is on the way
        assert_problem(victim.get(back), 403)
        assert SESSION_COOKIE not in victim.cookies


def test_groups_decide_anew_each_time_and_end_what_was_before(
    browser: httpx.Client, sign_on_server: str, say: Callable[..., None]
) -> None:
    who = {"sub": "person-2", "preferred_username": "wang"}
    say(claims={**who, "groups": ["yuzhong-field", "city-command"]})
    assert browser.get(leave(browser)).status_code == 303
    assert browser.get("/v1/session").json()["role"] == "commander", "the first of the setting"
    say(claims={**who, "groups": "grid"})
    with httpx.Client(base_url=sign_on_server) as second:
        assert second.get(leave(second)).status_code == 303
        said = second.get("/v1/session").json()
        assert (said["username"], said["role"]) == ("wang", "utility")
        assert said["operators"] == ["国网重庆"]
        say(claims={**who, "groups": ["gardeners"]})
        with httpx.Client(base_url=sign_on_server) as third:
            assert_problem(third.get(leave(third)), 403)
        ended = {b: refused(b) for b in (browser, second)}
    assert all(ended.values())


def refused(browser: httpx.Client) -> bool:
    until = time.monotonic() + 3
    while time.monotonic() < until:
        if browser.get("/v1/session").status_code == 401:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("groups", [None, [], ["x"], 5, {"admin": 1}, [["city-command"]]])
def test_whoever_is_in_no_group_is_refused_and_gets_no_account(
    browser: httpx.Client, say: Callable[..., None], owner: Engine, groups: Any
) -> None:
    say(claims={"sub": "nobody", "preferred_username": "nobody", "groups": groups})
    assert_problem(browser.get(leave(browser)), 403)
    with owner.connect() as connection:
        found = connection.execute(text("SELECT count(*) FROM account WHERE username = 'nobody'"))
        assert found.scalar_one() == 0


@pytest.mark.parametrize("name", ["admin", "Admin", "admin@evil.example"])
def test_a_name_that_is_taken_here_is_never_taken_over(
    browser: httpx.Client, say: Callable[..., None], name: str
) -> None:
    say(claims={"sub": f"other-{name}", "preferred_username": name})
    assert browser.get(leave(browser)).status_code == 303
    said = browser.get("/v1/session").json()
    assert said["username"].startswith("admin.")
    assert said["role"] == "field"


def test_the_account_has_no_password_and_a_locked_one_stays_out(
    browser: httpx.Client, say: Callable[..., None], owner: Engine
) -> None:
    say(claims={"sub": "person-3", "preferred_username": "zhao"})
    assert browser.get(leave(browser)).status_code == 303
    for guess in ("", "!", "password"):
        assert authenticate(owner, "zhao", guess) is None
    with owner.begin() as connection:
        lock_account(connection, "zhao")
    assert refused(browser)
    assert_problem(browser.get(leave(browser)), 403)


def test_the_providers_new_key_is_fetched(
    browser: httpx.Client, say: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.identity_provider.KEYS_APART_S", 0.0)
    say(published=["two"], kid="two")
    assert browser.get(leave(browser)).status_code == 303
    say(published=["one"])
    assert browser.get(leave(browser)).status_code == 303


def test_a_provider_that_does_not_answer_is_a_503_and_passwords_go_on(
    browser: httpx.Client, say: Callable[..., None], credentials: Credentials
) -> None:
    back = leave(browser)
    say(status=500)
    answer = browser.get(back)
    assert_problem(answer, 503)
    assert answer.headers["retry-after"]
    form = {name: credentials["viewer"][name] for name in ("username", "password")}
    assert browser.post("/v1/token", data=form).status_code == 200


def test_the_sign_in_page_offers_it_only_where_it_is_set(
    browser: httpx.Client, client: httpx.Client
) -> None:
    assert "/login/oidc?next=" in browser.get("/login").text
    assert "/login/oidc" not in client.get("/login").text
    for path in ("/login/oidc", CALLBACK):
        assert_problem(client.get(path), 404)


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example"])
def test_nobody_is_sent_to_another_host_afterwards(
    browser: httpx.Client, say: Callable[..., None], target: str
) -> None:
    assert browser.get(leave(browser, target)).headers["location"] == "/"


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"ISSUER": "http://sso.example"}, "ISSUER"),
        ({"ISSUER": "https://user:secret@sso.example"}, "ISSUER"),
        ({"ISSUER": "https://sso.example"}, "CLIENT_ID"),
        ({"GROUPS": '{"a": {"role": "root"}}'}, "GROUPS"),
        ({"GROUPS": '{"a": {"role": "field", "districts": []}}'}, "GROUPS"),
        ({"GROUPS": "not json"}, "GROUPS"),
        ({"SCOPES": "profile"}, "SCOPES"),
    ],
)
def test_settings_that_would_be_unsafe_are_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"YUTU_OIDC_{name}", value)
    with pytest.raises(InvalidInput, match=f"YUTU_OIDC_{named}"):
        SignOnSettings.load()


def test_a_local_account_is_no_identity(owner: Engine, credentials: Credentials) -> None:
    with owner.begin() as connection:
        create_account(connection, "by-hand", "viewer")
    with owner.connect() as connection:
        known = connection.execute(
            text("SELECT count(*) FROM account_identity WHERE username = 'by-hand'")
        )
        assert known.scalar_one() == 0
