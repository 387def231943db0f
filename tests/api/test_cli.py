"""`yutu` as a process: it starts, says what is wrong, and stops without leaving anything behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from data import postmaster

ROOT = Path(__file__).resolve().parents[2]
START_S = 60


def environment(var: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("YUTU_")}
    return {**kept, "YUTU_VAR": str(var), "YUTU_DEMO": "0", **more}


def yutu(*arguments: str, var: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "api.cli", *arguments],
        cwd=ROOT,
        env=environment(var, **more),
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def running(var: Path, port: int, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """`yutu run`, ready; killed at the end if it still lives."""
    with (var / "err").open("ab") as err, (var / "out").open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "run"],
            cwd=ROOT,
            env=environment(var, PORT=str(port), **more),
            stdout=out,
            stderr=err,
        )
    try:
        wait_ready(process, port, var)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_ready(process: subprocess.Popen[bytes], port: int, var: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, (var / "err").read_text(errors="replace")[-2000:]
        try:
            if httpx.get(f"http://127.0.0.1:{port}/ready", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError((var / "err").read_text(errors="replace")[-2000:])


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(one) for one in listed.split()]


def gone(pid: int, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        stat = Path(f"/proc/{pid}/stat")
        try:
            if stat.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def test_it_runs_keeps_its_data_and_stops_with_its_database(short_folder: Path) -> None:
    port = free_port()
    told = short_folder / "credentials.json"
    with running(short_folder, port) as process:
        assert told.stat().st_mode & 0o777 == 0o600
        first = told.read_bytes()
        key = json.loads(first)["viewer"]["api_key"]
        answer = httpx.get(f"http://127.0.0.1:{port}/v1/session", headers={"X-API-Key": key})
        assert answer.json()["username"] == "viewer"
        shown = httpx.get(f"http://127.0.0.1:{port}/metrics", headers={"X-API-Key": key}).text
        assert 'route="/v1/session",status="200"} 1.0' in shown  # counted over both workers
        taken = yutu("serve", var=short_folder, PORT=str(port))
        assert taken.returncode == 1
        assert f"port {port}" in taken.stderr
        assert "PORT=" in taken.stderr
        assert "Traceback" not in taken.stderr
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert postmaster.pid(short_folder / "postgres") is None
    with running(short_folder, port, YUTU_WORKERS="1") as process:
        assert told.read_bytes() == first
        answer = httpx.get(f"http://127.0.0.1:{port}/v1/session", headers={"X-API-Key": key})
        assert answer.status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert postmaster.pid(short_folder / "postgres") is None


def test_a_killed_worker_is_replaced_and_a_killed_parent_takes_its_workers_along(
    short_folder: Path,
) -> None:
    port = free_port()
    with running(short_folder, port) as process:
        before = set(workers(process.pid))
        assert len(before) == 2
        os.kill(min(before), signal.SIGKILL)
        deadline = time.monotonic() + 90  # its supervisor may first wait for its answer
        while len(now := set(workers(process.pid))) < 2 or min(before) in now:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        wait_ready(process, port, short_folder)
        alive = workers(process.pid)
        process.kill()
        process.wait()
        assert all(gone(pid, 20) for pid in alive)
    with running(short_folder, port) as process:  # adopts the database the dead one left
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert postmaster.pid(short_folder / "postgres") is None


def workers(pid: int) -> list[int]:
    """Worker processes of a running `yutu run` (not the resource tracker, not PostgreSQL)."""
    found = []
    for child in children(pid):
        try:
            command = Path(f"/proc/{child}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"spawn_main" in command:
            found.append(child)
    return found


def test_bad_settings_are_named_all_at_once(short_folder: Path) -> None:
    failed = yutu("run", var=short_folder, PORT="99999", YUTU_SECRET="short")
    assert failed.returncode == 2
    assert "yutu: PORT: '99999': must be a whole number from 0 to 65535" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (short_folder / "postgres").exists()  # nothing was started
    assert "short\n" not in failed.stderr
    failed = yutu("db", "check", var=short_folder, YUTU_DATABASE_URL="mysql://x/y")
    assert failed.returncode == 2
    assert "YUTU_DATABASE_URL" in failed.stderr


@pytest.mark.parametrize("secret", ["", "short"])
def test_an_empty_or_short_secret_refuses_to_start(
    short_folder: Path, database_url: str, secret: str
) -> None:
    more = {"YUTU_DATABASE_URL": database_url, "YUTU_SECRET": secret, "PORT": str(free_port())}
    failed = yutu("run", var=short_folder, **more)
    assert failed.returncode == 2
    assert "YUTU_SECRET" in failed.stderr


def test_a_database_that_forgets_is_refused(short_folder: Path, database_url: str) -> None:
    """The tests' own cluster has fsync off, which only pytest's processes may use."""
    more = {"YUTU_DATABASE_URL": database_url, "PORT": str(free_port())}
    failed = yutu("serve", var=short_folder, **more)
    assert failed.returncode == 1
    assert "fsync is off" in failed.stderr


def test_accounts_are_made_reset_and_locked_from_the_shell(
    short_folder: Path, empty_database_url: str
) -> None:
    url = {"YUTU_DATABASE_URL": empty_database_url}
    made = yutu(
        *("account", "add", "grid.1", "--role", "utility", "--operator", "state-grid"),
        var=short_folder,
        **url,
    )
    assert made.returncode == 0, made.stderr
    first = json.loads(made.stdout)
    assert first["districts"] == ["*"]
    again = yutu("account", "add", "grid.1", "--role", "admin", var=short_folder, **url)
    assert (again.returncode, "exists already" in again.stderr) == (1, True)
    reset = json.loads(yutu("account", "reset", "grid.1", var=short_folder, **url).stdout)
    assert reset["api_key"] != first["api_key"]
    assert yutu("account", "lock", "grid.1", var=short_folder, **url).returncode == 0
    absent = yutu("account", "lock", "nobody", var=short_folder, **url)
    assert (absent.returncode, "there is no account nobody" in absent.stderr) == (1, True)
