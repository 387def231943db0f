"""A database that hangs, one backend of it that does, a pool that is empty, and four times too much."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from sqlalchemy import text

from data import postmaster
from tests.data.stored import at
from tests.torture.crowd import REFUSED, Crowd, Orders
from tests.torture.ledger import stored
from tests.torture.site import FACILITIES, Site
from tests.torture.torture import Torture, row

WITHIN_S = 2.5
CROWD = 60


def _event(event_id: str, number: int = 0) -> dict[str, Any]:
    place = f"F{number % FACILITIES}"
    return {"event_id": event_id, "facility_id": place, "state": "down", "observed_at": at(1)}


@row("hung", "pool exhausted, database hung: 503 with Retry-After within 2.5 s, recovers by itself")
def hung(torture: Torture) -> None:
    """All of PostgreSQL stopped, one backend stopped, and every write held up by a lock."""
    site, figures = torture.own_site(), torture.figures
    rounds = torture.count(5)
    took: list[float] = []
    refused: list[int] = []
    recovered: list[float] = []
    ids: list[str] = []

    def ask(number: int) -> None:
        began = time.monotonic()
        if number % 2:
            answer = site.ask("GET", "/v1/outages", "commander")
        else:
            ids.append(uuid4().hex)
            answer = site.ask("POST", "/v1/status", "utility", json=[_event(ids[-1])])
        took.append(time.monotonic() - began)
        refused.append(answer.status_code)
        figures.check(answer.status_code == 503, f"{answer.status_code} from a hung database")

    for _ in range(rounds):
        site.signal_database(signal.SIGSTOP)
        site.signal_database(signal.SIGSTOP)  # and what was started meanwhile
        try:
            with ThreadPoolExecutor(CROWD) as pool:
                list(pool.map(ask, range(CROWD)))
            figures.check(site.ask("GET", "/health").status_code == 200, "no health")
        finally:
            site.signal_database(signal.SIGCONT)
        recovered.append(site.wait_for(lambda: _works(site), 30))
    limit_s = WITHIN_S * torture.factor()
    figures.check(
        max(took) < limit_s, f"{max(took):.1f} s until an answer, the limit {limit_s:.1f}"
    )
    _one_backend(site)
    _held_up(torture, site)
    for event_id in ids:  # what was answered 503 may be there or not; sent again it is there once
        answer = site.ask("POST", "/v1/status", "utility", json=[_event(event_id)])
        figures.check(answer.is_success, f"again: {answer.status_code}")
    found, twice = stored(site)
    figures.lost = len(set(ids) - found)
    figures.check(twice == 0, f"{twice} twice")
    figures.own |= {
        "hangs": rounds,
        "503s": refused.count(503),
        "slowest 503": f"{max(took):.1f} s",
    }
    figures.own["recovered in"] = f"{max(recovered):.1f} s"


def _works(site: Site) -> bool:
    event = [_event(uuid4().hex)]
    wrote = site.http.post("/v1/status", json=event, headers=site.keys["utility"], timeout=10)
    read = site.http.get("/v1/outages", headers=site.keys["commander"], timeout=10)
    return wrote.status_code == 200 and read.status_code == 200


def _one_backend(site: Site) -> None:
    """A single stopped backend holds whoever has its connection, and nobody else."""
    pid = postmaster.pid(site.cluster.data_dir)
    backends = []
    for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError):  # it ended meanwhile
            if b"postgres: postgres yutu" in Path(f"/proc/{one}/cmdline").read_bytes():
                backends.append(int(one))
    stopped = backends[len(backends) // 2]
    held: list[str] = []
    answers: list[int] = []

    def read(_: int) -> None:
        try:
            answer = site.http.get("/v1/outages", headers=site.keys["commander"], timeout=9)
        except httpx.TimeoutException as error:
            held.append(str(error))
        else:
            site.figures.note(answer, "one backend stopped")
            answers.append(answer.status_code)

    os.kill(stopped, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(read, range(60)))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(stopped, signal.SIGCONT)
    site.figures.check(set(answers) <= {200, 503}, f"{set(answers)}")
    site.figures.check(len(held) <= 2, f"{len(held)} of 60 are held by one backend")
    site.figures.own["of 60 with one backend stopped"] = (
        f"{answers.count(200)} × 200, {answers.count(503)} × 503, {len(held)} held"
    )
    site.wait_for(lambda: _works(site), 30)


def _held_up(torture: Torture, site: Site) -> None:
    """Every place for writing waits for a lock: more are refused soon, reading goes on."""
    took: list[float] = []
    reads: list[float] = []

    def write(number: int) -> int:
        began = time.monotonic()
        status = site.ask("POST", "/v1/status", "utility", json=[_event(uuid4().hex, number)])
        took.append(time.monotonic() - began)
        return status.status_code

    with ThreadPoolExecutor(CROWD) as pool, site.owner.connect() as connection:
        connection.execute(text("LOCK TABLE batch IN EXCLUSIVE MODE"))
        jobs = [pool.submit(write, i) for i in range(CROWD)]
        time.sleep(0.5)
        for _ in range(10):
            began = time.monotonic()
            answer = site.ask("GET", "/v1/outages", "commander")
            reads.append(time.monotonic() - began)
            site.figures.check(answer.status_code == 200, f"reading: {answer.text[:200]}")
        time.sleep(1.5)
        connection.rollback()
        statuses = [job.result() for job in jobs]
    site.figures.check(set(statuses) <= {200, 503}, f"{set(statuses)}")
    site.figures.check(503 in statuses, "nobody was refused although no place was free")
    site.figures.check(max(reads) < torture.factor(), f"reading took {max(reads):.1f} s")
    site.figures.own["refused behind a lock"] = f"{statuses.count(503)} of {CROWD}"


@row(
    "overload",
    "4× overload: shed with 503/429 and Retry-After, nothing acknowledged lost, recovers",
)
def overload(torture: Torture) -> None:
    """What it can do is measured with as many clients as places, then asked four times over."""
    site, figures = torture.own_site(), torture.figures
    settings_places = 2 * (12 + 12)
    lasts_s = torture.seconds(45, 4)
    usual = _crowd(site, settings_places // 4, lasts_s / 3)
    flood = _crowd(site, settings_places * 4, lasts_s)
    site.wait_for(lambda: _works(site), 30)
    after = _crowd(site, settings_places // 4, lasts_s / 3)
    found, twice = stored(site)
    acknowledged = {*usual.acknowledged, *flood.acknowledged, *after.acknowledged}
    figures.lost = len(acknowledged - found)
    figures.check(twice == 0, f"{twice} twice")
    figures.check(after.taken > 0, "nothing is taken after the flood")
    figures.check(flood.taken > 0, "nothing is taken during the flood")
    figures.check(after.shed <= usual.shed + after.taken // 20, f"{after.shed} still refused after")
    limit_s = WITHIN_S * torture.factor()
    figures.check(flood.slowest_503_s < limit_s, f"a 503 after {flood.slowest_503_s:.1f} s")
    figures.own |= {
        "clients": f"{settings_places * 4} for {settings_places} places",
        "taken": f"{flood.taken:,}",
        "shed": f"{flood.shed:,}",
        "slowest 503": f"{flood.slowest_503_s:.1f} s",
        "slowest 2xx": f"{flood.slowest_2xx_s:.1f} s",
        "clients' own lag": f"{flood.own_lag_s * 1000:.0f} ms",
        "rate before, during, after": f"{usual.rate:.0f}, {flood.rate:.0f}, {after.rate:.0f}/s",
    }


def _crowd(site: Site, clients: int, lasts_s: float) -> Crowd:
    """So many clients for so long, and what they were answered noted."""
    reader, writer = site.keys["commander"], site.keys["utility"]
    crowd = Crowd.of(Orders(site.server.port, clients, lasts_s, FACILITIES, reader, writer))
    site.figures.count(crowd.taken)
    for answer in crowd.answers():
        site.figures.note(answer, "crowd")
        site.figures.check(answer.status_code in REFUSED, f"{answer.status_code} under load")
    for silent in crowd.silent:
        site.figures.violate(silent)
    return crowd
