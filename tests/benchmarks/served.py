"""A durable private database with a synthetic inventory, and `yutu serve` on it, for benchmarks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from data.accounts import first_run
from data.cluster import Cluster
from data.database import app_engine, libpq_url, migrate, owner_engine
from data.default_divisions import ensure_default_divisions
from data.demo import load_demo
from data.settings import PathsSettings

START_S = 120


@dataclass(frozen=True)
class Served:
    """Where it listens, a key per account, and libpq's way to the same database."""

    port: int
    keys: dict[str, str]
    dsn: str
    load_s: float


@contextmanager
def served(facilities: int, workers: int = 2) -> Iterator[Served]:
    """Start everything in a folder of its own beside `var`; stop and remove it at the end."""
    base = PathsSettings.load().var.parent / ".bench"
    base.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=base))
    folder.chmod(0o711)  # the database may run as another user
    paths = PathsSettings(var=folder)
    cluster = Cluster.of(paths)
    server = None
    try:
        cluster.start()
        cluster.create_database("yutu")
        url = cluster.url("yutu")
        migrate(url)
        owner = owner_engine(url)
        first_run(owner, paths.credentials)
        ensure_default_divisions(owner)
        owner.dispose()
        engine = app_engine(url, pool_size=2, statement_timeout_s=3600)
        started = time.perf_counter()
        load_demo(engine, facilities)
        load_s = time.perf_counter() - started
        engine.dispose()
        port = _free_port()
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("YUTU_")},
            "YUTU_VAR": str(folder),
            "PORT": str(port),
            "YUTU_WORKERS": str(workers),
        }
        with (folder / "serve.log").open("wb") as log:
            server = subprocess.Popen(
                [sys.executable, "-m", "api.cli", "serve"], env=environment, stdout=log, stderr=log
            )
        _wait_ready(port, server, folder / "serve.log")
        credentials = json.loads(paths.credentials.read_text(encoding="utf-8"))
        keys = {name: one["api_key"] for name, one in credentials.items()}
        _wait_settled(port, keys["viewer"])
        yield Served(port, keys, libpq_url(url), load_s)
    finally:
        if server is not None:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
        if not any(base.iterdir()):
            base.rmdir()


def _wait_settled(port: int, key: str) -> None:
    """Area grids are made once after an inventory is loaded; a service in use has them."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/situation", headers={"X-API-Key": key}
    )
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with urllib.request.urlopen(request, timeout=10) as answer:
            districts = json.load(answer)["districts"]
        shares = [kind["any"] for one in districts for kind in one["area_share"].values()]
        if shares and None not in shares:
            return
        time.sleep(0.5)
    raise RuntimeError("the area grids were not ready in time")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_ready(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended: {log.read_text(errors='replace')[-2000:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("the server was not ready in time")
