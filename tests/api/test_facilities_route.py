"""The inventory from files over HTTP: formats, all or nothing, partly, the same again, templates."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import httpx
import openpyxl
import pytest
from sqlalchemy import Engine, text

from tests.api.conftest import assert_problem
from tests.feeds import CHENGDU, INSIDE, NANAN, SHAPINGBA, YUZHONG

Key = Callable[[str], dict[str, str]]
URL = "/v1/facilities/import"
GOOD = [("F1", *INSIDE[YUZHONG], 10), ("F2", *INSIDE[NANAN], 20), ("F3", *CHENGDU, 30)]
HEADER = ("facility_id", "lon", "lat", "load_kw")


Rows = list[tuple[Any, ...]]


def csv(rows: Rows) -> bytes:
    return "\n".join(",".join(map(str, row)) for row in [HEADER, *rows]).encode()


def xlsx(rows: Rows) -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in [HEADER, *rows]:
        sheet.append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def geojson(rows: Rows) -> bytes:
    features = [
        {"type": "Feature", "geometry": {"type": "Point", "coordinates": [lon, lat]},
         "properties": {"facility_id": name, "load_kw": load}}
        for name, lon, lat, load in rows
    ]  # fmt: skip
    return json.dumps({"type": "FeatureCollection", "features": features}).encode()


FORMATS = {"csv": csv, "xlsx": xlsx, "geojson": geojson}


def send(
    client: httpx.Client, key: Key, body: bytes, name: str, query: str = "", **form: Any
) -> httpx.Response:
    fields = {"kind": "substation", "crs": "WGS84"} | form
    return client.post(
        URL + query,
        files={"file": (name, body)},
        data={k: v for k, v in fields.items() if v is not None},
        headers=key("planner"),
    )


def stored(owner: Engine, prefix: str) -> dict[str, tuple[Any, ...]]:
    with owner.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT facility_id, adcode, load_kw, kind, version FROM facility"
                " WHERE facility_id LIKE :p ORDER BY facility_id"
            ),
            {"p": f"{prefix}%"},
        )
        return {r.facility_id: (r.adcode, r.load_kw, r.kind, r.version) for r in rows}


def named(prefix: str, rows: Rows = GOOD) -> Rows:
    return [(prefix + row[0], *row[1:]) for row in rows]


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_is_taken_whole_and_the_same_again_changes_nothing(
    client: httpx.Client, key: Key, owner: Engine, form: str
) -> None:
    rows = named(f"{form}-")
    body = FORMATS[form](rows)
    first = send(client, key, body, f"stations.{form}")
    assert first.status_code == 200, first.text
    answer = first.json()
    assert (answer["accepted"], answer["rejected"]) == (3, [])
    assert (answer["created"], answer["edited"], answer["unchanged"]) == (3, 0, 0)
    assert answer["sequence"] is not None
    assert stored(owner, f"{form}-") == {
        f"{form}-F1": (YUZHONG, 10, "substation", 1),
        f"{form}-F2": (NANAN, 20, "substation", 1),
        f"{form}-F3": (None, 30, "substation", 1),
    }
    again = send(client, key, body, f"stations.{form}").json()
    assert (again["accepted"], again["unchanged"], again["created"]) == (3, 3, 0)
    assert again["sequence"] is None
    moved = [rows[0], (rows[1][0], *INSIDE[SHAPINGBA], 20), rows[2]]
    edited = send(client, key, FORMATS[form](moved), f"stations.{form}").json()
    assert (edited["edited"], edited["unchanged"]) == (1, 2)
    assert stored(owner, f"{form}-")[f"{form}-F2"] == (SHAPINGBA, 20, "substation", 2)


BAD: Rows = [
    ("A", *INSIDE[YUZHONG], 10), ("B", "", 29.5, 10), ("C", *INSIDE[NANAN], -4), ("", *INSIDE[NANAN], 1),
    ("A", *INSIDE[NANAN], 1), ("D", 29.5, 106.5, 1), ("E", *INSIDE[NANAN], 5),
]  # fmt: skip


def test_one_bad_row_refuses_the_file_and_every_bad_row_is_listed(
    client: httpx.Client, key: Key, owner: Engine
) -> None:
    rows = [(("bad-" + r[0]) if r[0] else "", *r[1:]) for r in BAD]
    body = assert_problem(send(client, key, csv(rows), "x.csv"), 422)
    assert body["accepted"] == 0
    assert [r["row"] for r in body["rejected"]] == [2, 3, 4, 5, 6]
    assert all(r["reason"] for r in body["rejected"])
    assert stored(owner, "bad-") == {}
    for said in ({"query": "?partial=true"}, {"partial": "true"}):
        taken = send(client, key, csv(rows), "x.csv", **said)
        assert taken.status_code == 200, taken.text
        assert taken.json()["accepted"] == 2
        assert [r["row"] for r in taken.json()["rejected"]] == [2, 3, 4, 5, 6]
    assert set(stored(owner, "bad-")) == {"bad-A", "bad-E"}


def test_nothing_good_is_nothing_stored(client: httpx.Client, key: Key) -> None:
    answer = send(client, key, csv([("Z", "", "", "")]), "x.csv", "?partial=true")
    assert (answer.status_code, answer.json()["accepted"], answer.json()["sequence"]) == (200, 0, None)  # fmt: skip


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"kind": "castle"}, "应为以下之一：base_station"), ({"kind": None}, "kind"), ({"crs": None}, "请声明坐标系"),
        ({"crs": "WGS85"}, "crs"), ({"crs": "EPSG:999999"}, "crs"), ({"map": "load_kw"}, "map"), ({"map": "nope=lon"}, "nope"),
    ],
)  # fmt: skip
def test_an_unknown_kind_system_or_mapping_is_refused_with_what_would_be_right(
    client: httpx.Client, key: Key, form: dict[str, Any], says: str
) -> None:
    body = assert_problem(send(client, key, csv(named("k-")), "x.csv", **form), 422)
    assert says in json.dumps(body, ensure_ascii=False).lower()


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("x.csv", b""), ("x.xlsx", b"PK\x03\x04 no book"), ("x.geojson", b"{"), ("x.csv", b"\x00\x01\x02"),
        ("x.geojson", b"<OGRVRTDataSource/>"), ("x.exe", b"MZ"), ("x.parquet", b"PAR1"), ("", b"a,b\n1,2\n"),
        ("x.geojson", b'{"type":"FeatureCollection","features":[]}'),
    ],
)  # fmt: skip
def test_a_file_that_is_none_is_a_422_and_never_a_500(
    client: httpx.Client, key: Key, name: str, body: bytes
) -> None:
    answer = client.post(
        URL, files={"file": (name or "noname", body)}, data={"kind": "shelter", "crs": "WGS84"},
        headers=key("planner"),
    )  # fmt: skip
    assert_problem(answer, 422)


def test_a_request_without_a_file_says_so(client: httpx.Client, key: Key) -> None:
    body = assert_problem(client.post(URL, data={"kind": "shelter"}, headers=key("planner")), 422)
    assert body["errors"][0]["field"] == "file"


def test_a_declared_datum_is_converted_and_the_original_kept(
    client: httpx.Client, key: Key, owner: Engine
) -> None:
    lon, lat = INSIDE[YUZHONG]
    send(client, key, csv([("gcj-1", lon, lat, 1)]), "x.csv", crs="GCJ-02").raise_for_status()
    with owner.connect() as connection:
        row = connection.execute(
            text(
                "SELECT crs, original_x, original_y, ST_DistanceSphere(geom, ST_SetSRID("
                "ST_MakePoint(:x, :y), 4326)) AS metres FROM facility WHERE facility_id = 'gcj-1'"
            ),
            {"x": lon, "y": lat},
        ).one()
    assert (row.crs, row.original_x, row.original_y) == ("GCJ-02", lon, lat)
    assert 380 < row.metres < 620


def test_geopackages_and_parquet_are_read_too(
    client: httpx.Client, key: Key, tmp_path: Path
) -> None:
    frame = gpd.GeoDataFrame(
        {"facility_id": ["g1", "g2"]},
        geometry=gpd.points_from_xy(*zip(INSIDE[YUZHONG], INSIDE[NANAN], strict=True)),
        crs="EPSG:4326",
    )
    frame.to_file(tmp_path / "a.gpkg", driver="GPKG")
    frame.to_parquet(tmp_path / "a.parquet")
    for name, new in (("a.gpkg", 2), ("a.parquet", 0)):
        answer = send(client, key, (tmp_path / name).read_bytes(), name, kind="shelter")
        assert answer.status_code == 200, answer.text
        assert (answer.json()["accepted"], answer.json()["created"]) == (2, new)


@pytest.mark.parametrize("name", ["viewer", "field", "utility", "commander"])
def test_only_planners_import(client: httpx.Client, key: Key, name: str) -> None:
    files = {"file": ("x.csv", csv(GOOD))}
    assert_problem(client.post(URL, files=files, headers=key(name)), 403)
    assert_problem(client.post(URL, files={"file": ("x.csv", csv(GOOD))}), 401)


@pytest.mark.parametrize("form", ["csv", "xlsx"])
@pytest.mark.parametrize("lang", ["zh", "en"])
def test_a_template_filled_in_is_accepted(
    client: httpx.Client, key: Key, form: str, lang: str
) -> None:
    asked = {"kind": "base_station", "format": form, "lang": lang}
    answer = client.get("/v1/facilities/template", params=asked, headers=key("planner"))
    assert answer.status_code == 200
    assert f'filename="base_station.{form}"' in answer.headers["content-disposition"]
    body = answer.content
    if form == "csv":
        body = body.replace(b"EXAMPLE-1", f"mine-{lang}".encode())
        taken = send(client, key, body, "filled.csv", kind="base_station")
        assert taken.status_code == 200, taken.text
        assert taken.json()["accepted"] == 1
    wrong = client.get("/v1/facilities/template", params=asked | {"kind": "castle"}, headers=key("planner"))  # fmt: skip
    assert_problem(wrong, 422)


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("zh", "'README.md' 不是表格，看来是：Markdown 文本；可用的有："),
        ("en", "'README.md' seems to be a Markdown text; accepted are CSV, XLSX and Parquet"),
    ],
)
def test_a_text_that_is_no_table_is_told_as_what_it_is(
    client: httpx.Client, key: Key, language: str, said: str
) -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_bytes()
    sent = client.post(
        "/v1/facilities/import",
        files={"file": ("README.md", readme)},
        data={"kind": "base_station", "crs": "WGS84"},
        headers=key("planner") | {"Accept-Language": language},
    )
    body = assert_problem(sent, 422)
    assert len(body["errors"]) == 1
    assert body["errors"][0]["reason"].startswith(said)
