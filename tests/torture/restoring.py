"""The restore drill by the commands as they are typed, under writers, with counts and hashes."""

from __future__ import annotations

import shutil
import time
from uuid import uuid4

from data.cluster import Cluster
from data.database import owner_engine
from tests.api.test_feeds_incidents import incident
from tests.data.place import content, files
from tests.torture.ledger import Ledger
from tests.torture.site import SMALL, Site
from tests.torture.torture import Torture, row
from tests.torture.uploads import picture

#: The restoring itself is in the trail; what is counted a moment is no record and not in the log.
OF_THE_COMMAND = ("public.audit", "public.request_count")


@row(
    "restore",
    "restore drill: backup and log under writers; every row, file and acknowledged id back",
)
def restore(torture: Torture) -> None:
    site, figures = torture.own_site(), torture.figures
    folder = site.folder / "backup"
    photos = torture.count(20, 3)
    with Ledger(site, torture.seed) as ledger:
        ledger.grows()
        began = time.monotonic()
        _command(site, "db", "backup", str(folder))
        backup_s = time.monotonic() - began
        for _ in range(photos):
            _attach(site)
        ends_at = time.monotonic() + torture.seconds(20, 3)
        while time.monotonic() < ends_at:
            ledger.grows()
    _command(site, "db", "backup", "--files", str(folder))
    site.stop_server()
    site.sql("SELECT pg_switch_wal()")
    site.owner.dispose()
    site.cluster.stop()  # in order: the last segment is in the archive
    site.cluster.start()
    before, kept = content(site.cluster), files(site.var)
    new = site.folder / "new"
    began = time.monotonic()
    _command(site, "db", "restore", str(folder), YUTU_VAR=str(new), YUTU_DATABASE_URL="")
    restore_s = time.monotonic() - began
    restored = Cluster(new / "postgres", site.folder / "run2", settings=SMALL)
    restored.start()
    try:
        after = content(restored)
        different = [name for name in before | after if before.get(name) != after.get(name)]
        figures.check(set(different) <= set(OF_THE_COMMAND), f"tables differ: {different}")
        more = after["public.audit"][0] - before["public.audit"][0]
        figures.check(more in (0, 1), f"{more} rows of the trail more than before")
        chained = site.yutu("audit", "verify", YUTU_DATABASE_URL=restored.url())
        figures.check(chained.returncode == 0, f"audit verify: {chained.stderr[-300:]}")
        figures.check(files(new) == kept, "files differ")
        found = _ids(restored)
        figures.lost = len(ledger.acknowledged - found)
        done = site.yutu("db", "verify", "--deep", YUTU_DATABASE_URL=restored.url())
        figures.check(done.returncode == 0, f"verify: {(done.stdout + done.stderr)[-300:]}")
    finally:
        restored.stop()
        shutil.rmtree(new, ignore_errors=True)
    figures.count()
    rows = sum(rows for rows, _ in before.values())
    figures.own |= {"tables": len(before), "rows": f"{rows:,}", "files": len(kept)}
    figures.own |= {"acknowledged": f"{len(ledger.acknowledged):,}"}
    figures.own |= {"backup": f"{backup_s:.0f} s", "restore": f"{restore_s:.0f} s"}


def _command(site: Site, *words: str, **environment: str) -> None:
    done = site.yutu(*words, **({"YUTU_DATABASE_URL": ""} | environment))
    site.figures.count()
    site.figures.check(done.returncode == 0, f"{words}: {(done.stdout + done.stderr)[-300:]}")


def _attach(site: Site) -> None:
    body = incident()
    site.ask("POST", "/v1/incidents", "commander", json=body)
    for _ in range(30):  # a service that is busy is asked again
        answer = site.ask(
            "POST",
            f"/v1/incidents/{body['incident_id']}/attachments",
            "commander",
            files={"file": ("p.jpg", picture(), "image/jpeg")},
            data={"attachment_id": str(uuid4())},
        )
        if answer.status_code != 503:
            break
    site.figures.check(answer.status_code == 201, f"a photo: {answer.status_code}")


def _ids(cluster: Cluster) -> set[str]:
    """Of events and incidents."""
    from sqlalchemy import text

    owner = owner_engine(cluster.url())
    with owner.connect() as connection:
        events = connection.execute(text("SELECT event_id FROM status_log")).scalars().all()
        incidents = (
            connection.execute(text("SELECT incident_id::text FROM incident")).scalars().all()
        )
    owner.dispose()
    return {*events, *incidents}
