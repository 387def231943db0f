"""nginx, promtool and systemd-analyze take our files, and the proxy does what its file says.

The programs are unpacked beside the test when they are not installed: nothing is started on the machine
that was not there before.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.local_ca import ensure_certificates

pytestmark = pytest.mark.interop
DOCKER = Path(__file__).resolve().parents[2] / "docker"
FAST = {"client_header_timeout 10s": "client_header_timeout 1s"}


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Debian's nginx and Prometheus in it, not installed."""
    folder = tmp_path_factory.mktemp("programs")
    folder.chmod(0o777)
    fetch = ["apt-get", "download", "-q", "nginx", "prometheus"]
    subprocess.run(fetch, cwd=folder, check=True, capture_output=True)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, folder / "root"], check=True)
    return folder / "root"


def program(name: str, unpacked: Path) -> str:
    return shutil.which(name) or next(str(p) for p in unpacked.rglob(name) if p.is_file())


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def test_promtool_takes_the_alert_rules(unpacked: Path) -> None:
    tool = [program("promtool", unpacked), "check", "rules", "--lint-fatal"]
    done = subprocess.run(
        [*tool, DOCKER / "alerts.yaml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules found" in done.stdout


@pytest.mark.parametrize("unit", ["yutu.service", "yutu-backup.timer", "yutu-files.timer"])
def test_systemd_takes_the_units(unit: str, tmp_path: Path) -> None:
    for path in (DOCKER / "systemd").iterdir():
        said = path.read_text(encoding="utf-8")
        said = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", said, flags=re.MULTILINE)
        said = re.sub(r"^(WorkingDirectory)=.*", r"\1=/tmp", said, flags=re.MULTILINE)
        (tmp_path / path.name).write_text(said, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", f"./{unit}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unit", ["yutu.service", "yutu-backup.service", "yutu-files.service"])
def test_systemd_finds_little_exposed(unit: str) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", f"./{unit}"],
        cwd=DOCKER / "systemd",
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None, done.stdout + done.stderr
    assert float(found[1]) <= 2.0, done.stdout


class Api(http.server.BaseHTTPRequestHandler):
    """What stands behind the proxy: tells the headers it got."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/v1/situation/stream":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            for n in range(2):
                self.wfile.write(f"data: {n}\n\n".encode())
                self.wfile.flush()
                time.sleep(1.5)
            self.close_connection = True
            return
        self._tell()

    def do_POST(self) -> None:
        left = int(self.headers.get("Content-Length", 0))
        while left > 0:
            left -= len(self.rfile.read(min(left, 1 << 20)))
        self._tell()

    def _tell(self) -> None:
        body = json.dumps(dict(self.headers.items())).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Strict-Transport-Security", "max-age=604800")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def proxy(
    unpacked: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, int, Path]]:
    """The proxy on ports of this machine, before an API that echoes; TLS port, plain port, CA."""
    folder = tmp_path_factory.mktemp("proxy")
    made = ensure_certificates(folder / "tls", ["localhost", "127.0.0.1"])
    api = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=api.serve_forever, daemon=True).start()
    tls, plain = free_port(), free_port()
    said = (DOCKER / "nginx.conf").read_text(encoding="utf-8")
    changed = {
        **FAST,
        "/tmp/": f"{folder}/",
        "/run/secrets/tls_certificate": str(made.server),
        "/run/secrets/tls_key": str(made.server),
        "server api:8000": f"server 127.0.0.1:{api.server_address[1]}",
        "listen 8443": f"listen 127.0.0.1:{tls}",
        "listen 8080": f"listen 127.0.0.1:{plain}",
        "/dev/stderr": f"{folder}/error.log",
        "/dev/stdout": f"{folder}/access.log",
        "    http2 on;\n": "",  # Debian 12's nginx has another word for it
    }
    for before, after in changed.items():
        assert before in said or before in "    http2 on;\n", before
        said = said.replace(before, after)
    config = folder / "nginx.conf"
    own = "user root;\n" if os.geteuid() == 0 else ""  # the folder is of whoever runs this
    config.write_text(f"daemon off;\n{own}{said}", encoding="utf-8")
    nginx = [program("nginx", unpacked), "-c", str(config), "-p", str(folder), "-e", "stderr"]
    tested = subprocess.run([*nginx, "-t"], capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stderr
    running = subprocess.Popen(nginx, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while socket.socket().connect_ex(("127.0.0.1", tls)):
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield tls, plain, made.ca
    finally:
        running.terminate()
        running.wait(10)
        api.shutdown()


@pytest.fixture
def client(proxy: tuple[int, int, Path]) -> Iterator[httpx.Client]:
    context = ssl.create_default_context(cafile=str(proxy[2]))
    with httpx.Client(base_url=f"https://localhost:{proxy[0]}", verify=context, timeout=30) as one:
        yield one


def test_the_api_hears_the_address_from_the_proxy_and_nothing_from_the_caller(
    client: httpx.Client,
) -> None:
    claimed = {
        "X-Forwarded-For": "198.51.100.1",
        "X-Forwarded-Proto": "http",
        "X-Real-IP": "198.51.100.1",
        "Forwarded": "for=198.51.100.1",
    }
    answer = client.get("/v1/session", headers=claimed)
    heard = {name.lower(): value for name, value in answer.json().items()}
    assert heard["x-forwarded-for"] == "127.0.0.1"
    assert heard["x-forwarded-proto"] == "https"
    assert not {"x-real-ip", "forwarded"} & heard.keys()
    assert heard["host"] == f"localhost:{client.base_url.port}"
    hsts = answer.headers.get_list("strict-transport-security")
    assert hsts == ["max-age=31536000; includeSubDomains"]


def test_bodies_beyond_the_limit_of_their_route_are_refused_as_a_problem(
    client: httpx.Client,
) -> None:
    mib = bytes(2**20)
    assert client.post("/v1/status", content=mib * 50).status_code == 200
    assert client.post("/v1/facilities/import", content=mib * 60).status_code == 200
    for path, body in (("/v1/status", mib * 51), ("/login", bytes(65 * 1024))):
        refused = client.post(path, content=body)
        assert refused.status_code == 413
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["type"] == "urn:yutu:problem:too-large"


def test_events_come_as_they_are_sent(client: httpx.Client) -> None:
    started = time.monotonic()
    with client.stream("GET", "/v1/situation/stream") as answer:
        first = next(answer.iter_text())
    assert first.startswith("data: 0")
    assert time.monotonic() - started < 1.4


def test_who_sends_its_headers_slowly_is_cut_off(proxy: tuple[int, int, Path]) -> None:
    context = ssl.create_default_context(cafile=str(proxy[2]))
    with (
        socket.create_connection(("127.0.0.1", proxy[0]), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as line,
    ):
        started = time.monotonic()
        line.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        while line.recv(4096):
            pass
        assert time.monotonic() - started < 5


def test_old_tls_is_refused(proxy: tuple[int, int, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(("127.0.0.1", proxy[0]), timeout=10) as raw,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(raw, server_hostname="localhost")


def test_plain_http_leads_people_over_and_stops_programs(proxy: tuple[int, int, Path]) -> None:
    plain = f"http://127.0.0.1:{proxy[1]}"
    led = httpx.get(f"{plain}/planner?a=1")
    assert (led.status_code, led.headers["location"]) == (308, "https://127.0.0.1/planner?a=1")
    stopped = httpx.post(f"{plain}/v1/status", headers={"X-API-Key": "k"}, content=b"[]")
    assert stopped.status_code == 426
    assert stopped.json()["status"] == 426


def test_too_many_sign_ins_of_one_address_are_held_off(client: httpx.Client) -> None:
    answers = [client.post("/v1/token", content=b"a=b") for _ in range(80)]
    held = [one for one in answers if one.status_code == 429]
    assert 5 <= len(held) <= 20
    assert held[0].headers["retry-after"] == "1"
    assert held[0].json()["status"] == 429
    assert client.get("/v1/session").status_code == 200


def test_an_api_that_is_away_is_a_503_with_retry_after(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Api, "do_GET", lambda self: self.connection.shutdown(socket.SHUT_RDWR))
    away = client.get("/v1/plans")
    assert away.status_code == 503
    assert away.headers["retry-after"] == "2"
    assert away.json()["type"] == "urn:yutu:problem:temporarily-unavailable"
