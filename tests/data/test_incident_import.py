"""Files of incidents against a real PostGIS: every row or none, each once, told to the stream."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import Engine, text

from data.accounts import Account
from data.attachments import list_attachments
from data.blobs import BlobFolder
from data.builder import Builder
from data.database import WHOLE_CITY, app_engine, owner_engine, reading, set_scope
from data.incident_import import ImportReceipt, RefusedFile, import_incidents
from data.incident_submission import store_incident
from data.rulepacks import load_packs
from data.settings import SituationSettings
from data.verify import verify
from geo.errors import Fault, InvalidInput, TooLarge
from tests.data.test_incidents import incident
from tests.feeds import (
    CHENGDU,
    COMMANDER,
    FIELD,
    FIELD_OTHER,
    INSIDE,
    NANAN,
    SHAPINGBA,
    YUZHONG,
    ago,
    facility,
    load_facilities,
)

PACKS = load_packs()
CENTRE = INSIDE[YUZHONG]


@dataclass(frozen=True)
class Row:
    row: int
    body: dict[str, Any] | None
    faults: tuple[Fault, ...] = ()
    photo: Any = None


@dataclass(frozen=True)
class File:
    rows: list[Row]
    format: str = "CSV"
    unread: list[str] = field(default_factory=list)


def file_of(*bodies: dict[str, Any]) -> File:
    return File([Row(number, body) for number, body in enumerate(bodies, start=1)])


@pytest.fixture
def engine(divided_database_url: str) -> Iterator[Engine]:
    made = app_engine(divided_database_url, acquire_timeout_s=30)
    yield made
    made.dispose()


@pytest.fixture
def bring(engine: Engine, tmp_path: Path) -> Any:
    def run(file: File, account: Account = COMMANDER, **options: Any) -> ImportReceipt:
        path = tmp_path / f"{uuid4()}.csv"
        path.write_bytes(options.pop("original", b"the file as it came"))
        blobs = BlobFolder(tmp_path / "attachments")
        return import_incidents(
            engine,
            file,
            original=path,
            account=account,
            packs=PACKS,
            blobs=blobs,
            lang="en",
            **options,
        )

    return run


def counted(engine: Engine, table: str) -> int:
    with engine.connect() as connection:
        set_scope(connection, WHOLE_CITY)
        found: int = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
        return found


def stored(engine: Engine) -> dict[str, int]:
    tables = ("incident", "incident_revision", "incident_conflict", "change", "batch", "attachment")
    return {table: counted(engine, table) for table in tables}


def test_a_file_is_one_change_and_each_row_what_a_submission_would_be(
    engine: Engine, bring: Any
) -> None:
    load_facilities(engine, [facility("LIFT-1", *INSIDE[NANAN], rescue_code="123456")])
    bodies = [
        incident(facts={"deaths": 3}),
        incident(position=list(INSIDE[SHAPINGBA]), crs="WGS84"),
        incident(position=list(CHENGDU), crs="WGS84"),
        incident(position=None),
        incident(position=None, facility_id="123456"),
        incident(position=[106.6, 29.6], crs="WGS84", address="沙坪坝区某路"),
    ]
    before = counted(engine, "change")
    receipt = bring(file_of(*bodies))
    assert (receipt.accepted, receipt.duplicates, receipt.rejected) == (6, 0, ())
    assert counted(engine, "change") == before + 1
    for body, told in zip(bodies, receipt.incidents, strict=True):
        one = store_incident(
            engine, body, body=json.dumps(body).encode(), account=COMMANDER, packs=PACKS, lang="en"
        )
        assert one.status == "identical"
        assert {k: one.json[k] for k in ("adcode", "unit", "warnings", "probable_duplicates")} == {
            k: told[k] for k in ("adcode", "unit", "warnings", "probable_duplicates")
        }
        assert told["level"] == one.json["assessment"]["level"]
        assert (told["status"], told["version"]) == ("created", 1)
    with engine.connect() as connection:
        kept = connection.execute(
            text("SELECT body, channel FROM batch ORDER BY id DESC LIMIT 1")
        ).one()
    assert (bytes(kept.body), kept.channel) == (b"the file as it came", "incident_file")


def test_the_same_file_again_gives_duplicates_and_changes_nothing(
    engine: Engine, bring: Any
) -> None:
    file = file_of(*(incident() for _ in range(5)))
    first = bring(file)
    held = stored(engine)
    again = bring(file)
    assert (first.accepted, again.accepted, again.duplicates) == (5, 0, 5)
    assert {one["status"] for one in again.incidents} == {"duplicate"}
    assert again.sequence is None
    assert stored(engine) == held


def test_a_bad_row_refuses_the_file_and_every_bad_row_is_named(engine: Engine, bring: Any) -> None:
    taken = incident()
    bring(file_of(taken))
    held = stored(engine)
    rows = [
        Row(1, incident()),
        Row(2, incident(kind=None)),
        Row(3, taken | {"facts": {"deaths": 1}}),
        Row(4, None, (Fault("has no position", 4, "lon"),)),
        Row(5, incident(facts={"deaths": -1})),
        Row(6, incident(description="a\x00b")),
    ]
    with pytest.raises(RefusedFile) as refused:
        bring(File(rows))
    assert [(f.row, f.field) for f in refused.value.faults] == [
        (2, "kind"),
        (3, "incident_id"),
        (4, "lon"),
        (5, "facts.deaths"),
        (6, "description"),
    ]
    assert "conflict" in refused.value.faults[1].reason
    assert stored(engine) == held
    receipt = bring(File(rows), partial=True)
    assert (receipt.accepted, len({f.row for f in receipt.rejected})) == (1, 5)
    assert counted(engine, "incident_conflict") == 1, "the other body is kept for review"


def test_one_id_twice_in_a_file_is_once_or_a_conflict(engine: Engine, bring: Any) -> None:
    body = incident()
    twice = bring(file_of(body, body))
    assert [one["status"] for one in twice.incidents] == ["created", "duplicate"]
    other = incident()
    receipt = bring(file_of(other, other | {"kind": "crane"}), partial=True)
    assert [one["status"] for one in receipt.incidents] == ["created", "conflict"]
    assert [f.row for f in receipt.rejected] == [2]
    assert counted(engine, "incident") == 2
    assert counted(engine, "incident_conflict") == 1


def test_what_the_account_may_not_see_is_taken_without_detail(engine: Engine, bring: Any) -> None:
    body = incident(facts={"deaths": 4})
    bring(file_of(body), FIELD)
    receipt = bring(file_of(body, incident()), FIELD_OTHER, partial=True)
    assert [f.reason for f in receipt.rejected] == ["this incident_id is taken"]
    assert [one["row"] for one in receipt.incidents] == [2]
    assert receipt.incidents[0]["probable_duplicates"] == [], "nor is it named as one near"
    own = bring(file_of(incident()), FIELD_OTHER)
    assert receipt.incidents[0]["incident_id"] in own.incidents[0]["probable_duplicates"]


def test_a_dry_run_says_the_same_and_stores_nothing(engine: Engine, bring: Any) -> None:
    near = incident()
    bring(file_of(near))
    held = stored(engine)
    rows = [Row(1, incident(facts={"deaths": 3})), Row(2, near), Row(3, incident(kind=None))]
    receipt = bring(File(rows), dry_run=True)
    assert (receipt.accepted, receipt.duplicates) == (1, 1)
    assert [one["status"] for one in receipt.incidents] == ["would_create", "duplicate"]
    assert receipt.incidents[0]["level"] == 3
    assert near["incident_id"] in receipt.incidents[0]["probable_duplicates"]
    assert [f.row for f in receipt.rejected] == [3]
    assert receipt.json([])["dry_run"] is True
    assert stored(engine) == held


def photo_file(tmp_path: Path) -> bytes:
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (64, 48), "red").save(path)
    return path.read_bytes()


def test_a_photo_is_attached_to_the_incident_it_makes(
    engine: Engine, bring: Any, tmp_path: Path
) -> None:
    body, taken = incident(), photo_file(tmp_path)
    file = File([Row(1, body, (), {"name": "IMG_1.jpg", "content_type": "image/jpeg"})], "JPEG")
    bring(file, original=taken, dry_run=True)
    assert not (tmp_path / "attachments").exists()
    bring(file, original=taken)
    bring(file, original=taken)
    found = list_attachments(engine, UUID(body["incident_id"]), COMMANDER)
    assert [(one["file_name"], one["width_px"], one["bytes"]) for one in found] == [
        ("IMG_1.jpg", 64, len(taken))
    ]
    blobs = BlobFolder(tmp_path / "attachments")
    assert blobs.get(bytes.fromhex(found[0]["sha256"])) == taken


def test_a_photo_that_is_none_or_too_large_stores_nothing(engine: Engine, bring: Any) -> None:
    file = File([Row(1, incident(), (), {"name": "a.jpg", "content_type": "image/jpeg"})], "JPEG")
    with pytest.raises(InvalidInput):
        bring(file, original=b"\xff\xd8\xff and then nothing")
    with pytest.raises(TooLarge):
        bring(file, original=b"\xff\xd8\xff" + bytes(31 * 2**20))
    assert counted(engine, "incident") == 0


@pytest.mark.parametrize(("count", "events"), [(3, 3), (150, 2)])
def test_the_stream_tells_each_new_incident_or_each_district(
    divided_database_url: str, engine: Engine, bring: Any, count: int, events: int
) -> None:
    builder = Builder(engine, divided_database_url, PACKS, SituationSettings())
    builder.build_once()
    places = [list(INSIDE[YUZHONG]), list(INSIDE[SHAPINGBA])]
    bodies = [incident(position=places[n % 2]) for n in range(count)]
    receipt = bring(file_of(*bodies))
    bring(file_of(*bodies))
    builder.build_once()
    with reading(engine) as connection:
        told = connection.execute(
            text("SELECT sequence, adcode, payload FROM stream_event WHERE kind = 'incident'")
        ).all()
    assert len(told) == events
    assert {one.sequence for one in told} == {receipt.sequence}
    assert {one.adcode for one in told} == {YUZHONG, SHAPINGBA}
    ids = [
        each
        for one in told
        for each in one.payload.get("incident_ids", [one.payload.get("incident_id")])
    ]
    assert sorted(ids) == sorted(body["incident_id"] for body in bodies)


def test_files_sent_at_once_are_each_stored_once(
    engine: Engine, bring: Any, divided_database_url: str
) -> None:
    kinds = ("elevator", "crane", "boiler")
    bodies = [incident(kind=kinds[n % 3]) for n in range(60)]
    orders = [np.random.default_rng(seed).permutation(60) for seed in range(6)]
    files = [file_of(*(bodies[i] for i in order)) for order in orders]
    with ThreadPoolExecutor(6) as pool:
        receipts = list(pool.map(bring, files))
    assert sum(one.accepted for one in receipts) == 60
    assert sum(one.duplicates for one in receipts) == 300
    assert counted(engine, "incident") == counted(engine, "incident_revision") == 60
    owner = owner_engine(divided_database_url)
    report = verify(owner, deep=True)
    owner.dispose()
    assert report.clean, "\n".join(report.lines())


def test_ten_thousand_rows_go_in_within_a_minute_and_at_one_place_too(
    engine: Engine, bring: Any
) -> None:
    """Twenty seconds on a quiet machine; the limit leaves room for a busy one."""
    rng = np.random.default_rng(3)
    scattered = [
        incident(position=[106.0 + rng.random(), 29.3 + rng.random()], address="渝中区")
        for _ in range(5_000)
    ]
    heaped = [incident(occurred_at=ago(minutes=5), crs="WGS84") for _ in range(5_000)]
    steps: list[tuple[str, int, int]] = []
    begun = time.monotonic()
    receipt = bring(file_of(*scattered, *heaped), progress=lambda *one: steps.append(one))
    took_s = time.monotonic() - begun
    print(f"10,000 rows in {took_s:.1f} s")
    assert receipt.accepted == 10_000
    assert len(receipt.incidents[-1]["probable_duplicates"]) == 50
    assert list(dict.fromkeys(stage for stage, _, _ in steps)) == ["check", "place", "store"]
    for stage in ("check", "place", "store"):
        done = [step[1:] for step in steps if step[0] == stage]
        assert done == sorted(done)
        assert done[-1] == (10_000, 10_000)
    assert len(steps) > 50
    assert took_s < 60
