"""kill -9 of the API and of PostgreSQL under sixteen writers: what was acknowledged is stored."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

from data import postmaster
from tests.torture.ledger import Ledger, stored
from tests.torture.site import Site
from tests.torture.torture import Torture, row

KILLS = 51
LASTS_S_MAX = 720.0  # where a start takes a minute, fewer kills, and the line says how many
CONTROL_KILLS = 6
#: Nothing of what was acknowledged reaches the disk for ten seconds unless a buffer fills up.
CAREFREE = {"synchronous_commit": "off", "wal_writer_delay": "10s", "wal_buffers": "64MB"} | {
    "wal_writer_flush_after": "1GB"
}
TEST_ESCAPE = {"YUTU_ALLOW_UNSAFE": "1", "PYTEST_CURRENT_TEST": "torture"}


@row("kill-api", "kill -9 of the API: 16 writers, a ledger of acknowledged ids")
def kill_api(torture: Torture) -> None:
    """Each sixth kill takes all of the server at once, the others the worker that serves; /health,
    which then waits for the next one, is told and not judged."""
    torture.figures.health_counts = False
    site, wanted, kills = torture.own_site(), torture.count(KILLS, 3), 0
    rng, ends_at = torture.rng, time.monotonic() + torture.seconds(LASTS_S_MAX, 60)
    with Ledger(site, torture.seed) as ledger:
        while kills < wanted and time.monotonic() < ends_at and ledger.grows():
            time.sleep(float(rng.uniform(0, 0.6)))
            kills += site.kill_server() if kills % 6 == 5 else site.kill_worker()
        ledger.grows()
    _compare(torture, site, ledger, f"{kills} of {wanted}")


@row("kill-postgres", "kill -9 of PostgreSQL: the same ledger")
def kill_postgres(torture: Torture) -> None:
    site, wanted, kills = torture.own_site(), torture.count(KILLS, 3), 0
    rng, ends_at = torture.rng, time.monotonic() + torture.seconds(LASTS_S_MAX, 60)
    ended = threading.Event()
    watch = threading.Thread(target=site.cluster.watch, args=(ended, 0.1), daemon=True)
    watch.start()
    try:
        with Ledger(site, torture.seed) as ledger:
            while kills < wanted and time.monotonic() < ends_at and ledger.grows():
                time.sleep(float(rng.uniform(0, 0.6)))
                kills += _kill_database(site, one_backend=kills % 3 == 2)
            ledger.grows()
    finally:
        ended.set()
        watch.join(60)
    _compare(torture, site, ledger, f"{kills} of {wanted}")


@row(
    "kill-control", "the negative control: with synchronous_commit=off the ledger must find losses"
)
def kill_control(torture: Torture) -> None:
    site = torture.own_site(settings=CAREFREE, environment=TEST_ESCAPE)
    kills, ended = torture.count(CONTROL_KILLS, 2), threading.Event()
    watch = threading.Thread(target=site.cluster.watch, args=(ended, 0.1), daemon=True)
    watch.start()
    try:
        with Ledger(site, torture.seed, again=False) as ledger:
            for _ in range(kills):
                ledger.grows()
                time.sleep(1.5)
                while not _kill_database(site):
                    time.sleep(0.1)
    finally:
        ended.set()
        watch.join(60)
    site.cluster.start()
    site.owner.dispose()
    lost = len(ledger.acknowledged - stored(site)[0])
    torture.figures.own |= {"kills": kills, "acknowledged": f"{len(ledger.acknowledged):,}"}
    torture.figures.own["lost as it must be"] = f"{lost:,}"
    torture.figures.check(lost > 0, "the ledger finds no loss where there must be some")


def _kill_database(site: Site, one_backend: bool = False) -> bool:
    """SIGKILL to the postmaster and all it started, or to one backend, which makes it recover.
    False when there was nothing to kill, since the kill before is not over."""
    if one_backend:
        pid = postmaster.pid(site.cluster.data_dir)
        children = Path(f"/proc/{pid}/task/{pid}/children")
        backends = []
        with contextlib.suppress(OSError):
            for child in children.read_text().split():
                if b"postgres: postgres yutu" in Path(f"/proc/{child}/cmdline").read_bytes():
                    backends.append(int(child))
        for backend in backends[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(backend, signal.SIGKILL)
                return True
        return False
    return site.cluster.is_ready() and site.signal_database(signal.SIGKILL) > 1


def _compare(torture: Torture, site: Site, ledger: Ledger, kills: str) -> None:
    """After one more start of everything: acknowledged = stored, nothing twice, all verifies."""
    figures = torture.figures
    site.wait_for(lambda: site.http.get("/ready").status_code == 200, 60)
    site.stop_server()
    site.owner.dispose()
    site.cluster.stop()
    site.cluster.start()
    found, twice = stored(site)
    figures.lost = len(ledger.acknowledged - found)
    figures.check(twice == 0, f"{twice} stored twice")
    strange = found - ledger.sent
    figures.check(not strange, f"{len(strange)} nobody sent")
    unknown = len(found - ledger.acknowledged)
    figures.check(unknown == 0, f"{unknown} stored and never acknowledged although sent again")
    figures.check(ledger.failures > 0, "no request met a kill: the kills were not felt")
    figures.own |= {"kills": kills, "acknowledged": f"{len(ledger.acknowledged):,}"}
    figures.own["cut off"] = f"{ledger.failures:,}"
    site.verify()
