"""Exports opened by the programs people use: pyogrio, pandas, openpyxl, pyarrow, geopandas."""

from __future__ import annotations

import io
import json
import os
import re
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import geopandas as gpd
import httpx
import numpy as np
import openpyxl
import pandas as pd
import pyarrow.parquet as pq
import pyogrio
import pyproj
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine

from api.export_part import Exports
from data import workbook
from data.database import app_engine
from geo.crs import from_wgs84
from tests.api.conftest import Credentials, assert_problem, served
from tests.data.test_cot import position, several
from tests.feeds import INSIDE, NANAN, SHAPINGBA, YUZHONG, ago, facility, load_facilities

Key = Callable[[str], dict[str, str]]
FORMULA = '=HYPERLINK("http://x.example","点我")'
COLLECTIONS = ("districts", "facilities", "incidents", "outages", "situation")
FORMATS = ("geojson", "gpkg", "parquet", "csv", "xlsx")
EACH = 40


@pytest.fixture(scope="module")
def stored(owner: Engine, database_url: str) -> int:
    rows = []
    for code, (lon, lat) in INSIDE.items():
        for i in range(EACH):
            rows.append(
                facility(
                    f"{code}-{i:03d}", lon + (i % 8) * 1e-4, lat + (i // 8) * 1e-4,
                    name=f"朝天门{i}号站，“甲”", kind="base_station" if i % 2 else "substation",
                    operator="mobile" if i % 2 else "grid", load_kw=i * 10, battery_hours=i / 4,
                    state_at_import=("up", "down")[i % 4 == 0], synthetic=i < 10,
                )
            )  # fmt: skip
    rows.append(
        facility("-7", *INSIDE[YUZHONG], name=FORMULA, operator="@op", rescue_code="012345")
    )
    engine = app_engine(database_url)
    load_facilities(engine, rows)
    engine.dispose()
    return len(rows)


@pytest.fixture(scope="module")
def server(app: FastAPI, credentials: Credentials, stored: int) -> Iterator[str]:
    with served(app) as url:
        key = {"X-API-Key": credentials["commander"]["api_key"]}
        utility = {"X-API-Key": credentials["utility"]["api_key"]}
        for n, place in enumerate([list(INSIDE[YUZHONG]), list(INSIDE[NANAN]), None]):
            body: dict[str, Any] = {
                "incident_id": str(uuid.uuid4()), "plan": "special-equipment-2023",
                "kind": "elevator", "occurred_at": ago(hours=n + 1), "description": f"电梯困人{n}",
                "reporter": {"name": "王某某", "phone": "13800000000"},
                "facts": {"deaths": 0 if n else 4},
            }  # fmt: skip
            if place:
                body["position"] = place
            assert httpx.post(f"{url}/v1/incidents", json=body, headers=key).status_code == 201
        lon, lat = INSIDE[YUZHONG]
        ring = [[lon, lat], [lon + 0.01, lat], [lon + 0.01, lat + 0.01], [lon, lat]]
        for n, geometry in enumerate([{"type": "Polygon", "coordinates": [ring]}, None]):
            feature = {
                "type": "Feature", "geometry": geometry,
                "properties": {
                    "outage_id": f"OUT-{n}", "revision": 1, "facility_ids": [f"{YUZHONG}-000"],
                    "load_shed_kw": 1200, "customers_out": 800, "started_at": ago(hours=1),
                    "cause": "storm", "planned": False, "main_grid": True, "operator": "grid",
                },
            }  # fmt: skip
            answer = httpx.post(f"{url}/v1/outages", json=feature, headers=utility)
            assert answer.status_code == 201, answer.text
        yield url


@pytest.fixture
def fetch(
    client: httpx.Client, key: Key, tmp_path: Path
) -> Callable[..., tuple[Path, dict[str, Any]]]:
    def get(
        name: str, suffix: str, account: str = "planner", **params: Any
    ) -> tuple[Path, dict[str, Any]]:
        answer = client.get(
            f"/v1/export/{name}.{suffix}", headers=key(account), params=params, timeout=60
        )
        assert answer.status_code == 200, answer.text
        assert int(answer.headers["content-length"]) == len(answer.content)
        path = tmp_path / f"{name}.{suffix}"
        path.write_bytes(answer.content)
        return path, json.loads(answer.headers["yutu-manifest"])

    return get


Fetch = Callable[..., tuple[Path, dict[str, Any]]]


def opened(path: Path) -> pd.DataFrame:
    """The file as its users read it."""
    suffix = path.suffix[1:]
    if suffix in ("geojson", "gpkg"):
        frame: pd.DataFrame = pyogrio.read_dataframe(path, layer=path.stem)
    elif suffix == "parquet":
        frame = gpd.read_parquet(path)
    elif suffix == "csv":
        frame = pd.read_csv(path, dtype={"adcode": str, "rescue_code": str, "facility_id": str})
    else:
        frame = pd.read_excel(path, dtype={"区县代码": str, "adcode": str, "rescue_code": str})
    return frame


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("districts", 37),
        ("facilities", 3 * EACH + 1),
        ("incidents", 3),
        ("outages", 2),
        ("situation", 37),
    ],
)
def test_every_collection_opens_in_every_format_with_every_row(
    name: str, rows: int, suffix: str, fetch: Fetch
) -> None:
    path, manifest = fetch(name, suffix)
    frame = opened(path)
    assert len(frame) == manifest["rows"] == rows
    assert manifest["format"] == suffix
    assert manifest["collection"] == name
    assert manifest["sequence"] > 0
    title = "区县代码" if suffix == "xlsx" else "adcode"
    if name in ("districts", "situation"):
        assert {YUZHONG, SHAPINGBA, NANAN} <= set(frame[title].astype(str))


@pytest.mark.parametrize("suffix", FORMATS)
def test_types_and_chinese_text_survive(suffix: str, fetch: Fetch) -> None:
    path, _ = fetch("facilities", suffix, **({"lang": "en"} if suffix == "xlsx" else {}))
    frame = opened(path).set_index("facility_id")
    one = frame.loc[f"{NANAN}-004"]
    assert one["name"] == "朝天门4号站，“甲”"
    assert one["load_kw"] == 40
    assert frame["load_kw"].dtype.kind == "i"
    assert one["battery_hours"] == 1.0
    assert frame["battery_hours"].dtype.kind == "f"
    assert bool(one["synthetic"]) is True
    assert one["state"] == "down"
    assert str(one["adcode"]) == NANAN
    quoted = "'" if suffix in ("csv", "xlsx") else ""
    special = frame.loc[f"{quoted}-7"]
    assert special["name"] == f"{quoted}{FORMULA}"
    assert special["operator"] == f"{quoted}@op"
    assert special["rescue_code"] == "012345"
    valid = pd.Timestamp(one["valid_from"])
    now = pd.Timestamp.now("UTC")
    here = valid.tz_localize("Asia/Shanghai") if valid.tzinfo is None else valid
    assert pd.Timedelta(0) <= now - here < pd.Timedelta(minutes=15)


def test_a_workbook_has_data_first_with_chinese_headers_and_the_manifest_after(
    fetch: Fetch,
) -> None:
    path, manifest = fetch("facilities", "xlsx")
    book = openpyxl.load_workbook(path)
    sheet, facts = book.worksheets
    assert [sheet.title, facts.title] == ["设施", "说明"]
    header = [cell.value for cell in sheet[1]]
    assert header[:3] == ["设施编号", "名称", "类型"]
    assert header[-3:] == ["经度", "纬度", "坐标系"]
    assert sheet.freeze_panes == "A2"
    for row in sheet.iter_rows(min_row=2):
        for cell in row:
            assert cell.data_type in ("s", "n", "b", "d"), "no formula"
            assert not (isinstance(cell.value, str) and cell.value.startswith(tuple("=+-@\t\r")))
    loads = [row[header.index("负荷（千瓦）")].value for row in sheet.iter_rows(min_row=2)]
    assert all(type(value) is int for value in loads)
    times = {type(row[header.index("生效时间")].value) for row in sheet.iter_rows(min_row=2)}
    assert times == {datetime}
    told = {row[0].value: row[1].value for row in facts.iter_rows(min_row=2)}
    assert int(told["rows"]) == 3 * EACH + 1
    assert json.loads(told["synthetic"])["rows"] == 30
    assert told["crs"] == "WGS84"
    assert json.loads(told["columns"])["load_kw"] == "负荷（千瓦）"
    assert set(told) >= {"filters", "as_of", "sequence", "exported_at", "sources", "divisions"}
    assert manifest["synthetic"]["share"] == pytest.approx(30 / (3 * EACH + 1))


def test_each_other_format_carries_its_manifest(fetch: Fetch) -> None:
    told = json.loads(fetch("facilities", "geojson")[0].read_text())["manifest"]
    assert told["rows"] == 3 * EACH + 1
    with sqlite3.connect(fetch("facilities", "gpkg")[0]) as book:
        assert dict(book.execute("SELECT key, value FROM manifest"))["rows"] == str(3 * EACH + 1)
    metadata = pq.ParquetFile(fetch("facilities", "parquet")[0]).metadata.metadata
    assert json.loads(metadata[b"yutu_manifest"])["rows"] == 3 * EACH + 1
    assert json.loads(metadata[b"geo"])["columns"]["geometry"]["encoding"] == "WKB"


@pytest.mark.parametrize("suffix", ["geojson", "gpkg", "parquet"])
@pytest.mark.parametrize(
    ("crs", "epsg"),
    [
        ("WGS84", 4326),
        ("EPSG:4490", 4490),
        ("CGCS2000", 4490),
        ("EPSG:4546", 4546),
        ("EPSG:4524", 4524),
        ("EPSG:3857", 3857),
    ],
)
def test_the_system_asked_for_is_named_and_used(
    crs: str, epsg: int, suffix: str, fetch: Fetch
) -> None:
    frame = opened(fetch("facilities", suffix, crs=crs)[0])
    assert pyproj.CRS(frame.crs).equals(
        pyproj.CRS("OGC:CRS84" if (epsg, suffix) == (4326, "parquet") else epsg)
    )
    first = frame.set_index("facility_id").loc[f"{NANAN}-000"].geometry
    expected = pyproj.Transformer.from_crs(
        4490 if epsg not in (4326, 3857) else 4326, epsg, always_xy=True
    ).transform(*INSIDE[NANAN])
    assert (first.x, first.y) == pytest.approx(
        expected, abs=1e-4 if abs(expected[0]) > 180 else 1e-9
    )


@pytest.mark.parametrize("crs", ["GCJ-02", "BD-09"])
def test_offset_datums_go_where_nothing_mislabels_them(
    crs: str, fetch: Fetch, client: httpx.Client, key: Key
) -> None:
    expected = from_wgs84(*INSIDE[NANAN], crs)
    rows = opened(fetch("facilities", "csv", crs=crs)[0]).set_index("facility_id")
    assert (rows.loc[f"{NANAN}-000", "lon"], rows.loc[f"{NANAN}-000", "lat"]) == pytest.approx(
        expected, abs=1e-8
    )
    assert set(rows["crs"]) == {crs}
    told = json.loads(fetch("facilities", "geojson", crs=crs)[0].read_text())
    assert told["manifest"]["crs"] == crs
    assert {one["properties"]["crs"] for one in told["features"]} == {crs}
    assert "crs" not in told
    for suffix in ("gpkg", "parquet"):
        assert_problem(
            client.get(f"/v1/export/facilities.{suffix}?crs={crs}", headers=key("planner")), 422
        )


def test_districts_keep_their_shape_and_area(fetch: Fetch, client: httpx.Client, key: Key) -> None:
    shown = gpd.GeoDataFrame.from_features(
        client.get("/v1/districts", headers=key("planner")).json(), crs=4326
    )
    for suffix in ("geojson", "gpkg", "parquet"):
        frame = opened(fetch("districts", suffix)[0])
        both = frame.merge(shown[["adcode", "geometry"]], on="adcode", suffixes=("", "_shown"))
        assert len(both) == 37
        gap = gpd.GeoSeries(both["geometry"]).symmetric_difference(
            gpd.GeoSeries(both["geometry_shown"])
        )
        assert gap.area.max() < 1e-9
    wkt = opened(fetch("districts", "csv")[0])
    assert gpd.GeoSeries.from_wkt(wkt["wkt"]).is_valid.all()


def test_filters_are_those_of_the_api_and_others_are_refused(
    fetch: Fetch, client: httpx.Client, key: Key
) -> None:
    lon, lat = INSIDE[SHAPINGBA]
    box = f"{lon - 1e-5},{lat - 1e-5},{lon + 3.5e-4},{lat + 1e-5}"
    assert len(opened(fetch("facilities", "csv", bbox=box)[0])) == 4
    picked = opened(
        fetch("facilities", "csv", adcode=NANAN, kind="substation", operator="grid", state="down")[
            0
        ]
    )
    assert set(picked["facility_id"]) == {f"{NANAN}-{i:03d}" for i in range(0, EACH, 4)}
    assert (
        len(
            opened(
                fetch(
                    "incidents", "csv", state="open", plan="special-equipment-2023", adcode=YUZHONG
                )[0]
            )
        )
        == 1
    )
    assert len(opened(fetch("outages", "csv", open="true", adcode=YUZHONG)[0])) == 2
    assert (
        len(opened(fetch("outages", "csv", bbox=f"{lon},{lat},{lon + 1e-3},{lat + 1e-3}")[0])) == 0
    )
    for path in ("districts.csv?kind=x", "facilities.csv?plan=x", "facilities.csv?at=2026-01-01T00:00:00Z", "facilities.csv?nosuch=1",
                 "facilities.csv?state=broken", "facilities.csv?bbox=1,2", "facilities.csv?crs=EPSG:9", "incidents.csv?since=x", "facilities.exe",
                 "facilities.csv?adcode=x", "situation.csv?reporters=true"):  # fmt: skip
        assert client.get(f"/v1/export/{path}", headers=key("commander")).status_code == 422, path
    assert_problem(client.get("/v1/export/nosuch.csv", headers=key("planner")), 404)


@pytest.mark.parametrize("name", ["facilities", "districts", "situation", "outages", "incidents"])
def test_several_districts_are_asked_for_repeated_or_with_commas(
    name: str, fetch: Fetch, client: httpx.Client, key: Key
) -> None:
    path, manifest = fetch(name, "csv", adcode=f"{NANAN}, {YUZHONG}")
    again, _ = fetch(name, "csv", adcode=[NANAN, YUZHONG, NANAN])
    frame = opened(path)
    assert frame.equals(opened(again))
    assert manifest["filters"]["adcode"] == [NANAN, YUZHONG]
    assert [one["adcode"] for one in manifest["filter_districts"]] == [NANAN, YUZHONG]
    assert [one["name"] for one in manifest["filter_districts"]] == ["南岸区", "渝中区"]
    ids = frame.columns[0]
    parts = [opened(fetch(name, "csv", adcode=code)[0])[ids] for code in (NANAN, YUZHONG)]
    assert set(frame[ids]) == set(pd.concat(parts)) != set()
    assert fetch(name, "csv", adcode=NANAN)[1]["filters"]["adcode"] == NANAN
    asked = f"/v1/export/{name}.csv?adcode={NANAN},500999&adcode=999999"
    answer = client.get(asked, headers=key("commander") | {"Accept-Language": "en"})
    assert_problem(answer, 422)
    (fault,) = answer.json()["errors"]
    assert fault["field"] == "adcode"
    assert "500999, 999999" in fault["reason"]
    for wrong in (
        "",
        "500103,",
        "500103,x",
        "５００１０３",
        "500103;500108",
        ",".join(f"{n:06d}" for n in range(201)),
    ):
        answer = client.get(
            f"/v1/export/{name}.csv", headers=key("commander"), params={"adcode": wrong}
        )
        assert_problem(answer, 422)


def names(answer: httpx.Response) -> tuple[str, str]:
    """The file's name in ASCII, and the one in RFC 5987, as a browser reads them."""
    header = answer.headers["content-disposition"]
    assert header.isascii()
    found = re.fullmatch(
        r'attachment; filename="([A-Za-z0-9_+.-]+)"(?:; filename\*=UTF-8\'\'([A-Za-z0-9%._~-]+))?',
        header,
    )
    assert found is not None, header
    return found[1], unquote(found[2] or "")


def test_a_file_is_named_by_what_it_holds(client: httpx.Client, key: Key) -> None:
    def named(path: str, **params: Any) -> tuple[str, str]:
        return names(client.get(f"/v1/export/{path}", headers=key("commander"), params=params))

    plain, chinese = named(
        "facilities.gpkg", kind="substation", adcode=f"{NANAN},{YUZHONG}", crs="CGCS2000"
    )
    stamp = r"\d{8}T\d{6}"
    assert re.fullmatch(
        rf"yutu-facilities-substation-2districts-EPSG4490-{stamp}\+0800\.gpkg", plain
    )
    assert re.fullmatch(
        rf"渝图-设施-变电站-南岸区-渝中区-EPSG4490-{stamp}北京时间\.gpkg", chinese
    ), chinese
    plain, chinese = named(
        "districts.csv", adcode=NANAN, crs="EPSG:4546", at="2025-10-01T08:00:00+08:00"
    )
    assert plain == f"yutu-districts-{NANAN}-EPSG4546-20251001T080000+0800.csv"
    assert chinese == "渝图-区县-南岸区-EPSG4546-20251001T080000北京时间.csv"
    assert named("outages.csv", lang="en", open="true")[1] == ""
    evil = 'x"; filename=../../etc/passwd\r\nSet-Cookie: a=b;\u202e%00<script>'
    plain, chinese = named("incidents.csv", kind=evil)
    assert re.fullmatch(
        rf"yutu-incidents-x_filename_etc_passwd_Se-EPSG4326-{stamp}\+0800\.csv", plain
    ), plain
    assert not set('"/\\\r\n;<>%\u202e') & set(chinese)


def test_an_empty_export_is_whole_in_every_format(fetch: Fetch) -> None:
    for suffix in FORMATS:
        path, manifest = fetch("facilities", suffix, kind="shelter")
        assert manifest["rows"] == len(opened(path)) == 0


def test_reporters_are_left_out_unless_asked_for_by_who_may_read_them(
    fetch: Fetch, client: httpx.Client, key: Key
) -> None:
    for account in ("commander", "viewer"):
        for suffix in ("csv", "geojson"):
            told = fetch("incidents", suffix, account)[0].read_text()
            assert "13800000000" not in told
            assert "王某某" not in told
    asked = opened(fetch("incidents", "csv", "commander", reporters="true")[0])
    assert set(asked["reporter_phone"].astype(str)) == {"13800000000"}
    for account in ("viewer", "planner", "field"):
        assert_problem(
            client.get("/v1/export/incidents.csv?reporters=true", headers=key(account)), 403
        )
    assert_problem(client.get("/v1/export/incidents.csv", headers=key("utility")), 403)


def test_an_incident_has_the_level_its_facts_give(
    fetch: Fetch, client: httpx.Client, key: Key
) -> None:
    listed = client.get("/v1/incidents", headers=key("planner")).json()["features"]
    levels = {one["id"]: one["properties"]["level"] for one in listed}
    frame = opened(fetch("incidents", "geojson")[0])
    assert {
        i: None if pd.isna(v) else int(v)
        for i, v in zip(frame["incident_id"], frame["level"], strict=True)
    } == levels
    assert any(levels.values())


def test_a_field_account_exports_its_districts_only(fetch: Fetch, credentials: Credentials) -> None:
    districts = set(credentials["field"]["districts"])
    frame = opened(fetch("facilities", "csv", "field")[0])
    assert set(frame["adcode"]) <= districts
    everything = opened(fetch("facilities", "csv")[0])
    assert len(frame) == everything["adcode"].isin(districts).sum()


def test_the_past_has_the_divisions_of_then(fetch: Fetch, client: httpx.Client, key: Key) -> None:
    at = "2025-06-01T00:00:00+08:00"
    assert fetch("districts", "geojson", at=at)[1]["rows"] == 38
    past, manifest = fetch("situation", "csv", at=at)
    assert manifest["rows"] == len(opened(past)) == 38
    assert fetch("incidents", "csv", at=at)[1]["rows"] == 0


def test_a_sheet_too_small_for_the_rows_is_refused_before_writing(
    monkeypatch: pytest.MonkeyPatch, client: httpx.Client, key: Key
) -> None:
    monkeypatch.setattr("api.export_part.ROWS_MAX", 100)
    refused = assert_problem(client.get("/v1/export/facilities.xlsx", headers=key("planner")), 422)
    assert "csv" in refused["detail"]


def test_nothing_is_left_behind_by_whole_or_failed_exports(
    fetch: Fetch,
    client: httpx.Client,
    key: Key,
    monkeypatch: pytest.MonkeyPatch,
    configuration: Any,
) -> None:
    folder = configuration.paths.var / "exports"
    fetch("facilities", "gpkg")
    monkeypatch.setattr(workbook, "ROWS_MAX", 50)
    assert_problem(client.get("/v1/export/facilities.xlsx", headers=key("planner")), 422)
    assert list(folder.iterdir()) == []


def test_csv_is_marked_for_excel_and_read_by_plain_pandas(fetch: Fetch) -> None:
    raw = fetch("facilities", "csv")[0].read_bytes()
    assert raw.startswith("\ufefffacility_id,name".encode())
    assert "facility_id" in pd.read_csv(io.BytesIO(raw)).columns
    titled = fetch("facilities", "csv", lang="zh")[0].read_bytes()
    assert titled.startswith("\ufeff设施编号,名称".encode())


def test_coordinates_are_numbers_in_csv_and_workbooks(fetch: Fetch) -> None:
    rows = opened(fetch("facilities", "csv", crs="EPSG:4546")[0]).set_index("facility_id")
    expected = from_wgs84(*INSIDE[NANAN], "EPSG:4546")
    assert np.allclose(rows.loc[f"{NANAN}-000", ["x", "y"]].astype(float), expected, atol=1e-3)
    sheet = opened(fetch("outages", "xlsx")[0])
    assert sheet["经度"].notna().sum() == 1, "one has no extent"


def test_teams_are_exported_to_who_may_see_them(
    fetch: Fetch, client: httpx.Client, key: Key
) -> None:
    sent = client.post(
        "/v1/cot", content=several(position("T-1"), position("T-2")), headers=key("field")
    )
    assert sent.status_code == 200, sent.text
    for suffix in FORMATS:
        path, manifest = fetch("teams", suffix)
        assert manifest["rows"] == len(opened(path)) == 2
    assert_problem(client.get("/v1/export/teams.csv", headers=key("utility")), 403)
    assert_problem(client.get("/v1/export/teams.csv?kind=x", headers=key("planner")), 422)


def test_exports_of_two_processes_share_a_folder_whose_files_come_and_go(tmp_path: Path) -> None:
    def write_and_send(exports: Exports) -> None:
        for _ in range(300):
            with exports.place("csv") as path:
                path.write_bytes(b"x")
            path.unlink()

    both = [Exports(tmp_path), Exports(tmp_path)]
    killed = tmp_path / "left.csv"
    killed.write_bytes(b"x")
    os.utime(killed, (0, 0))
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(write_and_send, exports) for exports in both * 2]:
            done.result()
    assert list(tmp_path.iterdir()) == []
