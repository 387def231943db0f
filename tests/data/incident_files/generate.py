"""Files of incidents as people and their programs write them, each with two incidents and broken variants.

`python -m tests.data.incident_files.generate FOLDER` writes them all; `good(folder)` and
`malformed(folder)` do so for tests. Libraries write what they can; what only other programs write (the KML
of Google Earth, an Excel CSV in GB18030, truncations) is made by hand.
"""

from __future__ import annotations

import csv
import datetime
import io
import json
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from data.readers import VECTOR_DRIVERS  # first: GDAL is locked down before pyogrio is imported

# isort: split
import geopandas
import openpyxl
import PIL.Image
import pillow_heif
import shapely

from geo.crs import from_wgs84

assert VECTOR_DRIVERS

PLAN = "special-equipment-2023"
FIRST_ID = "0190b7a2-3c4d-7e5f-8a6b-1c2d3e4f5a6b"
PLACES = ((106.5516, 29.563), (107.3897, 29.7034))
#: The two incidents of every file of many: an elevator by its UUID, a crane by the number of a report.
COLUMNS = (
    "事件编号", "预案", "设备类型", "事发时间", "死亡人数", "重伤人数", "直接经济损失（万元）", "被困人数",
    "被困起始时间", "是否爆炸", "事发地点", "描述", "报告人", "联系电话", "天气",
)  # fmt: skip
ROWS = (
    (FIRST_ID, "特种设备", "电梯", "2026年11月21日 8:30", "0", "1", "12.5", "3人", "2026/11/21 08:30",
     "否", "渝中区解放碑", "轿厢困人", "王工", "13800000001", "晴"),
    ("SG-2026-17", "特种设备", "塔吊", "2026/11/20 17:05:10", "1", "", "0", "", "", "否",
     "涪陵区工地", "整机倒塌 <b>严重</b>", "李工", "13800000002", "雨"),
)  # fmt: skip
ENGLISH = (
    "incident_id", "plan", "kind", "occurred_at", "deaths", "serious_injuries", "direct_loss_yuan",
    "people_stranded", "stranded_since", "exploded", "address", "description", "reporter_name",
    "reporter_phone", "weather",
)  # fmt: skip
_FACTS = ("deaths", "serious_injuries", "direct_loss_yuan", "people_stranded", "stranded_since", "exploded")  # fmt: skip


def good(folder: Path) -> dict[str, Path]:
    """Well-formed files by their format, and a few more of some."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, bytes] = {
        "excel.csv": excel_csv(),
        "utf8.csv": utf8_csv(),
        "semicolon.csv": semicolon_csv(),
        "chinese.xlsx": workbook(),
        "points.geojson": geojson(),
        "track.gpx": GPX.encode(),
        "google.kml": KML.encode(),
        "gb.kml": KML.replace('encoding="UTF-8"', 'encoding="gb2312"').encode("gb18030"),
        "icon.kmz": kmz(),
        "phone.jpg": photo("JPEG"),
        "phone.heic": photo("HEIF"),
        "no_gps.jpg": photo("JPEG", gps=False),
    }
    paths = {}
    for name, body in files.items():
        paths[name] = folder / name
        paths[name].write_bytes(body)
    paths["degrees.gpkg"] = geopackage(folder / "degrees.gpkg", 4490)
    paths["zone.gpkg"] = geopackage(folder / "zone.gpkg", 4545)
    paths["gbk.zip"] = shapefile(folder / "gbk.zip")
    return paths


def malformed(folder: Path) -> dict[str, Path]:
    """Each of the good files cut short, with its middle overwritten, and under a wrong extension."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    wrong = {".csv": ".kml", ".xlsx": ".csv", ".jpg": ".csv", ".heic": ".geojson"}
    for name, path in good(folder / "whole").items():
        body = path.read_bytes()
        middle = len(body) // 2
        variants = {
            f"cut_{name}": body[:middle],
            f"holed_{name}": body[:middle] + b"\0" * 40 + body[middle + 40 :],
            f"renamed_{Path(name).stem}{wrong.get(path.suffix, '.csv')}": body,
        }
        for title, content in variants.items():
            made[title] = folder / title
            made[title].write_bytes(content)
    return made


# --- tables ---------------------------------------------------------------------------------------


def _csv(separator: str, header: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, delimiter=separator, lineterminator="\r\n")
    writer.writerows([header, *rows])
    return sink.getvalue()


def _with_places(rows: tuple[tuple[str, ...], ...]) -> list[tuple[object, ...]]:
    return [(*row, *place) for row, place in zip(rows, PLACES, strict=True)]


def excel_csv() -> bytes:
    """As Chinese Excel writes "CSV (comma separated)": GB18030, no mark, CRLF."""
    return _csv(",", (*COLUMNS, "经度", "纬度"), _with_places(ROWS)).encode("gb18030")


def utf8_csv() -> bytes:
    """ "CSV UTF-8" with its mark, and English names; one column of positions."""
    rows = [
        (*_in_english(row), f"{lon}, {lat}") for row, (lon, lat) in zip(ROWS, PLACES, strict=True)
    ]
    return _csv(",", (*ENGLISH, "coordinates"), rows).encode("utf-8-sig")


def semicolon_csv() -> bytes:
    rows = _with_places(ROWS)
    return _csv(";", (*COLUMNS, "经度（WGS84）", "纬度（WGS84）"), rows).encode("utf-8")


def _in_english(row: tuple[str, ...]) -> tuple[object, ...]:
    loss = "" if not row[6] else str(float(row[6]) * 10_000)
    told = {"是": "true", "否": "false"}.get(row[9], row[9])
    return (*row[:6], loss, row[7], row[8], told, *row[10:])


def workbook() -> bytes:
    """Chinese headers below a title row's absence; the first time is a real date, the second text."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append([*COLUMNS, "经度", "纬度"])
    for number, (row, place) in enumerate(zip(ROWS, PLACES, strict=True)):
        cells: list[object] = [*row, *place]
        if number == 0:
            cells[3] = datetime.datetime(2026, 11, 21, 8, 30)  # noqa: DTZ001 (as Excel stores it)
            cells[4], cells[5], cells[6] = 0, 1, 12.5
        sheet.append(cells)
    sink = io.BytesIO()
    book.save(sink)
    return sink.getvalue()


# --- points ---------------------------------------------------------------------------------------


def _properties(row: tuple[str, ...]) -> dict[str, object]:
    return {
        "incident_id": row[0], "plan": PLAN, "kind": {"电梯": "elevator", "塔吊": "crane"}[row[2]],
        "occurred_at": {"电梯": "2026-11-21T08:30:00+08:00", "塔吊": "2026-11-20T17:05:10+08:00"}[row[2]],
        "address": row[10], "description": row[11], "weather": row[14],
        "reporter": {"name": row[12], "phone": row[13]},
    }  # fmt: skip


def _facts(row: tuple[str, ...]) -> dict[str, object]:
    if row[2] == "电梯":
        return {"deaths": 0, "serious_injuries": 1, "direct_loss_yuan": 125_000, "people_stranded": 3,
                "stranded_since": "2026-11-21T08:30:00+08:00", "exploded": False}  # fmt: skip
    return {"deaths": 1, "direct_loss_yuan": 0, "exploded": False}


def geojson(**members: object) -> bytes:
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Point", "coordinates": [*place, 244.0]},
            "properties": {**_properties(row), "facts": _facts(row)},
        }
        for row, place in zip(ROWS, PLACES, strict=True)
    ]
    whole = {"type": "FeatureCollection", "features": features, **members}
    return json.dumps(whole, ensure_ascii=False).encode()


def _frame(header: tuple[str, ...], epsg: int) -> geopandas.GeoDataFrame:
    rows = [row if header is COLUMNS else _in_english(row) for row in ROWS]
    places = [from_wgs84(*place, f"EPSG:{epsg}") for place in PLACES]
    return geopandas.GeoDataFrame(
        {name: [row[i] for row in rows] for i, name in enumerate(header)},
        geometry=[shapely.Point(place) for place in places],
        crs=f"EPSG:{epsg}",
    )


def geopackage(path: Path, epsg: int) -> Path:
    _frame(COLUMNS, epsg).to_file(path, layer="incidents", driver="GPKG")
    return path


def shapefile(path: Path) -> Path:
    """A zipped Shapefile with a GBK table and its .cpg; names of columns are cut to ten bytes."""
    folder = path.parent / f"{path.stem}_shp"
    folder.mkdir(exist_ok=True)
    _frame(ENGLISH, 4490).to_file(folder / "险情.shp", encoding="GBK")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in sorted(folder.iterdir()):
            archive.write(part, f"导出/{part.name}")
    return path


GPX = f"""<?xml version="1.0" encoding="UTF-8"?>
<gpx version="1.1" creator="Garmin" xmlns="http://www.topografix.com/GPX/1/1">
<metadata><name>巡线</name><time>2026-11-21T00:00:00Z</time></metadata>
<wpt lat="{PLACES[0][1]}" lon="{PLACES[0][0]}"><ele>244.1</ele><time>2026-11-21T00:30:00Z</time><name>电梯困人</name><cmt>三人</cmt><desc>轿厢困人</desc><sym>Flag</sym></wpt>
<wpt lat="{PLACES[1][1]}" lon="{PLACES[1][0]}"><time>2026-11-20T09:05:10Z</time><name>塔吊</name><desc>整机倒塌</desc></wpt>
<trk><name>路线</name><trkseg><trkpt lat="29.5" lon="106.5"><time>2026-11-21T00:00:00Z</time></trkpt><trkpt lat="29.6" lon="106.6"/></trkseg></trk>
</gpx>"""


def _extended(data: Mapping[str, object]) -> str:
    return "".join(
        f'<Data name="{name}"><value>{value}</value></Data>' for name, value in data.items()
    )


_GOOGLE = {
    "事件编号": FIRST_ID, "设备类型": "电梯", "死亡人数": 0, "重伤人数": 1, "直接经济损失（元）": "125,000",
    "被困人数": 3, "被困起始时间": "2026-11-21 08:30", "是否爆炸": "否", "天气": "晴",
}  # fmt: skip
KML = f"""<?xml version="1.0" encoding="UTF-8"?>
<kml xmlns="http://www.opengis.net/kml/2.2" xmlns:gx="http://www.google.com/kml/ext/2.2">
<Document><name>险情</name><Style id="s"><IconStyle><Icon><href>files/icon.png</href></Icon></IconStyle></Style>
<Schema name="crane" id="crane"><SimpleField type="string" name="设备类型"/></Schema>
<Folder><name>电梯</name><Placemark><name>解放碑</name><address>渝中区解放碑</address>
<description><![CDATA[<div>轿厢困人<br/>三人 <script>alert(1)</script><img src=x onerror=alert(2)></div>]]></description>
<TimeStamp><when>2026-11-21T08:30:00+08:00</when></TimeStamp><styleUrl>#s</styleUrl>
<ExtendedData>{_extended(_GOOGLE)}</ExtendedData>
<Point><altitudeMode>clampToGround</altitudeMode><coordinates>
 {PLACES[0][0]},{PLACES[0][1]},0 </coordinates></Point></Placemark>
<Folder><name>工地</name><Placemark><name>塔吊</name><description>整机倒塌 &lt;b&gt;严重&lt;/b&gt;</description>
<TimeStamp><when>2026-11-20T09:05:10Z</when></TimeStamp>
<ExtendedData><SchemaData schemaUrl="#crane"><SimpleData name="设备类型">塔吊</SimpleData>
<SimpleData name="事件编号">SG-2026-17</SimpleData><SimpleData name="死亡人数">1</SimpleData></SchemaData></ExtendedData>
<MultiGeometry><Point><coordinates>{PLACES[1][0]},{PLACES[1][1]}</coordinates></Point></MultiGeometry></Placemark></Folder></Folder>
<Placemark><name>管线</name><LineString><coordinates>106.5,29.5 106.6,29.6</coordinates></LineString></Placemark>
<NetworkLink><name>远程</name><Link><href>http://127.0.0.1:9/more.kml</href></Link></NetworkLink>
</Document></kml>"""


def kmz() -> bytes:
    icon = io.BytesIO()
    PIL.Image.new("RGBA", (32, 32), "red").save(icon, "PNG")
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("doc.kml", KML)
        archive.writestr("files/icon.png", icon.getvalue())
    return sink.getvalue()


# --- photos ---------------------------------------------------------------------------------------


def photo(
    form: str,
    *,
    gps: bool = True,
    taken: Mapping[int, object] | None = None,
    more: Mapping[int, object] | None = None,
) -> bytes:
    """A small picture with what a phone writes: place, its error, and the time with its offset.

    `taken`, `more`: members of the Exif and GPS parts that replace those.
    """
    exif = PIL.Image.Exif()
    exif[0x010F] = "Yutu"
    exif[0x8769] = dict(
        taken
        if taken is not None
        else {0x9003: "2026:11:21 08:30:00", 0x9011: "+08:00", 0x9004: "2026:11:21 08:30:00"}
    )
    if gps:
        lon, lat = PLACES[0]
        exif[0x8825] = {
            1: "N", 2: _sexagesimal(lat), 3: "E", 4: _sexagesimal(lon), 18: "WGS-84", 31: 8.25,
            **(more or {}),
        }  # fmt: skip
    sink = io.BytesIO()
    picture = PIL.Image.new("RGB", (64, 48), "grey")
    if form == "HEIF":
        pillow_heif.from_pillow(picture).save(sink, exif=exif.tobytes())
    else:
        picture.save(sink, form, exif=exif)
    return sink.getvalue()


def _sexagesimal(degrees: float) -> tuple[float, float, float]:
    whole, minutes = int(degrees), int(degrees * 60) % 60
    return float(whole), float(minutes), round((degrees - whole - minutes / 60) * 3600, 4)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    for made in (*good(target / "good").values(), *malformed(target / "malformed").values()):
        sys.stdout.write(f"{made}\n")
