"""The restore drill: what comes back is what was there, to the row, to the byte, to the moment."""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from api.cli import app
from data.attachments import FOLDER, attached_file
from data.backup import archive_command, backups, copy_files_only, make_backup, stop_archiving
from data.blobs import BlobFolder
from data.database import owner_engine
from data.restore import choose, restore
from data.settings import PathsSettings
from data.verify import verify
from geo.errors import Conflict, Unavailable
from tests.data.place import Place, attach, content, files, report_down
from tests.data.test_attachments import picture
from tests.feeds import COMMANDER


def test_a_restored_database_equals_the_one_that_was_saved(
    place: Place, restored: Place, short_folder: Path
) -> None:
    folder = short_folder / "backup"
    made = make_backup(place.cluster, "yutu", place.var, folder)
    engine = place.engine()
    report_down(engine, "later", range(50, 120))  # only in the log
    incident_id, attachment_id = attach(engine, place.var, "two.jpg", 90)
    engine.dispose()
    assert copy_files_only(place.var, folder) > 0
    with psycopg.connect(place.cluster.url().replace("+psycopg", "", 1), autocommit=True) as one:
        one.execute("SELECT pg_switch_wal()")
    place.cluster.stop()  # in order: the last segment is archived
    place.cluster.start()
    before, kept = content(place.cluster), files(place.var)

    done = restore(folder, restored.var)

    restored.cluster.start()
    assert content(restored.cluster) == before
    assert files(restored.var) == kept
    assert done.missing == []
    assert done.attachments == 2
    assert done.sequence > made.manifest["sequence"]
    owner = owner_engine(restored.cluster.url())
    report = verify(owner, deep=True)
    owner.dispose()
    assert report.clean, "\n".join(report.lines())
    engine = restored.engine()
    shown = attached_file(
        engine,
        BlobFolder(restored.var / FOLDER),
        incident_id,
        attachment_id,
        COMMANDER,
        original=True,
    )
    assert shown.body == picture("JPEG", (90, 90))
    report_down(engine, "new life", range(3))  # it is a database like any other
    with engine.connect() as connection:
        assert connection.execute(text("SHOW archive_command")).scalar_one() == "/bin/true"
    engine.dispose()
    with pytest.raises(Conflict, match="is not empty"):
        restore(folder, restored.var)


def test_a_moment_between_two_commits_has_exactly_the_first(
    place: Place, restored: Place, short_folder: Path
) -> None:
    folder = short_folder / "backup"
    make_backup(place.cluster, "yutu", place.var, folder)
    engine = place.engine()
    report_down(engine, "before", range(60, 70))
    exactly = content(place.cluster)
    time.sleep(0.05)
    between = datetime.now(UTC)
    time.sleep(0.05)
    report_down(engine, "after", range(70, 80))
    engine.dispose()
    second = make_backup(place.cluster, "yutu", place.var, folder)  # its base is too new to be used
    assert [one.name for one in backups(folder)][-1] == second.name
    assert choose(folder, between).name != second.name

    done = restore(folder, restored.var, between)

    assert done.newest_at is not None
    assert done.newest_at <= between
    restored.cluster.start()
    assert content(restored.cluster) == exactly

    other = short_folder / "other"
    with pytest.raises(Unavailable, match="does not reach"):
        restore(folder, other, datetime.now(UTC) + timedelta(hours=1))
    with pytest.raises(Unavailable, match="no base backup from before"):
        restore(folder, other, datetime(2020, 1, 1, tzinfo=UTC))
    assert not other.exists()


def test_a_damaged_or_foreign_backup_is_refused_and_leaves_nothing(
    place: Place, short_folder: Path
) -> None:
    folder, target = short_folder / "backup", short_folder / "target"
    made = make_backup(place.cluster, "yutu", place.var, folder)
    victim = next(
        path for path in (made.base / "base" / "1").iterdir() if path.stat().st_size > 8192
    )
    intact = victim.read_bytes()
    victim.write_bytes(intact[:5000] + bytes([intact[5000] ^ 1]) + intact[5001:])
    with pytest.raises(Unavailable, match="is damaged"):
        restore(folder, target)
    assert not target.exists()
    victim.write_bytes(intact)
    for segment in (folder / "wal").iterdir():  # the base is whole by itself
        segment.unlink()
    assert restore(folder, target).sequence >= made.manifest["sequence"]
    noted = folder / "base" / f"{made.name}.json"
    said = json.loads(noted.read_text())
    other = said | {"audit_head": said["audit_head"].replace("a", "b").replace("1", "2")}
    noted.write_text(json.dumps(other))
    with pytest.raises(Unavailable, match="does not hold its own head"):
        restore(folder, short_folder / "headless")
    assert not (short_folder / "headless").exists()
    noted.write_text(json.dumps(said))
    blob = next(path for path in (folder / "files" / FOLDER).rglob("*") if path.is_file())
    blob.write_bytes(b"damaged")
    assert len(restore(folder, short_folder / "again").missing) == 1
    with pytest.raises(Unavailable, match="no folder made by"):
        restore(place.var, short_folder / "third")
    (short_folder / "full").mkdir()
    (short_folder / "full" / "something").write_text("else")
    with pytest.raises(Unavailable, match="no folder made by"):
        make_backup(place.cluster, "yutu", place.var, short_folder / "full")
    with pytest.raises(Conflict, match="lies in"):
        make_backup(place.cluster, "yutu", place.var, place.var / "backup")


def test_a_segment_is_kept_whole_once_and_never_replaced_by_another(tmp_path: Path) -> None:
    wal = tmp_path / "it's 100% here"
    wal.mkdir()
    segment = tmp_path / "segment"
    segment.write_bytes(b"one" * 1000)
    command = archive_command(wal).replace("%%", "%")
    command = command.replace("%f", "0001").replace("%p", str(segment))
    assert os.system(command) == 0
    assert os.system(command) == 0  # after a crash PostgreSQL may ask again
    segment.write_bytes(b"two" * 1000)
    assert os.system(command) != 0
    assert (wal / "0001").read_bytes() == b"one" * 1000
    shutil.rmtree(wal)
    assert os.system(command) != 0


def test_a_folder_that_goes_away_is_said_and_stopping_ends_it(
    place: Place, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = short_folder / "backup"
    make_backup(place.cluster, "yutu", place.var, folder)
    monkeypatch.setattr("data.backup.ARCHIVE_WAIT_S", 3)
    shutil.move(folder / "wal", short_folder / "gone")
    (folder / "wal").write_text("no folder any more")
    with pytest.raises(Unavailable):
        make_backup(place.cluster, "yutu", place.var, folder)
    stop_archiving(place.cluster, "yutu")
    with psycopg.connect(place.cluster.url().replace("+psycopg", "", 1)) as connection:
        deadline = time.monotonic() + 10
        while True:
            row = connection.execute("SHOW archive_command").fetchone()
            connection.rollback()
            if row == ("/bin/true",):
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_the_commands_of_the_docs_back_up_and_restore(
    place: Place, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUTU_VAR", str(place.var))
    monkeypatch.setenv("YUTU_RUNTIME", str(place.runtime))
    run, folder = CliRunner().invoke, str(short_folder / "backup")
    made = run(app, ["db", "backup", folder])
    assert made.exit_code == 0, made.output
    assert "the log is kept in" in made.output
    head = backups(Path(folder))[0].manifest["audit_head"]
    assert head in made.output
    moment = datetime.now(UTC).isoformat()
    assert run(app, ["db", "backup", folder, "--files"]).exit_code == 0
    with psycopg.connect(place.cluster.url().replace("+psycopg", "", 1), autocommit=True) as one:
        one.execute("CREATE TABLE later ()")
        one.execute("SELECT pg_switch_wal()")
    assert run(app, ["db", "backup", folder]).exit_code == 0
    monkeypatch.setenv("YUTU_VAR", str(short_folder / "new"))
    monkeypatch.delenv("YUTU_RUNTIME")
    done = run(app, ["db", "restore", folder, "--until", moment])
    assert done.exit_code == 0, done.output
    assert "1 attachments" in done.output
    whole = run(app, ["audit", "verify", "--head", head])
    assert whole.exit_code == 0, whole.output
    told = [json.loads(line) for line in run(app, ["audit", "list"]).output.splitlines()]
    assert [row["act"] for row in told if row["act"].startswith("database.")] == [
        "database.restored",
        "database.backup",
    ]
    assert (PathsSettings.load().cluster / "PG_VERSION").exists()
    again = run(app, ["db", "restore", folder])
    assert again.exit_code == 1
    assert "is not empty" in again.output
    monkeypatch.setenv("YUTU_DATABASE_URL", "postgresql://x@/y")
    for command in (["db", "backup", folder], ["db", "restore", folder]):
        refused = run(app, command)
        assert refused.exit_code == 1
        assert "with its own tools" in refused.output
