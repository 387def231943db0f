"""Old base backups go and the newest good one never does; when the log cannot be kept it is told."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from api.cli import app
from data.backup import backups, make_backup
from data.backup_keep import _cut_log, keep_newest
from data.backup_note import noted_backups
from data.database import app_engine, reading
from data.restore import choose, restore
from data.vital_signs import Archive, vital_signs
from geo.errors import Unavailable
from tests.data.place import Place, content, report_down


def switch_log(place: Place) -> None:
    with psycopg.connect(place.cluster.url().replace("+psycopg", "", 1), autocommit=True) as one:
        one.execute("SELECT txid_current(), pg_switch_wal()")


def segments(folder: Path) -> set[str]:
    return {path.name for path in (folder / "wal").iterdir() if len(path.name) == 24}


def archive(place: Place) -> Archive:
    engine = app_engine(place.cluster.url(), pool_size=1)
    try:
        with reading(engine) as connection:
            return vital_signs(connection, 15).archive
    finally:
        engine.dispose()


def wait(place: Place, failing: bool) -> Archive:
    deadline = time.monotonic() + 30
    while (found := archive(place)).failing is not failing:
        assert time.monotonic() < deadline, found
        switch_log(place)
        time.sleep(0.2)
    return found


def test_older_backups_go_and_what_is_left_restores_to_any_moment_since(
    place: Place, restored: Place, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUTU_VAR", str(place.var))
    monkeypatch.setenv("YUTU_RUNTIME", str(place.runtime))
    run, folder = CliRunner().invoke, short_folder / "backup"
    assert not archive(place).kept
    first = make_backup(place.cluster, "yutu", place.var, folder)
    assert archive(place).kept
    engine = place.engine()
    report_down(engine, "a", range(50, 60))
    made = run(app, ["db", "backup", str(folder), "--keep", "2"])
    assert made.exit_code == 0, made.output
    assert "deleted 0 older backups" in made.output
    assert set(noted_backups(place.var)) == {"database", "files"}
    assert first.name in {one.name for one in backups(folder)}
    second = backups(folder)[-1]
    report_down(engine, "b", range(60, 70))
    exactly, between = content(place.cluster), datetime.now(UTC)
    time.sleep(0.05)
    report_down(engine, "c", range(70, 80))
    engine.dispose()
    third = make_backup(place.cluster, "yutu", place.var, folder)
    before = segments(folder)
    half = folder / "base" / "20200101T000000.000000Z"  # of a deletion that was cut short
    half.mkdir()
    (half / "PG_VERSION").write_text("15")

    # a damaged newest one: nothing goes
    victim = next(p for p in (third.base / "base" / "1").iterdir() if p.stat().st_size > 8192)
    intact = victim.read_bytes()
    victim.write_bytes(intact[:5000] + bytes([intact[5000] ^ 1]) + intact[5001:])
    with pytest.raises(Unavailable, match="is damaged"):
        keep_newest(folder, 1)
    assert [one.name for one in backups(folder)] == [first.name, second.name, third.name]
    assert segments(folder) == before
    victim.write_bytes(intact)

    gone = keep_newest(folder, 2)
    assert gone.bases == [first.name]
    assert gone.segments >= 1
    assert not first.base.exists()
    assert not half.exists()
    assert [one.name for one in backups(folder)] == [second.name, third.name]
    assert segments(folder) < before
    with pytest.raises(Unavailable, match="no base backup from before"):
        choose(folder, first.finished_at)
    assert choose(folder, between).name == second.name
    restore(folder, restored.var, between)
    restored.cluster.start()
    assert content(restored.cluster) == exactly

    assert keep_newest(folder, 1).bases == [second.name]
    assert keep_newest(folder, 1).bases == []  # never the last one
    assert restore(folder, short_folder / "again").sequence >= third.manifest["sequence"]
    assert not noted_backups(short_folder / "again")

    for wrong in ("--files", "--stop"):
        refused = run(app, ["db", "backup", str(folder), "--keep", "1", wrong])
        assert refused.exit_code == 1
        assert "whole backup" in refused.output
    assert run(app, ["db", "backup", str(folder), "--keep", "0"]).exit_code == 2

    # the folder goes away: PostgreSQL keeps trying, and the alert's figure says so
    wal = folder / "wal"
    wal.rename(folder / "wal.away")
    failing = wait(place, True)
    assert failing.kept
    assert failing.failed >= 1
    (folder / "wal.away").rename(wal)
    assert wait(place, False).archived > failing.archived


def test_the_log_goes_by_its_place_and_not_by_its_timeline(tmp_path: Path) -> None:
    old = [
        "000000010000000000000002",
        "000000020000000000000002",
        "000000010000000000000003.partial",
    ]
    old += ["000000010000000000000002.00000028.backup"]
    left = ["000000010000000000000004", "000000020000000000000005", "00000002.history"]
    left += ["000000010000000000000004.00000028.backup", ".000000010000000000000001.part", "note"]
    (tmp_path / "wal").mkdir()
    for name in old + left:
        (tmp_path / "wal" / name).touch()

    class Base:
        base = tmp_path

    oldest: Any = Base()
    (tmp_path / "backup_label").write_text("LABEL: x\n")
    with pytest.raises(Unavailable, match="does not say where"):
        _cut_log(tmp_path / "wal", oldest)
    (tmp_path / "backup_label").write_text(
        "START WAL LOCATION: 0/4000028 (file 000000010000000000000004)\nLABEL: x\n"
    )
    assert _cut_log(tmp_path / "wal", oldest) == len(old)
    assert {path.name for path in (tmp_path / "wal").iterdir()} == set(left)


def test_photos_of_a_database_of_ones_own_are_saved_by_themselves(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    var, folder = short_folder / "var", short_folder / "photos"
    (var / "tls").mkdir(parents=True)
    (var / "tls" / "ca.pem").write_text("authority")
    monkeypatch.setenv("YUTU_VAR", str(var))
    monkeypatch.setenv("YUTU_DATABASE_URL", "postgresql://x@db/y")
    run = CliRunner().invoke
    for _ in range(2):
        made = run(app, ["db", "backup", str(folder), "--files"])
        assert made.exit_code == 0, made.output
    assert (folder / "files" / "tls" / "ca.pem").read_text() == "authority"
    assert set(noted_backups(var)) == {"files"}
    whole = run(app, ["db", "backup", str(folder)])
    assert whole.exit_code == 1
    assert "with its own tools" in " ".join(whole.output.split())
    marker = folder / "yutu-backup.json"
    marker.write_text(json.dumps({"format": 1, "system_identifier": "7"}))
    other = run(app, ["db", "backup", str(folder), "--files"])
    assert "another database" in " ".join(other.output.split())
    monkeypatch.setenv("YUTU_VAR", str(short_folder / "no such"))
    assert "is YUTU_VAR right" in run(app, ["db", "backup", str(folder), "--files"]).output
