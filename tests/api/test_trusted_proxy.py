"""Whose word on the caller's address is taken: only that of the proxies that were set."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from data.accounts import first_run
from data.cluster import Cluster
from data.database import owner_engine
from data.settings import ServerSettings, WrongSetting
from data.sign_in_limit import PAIR_FAILURES
from tests.api.test_kill_writers import Server
from tests.conftest import drop_database

#: Of the loopback network: the machine connects from either, so they stand for two machines.
PROXY, OTHER = "127.0.0.2", "127.0.0.3"


@pytest.mark.parametrize(
    ("said", "trusted", "not_trusted"),
    [
        ("127.0.0.1", ["127.0.0.1/32", "::ffff:127.0.0.1/128"], "127.0.0.2/32"),
        (" 10.1.2.3 , fd00::/64 ", ["10.1.2.3/32", "fd00::/64"], "127.0.0.1/32"),
        ("172.30.99.0/29", ["172.30.99.0/29", "::ffff:172.30.99.0/125"], "127.0.0.1/32"),
    ],
)
def test_proxies_are_addresses_or_networks(
    monkeypatch: pytest.MonkeyPatch, said: str, trusted: list[str], not_trusted: str
) -> None:
    monkeypatch.setenv("YUTU_TRUSTED_PROXIES", said)
    found = {ipaddress.ip_network(one) for one in ServerSettings.load().proxies}
    assert {ipaddress.ip_network(one) for one in trusted} <= found
    assert ipaddress.ip_network(not_trusted) not in found


def test_none_trusts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YUTU_TRUSTED_PROXIES", "none")
    assert ServerSettings.load().proxies == []


@pytest.mark.parametrize("said", ["*", "proxy.example", "10.0.0.1/8", "127.0.0.1,", "10.0.0.300"])
def test_everybody_or_a_name_is_refused(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("YUTU_TRUSTED_PROXIES", said)
    with pytest.raises(WrongSetting, match="YUTU_TRUSTED_PROXIES"):
        ServerSettings.load()


@pytest.fixture(scope="module")
def owner(
    cluster: Cluster, make_database: Callable[[str | None], str], divided_template: str
) -> Iterator[Engine]:
    url = make_database(divided_template)
    engine = owner_engine(url)
    yield engine
    engine.dispose()
    drop_database(cluster, url)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("proxied")


@pytest.fixture(scope="module")
def server(owner: Engine, folder: Path) -> Iterator[str]:
    """`yutu serve` behind a proxy at PROXY; what uvicorn reads by itself says something else."""
    assert first_run(owner, folder / "credentials.json")
    told: dict[str, Any] = json.loads((folder / "credentials.json").read_text())
    os.environ["YUTU_TEST_PASSWORD"] = told["viewer"]["password"]
    os.environ["YUTU_TEST_KEY"] = told["viewer"]["api_key"]
    one = Server(owner.url.render_as_string(hide_password=False), folder / "log")
    one._environment |= {
        "YUTU_WORKERS": "2",
        "YUTU_TRUSTED_PROXIES": PROXY,
        "FORWARDED_ALLOW_IPS": "*",
    }
    one.start()
    try:
        one.wait_ready()
        yield one.url
    finally:
        one.kill()
        del os.environ["YUTU_TEST_PASSWORD"], os.environ["YUTU_TEST_KEY"]


def at(address: str, url: str) -> httpx.Client:
    """A client that connects from that address of this machine."""
    return httpx.Client(
        base_url=url, transport=httpx.HTTPTransport(local_address=address), timeout=30
    )


def sign_in(client: httpx.Client, forwarded: str, password: str = "not this one") -> int:
    form = {"username": "viewer", "password": password}
    return client.post("/v1/token", data=form, headers={"X-Forwarded-For": forwarded}).status_code


def forget(owner: Engine) -> None:
    with owner.begin() as connection:
        connection.execute(text("DELETE FROM sign_in_limit"))


def test_the_address_that_the_trusted_proxy_tells_is_the_callers(
    server: str, owner: Engine
) -> None:
    forget(owner)
    with at(PROXY, server) as proxy:
        for _ in range(PAIR_FAILURES):
            assert sign_in(proxy, "203.0.113.7") == 401
        assert sign_in(proxy, "203.0.113.7") == 429
        # another caller behind the same proxy is another one
        assert sign_in(proxy, "203.0.113.8") == 401
        # what the caller wrote before the proxy's own word counts for nothing
        assert sign_in(proxy, "198.51.100.1, 203.0.113.7") == 429


def test_nobody_else_can_say_who_is_calling(server: str, owner: Engine) -> None:
    forget(owner)
    with at(OTHER, server) as other:
        answers = [sign_in(other, f"203.0.113.{n}") for n in range(PAIR_FAILURES + 1)]
        assert answers == [401] * PAIR_FAILURES + [429]
    with at(PROXY, server) as proxy:  # and the proxy's callers are not held off by it
        assert sign_in(proxy, "203.0.113.99", os.environ["YUTU_TEST_PASSWORD"]) == 200


def test_https_is_believed_of_the_proxy_alone(server: str) -> None:
    said = {"X-Forwarded-Proto": "https", "Host": "yutu.example"}
    with at(PROXY, server) as proxy, at(OTHER, server) as other:
        believed, ignored = (one.get("/login", headers=said) for one in (proxy, other))
    assert "; Secure" in believed.headers["set-cookie"]
    assert "max-age" in believed.headers["strict-transport-security"]
    assert "; Secure" not in ignored.headers["set-cookie"]
    assert "strict-transport-security" not in ignored.headers


def test_every_line_the_service_logs_is_one_json_object_with_time_and_level(
    server: str, folder: Path
) -> None:
    with at(PROXY, server) as proxy:
        secret = "yutu_" + "k" * 43
        proxy.get(f"/v1/incidents?key={secret}", headers={"X-API-Key": secret})
    deadline = time.monotonic() + 10
    while '"status":401' not in (written := (folder / "log").read_text(encoding="utf-8")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    lines = [line for line in written.splitlines() if "Yutu serves" not in line]  # on stdout
    assert len(lines) >= 5
    for line in lines:
        entry = json.loads(line)
        assert entry["level"] in {"debug", "info", "warning", "error"}
        assert datetime.fromisoformat(entry["timestamp"]).utcoffset() is not None
        assert entry["event"]
        assert entry["logger"]
    assert secret not in written


def test_metrics_are_of_both_processes_whoever_answers(server: str) -> None:
    key = {"X-API-Key": os.environ["YUTU_TEST_KEY"]}
    deadline = time.monotonic() + 30
    while True:  # until the second has come up too
        shown = httpx.get(f"{server}/metrics", headers=key, timeout=30).text
        most = re.search(r'^yutu_pool_most\{pool="requests"\} (\S+)$', shown, re.MULTILINE)
        if most is not None and float(most[1]) == 30:
            break
        assert time.monotonic() < deadline, shown
        time.sleep(0.2)
    assert "\nyutu_database_up 1.0\n" in shown
    assert shown.count("# HELP yutu_requests_total ") == 1
