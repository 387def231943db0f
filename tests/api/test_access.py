"""Two workers on one database: keys narrowed and revoked, sessions ended, guessing held off."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from api.account_book import AccountBook
from api.app import create_app
from api.cli import app as cli
from api.credentials import SESSION_COOKIE
from api.deps import Configuration
from data.accounts import create_account
from data.api_keys import draw_key, keys_of, revoke_key, store_key
from data.database import app_engine, owner_engine
from data.sign_in_limit import PAIR_FAILURES
from tests.api.conftest import Credentials, assert_problem, served
from tests.api.test_credentials import bearer, get_token, sign_in

#: A second is promised, and `make torture` holds it to that; here the machine has other work.
AT_ONCE_S = 3.0


@pytest.fixture(scope="module")
def other_server(configuration: Configuration, credentials: Credentials) -> Iterator[str]:
    """A second process's worth of the application, on the same database."""
    with served(create_app(configuration)) as url:
        yield url


@pytest.fixture
def other(other_server: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=other_server, timeout=10) as one:
        yield one


def new_key(owner: Engine, username: str, **limits: Any) -> dict[str, str]:
    made = draw_key()
    with owner.begin() as connection:
        store_key(connection, username, made, **{"label": "test"} | limits)
    return {"X-API-Key": made}


def refused_after_s(clients: list[httpx.Client], headers: dict[str, str]) -> float:
    """Seconds until every worker refuses."""
    started = time.monotonic()
    while time.monotonic() - started < 5:
        if all(c.get("/v1/session", headers=headers).status_code == 401 for c in clients):
            return time.monotonic() - started
    raise AssertionError("still let in after 5 s")


def test_a_key_has_the_role_and_scope_it_was_given(client: httpx.Client, owner: Engine) -> None:
    narrow = new_key(owner, "commander", role="field", districts=["500103"], operators=["电信"])
    said = client.get("/v1/session", headers=narrow).json()
    assert (said["username"], said["role"]) == ("commander", "field")
    assert (said["districts"], said["operators"]) == (["500103"], ["电信"])
    body = {"reason": "x", "facts": {}}
    url = "/v1/plans/communications-2024/facts"
    assert_problem(client.put(url, json=body, headers=narrow), 403)


def test_a_revoked_key_is_refused_by_every_worker_within_a_second(
    client: httpx.Client, other: httpx.Client, owner: Engine
) -> None:
    for _ in range(3):
        headers = new_key(owner, "viewer")
        for one in (client, other):
            assert one.get("/v1/session", headers=headers).status_code == 200
        with owner.begin() as connection:
            revoke_key(connection, "viewer", keys_of(connection, "viewer")[-1].id)
        assert refused_after_s([client, other], headers) < AT_ONCE_S


def test_a_revoked_key_is_refused_by_reading_alone_when_no_notice_comes(
    client: httpx.Client,
    other: httpx.Client,
    owner: Engine,
    configuration: Configuration,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.account_book.CHANNEL", "yutu_nobody_speaks_here")
    with served(create_app(configuration)) as url, httpx.Client(base_url=url) as deaf:
        headers = new_key(owner, "viewer")
        assert deaf.get("/v1/session", headers=headers).status_code == 200
        with owner.begin() as connection:
            revoke_key(connection, "viewer", keys_of(connection, "viewer")[-1].id)
        assert refused_after_s([deaf], headers) < AT_ONCE_S


def test_a_notice_is_heeded_long_before_the_next_reading(
    database_url: str, owner: Engine, credentials: Credentials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.account_book.REFRESH_S", 60.0)
    engine = app_engine(database_url, pool_size=1)
    book = AccountBook(engine)
    book.start()
    try:
        time.sleep(0.5)
        with owner.begin() as connection:
            create_account(connection, "told", "viewer")
        started = time.monotonic()
        while book.by_name("told") is None:
            assert time.monotonic() - started < 2
            time.sleep(0.01)
    finally:
        book.stop()
        engine.dispose()


def test_a_key_ends_at_its_time_without_anyone_saying_so(
    client: httpx.Client, owner: Engine
) -> None:
    headers = new_key(owner, "viewer", expires_at=datetime.now(UTC) + timedelta(seconds=1.2))
    assert client.get("/v1/session", headers=headers).status_code == 200
    time.sleep(1.3)
    assert_problem(client.get("/v1/session", headers=headers), 401)


def test_the_last_use_of_a_key_is_kept(
    database_url: str, owner: Engine, credentials: Credentials
) -> None:
    engine = app_engine(database_url, pool_size=1)
    book = AccountBook(engine)
    book.start()
    with owner.connect() as connection:
        [key] = keys_of(connection, "utility")
        assert key.last_used_at is None
        assert book.by_key(key.sha256) is not None
    book.stop()
    with owner.connect() as connection:
        [key] = keys_of(connection, "utility")
    assert key.last_used_at is not None
    assert abs(key.last_used_at - datetime.now(UTC)) < timedelta(seconds=10)
    engine.dispose()


def test_signing_out_ends_the_session_wherever_its_cookie_is(
    client: httpx.Client, other: httpx.Client, credentials: Credentials
) -> None:
    sign_in(client, credentials["viewer"])
    stolen = {"Cookie": f"{SESSION_COOKIE}={client.cookies[SESSION_COOKIE]}"}
    assert other.get("/v1/session", headers=stolen).status_code == 200
    csrf = client.get("/v1/session").json()["csrf"]
    assert client.post("/logout", data={"csrf": csrf}).status_code == 303
    client.cookies.clear()
    assert refused_after_s([client, other], stolen) < AT_ONCE_S


def test_guessing_is_held_off_by_all_workers_together(
    client: httpx.Client, other: httpx.Client, owner: Engine
) -> None:
    with owner.begin() as connection:
        made = create_account(connection, "guessed", "viewer")
    right = {"username": "guessed", "password": made.password}
    statuses = []
    for n in range(PAIR_FAILURES):
        one = (client, other)[n % 2]
        answer = one.post("/v1/token", data={**right, "password": f"wrong-{n}"})
        statuses.append(answer.status_code)
    assert statuses == [401] * PAIR_FAILURES
    for one in (client, other):
        answer = one.post("/v1/token", data=right)
        assert_problem(answer, 429)
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        page = sign_in(one, right)
        assert page.status_code == 429
        assert "登录失败次数过多" in page.text
        assert SESSION_COOKIE not in page.headers.get("set-cookie", "")
    key = {"X-API-Key": made.api_key}
    assert client.get("/v1/session", headers=key).status_code == 200, "keys go on"


def test_nobody_learns_from_the_limit_whether_a_name_exists(
    client: httpx.Client, owner: Engine
) -> None:
    with owner.begin() as connection:
        create_account(connection, "exists", "viewer")
    answers: dict[str, list[tuple[int, bytes]]] = {}
    for name in ("exists", "exists-not"):
        form = {"username": name, "password": "wrong"}
        found = [client.post("/v1/token", data=form) for _ in range(PAIR_FAILURES + 1)]
        answers[name] = [(one.status_code, one.content) for one in found]
    assert answers["exists"] == answers["exists-not"]


@pytest.fixture
def shell(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("YUTU_DATABASE_URL", database_url)

    def run(*words: str, stdin: str = "", code: int = 0) -> str:
        found = CliRunner().invoke(cli, ["account", *words], input=stdin)
        assert found.exit_code == code, found.output
        return found.output

    return run


def test_the_commands_make_list_rotate_and_revoke_keys(
    shell: Callable[..., str], client: httpx.Client, credentials: Credentials
) -> None:

    shell("add", "device", "--role", "field", "--district", "500103")
    made = json.loads(shell("keys", "add", "device", "--label", "手机 1", "--days", "30"))
    old = {"X-API-Key": made["api_key"]}
    assert client.get("/v1/session", headers=old).json()["username"] == "device"
    new = json.loads(shell("keys", "rotate", "device", str(made["id"]), "--overlap-hours", "1"))
    both = [old, {"X-API-Key": new["api_key"]}]
    assert [client.get("/v1/session", headers=h).status_code for h in both] == [200, 200]
    shell("keys", "revoke", "device", str(made["id"]))
    assert refused_after_s([client], old) < AT_ONCE_S
    listed = json.loads(shell("keys", "list", "device"))
    assert [one["holds"] for one in listed] == [True, False, True]
    assert made["api_key"] not in json.dumps(listed)
    assert "no account nobody" in shell("keys", "list", "nobody", code=1)
    shell("keys", "add", "device", "--label", "x", "--role", "commander", code=1)


def test_a_scope_that_is_not_known_here_is_refused_or_told(
    divided_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUTU_DATABASE_URL", divided_database_url)

    def run(*words: str) -> tuple[int, str, str]:
        found = CliRunner().invoke(cli, ["account", *words])
        return found.exit_code, found.stdout, found.stderr

    refused = "is a district of no divisions loaded here\n"
    field = ("--role", "field", "--district")
    strange = run("add", "strange", *field, "999999", "--district", "500103")
    assert strange == (1, "", f"yutu: district: 999999 {refused}")
    assert run("add", "known", *field, "500103", "--operator", "*")[::2] == (0, "")
    before = run("add", "early", "--role", "utility", "--operator", "nobody_at_all")
    assert before[::2] == (0, "yutu: no facility and no return of nobody_at_all is known yet\n")
    assert json.loads(before[1])["username"] == "early"
    key = ("keys", "add", "early", "--label", "x")
    assert run(*key, "--district", "999999") == (1, "", f"yutu: district: 999999 {refused}")
    assert run(*key, "--operator", "nobody_at_all")[::2] == before[::2]
    assert run(*key, "--district", "500103")[::2] == (0, "")
    listed = json.loads(run("list")[1])
    assert {one["username"] for one in listed} == {"known", "early"}  # what was refused left none
    assert len(json.loads(run("keys", "list", "early")[1])) == 3
    engine = owner_engine(divided_database_url)
    with engine.begin() as connection:
        connection.execute(
            text(
                "WITH p AS (INSERT INTO placement (key) VALUES ('test') RETURNING id)"
                " INSERT INTO counter_group"
                " (placement_id, kind, operator, network, main_grid, synthetic)"
                " SELECT id, 'base_station', 'nobody_at_all', '', false, false FROM p"
            )
        )
    engine.dispose()
    assert run(*key, "--operator", "nobody_at_all")[::2] == (0, "")


def test_the_commands_change_passwords_lock_and_unlock(
    shell: Callable[..., str], client: httpx.Client
) -> None:

    made = json.loads(shell("add", "changed", "--role", "viewer"))
    token = bearer(get_token(client, made))
    key = {"X-API-Key": made["api_key"]}
    shell("password", "changed", stdin="too short\n", code=1)
    shell("password", "changed", stdin="correct horse battery\n")
    assert refused_after_s([client], token) < AT_ONCE_S
    assert client.get("/v1/session", headers=key).status_code == 200, "keys go on"
    assert get_token(client, made | {"password": "correct horse battery"})
    drawn = shell("password", "changed", "--random").strip()
    token = bearer(get_token(client, made | {"password": drawn}))
    shell("lock", "changed")
    assert refused_after_s([client], key) < AT_ONCE_S
    shell("unlock", "changed")
    time.sleep(AT_ONCE_S)
    assert client.get("/v1/session", headers=key).status_code == 200
    assert_problem(client.get("/v1/session", headers=token), 401)
    listed = {one["username"]: one for one in json.loads(shell("list"))}
    assert listed["changed"]["locked"] is False
