"""The disk fills up under a running service: it fails closed, reading goes on, nothing is lost."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

from sqlalchemy import text

from tests.api.test_disk_full import SMALL_WAL, WRITERS, Writer
from tests.small_disk import MIB, NotMounted, fill, free_bytes, small_disk
from tests.torture.site import Site
from tests.torture.torture import Torture, row

DISK_MIB = 700
RESERVE_MIB = 96
ROOM_MIB = 40


@row("disk-full", "disk full: 503/507, reads go on, acknowledged = rows after restart")
def disk_full(torture: Torture) -> None:
    """On a memory file system of 700 MiB, once with the reserve, when writes end in 507, and once
    without, when it is PostgreSQL that fails."""
    for reserve_mib in (RESERVE_MIB, 0) if torture.scale >= 0.5 else (RESERVE_MIB,):
        try:
            with small_disk(torture.folder() / "disk", DISK_MIB) as disk:
                _fill_up(torture, disk, reserve_mib)
        except NotMounted:
            torture.figures.own["not tried"] = "a small file system needs root"
            return


def _fill_up(torture: Torture, disk: Path, reserve_mib: int) -> None:
    figures = torture.figures
    environment = {"YUTU_DISK_FREE_MIB": str(reserve_mib)}
    site = torture.own_site(
        settings=SMALL_WAL, environment=environment, folder=disk, runtime=disk.parent / "run"
    )
    ended = threading.Event()
    room = max(free_bytes(disk) - (reserve_mib + ROOM_MIB) * MIB, MIB)
    ballast = fill(disk, room)
    watch = threading.Thread(target=site.cluster.watch, args=(ended,), daemon=True)
    watch.start()
    key = site.keys["utility"]["X-API-Key"]
    writers = [Writer(i, site.server.url, key, ended) for i in range(WRITERS)]
    try:
        for writer in writers:
            writer.start()
        full_s = site.wait_for(
            lambda: all(w.statuses and w.statuses[-1] != 200 for w in writers), 300
        )
        reads = Counter(
            site.ask("GET", path, "commander").status_code
            for path in ["/v1/outages", "/v1/situation", "/health"] * 20
        )
        if reserve_mib:
            figures.check(set(reads) == {200}, f"reads: {reads}")
            figures.check(free_bytes(disk) > reserve_mib * MIB / 2, "the reserve is used up")
        ballast.unlink()
        before = [len(w.acknowledged) for w in writers]
        again_s = site.wait_for(
            lambda: all(len(w.acknowledged) > n for w, n in zip(writers, before, strict=True)), 300
        )
    finally:
        ended.set()
        for writer in writers:
            writer.join(60)
        watch.join(60)
    statuses = Counter(one for w in writers for one in w.statuses)
    allowed = {200, 507} if reserve_mib else {200, 503}
    figures.count(sum(statuses.values()))
    figures.check(set(statuses) <= allowed, f"answers: {statuses}")
    acknowledged = {one for w in writers for one in w.acknowledged}
    _compare(torture, site, acknowledged, exact=bool(reserve_mib))
    name = "with reserve" if reserve_mib else "without"
    figures.own[name] = (
        f"{len(acknowledged):,} acknowledged, {sum(statuses.values()) - statuses[200]} refused,"
        f" full after {full_s:.0f} s, taken again after {again_s:.1f} s"
    )


def _compare(torture: Torture, site: Site, acknowledged: set[str], exact: bool) -> None:
    """After a restart of PostgreSQL."""
    site.stop_server()
    site.owner.dispose()
    site.cluster.stop()
    site.cluster.start()
    with site.owner.connect() as connection:
        rows = connection.execute(text("SELECT event_id FROM status_log")).scalars().all()
    torture.figures.lost += len(acknowledged - set(rows))
    torture.figures.check(len(rows) == len(set(rows)), "something is stored twice")
    if exact:
        more = set(rows) - acknowledged
        torture.figures.check(not more, f"{len(more)} refused and stored all the same")
