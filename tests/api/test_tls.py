"""TLS=1: a CA of this installation, and requests that only those who trust it can make."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from api.local_ca import Certificates, ca_der, ensure_certificates, lan_addresses, machine_names
from data.settings import ServerSettings
from geo.errors import InvalidInput, Unavailable
from tests.api.conftest import assert_problem
from tests.api.test_cli import ROOT, environment, free_port, yutu

NAMES = ["localhost", "127.0.0.1", "::1", "yutu.example"]


def trusting(ca: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


def valid_days(made: Certificates) -> float:
    asked = ["openssl", "x509", "-in", str(made.server), "-noout", "-enddate"]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    return (ssl.cert_time_to_seconds(said.strip().partition("=")[2]) - time.time()) / 86_400


def test_the_authority_is_made_once_and_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    first = ensure_certificates(folder, NAMES)
    before = first.server.read_bytes()
    again = ensure_certificates(folder, reversed(NAMES))
    assert (again.fingerprint, again.server.read_bytes()) == (first.fingerprint, before)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {one.name: one.stat().st_mode & 0o777 for one in folder.glob("*.pem")} == {
        "ca.pem": 0o600,
        "server.pem": 0o600,
    }
    assert b"PRIVATE" not in first.ca.read_bytes()
    assert 390 < valid_days(first) < 398


@pytest.mark.parametrize(
    "names", [[*NAMES, "192.0.2.7"], NAMES[:3], ["yutu.example"]], ids=["more", "fewer", "one"]
)
def test_other_names_renew_the_server_and_never_the_authority(
    tmp_path: Path, names: list[str]
) -> None:
    first = ensure_certificates(tmp_path, NAMES)
    before = first.server.read_bytes()
    renewed = ensure_certificates(tmp_path, names)
    assert renewed.fingerprint == first.fingerprint
    assert renewed.server.read_bytes() != before
    assert renewed.names == tuple(sorted(names))


def test_a_certificate_near_its_end_is_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.local_ca.SERVER_DAYS", 29)
    short = ensure_certificates(tmp_path, NAMES)
    assert valid_days(short) < 30
    monkeypatch.undo()
    assert valid_days(ensure_certificates(tmp_path, NAMES)) > 390


@pytest.mark.parametrize("damage", ["", "-----BEGIN CERTIFICATE-----\nAAAA\n", "open"])
def test_a_damaged_or_readable_server_file_is_replaced(tmp_path: Path, damage: str) -> None:
    made = ensure_certificates(tmp_path, NAMES)
    if damage == "open":
        made.server.chmod(0o644)
    else:
        made.server.write_text(damage)
    mended = ensure_certificates(tmp_path, NAMES)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(mended.server)
    assert mended.server.stat().st_mode & 0o777 == 0o600


def test_a_damaged_authority_is_said_and_never_silently_replaced(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, NAMES)
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(Unavailable, match="no certificate"):
        ensure_certificates(tmp_path, NAMES)
    assert (tmp_path / "ca.pem").read_text() == "nothing"


@pytest.mark.parametrize("name", ["a b", "x\n[y]", "DNS:x,IP:1.2.3.4", "-x", "999.1.1.1/8", "主机"])
def test_what_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        ensure_certificates(tmp_path, [*NAMES, name])
    assert refused.value.faults[0].field == "YUTU_TLS_NAMES"


def test_without_openssl_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="apt-get install openssl"):
        ensure_certificates(tmp_path / "tls", NAMES)


def test_the_machine_knows_its_names_and_addresses() -> None:
    names = machine_names(["yutu.example"])
    assert {"localhost", "127.0.0.1", "::1", "yutu.example"} <= set(names)
    for address in lan_addresses():
        assert not address.startswith("127.")
        with socket.socket() as one:
            one.bind((address, 0))  # fails for an address that is not ours


def test_tls_listens_for_phones_and_plain_http_for_this_machine_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ServerSettings.load().host == "127.0.0.1"
    monkeypatch.setenv("TLS", "1")
    assert ServerSettings.load().host == "0.0.0.0"
    monkeypatch.setenv("YUTU_HOST", "127.0.0.1")
    assert ServerSettings.load().host == "127.0.0.1"


def test_without_tls_there_is_no_authority_to_fetch(client: httpx.Client) -> None:
    answer = client.get("/ca.crt")
    assert_problem(answer, 404)
    assert "strict-transport-security" not in answer.headers


def test_a_phone_that_trusts_the_authority_is_served_and_others_are_not(
    short_folder: Path,
) -> None:
    port = free_port()
    own = environment(short_folder, PORT=str(port), TLS="1", YUTU_TLS_NAMES="yutu.example")
    with (short_folder / "err").open("wb") as err, (short_folder / "out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "run"], cwd=ROOT, env=own, stdout=out, stderr=err
        )
    ca = short_folder / "tls" / "ca.crt"
    try:
        deadline = time.monotonic() + 90
        while True:
            assert process.poll() is None, (short_folder / "err").read_text()[-2000:]
            assert time.monotonic() < deadline
            try:
                context = trusting(ca)
                if httpx.get(f"https://localhost:{port}/ready", verify=context).is_success:
                    break
            except (httpx.TransportError, OSError):
                time.sleep(0.2)
        for host in ["localhost", "127.0.0.1", *lan_addresses()]:
            assert httpx.get(f"https://{host}:{port}/health", verify=context).is_success
        with pytest.raises(httpx.ConnectError, match="verify failed"):
            httpx.get(f"https://localhost:{port}/health")
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/health")
        fetched = httpx.get(f"https://localhost:{port}/ca.crt", verify=False)
        assert fetched.content == ca_der(ca)
        assert fetched.headers["content-type"] == "application/x-x509-ca-cert"
        told = (short_folder / "out").read_text()
        assert ensure_certificates(ca.parent, machine_names(["yutu.example"])).fingerprint in told
        assert f"https://yutu.example:{port}/field" in told
        accounts = json.loads((short_folder / "credentials.json").read_text())
        _sign_in(port, context, accounts["viewer"])
        named = httpx.get(
            f"https://localhost:{port}/health", verify=context, headers={"Host": "yutu.example"}
        )
        assert named.headers["strict-transport-security"].startswith("max-age=")
        here = httpx.get(f"https://localhost:{port}/health", verify=context)
        assert "strict-transport-security" not in here.headers
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
            yutu("db", "stop", var=short_folder)


def _sign_in(port: int, context: ssl.SSLContext, account: dict[str, str]) -> None:
    """By the page, as a phone does: every cookie is kept to HTTPS."""
    with httpx.Client(base_url=f"https://localhost:{port}", verify=context) as phone:
        page = phone.get("/login")
        csrf = page.text.partition('name="csrf" value="')[2].partition('"')[0]
        form = {"username": account["username"], "password": account["password"], "csrf": csrf}
        answer = phone.post("/login", data=form)
        assert answer.status_code == 303, answer.text
        made = [*page.headers.get_list("set-cookie"), *answer.headers.get_list("set-cookie")]
        cookies = [one for one in made if "Max-Age=0" not in one]  # that takes one back
        assert len(cookies) == 2
        assert all("; Secure" in one and "; HttpOnly" in one for one in cookies)
        assert phone.get("/v1/session").json()["username"] == account["username"]


def test_a_wrong_name_stops_the_start_with_the_variable(short_folder: Path) -> None:
    ended = yutu("run", var=short_folder, PORT=str(free_port()), TLS="1", YUTU_TLS_NAMES="a b")
    assert ended.returncode == 1
    assert "YUTU_TLS_NAMES" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (short_folder / "tls" / "server.pem").exists()
