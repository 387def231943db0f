"""The proxy of the containers: TLS only, limits that fit the API's own, one trusted address."""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.policy import POLICY
from api.serving import KEEP_ALIVE_S
from data.settings import ServerSettings
from tests.nginx_config import Block, read

DOCKER = Path(__file__).resolve().parents[1] / "docker"
UNITS = {"": 1, "k": 2**10, "m": 2**20}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


@pytest.fixture(scope="module")
def http() -> Block:
    (found,) = read(DOCKER / "nginx.conf").find("http")
    return found


@pytest.fixture(scope="module")
def tls(http: Block) -> Block:
    (found,) = [one for one in http.find("server") if one.one("listen").startswith("8443 ssl")]
    return found


def size(said: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([km]?)", said).groups()  # type: ignore[union-attr]
    return int(number) * UNITS[unit]


def seconds(said: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([smhd])", said).groups()  # type: ignore[union-attr]
    return int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


def test_only_the_proxy_is_published_and_the_api_believes_it_alone(
    compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    services = compose["services"]
    assert [name for name, one in services.items() if "ports" in one] == ["proxy"]
    address = services["proxy"]["networks"]["front"]["ipv4_address"]
    trusted = services["api"]["environment"]["YUTU_TRUSTED_PROXIES"]
    assert trusted == address
    monkeypatch.setenv("YUTU_TRUSTED_PROXIES", trusted)
    networks = {ipaddress.ip_network(one) for one in ServerSettings.load().proxies}
    assert networks == {
        ipaddress.ip_network(f"{address}/32"),
        ipaddress.ip_network(f"::ffff:{address}/128"),
    }
    (front,) = compose["networks"]["front"]["ipam"]["config"]
    for name in ("proxy", "api"):
        own = services[name]["networks"]["front"]["ipv4_address"]
        assert ipaddress.ip_address(own) in ipaddress.ip_network(front["subnet"])
        assert own != front["gateway"]  # where connections published by the host come from
    assert "front" not in services["db"]["networks"]
    assert "inside" not in services["proxy"]["networks"]


def test_the_published_ports_are_those_the_proxy_listens_on(
    compose: dict[str, Any], http: Block
) -> None:
    published = {port.rsplit(":", 1)[1] for port in compose["services"]["proxy"]["ports"]}
    assert {server.one("listen").split()[0] for server in http.find("server")} == published


def test_every_body_the_policy_allows_passes_and_no_larger_one(tls: Block) -> None:
    default = size(tls.one("client_max_body_size"))
    most: dict[int, int] = {}
    for row in POLICY:
        if row.safe:
            continue
        path = re.sub(r"\{[^}]*\}", "x", row.path)
        said = tls.location_of(path).all("client_max_body_size")
        limit = size(said[0][0]) if said else default
        assert row.body_bytes_max <= limit, f"{row.method} {row.path} is cut by the proxy"
        most[limit] = max(most.get(limit, 0), row.body_bytes_max)
    assert all(limit == largest for limit, largest in most.items()), most


def test_slow_senders_many_requests_and_many_connections_have_limits(
    http: Block, tls: Block
) -> None:
    assert seconds(http.one("client_header_timeout")) <= 15
    assert seconds(http.one("client_body_timeout")) <= 30
    assert seconds(http.one("send_timeout")) <= 60
    assert http.one("large_client_header_buffers") == "4 8k"
    zones = {
        word.split("=")[1].split(":")[0]
        for kind in ("limit_req_zone", "limit_conn_zone")
        for one in http.all(kind)
        for word in one
        if word.startswith("zone=")
    }
    assert zones == {"connections", "requests", "sign_ins"}
    assert tls.one("limit_conn").split()[0] == "connections"
    assert "zone=requests" in tls.one("limit_req")
    for path in ("/login", "/v1/token"):
        assert "zone=sign_ins" in tls.location_of(path).one("limit_req")
    assert http.one("limit_req_status") == http.one("limit_conn_status") == "429"


def test_what_a_caller_writes_about_itself_does_not_reach_the_api(tls: Block) -> None:
    headers = {one[0]: " ".join(one[1:]) for one in tls.all("proxy_set_header")}
    assert headers["X-Forwarded-For"] == "$remote_addr"  # not what came, with ours after it
    assert headers["X-Forwarded-Proto"] == "https"
    assert headers["X-Real-IP"] == headers["Forwarded"] == '""'
    # a location with headers of its own would lose these
    assert not [one for one in tls.find("location") if one.all("proxy_set_header")]


def test_tls_is_new_and_certificates_are_secrets(tls: Block, http: Block) -> None:
    assert http.one("ssl_protocols") == "TLSv1.2 TLSv1.3"
    assert all(c.startswith("ECDHE-") for c in http.one("ssl_ciphers").split(":"))
    assert tls.one("ssl_certificate") == "/run/secrets/tls_certificate"
    assert tls.one("ssl_certificate_key") == "/run/secrets/tls_key"
    assert "max-age=31536000" in tls.one("add_header")


def test_plain_http_answers_no_program_and_passes_nothing_on(http: Block) -> None:
    (plain,) = [one for one in http.find("server") if one.one("listen").startswith("8080")]
    assert not [one for one in plain.find("location") if one.all("proxy_pass")]
    for path in ("/v1/token", "/ogc/collections", "/tiles/facilities/1/1/1.mvt", "/metrics"):
        assert plain.location_of(path).one("return").startswith("426")
    assert plain.location_of("/planner").one("return") == "308 https://$host$request_uri"


def test_the_stream_is_not_held_back_and_a_write_is_not_sent_twice(tls: Block) -> None:
    stream = tls.location_of("/v1/situation/stream")
    assert stream.one("proxy_buffering") == "off"
    assert seconds(stream.one("proxy_read_timeout")) >= 3600
    assert tls.one("proxy_next_upstream") == "off"


def test_connections_kept_to_the_api_end_before_the_api_ends_them(http: Block) -> None:
    (upstream,) = http.find("upstream", "yutu")
    assert upstream.one("server") == "api:8000"
    assert seconds(upstream.one("keepalive_timeout")) < KEEP_ALIVE_S


def test_the_proxys_own_refusals_are_problems(tls: Block) -> None:
    told = {}
    for *codes, name in tls.all("error_page"):
        (place,) = [one for one in tls.find("location") if one.arguments == [name]]
        assert place.one("default_type") == "application/problem+json"
        (status, body), *_ = place.all("return")
        problem = json.loads(body.strip("'"))
        assert problem["status"] == int(status)
        assert problem["type"].startswith("urn:yutu:problem:")
        given = [code for code in codes if not code.startswith("=")]
        # nginx answers the code it had, whatever the place returns, unless another is named
        assert codes[len(given) :] == ([] if status in given else [f"={status}"])
        told |= dict.fromkeys(given, int(status))
    assert told == {"400": 400, "408": 408, "413": 413, "429": 429, "502": 503, "504": 503}


def test_the_proxys_log_holds_no_path_and_no_query(http: Block) -> None:
    said = http.one("log_format")
    assert not re.search(r"\$(request\b|request_uri|uri|args|query_string|http_)", said)
    assert json.loads(re.sub(r"\$\w+", "1", "".join(re.findall(r"'([^']*)'", said))))


def test_a_configuration_that_is_none_is_refused(tmp_path: Path) -> None:
    for text in ("http {", "a b", "};", "x 'y"):
        (tmp_path / "bad.conf").write_text(text)
        with pytest.raises(ValueError, match=r"."):
            read(tmp_path / "bad.conf")
