"""`POST /v1/incidents/import` over a real server, with files as others write them."""

from __future__ import annotations

import json
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import Engine, text

from data.verify import verify
from tests.api.conftest import Credentials, assert_problem
from tests.data.incident_files.generate import FIRST_ID, PLACES, PLAN, good, malformed
from tests.data.incident_files.hostile import HARMLESS, ROWS, write_hostile
from tests.feeds import INSIDE, SHAPINGBA, YUZHONG

PATH = "/v1/incidents/import"
FULING = "500102"
#: Beside files whose rows do not say it themselves.
SAID = {"plan": PLAN, "kind": "elevator"}
NDJSON = {"Accept": "application/x-ndjson"}
TABLES = ("batch", "change", "incident", "incident_revision", "incident_conflict", "attachment")
#: Name → (format, incidents, adcodes); KML has a line too, which is no incident.
FILES: dict[str, tuple[str, int, list[str | None]]] = {
    name: (form, count, [YUZHONG, FULING][:count])
    for name, form, count in (
        ("excel.csv", "csv", 2), ("utf8.csv", "csv", 2), ("semicolon.csv", "csv", 2),
        ("chinese.xlsx", "xlsx", 2), ("points.geojson", "geojson", 2), ("track.gpx", "gpx", 2),
        ("google.kml", "kml", 2), ("gb.kml", "kml", 2), ("icon.kmz", "kmz", 2),
        ("phone.jpg", "jpeg", 1), ("phone.heic", "heic", 1), ("degrees.gpkg", "geopackage", 2),
        ("zone.gpkg", "geopackage", 2), ("gbk.zip", "shapefile", 2),
    )
} | {"no_gps.jpg": ("jpeg", 1, [None])}  # fmt: skip
PARTLY_WRONG = {"google.kml", "gb.kml", "icon.kmz"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Shapefiles cut the names of columns
        return good(tmp_path_factory.mktemp("incident_files"))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where this process keeps its files in passing, to look whether anything stays."""
    folder = tmp_path_factory.mktemp("scratch")
    before = tempfile.tempdir
    tempfile.tempdir = str(folder)
    yield folder
    tempfile.tempdir = before


@pytest.fixture
def count(owner: Engine) -> Callable[[], dict[str, int]]:
    def counted() -> dict[str, int]:
        with owner.connect() as connection:
            return {
                table: connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
                for table in TABLES
            }

    return counted


@pytest.fixture
def send(
    server: str, scratch: Path, key: Callable[[str], dict[str, str]]
) -> Iterator[Callable[..., httpx.Response]]:
    """`send(path or (name, bytes), "commander", partial=True, plan=…)` → the answer."""
    with httpx.Client(base_url=server, timeout=60) as client:

        def posted(
            file: Path | tuple[str, bytes],
            name: str = "commander",
            headers: dict[str, str] | None = None,
            said: dict[str, str] | None = None,
            **query: Any,
        ) -> httpx.Response:
            given = (file.name, file.read_bytes()) if isinstance(file, Path) else file
            answer = client.post(
                PATH,
                params={k: str(v).lower() for k, v in query.items()},
                files={"file": given},
                data=said or {},
                headers={**key(name), "Accept-Language": "en", **(headers or {})},
            )
            return answer

        yield posted
        assert list(scratch.iterdir()) == [], "no folder stays behind"


@pytest.fixture
def fresh(send: Callable[..., httpx.Response], owner: Engine) -> Callable[..., httpx.Response]:
    """`send`, in a store without incidents."""
    with owner.begin() as connection:
        connection.execute(text("TRUNCATE incident, incident_conflict CASCADE"))
    return send


def line(**cells: str) -> str:
    said = {"id": str(uuid4()), "time": "2026-11-21 08:30", "kind": "电梯", "plan": "特种设备"}
    said |= {"lon": "106.553", "lat": "29.553", "deaths": "0"} | cells
    return ",".join(said.values())


def table(*lines: str) -> tuple[str, bytes]:
    """A CSV of these lines."""
    head = "事件编号,事发时间,设备类型,预案,经度,纬度,死亡人数"
    return "rows.csv", "\n".join([head, *lines, ""]).encode()


# --- files as others write them -----------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_a_good_file_is_tried_taken_and_known_again(
    fresh: Callable[..., httpx.Response],
    count: Callable[[], dict[str, int]],
    files: dict[str, Path],
    name: str,
) -> None:
    form, rows, adcodes = FILES[name]
    partly = name in PARTLY_WRONG
    query = {"partial": True} if partly else {}
    before = count()
    tried = fresh(files[name], said=SAID, dry_run=True)
    assert tried.status_code == 200, tried.text
    assert count() == before, "a dry run stores nothing"
    taken = fresh(files[name], said=SAID, **query)
    assert taken.status_code == 200, taken.text
    told, would = taken.json(), tried.json()
    assert (told["accepted"], told["duplicates"], told["format"]) == (rows, 0, form)
    assert [one["status"] for one in told["incidents"]] == ["created"] * rows
    assert [one["adcode"] for one in told["incidents"]] == adcodes
    assert [one["row"] for one in told["rejected"]] == ([3] if partly else [])
    assert told["sequence"] > 0
    assert would.pop("dry_run") is True
    assert would.pop("refused") is partly
    for one in would["incidents"]:
        assert one["status"] == "would_create"
        one["status"] = "created"
    assert would == told | {"sequence": None}, "a dry run answers the same"
    assert count()["incident"] == rows
    held = count()
    again = fresh(files[name], said=SAID, **query).json()
    assert (again["accepted"], again["duplicates"], again["sequence"]) == (0, rows, None)
    assert {one["status"] for one in again["incidents"]} == {"duplicate"}
    assert count() == held, "the same file again changes nothing"


@pytest.mark.parametrize("name", sorted(PARTLY_WRONG))
def test_a_line_among_the_placemarks_refuses_the_file_and_is_named(
    fresh: Callable[..., httpx.Response],
    count: Callable[[], dict[str, int]],
    files: dict[str, Path],
    name: str,
) -> None:
    before = count()
    answer = fresh(files[name], said=SAID)
    told = assert_problem(answer, 422)
    assert (told["accepted"], told["duplicates"], told["incidents"]) == (0, 0, [])
    assert [one["row"] for one in told["rejected"]] == [3]
    assert "LineString" in told["rejected"][0]["reason"]
    assert "nothing was imported" in told["detail"]
    assert count() == before


def test_what_a_file_says_is_what_is_read_back(
    fresh: Callable[..., httpx.Response],
    client: httpx.Client,
    key: Callable[[str], dict[str, str]],
    files: dict[str, Path],
) -> None:
    fresh(files["excel.csv"]).raise_for_status()
    found = client.get(f"/v1/incidents/{FIRST_ID}", headers=key("commander")).json()
    said = found["properties"]
    assert found["geometry"]["coordinates"] == pytest.approx(PLACES[0])
    assert (said["plan"], said["kind"], said["adcode"]) == (PLAN, "elevator", YUZHONG)
    assert said["facts"]["direct_loss_yuan"] == 125_000
    assert said["reporter"] == {"name": "王工", "phone": "13800000001"}
    assert (
        "reporter"
        not in client.get(f"/v1/incidents/{FIRST_ID}", headers=key("viewer")).json()["properties"]
    )


@pytest.mark.parametrize(
    ("name", "media"), [("phone.jpg", "image/jpeg"), ("phone.heic", "image/heic")]
)
def test_a_photo_is_attached_to_its_incident_once(
    fresh: Callable[..., httpx.Response],
    client: httpx.Client,
    key: Callable[[str], dict[str, str]],
    files: dict[str, Path],
    name: str,
    media: str,
) -> None:
    for _ in range(2):
        answer = fresh(files[name], "field", said=SAID)
        (told,) = answer.json()["incidents"]
    attached = f"/v1/incidents/{told['incident_id']}/attachments"
    listed = client.get(attached, headers=key("field")).json()
    (one,) = listed["attachments"]
    assert (one["file_name"], one["media_type"], one["width_px"]) == (name, media, 64)
    shown = client.get(f"{attached}/{one['attachment_id']}", headers=key("field"))
    original = client.get(f"{attached}/{one['attachment_id']}/original", headers=key("field"))
    assert original.content == files[name].read_bytes()
    assert shown.headers["content-type"] == "image/jpeg"
    assert b"Exif" not in shown.content


def test_each_format_has_its_own_incidents_once(
    fresh: Callable[..., httpx.Response], owner: Engine, files: dict[str, Path]
) -> None:
    """All files one after the other: one UUID names one incident whatever file says it."""
    for name in FILES:
        fresh(files[name], said=SAID, partial=True)
    with owner.connect() as connection:
        by_id = connection.execute(
            text("SELECT count(*), count(DISTINCT incident_id) FROM incident")
        ).one()
        named = connection.execute(
            text("SELECT count(*) FROM incident WHERE incident_id = :id"), {"id": FIRST_ID}
        ).scalar_one()
    assert by_id[0] == by_id[1]
    assert named == 1
    report = verify(owner, deep=True)
    assert report.clean, "\n".join(report.lines())


# --- wrong rows ---------------------------------------------------------------------------------


def test_without_partial_one_wrong_row_refuses_all_and_with_it_the_others_are_taken(
    fresh: Callable[..., httpx.Response], count: Callable[[], dict[str, int]]
) -> None:
    file = table(line(), line(deaths="-1"), line(time="yesterday"), line(lat="", lon=""))
    before = count()
    told = assert_problem(fresh(file), 422)
    assert [(one["row"], one["line"], one["field"]) for one in told["rejected"]] == [
        (2, 3, "死亡人数"),
        (3, 4, "事发时间"),
    ]
    assert [(one["row"], one["field"]) for one in told["errors"]] == [
        (2, "死亡人数"),
        (3, "事发时间"),
    ]
    assert count() == before
    taken = fresh(file, said={"partial": "true"}).json()
    assert (taken["accepted"], [one["row"] for one in taken["rejected"]]) == (2, [2, 3])
    assert [(one["row"], one["adcode"]) for one in taken["incidents"]] == [(1, YUZHONG), (4, None)]
    assert [one["code"] for one in taken["incidents"][1]["warnings"]] == ["unplaced"]


def test_another_body_under_a_known_id_is_a_conflict_of_its_row(
    fresh: Callable[..., httpx.Response], count: Callable[[], dict[str, int]]
) -> None:
    known = str(uuid4())
    fresh(table(line(id=known))).raise_for_status()
    changed = table(line(id=known, deaths="2"), line())
    told = assert_problem(fresh(changed), 422)
    assert told["rejected"][0]["field"] == "incident_id"
    assert "another body" in told["rejected"][0]["reason"]
    assert count()["incident_conflict"] == 0
    taken = fresh(changed, partial=True).json()
    assert [one["status"] for one in taken["incidents"]] == ["conflict", "created"]
    assert count()["incident_conflict"] == 1, "the other body is kept for review"


def test_a_dry_run_of_a_file_with_wrong_rows_says_that_it_would_be_refused(
    fresh: Callable[..., httpx.Response], count: Callable[[], dict[str, int]]
) -> None:
    file = table(line(), line(deaths="many"))
    before = count()
    whole, partly = fresh(file, dry_run=True).json(), fresh(file, dry_run=True, partial=True).json()
    assert (whole["accepted"], whole["refused"], len(whole["rejected"])) == (1, True, 1)
    assert (partly["accepted"], partly["refused"], len(partly["rejected"])) == (1, False, 1)
    assert count() == before


@pytest.mark.parametrize(
    ("language", "word"), [("zh", "应不小于 0"), ("en", "must not be negative")]
)
def test_a_wrong_row_is_told_in_the_reader_s_language(
    fresh: Callable[..., httpx.Response], language: str, word: str
) -> None:
    answer = fresh(table(line(deaths="-1")), headers={"Accept-Language": language})
    assert word in assert_problem(answer, 422)["rejected"][0]["reason"]
    asked = fresh(table(line(deaths="-1")), lang=language)
    assert word in asked.json()["rejected"][0]["reason"]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return malformed(tmp_path_factory.mktemp("broken"))


def test_no_malformed_variant_is_more_than_a_refusal(
    fresh: Callable[..., httpx.Response], broken: dict[str, Path]
) -> None:
    """Cut short, holed, or under another extension: rows or the file are refused, never a 5xx."""
    statuses = {}
    for name, path in broken.items():
        answer = fresh(path, said=SAID)
        statuses[name] = answer.status_code
        if answer.status_code == 200:
            assert not name.startswith("renamed_")
            assert answer.json()["rejected"] == []
            continue
        told = assert_problem(answer, answer.status_code)
        assert told["detail"]
        assert "Traceback" not in answer.text
    assert set(statuses.values()) <= {200, 413, 415, 422}
    assert sum(status == 200 for status in statuses.values()) < len(statuses) / 4
    assert len(statuses) >= 45


# --- files made to do harm ----------------------------------------------------------------------


def test_hostile_files_are_refused_in_time_while_others_are_served(
    fresh: Callable[..., httpx.Response],
    count: Callable[[], dict[str, int]],
    server: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("YUTU_PARSE_CPU_SECONDS", "4")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = write_hostile(tmp_path)
    waits: list[float] = []
    done = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=server, timeout=30) as client:
            while not done.is_set():
                begun = time.monotonic()
                assert client.get("/health").status_code == 200
                waits.append(time.monotonic() - begun)
                time.sleep(0.02)

    asking = threading.Thread(target=ask)
    asking.start()
    before = count()
    told = {}
    try:
        for name, path in paths.items():
            begun = time.monotonic()
            answer = fresh(path, said=SAID, dry_run=name in HARMLESS)
            told[name] = (answer.status_code, time.monotonic() - begun)
            if name in HARMLESS:
                continue
            body = assert_problem(answer, answer.status_code)
            assert "root:" not in answer.text
            if name in ROWS:
                assert body["rejected"]
    finally:
        done.set()
        asking.join(10)
    assert {
        name: status for name, (status, _) in told.items() if status not in (413, 422)
    } == dict.fromkeys(HARMLESS, 200)
    assert max(seconds for _, seconds in told.values()) < 20
    assert count() == before
    waits.sort()
    print(
        f"{len(told)} files, slowest {max(s for _, s in told.values()):.1f} s; /health:"
        f" p50 {waits[len(waits) // 2] * 1000:.0f} ms, p99 {waits[len(waits) * 99 // 100] * 1000:.0f} ms"
    )
    assert waits[len(waits) * 99 // 100] < 0.25


# --- who, where, what else is said --------------------------------------------------------------


@pytest.mark.parametrize("name", ["viewer", "utility", "planner", "admin"])
def test_other_roles_may_not(
    send: Callable[..., httpx.Response], count: Callable[[], dict[str, int]], name: str
) -> None:
    before = count()
    assert_problem(send(table(line()), name), 403)
    assert count() == before


def test_a_field_team_s_file_is_placed_anywhere_and_shown_to_its_districts(
    fresh: Callable[..., httpx.Response],
    client: httpx.Client,
    key: Callable[[str], dict[str, str]],
    credentials: Credentials,
) -> None:
    mine, other = credentials["field"]["districts"], credentials["field-other"]["districts"]
    assert mine != other
    here, there = str(uuid4()), str(uuid4())
    places = [line(id=here), line(id=there, lon="106.40", lat="29.62")]
    told = fresh(table(*places), "field").json()
    assert [one["adcode"] for one in told["incidents"]] == [YUZHONG, SHAPINGBA]
    hidden = fresh(table(places[0]), "field-other", partial=True).json()
    assert hidden["incidents"] == []
    assert hidden["rejected"] == [
        {"row": 1, "line": 2, "field": "incident_id", "reason": "this incident_id is taken"}
    ]
    for name, districts in (("field", mine), ("field-other", other), ("commander", ["*"])):
        for incident_id, adcode in ((here, YUZHONG), (there, SHAPINGBA)):
            status = client.get(f"/v1/incidents/{incident_id}", headers=key(name)).status_code
            seen = name == "field" or "*" in districts or adcode in districts
            assert status == (200 if seen else 404), (name, adcode)


def test_a_declared_datum_moves_the_places_of_a_file(
    fresh: Callable[..., httpx.Response],
) -> None:
    lon, lat = INSIDE[YUZHONG]
    rows = table(line(lon=str(lon), lat=str(lat)))
    told = fresh(rows, said={"crs": "BD-09"}, dry_run=True).json()
    assert told["incidents"][0]["adcode"]
    bad = assert_problem(fresh(rows, said={"crs": "EPSG:1"}), 422)
    assert "crs" in json.dumps(bad["errors"])


@pytest.mark.parametrize(
    ("said", "field"),
    [({"partial": "maybe"}, "partial"), ({"dry_run": "2"}, "dry_run"), ({"kind": "x" * 300}, "kind"),
     ({"crs": "WGS\x0084"}, "crs"), ({"plan": "flood"}, "plan")],
)  # fmt: skip
def test_what_is_said_beside_the_file_is_checked(
    fresh: Callable[..., httpx.Response],
    count: Callable[[], dict[str, int]],
    said: dict[str, str],
    field: str,
) -> None:
    before = count()
    file = ("rows.csv", "事发时间,设备类型\n2026-11-21 08:30,电梯\n".encode())
    told = assert_problem(fresh(file, said=SAID | said), 422)
    assert field in {one["field"] for one in told["errors"]}
    assert count() == before


@pytest.mark.parametrize(
    "name",
    ["a\x00b.csv", "../../etc/passwd.csv", "..\\..\\x.csv", ".csv", "x" * 500 + ".csv", "表.csv",
     "a.csv/", 'a".csv', "a\r\nX: y.csv", "\u202ea.csv"],
)  # fmt: skip
def test_a_file_s_name_is_a_text_and_nothing_else(
    fresh: Callable[..., httpx.Response], name: str
) -> None:
    answer = fresh((name, table(line())[1]))
    assert answer.status_code == 200, answer.text
    assert answer.json()["accepted"] == 1


def test_what_is_no_form_with_a_file_is_told_how_to_send_one(
    client: httpx.Client, key: Callable[[str], dict[str, str]], scratch: Path
) -> None:
    who = key("commander") | {"Accept-Language": "en"}
    for options in (
        {"content": b"a,b\n1,2\n", "headers": {"Content-Type": "text/csv"}},
        {"data": {"file": "text"}},
        {"files": {"other": ("a.csv", b"x")}},
        {"json": {"file": "x"}},
        {},
    ):
        headers = {**who, **options.pop("headers", {})}  # type: ignore[dict-item]
        told = assert_problem(client.post(PATH, headers=headers, **options), 422)  # type: ignore[arg-type]
        assert told["errors"][0]["field"] == "file"
    broken = {"Content-Type": "multipart/form-data"}
    told = assert_problem(client.post(PATH, headers=who | broken, content=b"--x\r\n"), 422)
    assert "the form cannot be read" in told["detail"]
    two = [("file", ("a.csv", b"a")), ("file", ("b.csv", b"b"))]
    told = assert_problem(client.post(PATH, headers=who, files=two), 422)
    assert "send one file" in told["detail"]
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("last", ["file", "dry_run"])
def test_a_form_that_breaks_off_is_refused_although_its_file_may_be_whole(
    fresh: Callable[..., httpx.Response],
    count: Callable[[], dict[str, int]],
    client: httpx.Client,
    key: Callable[[str], dict[str, str]],
    last: str,
) -> None:
    """What was said behind the file, such as to store nothing, would be lost."""
    part = '--b\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n'
    parts = {
        "file": part.format("file", '; filename="a.csv"').encode() + table(line())[1] + b"\r\n",
        "dry_run": part.format("dry_run", "").encode() + b"false\r\n",
    }
    parts[last] = parts.pop(last)
    whole = b"".join(parts.values()) + b"--b--\r\n"
    headers = key("commander") | {"Content-Type": "multipart/form-data; boundary=b"}
    before = count()
    for cut in {
        *(len(whole) * tenth // 10 for tenth in range(10)),
        *range(len(whole) - 60, len(whole) - 3),
    }:
        assert_problem(client.post(PATH, headers=headers, content=whole[:cut]), 422)
    assert count() == before
    assert client.post(PATH, headers=headers, content=whole).json()["accepted"] == 1


def test_too_large_a_file_is_refused_before_and_after_it_has_come(
    fresh: Callable[..., httpx.Response],
    monkeypatch: pytest.MonkeyPatch,
    server: str,
    key: Callable[[str], dict[str, str]],
) -> None:
    told = assert_problem(fresh(("a.csv", bytes(34 << 20))), 413)
    assert "32 MiB" in told["detail"]
    monkeypatch.setenv("YUTU_PARSE_FILE_MIB", "1")
    body = b"".join(
        [b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n',
         b"a\n" * (1 << 20), b"\r\n--b--\r\n"]
    )  # fmt: skip
    chunks = (body[i : i + 65536] for i in range(0, len(body), 65536))
    answer = httpx.post(
        server + PATH,
        content=chunks,  # without Content-Length
        headers=key("commander") | {"Content-Type": "multipart/form-data; boundary=b"},
        timeout=30,
    )
    assert "1 MiB" in assert_problem(answer, 413)["detail"]


def test_rows_are_limited_as_published(
    fresh: Callable[..., httpx.Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YUTU_PARSE_ROWS", "3")
    assert fresh(table(*(line() for _ in range(3)))).json()["accepted"] == 3
    assert_problem(fresh(table(*(line() for _ in range(4)))), 413)


# --- progress -----------------------------------------------------------------------------------


def test_progress_comes_line_by_line_and_the_receipt_last(
    fresh: Callable[..., httpx.Response],
    server: str,
    key: Callable[[str], dict[str, str]],
) -> None:
    file = table(*(line(lon=f"{106.4 + n / 1e5:.5f}") for n in range(3_000)))
    arrived = []
    with httpx.stream(
        "POST", server + PATH, files={"file": file}, headers=key("commander") | NDJSON, timeout=60
    ) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        for one in answer.iter_lines():
            arrived.append((time.monotonic(), json.loads(one)))
    *steps, (ended, receipt) = arrived
    assert receipt["accepted"] == 3_000
    stages = [step["stage"] for _, step in steps]
    assert list(dict.fromkeys(stages))[-3:] == ["check", "place", "store"]
    assert all(0 <= step["done"] <= step["of"] == 3_000 for _, step in steps)
    assert steps[-1][1] == {"stage": "store", "done": 3_000, "of": 3_000}
    assert ended - arrived[0][0] > 0.05, "they came one after another, not at the end"
    again = fresh(file, headers=NDJSON)
    assert json.loads(again.text.splitlines()[-1])["duplicates"] == 3_000


@pytest.mark.parametrize(
    ("file", "status"),
    [(table(line(deaths="-1")), 422), (("a.csv", b"%PDF-1.7\n"), 422)],
)
def test_a_refusal_after_progress_is_the_last_line_with_its_status(
    fresh: Callable[..., httpx.Response],
    count: Callable[[], dict[str, int]],
    file: tuple[str, bytes],
    status: int,
) -> None:
    before = count()
    answer = fresh(file, headers=NDJSON)
    assert answer.status_code == 200
    told = json.loads(answer.text.splitlines()[-1])
    assert told["status"] == status
    assert told["type"].startswith("urn:yutu:problem:")
    assert count() == before


def test_who_goes_away_while_it_is_read_leaves_nothing_behind_and_the_file_whole(
    fresh: Callable[..., httpx.Response],
    count: Callable[[], dict[str, int]],
    server: str,
    scratch: Path,
    key: Callable[[str], dict[str, str]],
) -> None:
    file = table(*(line() for _ in range(2_000)))
    for number, headers in enumerate((NDJSON, {})):
        with httpx.Client(timeout=0.3 if not headers else 30) as client:
            try:
                with client.stream(
                    "POST", server + PATH, files={"file": file}, headers=key("commander") | headers
                ) as answer:
                    next(answer.iter_raw())
            except httpx.TimeoutException:
                assert not headers, "only the plain one waits for its answer"
        deadline = time.monotonic() + 40
        while list(scratch.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert count()["incident"] == 2_000, number


# --- many at once -------------------------------------------------------------------------------


def test_more_files_than_can_be_read_are_turned_away_and_health_answers(
    fresh: Callable[..., httpx.Response],
    server: str,
    key: Callable[[str], dict[str, str]],
    scratch: Path,
) -> None:
    def one(number: int) -> httpx.Response:
        file = table(*(line() for _ in range(50)))
        return httpx.post(server + PATH, files={"file": file}, headers=key("commander"), timeout=60)

    with ThreadPoolExecutor(30) as pool:
        waiting = [pool.submit(one, number) for number in range(30)]
        slowest = 0.0
        while not all(each.done() for each in waiting):
            begun = time.monotonic()
            assert httpx.get(f"{server}/health", timeout=30).status_code == 200
            slowest = max(slowest, time.monotonic() - begun)
        answers = [each.result() for each in waiting]
    statuses = {answer.status_code for answer in answers}
    assert statuses <= {200, 503}
    taken = [answer for answer in answers if answer.status_code == 200]
    assert len(taken) >= 2
    for answer in answers:
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) > 0
    assert slowest < 5
    assert list(scratch.iterdir()) == []


# --- templates and distinct ---------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csv", "xlsx"])
@pytest.mark.parametrize("lang", ["zh", "en"])
def test_a_template_is_downloaded_and_sent_back(
    fresh: Callable[..., httpx.Response],
    client: httpx.Client,
    key: Callable[[str], dict[str, str]],
    form: str,
    lang: str,
) -> None:
    asked = {"format": form, "lang": lang, "plan": PLAN}
    answer = client.get(f"{PATH}/template", params=asked, headers=key("field"))
    assert answer.status_code == 200
    assert f"incidents.{form}" in answer.headers["content-disposition"]
    taken = fresh((f"incidents.{form}", answer.content), "field").json()
    assert (taken["accepted"], taken["unread"]) == (1, [])
    assert taken["incidents"][0]["level"] is None
    assert_problem(client.get(f"{PATH}/template", headers=key("viewer")), 403)
    unknown = client.get(f"{PATH}/template", params={"plan": "flood"}, headers=key("field"))
    assert "must be one of" in unknown.text or "应为" in unknown.text
    assert_problem(unknown, 422)


def test_two_rows_near_each_other_are_probable_duplicates_until_said_to_be_two(
    fresh: Callable[..., httpx.Response],
    client: httpx.Client,
    key: Callable[[str], dict[str, str]],
) -> None:
    told = fresh(table(line(), line(lon="106.5531"))).json()["incidents"]
    one, two = (each["incident_id"] for each in told)
    assert (told[0]["probable_duplicates"], told[1]["probable_duplicates"]) == ([two], [one])
    path = f"/v1/incidents/{one}/distinct"
    given = {"other": two, "reason": "两部电梯"}
    for name, status in (("viewer", 403), ("planner", 403), ("field-other", 404)):
        assert_problem(client.post(path, json=given, headers=key(name)), status)
    for bad in ({"other": one, "reason": "x"}, {"other": two}, {"other": "x", "reason": "x"}):
        assert_problem(client.post(path, json=bad, headers=key("commander")), 422)
    said = client.post(path, json=given, headers=key("field"))
    assert said.status_code in (200, 201)
    assert [each["incident_id"] for each in said.json()["distinct"]] == [two]
    again = client.post(path, json=given, headers=key("commander"))
    assert again.json()["distinct"] == said.json()["distinct"]
    again = fresh(table(line(id=one))).json()
    found = client.get(f"/v1/incidents/{two}", headers=key("commander")).json()
    assert found["properties"]["probable_duplicates"] == []
