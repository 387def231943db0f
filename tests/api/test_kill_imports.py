"""Files of incidents while the server is killed, and uploads that break off: all of a file or none."""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import numpy as np
import pytest
from sqlalchemy import Engine, text

from data.accounts import first_run
from data.database import owner_engine
from data.verify import verify
from tests.api.test_kill_writers import Server

PATH = "/v1/incidents/import"
SENDERS = 3
KILLS = 6
LASTS_S_MAX = 60.0
KINDS = ("电梯", "塔吊", "锅炉", "叉车")
HEAD = "事件编号,事发时间,设备类型,预案,经度,纬度,死亡人数\n"


def file_of(rng: np.random.Generator, kind: str, rows: int) -> tuple[bytes, list[str]]:
    """A CSV of so many incidents, and their ids."""
    ids = [str(uuid4()) for _ in range(rows)]
    lons, lats = rng.uniform(106.2, 106.8, rows), rng.uniform(29.3, 29.8, rows)
    lines = [
        f"{one},2026-11-21 08:30,{kind},特种设备,{lon:.6f},{lat:.6f},0\n"
        for one, lon, lat in zip(ids, lons, lats, strict=True)
    ]
    return (HEAD + "".join(lines)).encode(), ids


class Sender(threading.Thread):
    """Sends file after file, each again until it is acknowledged."""

    def __init__(self, number: int, url: str, key: str, ended: threading.Event) -> None:
        super().__init__(name=f"sender-{number}")
        self._rng = np.random.default_rng(number)
        self._kind = KINDS[number % len(KINDS)]
        self._url, self._key, self._ended = url, key, ended
        self.sent: list[list[str]] = []
        self.acknowledged: list[list[str]] = []
        self.bodies: list[bytes] = []
        self.failures = self.repeated = 0
        self.fault: str | None = None

    def run(self) -> None:
        with httpx.Client(base_url=self._url, headers={"X-API-Key": self._key}) as client:
            while not self._ended.is_set() and self.fault is None:
                body, ids = file_of(self._rng, self._kind, int(self._rng.integers(50, 600)))
                self.sent.append(ids)
                self._deliver(client, body, ids)

    def _deliver(self, client: httpx.Client, body: bytes, ids: list[str]) -> None:
        gives_up_at = time.monotonic() + LASTS_S_MAX
        while time.monotonic() < gives_up_at:
            try:
                answer = client.post(PATH, files={"file": ("rows.csv", body)}, timeout=20)
            except httpx.TransportError:
                self.failures += 1
                time.sleep(0.1)
                continue
            if answer.status_code == 503:
                self.failures += 1
                time.sleep(0.2)
                continue
            if answer.status_code != 200:
                self.fault = f"{answer.status_code} {answer.text[:300]}"
                return
            told = answer.json()
            whole = (told["accepted"], told["duplicates"])
            if whole not in ((len(ids), 0), (0, len(ids))):
                self.fault = f"a part of a file: {whole} of {len(ids)}"
            self.repeated += whole[0] == 0
            self.acknowledged.append(ids)
            self.bodies.append(body)
            return
        self.fault = "never acknowledged"


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the servers of a test keep their files in passing."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.fixture
def prepared(divided_database_url: str, tmp_path: Path) -> Iterator[tuple[Engine, str]]:
    """The owner's engine, over districts alone, and the commander's key."""
    owner = owner_engine(divided_database_url)
    path = tmp_path / "credentials.json"
    assert first_run(owner, path)
    yield owner, json.loads(path.read_text())["commander"]["api_key"]
    owner.dispose()


def stored_ids(owner: Engine) -> set[str]:
    with owner.connect() as connection:
        found = connection.execute(text("SELECT incident_id FROM incident")).scalars()
        return {str(UUID(str(one))) for one in found}


def leftovers(scratch: Path) -> list[str]:
    return [one.name for one in scratch.iterdir() if one.name.startswith(("yutu-import", "yutu-p"))]


def test_a_file_is_whole_or_absent_when_the_server_is_killed(
    prepared: tuple[Engine, str], divided_database_url: str, tmp_path: Path, scratch: Path
) -> None:
    owner, key = prepared
    server = Server(divided_database_url, tmp_path / "server.log")
    server.start()
    try:
        server.wait_ready()
        ended = threading.Event()
        senders = [Sender(number, server.url, key, ended) for number in range(SENDERS)]
        for sender in senders:
            sender.start()
        rng = np.random.default_rng(5)
        for kills in range(KILLS):
            before = sum(len(one.acknowledged) for one in senders)
            waited_until = time.monotonic() + LASTS_S_MAX
            while sum(len(one.acknowledged) for one in senders) < before + SENDERS:
                assert time.monotonic() < waited_until, "nothing is taken any more"
                time.sleep(0.02)
            time.sleep(float(rng.uniform(0, 0.4)))  # somewhere in the middle of the next files
            if kills % 3:
                server.kill_worker()
            else:
                server.kill()
                server.start()
        ended.set()
        for sender in senders:
            sender.join(90)
        assert [one.fault for one in senders if one.fault] == []
        assert not any(one.is_alive() for one in senders)
        held = stored_ids(owner)
        server.kill()
        partly = [len(held & set(ids)) for one in senders for ids in one.sent if held & set(ids)]
        whole = [len(ids) for one in senders for ids in one.sent if held & set(ids)]
        assert partly == whole, "of each file all rows or none"
        server.start()
        server.wait_ready()
        for sender in senders:
            for body, ids in zip(sender.bodies[-3:], sender.acknowledged[-3:], strict=True):
                answer = httpx.post(
                    server.url + PATH,
                    files={"file": ("rows.csv", body)},
                    headers={"X-API-Key": key},
                    timeout=30,
                )
                told = answer.json()
                assert (told["accepted"], told["duplicates"]) == (0, len(ids))
        assert leftovers(scratch) == [], "what killed processes left is swept at the start"
    finally:
        server.kill()
    acknowledged = {each for one in senders for ids in one.acknowledged for each in ids}
    assert acknowledged <= held, "every 2xx is present"
    assert stored_ids(owner) == held
    assert sum(one.failures for one in senders) > 0
    assert all(len(one.acknowledged) >= 2 for one in senders)
    report = verify(owner, deep=True)
    assert report.clean, "\n".join(report.lines())
    print(
        f"{sum(len(one.acknowledged) for one in senders)} files and {len(acknowledged)} incidents"
        f" acknowledged, {KILLS} kills, {sum(one.failures for one in senders)} attempts failed,"
        f" {sum(one.repeated for one in senders)} files were stored before their answer was lost"
    )


def test_an_upload_that_breaks_off_stores_nothing(
    prepared: tuple[Engine, str],
    divided_database_url: str,
    tmp_path: Path,
    scratch: Path,
) -> None:
    owner, key = prepared
    log = tmp_path / "server.log"
    server = Server(divided_database_url, log)
    server.start()
    try:
        server.wait_ready()
        csv, ids = file_of(np.random.default_rng(1), "电梯", 3_000)
        body = (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
            + csv
            + b'\r\n--b\r\nContent-Disposition: form-data; name="partial"\r\n\r\ntrue\r\n--b--\r\n'
        )
        for tenth, length_said in itertools.product(range(10), (True, False)):
            cut = body[: len(body) * tenth // 10]
            head = (
                f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Key: {key}\r\n"
                "Content-Type: multipart/form-data; boundary=b\r\n"
            )
            if length_said:
                head += f"Content-Length: {len(body)}\r\n\r\n"
            else:
                head += "Transfer-Encoding: chunked\r\n\r\n"
                cut = b"".join(
                    b"%x\r\n%s\r\n" % (len(part), part)
                    for part in (cut[i : i + 8192] for i in range(0, len(cut), 8192))
                )
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
                connection.sendall(head.encode() + cut)
                if tenth % 2:  # half of them hang up hard
                    linger = (1).to_bytes(4, "little") + bytes(4)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                else:
                    connection.shutdown(socket.SHUT_WR)
                    with contextlib.suppress(OSError):
                        assert b" 200 " not in connection.recv(65536)
        deadline = time.monotonic() + 10
        while leftovers(scratch):
            assert time.monotonic() < deadline, leftovers(scratch)
            time.sleep(0.05)
        with owner.connect() as connection_:
            assert connection_.execute(text("SELECT count(*) FROM incident")).scalar_one() == 0
            channels = connection_.execute(text("SELECT channel FROM batch")).scalars().all()
        assert "incident_file" not in channels
        told = log.read_text(encoding="utf-8")
        assert "/v1/incidents/import" in told, "it was asked and noted down"
        assert "500" not in {
            line.partition('"status":')[2][:4].strip(" ,}") for line in told.splitlines()
        }
        assert "internal error" not in told
        assert "Traceback" not in told
        answer = httpx.post(
            server.url + PATH,
            content=body,
            headers={
                "X-API-Key": key,
                "Content-Type": "multipart/form-data; boundary=b",
            },
            timeout=30,
        )
        assert answer.json()["accepted"] == len(ids)
        assert len(stored_ids(owner)) == len(ids)
        assert leftovers(scratch) == []
    finally:
        server.kill()
