"""One installation to torment: a private PostGIS that is durable, an inventory, accounts, and
`yutu serve` with two worker processes on it, all in a folder of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Engine, text

from data import postmaster
from data.accounts import create_account, first_run
from data.cluster import Cluster
from data.database import app_engine, migrate, owner_engine
from data.default_divisions import ensure_default_divisions
from tests.api.test_kill_writers import ROOT, Server
from tests.data.stored import bring, inventory
from tests.torture.figures import Figures

FACILITIES = 2_000
SMALL = {"shared_buffers": "128MB"}
PREFIX = "yutu-torture-"
WATCH_S = 0.1
STARTS_WITHIN_S = 240.0  # imports alone take a minute where eight others compute


class Site:
    """Started by `with`; everything it started is stopped at the end."""

    def __init__(
        self,
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        served: bool = True,
        runtime: Path | None = None,
    ) -> None:
        self.serves = served
        made = folder or Path(tempfile.mkdtemp(prefix=PREFIX, dir=tempfile.gettempdir()))
        made.chmod(0o755)
        self.folder = made
        self.var = made / "var"
        self.runtime = runtime or made / "run"
        self.scratch = made / "scratch"
        self.log = made / "server.log"
        self.cluster = Cluster(
            self.var / "postgres",
            self.runtime,
            self.var / "log" / "postgres.log",
            SMALL | dict(settings or {}),
        )
        self.environment = {"YUTU_VAR": str(self.var), "TMPDIR": str(self.scratch)}
        self.environment["PYTHONDONTWRITEBYTECODE"] = ""  # starts are mostly imports
        self.environment |= {"YUTU_DISK_FREE_MIB": "0", **(environment or {})}
        self.credentials: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, dict[str, str]] = {}
        self.figures = Figures("none")
        self.clients: list[httpx.Client] = []
        self.killed: set[int] = set()
        self.deaths = 0
        self.workers: set[int] = set()
        self._counts = True
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._watch_workers, daemon=True)

    def __enter__(self) -> Site:
        try:
            self.prepare()
            if self.serves:
                self.serve()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for client in self.clients:
            client.close()
        if hasattr(self, "server"):
            self.server.kill()
        if hasattr(self, "owner"):
            self.owner.dispose()
        self.signal_database(signal.SIGCONT)
        self.cluster.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def prepare(self) -> None:
        """Database, districts, inventory, accounts."""
        self.scratch.mkdir(mode=0o777, exist_ok=True)
        self.cluster.start()
        self.cluster.create_database("yutu")
        self.url = self.cluster.url()
        migrate(self.url)
        self.owner: Engine = owner_engine(self.url)
        ensure_default_divisions(self.owner)
        engine = app_engine(self.url, pool_size=1, statement_timeout_s=300)
        bring(engine, *inventory(FACILITIES))
        engine.dispose()
        assert first_run(self.owner, self.var / "credentials.json")
        told = json.loads((self.var / "credentials.json").read_text(encoding="utf-8"))
        self.credentials = told
        self.keys = {name: {"X-API-Key": one["api_key"]} for name, one in told.items()}

    def restart_database(self, settings: Mapping[str, str]) -> None:
        """With other settings than the site was made with."""
        self.owner.dispose()
        self.cluster.stop()
        self.cluster = Cluster(
            self.var / "postgres",
            self.runtime,
            self.var / "log" / "postgres.log",
            SMALL | dict(settings),
        )
        self.cluster.start()

    def serve(self) -> None:
        """`yutu serve`, two workers, and wait until it is ready."""
        with changed_environment(self.environment):
            self.server = Server(self.url, self.log)
        self.server.start()
        self.wait_for(lambda: self.http.get("/health").status_code == 200, STARTS_WITHIN_S)
        self.wait_for(lambda: self.http.get("/ready").status_code == 200, STARTS_WITHIN_S)
        self._watch.start()

    def account(self, name: str, role: str, districts: list[str]) -> dict[str, str]:
        """A new account; the header with its key."""
        with self.owner.begin() as connection:
            made = create_account(connection, name, role, districts)
        self.credentials[name] = made.as_json()
        self.keys[name] = {"X-API-Key": made.api_key}
        return self.keys[name]

    @property
    def http(self) -> httpx.Client:
        """A client without credentials, of this thread or any other."""
        if not self.clients:
            limits = httpx.Limits(max_connections=200, max_keepalive_connections=40)
            self.clients.append(httpx.Client(base_url=self.server.url, timeout=60, limits=limits))
        return self.clients[0]

    def ask(
        self, method: str, path: str, who: str | None = None, *, what: str = "", **more: Any
    ) -> httpx.Response:
        """The answer to `who`, noted in the figures of the row that is being tried."""
        headers = {**(self.keys[who] if who else {}), **more.pop("headers", {})}
        for _ in range(3):
            try:
                answer = self.http.request(method, path, headers=headers, **more)
            except httpx.RemoteProtocolError:  # a kept connection that had been closed
                continue
            except httpx.TransportError:
                break
            self.figures.note(answer, what)
            return answer
        self.figures.count()
        self.figures.violate(f"no answer: {method} {path[:120]} {what}")
        return httpx.Response(599, request=httpx.Request(method, self.server.url + path[:120]))

    def sql(self, statement: str, **values: Any) -> Any:
        """The first value of the first row, if any, as the owner."""
        with self.owner.begin() as connection:
            done = connection.execute(text(statement), values)
            return done.scalar() if done.returns_rows else None

    def yutu(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """A command as it is typed."""
        with changed_environment(
            {**self.environment, "YUTU_DATABASE_URL": self.url, **environment}
        ):
            return subprocess.run(
                [sys.executable, "-m", "api.cli", *words],
                cwd=ROOT,
                env=dict(os.environ),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=1800,
                check=False,
            )

    def verify(self) -> None:
        """`yutu db verify` finds nothing."""
        done = self.yutu("db", "verify")
        self.figures.check(done.returncode == 0, f"db verify: {(done.stdout + done.stderr)[-500:]}")
        self.figures.own["verify"] = "clean" if done.returncode == 0 else "NOT clean"

    def signal_database(self, number: signal.Signals, backends: bool = True) -> int:
        """To the postmaster and what it started, all this site's own; how many."""
        pid = postmaster.pid(self.cluster.data_dir)
        if pid is None:
            return 0
        pids = [pid]
        if backends:
            with contextlib.suppress(OSError):
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
                pids += [int(one) for one in children.split()]
        for one in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, number)
        return len(pids)

    def kill_worker(self) -> bool:
        """SIGKILL to the oldest worker, which serves if any does; False when there is none."""
        for pid in [one for one in self.server.workers() if _serves(one)][:1]:
            self.killed.add(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    def kill_server(self) -> bool:
        """All at once, and started again; True."""
        self.stop_server()
        self.server.start()
        self._counts = True
        return True

    def stop_server(self) -> None:
        """SIGKILL to all of it; no death of these counts."""
        self._counts = False
        self.server.kill()
        self.workers = set()

    def wait_for(self, true: Any, within_s: float) -> float:
        """Seconds until it was true; a violation when it never was."""
        began = time.monotonic()
        while time.monotonic() - began < within_s:
            with contextlib.suppress(httpx.TransportError):
                if true():
                    return time.monotonic() - began
            time.sleep(0.05)
        self.figures.violate(f"not within {within_s:.0f} s")
        return within_s

    def _watch_workers(self) -> None:
        """Count workers that are gone and that nobody here killed."""
        while not self._ended.wait(WATCH_S):
            before, now = self.workers, {pid for pid in self.server.workers() if _serves(pid)}
            gone = {pid for pid in before - now - self.killed if not Path(f"/proc/{pid}").exists()}
            if not self._counts:
                continue
            self.deaths += len(gone)
            self.killed |= gone
            self.workers = now | (before - self.killed)


def _serves(pid: int) -> bool:
    """Whether it is a worker, not what multiprocessing keeps beside them."""
    with contextlib.suppress(OSError):
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


@contextlib.contextmanager
def changed_environment(more: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    for name in [one for one in os.environ if one.startswith("YUTU_") or one in {"PORT", "TLS"}]:
        del os.environ[name]
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
