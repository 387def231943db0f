"""`POST /v1/incidents/import` over a real server, with files as others write them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import Engine, text

from data.verify import verify
from tests.api.conftest import Credentials, assert_problem
from tests.api.incident_rows import PATH, SAID, line, table
from tests.data.incident_files.generate import FIRST_ID, PLACES, PLAN, good, malformed
from tests.feeds import INSIDE, SHAPINGBA, YUZHONG

FULING = "500102"
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


# --- files as others write them -----------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_a_good_file_is_tried_taken_and_known_again(
    post_afresh: Callable[..., httpx.Response],
    count_rows: Callable[[], dict[str, int]],
    files: dict[str, Path],
    name: str,
) -> None:
    form, rows, adcodes = FILES[name]
    partly = name in PARTLY_WRONG
    query = {"partial": True} if partly else {}
    before = count_rows()
    tried = post_afresh(files[name], said=SAID, dry_run=True)
    assert tried.status_code == 200, tried.text
    assert count_rows() == before, "a dry run stores nothing"
    taken = post_afresh(files[name], said=SAID, **query)
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
    assert count_rows()["incident"] == rows
    held = count_rows()
    again = post_afresh(files[name], said=SAID, **query).json()
    assert (again["accepted"], again["duplicates"], again["sequence"]) == (0, rows, None)
    assert {one["status"] for one in again["incidents"]} == {"duplicate"}
    assert count_rows() == held, "the same file again changes nothing"


@pytest.mark.parametrize("name", sorted(PARTLY_WRONG))
def test_a_line_among_the_placemarks_refuses_the_file_and_is_named(
    post_afresh: Callable[..., httpx.Response],
    count_rows: Callable[[], dict[str, int]],
    files: dict[str, Path],
    name: str,
) -> None:
    before = count_rows()
    answer = post_afresh(files[name], said=SAID)
    told = assert_problem(answer, 422)
    assert (told["accepted"], told["duplicates"], told["incidents"]) == (0, 0, [])
    assert [one["row"] for one in told["rejected"]] == [3]
    assert "LineString" in told["rejected"][0]["reason"]
    assert "nothing was imported" in told["detail"]
    assert count_rows() == before


def test_what_a_file_says_is_what_is_read_back(
    post_afresh: Callable[..., httpx.Response],
    client: httpx.Client,
    key: Callable[[str], dict[str, str]],
    files: dict[str, Path],
) -> None:
    post_afresh(files["excel.csv"]).raise_for_status()
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
    post_afresh: Callable[..., httpx.Response],
    client: httpx.Client,
    key: Callable[[str], dict[str, str]],
    files: dict[str, Path],
    name: str,
    media: str,
) -> None:
    for _ in range(2):
        answer = post_afresh(files[name], "field", said=SAID)
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
    post_afresh: Callable[..., httpx.Response], owner: Engine, files: dict[str, Path]
) -> None:
    """All files one after the other: one UUID names one incident whatever file says it."""
    for name in FILES:
        post_afresh(files[name], said=SAID, partial=True)
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
    post_afresh: Callable[..., httpx.Response], count_rows: Callable[[], dict[str, int]]
) -> None:
    file = table(line(), line(deaths="-1"), line(time="yesterday"), line(lat="", lon=""))
    before = count_rows()
    told = assert_problem(post_afresh(file), 422)
    assert [(one["row"], one["line"], one["field"]) for one in told["rejected"]] == [
        (2, 3, "死亡人数"),
        (3, 4, "事发时间"),
    ]
    assert [(one["row"], one["field"]) for one in told["errors"]] == [
        (2, "死亡人数"),
        (3, "事发时间"),
    ]
    assert count_rows() == before
    taken = post_afresh(file, said={"partial": "true"}).json()
    assert (taken["accepted"], [one["row"] for one in taken["rejected"]]) == (2, [2, 3])
    assert [(one["row"], one["adcode"]) for one in taken["incidents"]] == [(1, YUZHONG), (4, None)]
    assert [one["code"] for one in taken["incidents"][1]["warnings"]] == ["unplaced"]


def test_another_body_under_a_known_id_is_a_conflict_of_its_row(
    post_afresh: Callable[..., httpx.Response], count_rows: Callable[[], dict[str, int]]
) -> None:
    known = str(uuid4())
    post_afresh(table(line(id=known))).raise_for_status()
    changed = table(line(id=known, deaths="2"), line())
    told = assert_problem(post_afresh(changed), 422)
    assert told["rejected"][0]["field"] == "incident_id"
    assert "another body" in told["rejected"][0]["reason"]
    assert count_rows()["incident_conflict"] == 0
    taken = post_afresh(changed, partial=True).json()
    assert [one["status"] for one in taken["incidents"]] == ["conflict", "created"]
    assert count_rows()["incident_conflict"] == 1, "the other body is kept for review"


def test_a_dry_run_of_a_file_with_wrong_rows_says_that_it_would_be_refused(
    post_afresh: Callable[..., httpx.Response], count_rows: Callable[[], dict[str, int]]
) -> None:
    file = table(line(), line(deaths="many"))
    before = count_rows()
    whole, partly = (
        post_afresh(file, dry_run=True).json(),
        post_afresh(file, dry_run=True, partial=True).json(),
    )
    assert (whole["accepted"], whole["refused"], len(whole["rejected"])) == (1, True, 1)
    assert (partly["accepted"], partly["refused"], len(partly["rejected"])) == (1, False, 1)
    assert count_rows() == before


@pytest.mark.parametrize(
    ("language", "word"), [("zh", "应不小于 0"), ("en", "must not be negative")]
)
def test_a_wrong_row_is_told_in_the_reader_s_language(
    post_afresh: Callable[..., httpx.Response], language: str, word: str
) -> None:
    answer = post_afresh(table(line(deaths="-1")), headers={"Accept-Language": language})
    assert word in assert_problem(answer, 422)["rejected"][0]["reason"]
    asked = post_afresh(table(line(deaths="-1")), lang=language)
    assert word in asked.json()["rejected"][0]["reason"]


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return malformed(tmp_path_factory.mktemp("broken"))


def test_no_malformed_variant_is_more_than_a_refusal(
    post_afresh: Callable[..., httpx.Response], broken: dict[str, Path]
) -> None:
    """Cut short, holed, or under another extension: rows or the file are refused, never a 5xx."""
    statuses = {}
    for name, path in broken.items():
        answer = post_afresh(path, said=SAID)
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


# --- who, where, what is said beside -------------------------------------------------------------


@pytest.mark.parametrize("name", ["viewer", "utility", "planner", "admin"])
def test_other_roles_may_not(
    post_incidents: Callable[..., httpx.Response],
    count_rows: Callable[[], dict[str, int]],
    name: str,
) -> None:
    before = count_rows()
    assert_problem(post_incidents(table(line()), name), 403)
    assert count_rows() == before


def test_a_field_team_s_file_is_placed_anywhere_and_shown_to_its_districts(
    post_afresh: Callable[..., httpx.Response],
    client: httpx.Client,
    key: Callable[[str], dict[str, str]],
    credentials: Credentials,
) -> None:
    mine, other = credentials["field"]["districts"], credentials["field-other"]["districts"]
    assert mine != other
    here, there = str(uuid4()), str(uuid4())
    places = [line(id=here), line(id=there, lon="106.40", lat="29.62")]
    told = post_afresh(table(*places), "field").json()
    assert [one["adcode"] for one in told["incidents"]] == [YUZHONG, SHAPINGBA]
    hidden = post_afresh(table(places[0]), "field-other", partial=True).json()
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
    post_afresh: Callable[..., httpx.Response],
) -> None:
    lon, lat = INSIDE[YUZHONG]
    rows = table(line(lon=str(lon), lat=str(lat)))
    told = post_afresh(rows, said={"crs": "BD-09"}, dry_run=True).json()
    assert told["incidents"][0]["adcode"]
    bad = assert_problem(post_afresh(rows, said={"crs": "EPSG:1"}), 422)
    assert "crs" in json.dumps(bad["errors"])


@pytest.mark.parametrize(
    ("said", "field"),
    [({"partial": "maybe"}, "partial"), ({"dry_run": "2"}, "dry_run"), ({"kind": "x" * 300}, "kind"),
     ({"crs": "WGS\x0084"}, "crs"), ({"plan": "flood"}, "plan")],
)  # fmt: skip
def test_what_is_said_beside_the_file_is_checked(
    post_afresh: Callable[..., httpx.Response],
    count_rows: Callable[[], dict[str, int]],
    said: dict[str, str],
    field: str,
) -> None:
    before = count_rows()
    file = ("rows.csv", "事发时间,设备类型\n2026-11-21 08:30,电梯\n".encode())
    told = assert_problem(post_afresh(file, said=SAID | said), 422)
    assert field in {one["field"] for one in told["errors"]}
    assert count_rows() == before


# --- templates and distinct ---------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csv", "xlsx"])
@pytest.mark.parametrize("lang", ["zh", "en"])
def test_a_template_is_downloaded_and_sent_back(
    post_afresh: Callable[..., httpx.Response],
    client: httpx.Client,
    key: Callable[[str], dict[str, str]],
    form: str,
    lang: str,
) -> None:
    asked = {"format": form, "lang": lang, "plan": PLAN}
    answer = client.get(f"{PATH}/template", params=asked, headers=key("field"))
    assert answer.status_code == 200
    assert f"incidents.{form}" in answer.headers["content-disposition"]
    taken = post_afresh((f"incidents.{form}", answer.content), "field").json()
    assert (taken["accepted"], taken["unread"]) == (1, [])
    assert taken["incidents"][0]["level"] is None
    assert_problem(client.get(f"{PATH}/template", headers=key("viewer")), 403)
    unknown = client.get(f"{PATH}/template", params={"plan": "flood"}, headers=key("field"))
    assert "must be one of" in unknown.text or "应为" in unknown.text
    assert_problem(unknown, 422)


def test_two_rows_near_each_other_are_probable_duplicates_until_said_to_be_two(
    post_afresh: Callable[..., httpx.Response],
    client: httpx.Client,
    key: Callable[[str], dict[str, str]],
) -> None:
    told = post_afresh(table(line(), line(lon="106.5531"))).json()["incidents"]
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
    again = post_afresh(table(line(id=one))).json()
    found = client.get(f"/v1/incidents/{two}", headers=key("commander")).json()
    assert found["properties"]["probable_duplicates"] == []
