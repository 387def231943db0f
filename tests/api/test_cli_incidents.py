"""`yutu import incidents` as it is typed, against a real PostGIS."""

from __future__ import annotations

import getpass
import json
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import Result
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from api.cli import app
from data.attachments import FOLDER
from data.blobs import BlobFolder
from data.settings import PathsSettings
from tests.api.conftest import Credentials
from tests.data.incident_files.generate import FIRST_ID, PLAN, good
from tests.feeds import SHAPINGBA, YUZHONG

HEAD = "事件编号,事发时间,设备类型,预案,经度,纬度,死亡人数\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Shapefiles cut the names of columns
        return good(tmp_path_factory.mktemp("incident_files"))


@pytest.fixture(autouse=True)
def _own_database(
    monkeypatch: pytest.MonkeyPatch, database_url: str, owner: Engine, tmp_path: Path
) -> Iterator[None]:
    monkeypatch.setenv("YUTU_DATABASE_URL", database_url)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with owner.begin() as connection:
        connection.execute(text("TRUNCATE incident, incident_conflict CASCADE"))
    yield
    assert list(scratch.iterdir()) == [], "nothing stays behind"


def yutu(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["import", "incidents", *map(str, words)])


def table(folder: Path, *rows: str) -> Path:
    path = folder / "rows.csv"
    path.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def row(deaths: str = "0", lon: str = "106.553", incident_id: str = "") -> str:
    return f"{incident_id or uuid4()},2026-11-21 08:30,电梯,特种设备,{lon},29.553,{deaths}"


def stored(owner: Engine) -> list[tuple[str, str | None, str]]:
    with owner.connect() as connection:
        found = connection.execute(
            text("SELECT CAST(incident_id AS text), adcode, account FROM incident ORDER BY adcode")
        )
        return [(one.incident_id, one.adcode, one.account) for one in found]


def test_a_file_is_imported_and_the_same_again_is_duplicates(
    owner: Engine, files: dict[str, Path]
) -> None:
    first = yutu(files["excel.csv"])
    assert first.exit_code == 0, first.output
    assert f"1  {FIRST_ID}  created" in first.stdout
    assert YUZHONG in first.stdout
    assert first.stdout.splitlines()[-1] == "accepted 2, duplicates 0, rejected 0"
    assert "unread: 天气" in first.stderr
    again = yutu(files["excel.csv"])
    assert again.exit_code == 0
    assert again.stdout.splitlines()[-1] == "accepted 0, duplicates 2, rejected 0"
    assert {account for _, _, account in stored(owner)} == {f"system:{getpass.getuser()}"}


@pytest.mark.parametrize(
    "name",
    ["track.gpx", "chinese.xlsx", "gbk.zip", "zone.gpkg", "phone.heic", "no_gps.jpg", "points.geojson"],
)  # fmt: skip
def test_what_the_rows_do_not_say_is_said_beside_them(
    owner: Engine, files: dict[str, Path], name: str
) -> None:
    done = yutu(files[name], "--plan", PLAN, "--kind", "电梯")
    assert done.exit_code == 0, done.output
    count = len(stored(owner))
    assert count == (1 if name.endswith(("heic", "jpg")) else 2)
    assert f"accepted {count}, duplicates 0, rejected 0" in done.stdout


def test_a_photo_is_kept_with_its_incident(owner: Engine, files: dict[str, Path]) -> None:
    assert yutu(files["phone.jpg"], "--plan", PLAN, "--kind", "crane").exit_code == 0
    with owner.connect() as connection:
        name, sha256 = connection.execute(text("SELECT file_name, sha256 FROM attachment")).one()
    assert name == "phone.jpg"
    blobs = BlobFolder(PathsSettings.load().var / FOLDER)
    assert blobs.get(bytes(sha256)) == files["phone.jpg"].read_bytes()


def test_one_wrong_row_refuses_the_file_with_code_1(owner: Engine, tmp_path: Path) -> None:
    path = table(tmp_path, row(), row(deaths="-1"), row(deaths="many"))
    refused = yutu(path)
    assert refused.exit_code == 1
    assert "nothing was imported" in refused.stderr
    assert "rejected: rows.csv: row 2 (line 3), 死亡人数: must not be negative" in refused.stderr
    assert "rejected: rows.csv: row 3 (line 4), 死亡人数: " in refused.stderr
    assert refused.stdout == ""
    assert stored(owner) == []
    told = yutu(path, "--lang", "zh", "--json")
    assert told.exit_code == 1
    receipt = json.loads(told.stdout)
    assert (receipt["accepted"], receipt["duplicates"], receipt["incidents"]) == (0, 0, [])
    assert [(one["row"], one["line"]) for one in receipt["rejected"]] == [(2, 3), (3, 4)]
    assert receipt["rejected"][0]["reason"] == "应不小于 0"


def test_with_partial_the_good_rows_are_taken_and_the_code_is_1_still(
    owner: Engine, tmp_path: Path
) -> None:
    done = yutu(table(tmp_path, row(), row(deaths="-1")), "--partial")
    assert done.exit_code == 1
    assert "rejected: rows.csv: row 2 (line 3), 死亡人数" in done.stderr
    assert done.stdout.splitlines()[-1] == "accepted 1, duplicates 0, rejected 1"
    assert len(stored(owner)) == 1


def test_a_dry_run_stores_nothing_and_says_what_would_be(owner: Engine, tmp_path: Path) -> None:
    path = table(tmp_path, row(), row())
    done = yutu(path, "--dry-run")
    assert done.exit_code == 0, done.output
    assert done.stdout.count("would_create") == 2
    assert "1 probable duplicates" in done.stdout
    assert done.stdout.splitlines()[-1] == "would be accepted 2, duplicates 0, rejected 0"
    assert stored(owner) == []
    wrong = yutu(table(tmp_path, row(), row(deaths="x")), "--dry-run")
    assert wrong.exit_code == 1
    assert "nothing would be imported without --partial" in wrong.stderr
    assert stored(owner) == []


def test_as_json_the_receipt_is_that_of_the_route(owner: Engine, tmp_path: Path) -> None:
    incident_id = str(uuid4())
    path = table(tmp_path, row(incident_id=incident_id, deaths="3"))
    done = yutu(path, "--json", "--crs", "WGS84")
    receipt = json.loads(done.stdout)
    assert (receipt["accepted"], receipt["duplicates"], receipt["rejected"]) == (1, 0, [])
    assert receipt["format"] == "csv"
    assert receipt["sequence"] > 0
    (told,) = receipt["incidents"]
    assert (told["row"], told["incident_id"], told["status"]) == (1, incident_id, "created")
    assert (told["adcode"], told["level"], told["version"]) == (YUZHONG, 3, 1)


def test_it_is_the_submission_of_the_account_that_is_named(
    owner: Engine, tmp_path: Path, credentials: Credentials
) -> None:
    assert "field" in credentials
    known = row(lon="106.40", incident_id=str(uuid4()))
    assert yutu(table(tmp_path, known), "--account", "field").exit_code == 0
    assert {account for _, _, account in stored(owner)} == {"field"}
    other = yutu(table(tmp_path, row(), row()), "--account", "nobody")
    assert other.exit_code == 1
    assert "account: no active account has this name" in other.stderr
    viewer = yutu(table(tmp_path, row()), "--account", "viewer")
    assert viewer.exit_code == 1
    assert "accounts of the role viewer submit no incidents" in viewer.stderr
    assert len(stored(owner)) == 1
    mine = row(incident_id=str(uuid4()))
    assert yutu(table(tmp_path, mine), "--account", "field").exit_code == 0
    hidden = yutu(table(tmp_path, mine), "--account", "field-other")
    assert hidden.exit_code == 1
    assert "this incident_id is taken" in hidden.stderr


@pytest.mark.parametrize("suffix", ["csv", "xlsx"])
@pytest.mark.parametrize("lang", ["zh", "en"])
def test_a_template_is_written_and_imports_as_it_stands(
    owner: Engine, tmp_path: Path, suffix: str, lang: str
) -> None:
    path = tmp_path / f"new.{suffix}"
    written = yutu("--template", path, "--plan", "特种设备", "--lang", lang)
    assert (written.exit_code, written.output) == (0, f"wrote {path}\n")
    again = yutu("--template", path, "--lang", lang)
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    taken = yutu(path)
    assert taken.exit_code == 0, taken.output
    assert "accepted 1, duplicates 0, rejected 0" in taken.stdout
    assert [adcode for _, adcode, _ in stored(owner)] == [YUZHONG]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "name a file, or --template FILE"),
        (("--template", "x.pdf"), "must end in .csv or .xlsx"),
        (("--template", "x.csv", "--plan", "flood"), "must be one of"),
        (("--lang", "fr"), "must be en or zh"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    words: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = yutu(*words)
    assert result.exit_code == 1
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("a.csv", b"%PDF-1.7\n", "PDF"),
        ("a.kml", b"<kml>", "damaged"),
        ("a.xlsx", b"a,b\n", ""),
        ("empty.csv", b"", "empty"),
    ],
)
def test_a_file_that_is_none_of_incidents_is_said_in_one_line(
    tmp_path: Path, owner: Engine, name: str, body: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(body)
    result = yutu(tmp_path / name)
    assert result.exit_code == 1
    assert says in result.stderr
    assert "Traceback" not in result.output
    assert len(result.stderr.splitlines()) == 1
    assert stored(owner) == []


def test_an_incident_outside_and_one_without_place_are_taken_with_their_doubts(
    owner: Engine, tmp_path: Path
) -> None:
    done = yutu(table(tmp_path, row(lon="90.0"), row(lon="106.40").replace("29.553", "29.62")))
    assert done.exit_code == 0, done.output
    assert "outside" in done.stdout
    assert [adcode for _, adcode, _ in stored(owner)] == [SHAPINGBA, None]
