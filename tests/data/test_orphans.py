"""Files without a row: removed after a day, never one that is referred to or being sent."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from data import orphans
from data.attachments import attached_file, store_attachment
from data.blobs import BlobFolder
from data.database import app_engine
from data.incident_submission import store_incident
from data.orphans import OLD_ENOUGH_S, SWEPT, Sweeper, sweep_orphans
from data.rulepacks import load_packs
from tests.data.test_attachments import picture
from tests.feeds import COMMANDER, FIELD, INSIDE, YUZHONG, ago


@pytest.fixture
def engine(divided_database_url: str) -> Iterator[Engine]:
    made = app_engine(divided_database_url)
    yield made
    made.dispose()


@pytest.fixture
def blobs(tmp_path: Path) -> BlobFolder:
    return BlobFolder(tmp_path / "attachments")


def age(blobs: BlobFolder, sha256: bytes, hours: float) -> None:
    then = time.time() - hours * 3600
    os.utime(blobs.path(sha256), (then, then))


def test_only_what_is_old_and_without_a_row_is_removed(engine: Engine, blobs: BlobFolder) -> None:
    incident_id, attachment_id = uuid4(), uuid4()
    body = {
        "incident_id": str(incident_id),
        "plan": "special-equipment-2023",
        "kind": "elevator",
        "occurred_at": ago(minutes=5),
        "position": list(INSIDE[YUZHONG]),
    }
    store_incident(engine, body, body=b"{}", account=FIELD, packs=load_packs())
    photo = picture("JPEG", (80, 60))
    store_attachment(
        engine, blobs, incident_id, attachment_id, photo, file_name="a.jpg", account=FIELD
    )
    old, new = blobs.put(b"old orphan"), blobs.put(b"new orphan")
    for path in blobs.folder.glob("??/*"):
        age(blobs, bytes.fromhex(path.name), 30)
    age(blobs, new, 23)
    draft = blobs.path(old).with_name(f".{old.hex()}.abc")
    draft.write_bytes(b"half")
    os.utime(draft, (0, 0))
    assert len(list(blobs.folder.glob("??/*"))) == 5  # photo, its copy, two orphans, a draft

    assert sweep_orphans(engine, blobs) == 2

    assert not blobs.path(old).exists()
    assert not draft.exists()
    assert blobs.get(new) == b"new orphan"
    for original in (True, False):
        file = attached_file(
            engine, blobs, incident_id, attachment_id, COMMANDER, original=original
        )
        assert file.body
    assert sweep_orphans(engine, blobs) == 0


def test_a_file_sent_again_between_looking_and_removing_stays(
    engine: Engine, blobs: BlobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = blobs.put(b"sent twice")
    age(blobs, sha256, 30)
    look = orphans._referred
    looks = again_at = 0

    def and_send_again(engine: Engine, paths: list[Path]) -> set[bytes]:
        nonlocal looks
        looks += 1
        found = look(engine, paths)
        if looks == again_at:
            blobs.put(b"sent twice")
        return found

    monkeypatch.setattr(orphans, "_referred", and_send_again)
    for moment in (1, 2):  # before the file is set aside, and after
        looks, again_at = 0, moment
        age(blobs, sha256, 30)
        sweep_orphans(engine, blobs)
        assert blobs.get(sha256) == b"sent twice"
        assert [one.name for one in blobs.path(sha256).parent.iterdir()] == [sha256.hex()]


def test_what_a_killed_sweep_set_aside_is_put_back_and_looked_at_again(
    engine: Engine, blobs: BlobFolder
) -> None:
    sha256 = blobs.put(b"set aside")
    path = blobs.path(sha256)
    path.rename(path.with_name(path.name + SWEPT))
    assert sweep_orphans(engine, blobs) == 0
    assert blobs.get(sha256) == b"set aside"
    age(blobs, sha256, OLD_ENOUGH_S / 3600 + 1)
    assert sweep_orphans(engine, blobs) == 1


def test_one_process_sweeps_at_a_time_and_a_lost_database_harms_nothing(
    engine: Engine, blobs: BlobFolder
) -> None:
    sha256 = blobs.put(b"orphan")
    age(blobs, sha256, 30)
    sweeper = Sweeper(engine, blobs)
    with engine.connect() as other, other.begin():
        other.exec_driver_sql(f"SELECT pg_advisory_xact_lock({orphans.LOCK_KEY})")
        sweeper.once()
        assert blobs.path(sha256).exists()
    lost = app_engine("postgresql+psycopg://nobody@/none?host=/nowhere", connect_timeout_s=1)
    Sweeper(lost, blobs).once()
    assert blobs.path(sha256).exists()
    sweeper.once()
    assert not blobs.path(sha256).exists()
