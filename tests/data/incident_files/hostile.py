"""Files made to do harm: what each pretends to be, and the bytes. `write_hostile(folder)` writes them all."""

from __future__ import annotations

import io
import json
import sqlite3
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

from tests.data.incident_files.generate import (
    GPX,
    KML,
    geojson,
    geopackage,
    photo,
    shapefile,
    workbook,
)

MIB = 1 << 20
VRT = """<OGRVRTDataSource><OGRVRTLayer name="passwd"><SrcDataSource>/etc/passwd</SrcDataSource>
<SrcLayer>passwd</SrcLayer></OGRVRTLayer></OGRVRTDataSource>"""
XXE = '<!DOCTYPE kml [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
LAUGHS = "<!DOCTYPE kml [<!ENTITY a0 'ha'>" + "".join(
    f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 10)
) + "]>"  # fmt: skip


def _zip(**members: bytes | str) -> bytes:
    return _zip_of(
        {name.replace("__", "/").replace("_dot_", "."): body for name, body in members.items()}
    )


def _zip_of(members: dict[str, bytes | str]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return sink.getvalue()


def _kml_with(head: str, body: str = "&x;&a9;") -> str:
    return KML.replace("?>\n", f"?>\n{head}", 1).replace("解放碑", body, 1)


@cache
def _kmz_bomb() -> bytes:
    sink = io.BytesIO()
    with (
        zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("doc.kml", "w") as out,
    ):
        for _ in range(1000):
            out.write(b" " * MIB)
    return sink.getvalue()


def _lying_sizes(name: str = "doc.kml") -> bytes:
    """The central directory says 100 bytes; 256 MiB come out."""
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = b"".join(packed.compress(b" " * MIB) for _ in range(256)) + packed.flush()
    file = name.encode()
    local = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 8, 0, 0, 0, len(body), 100, len(file), 0)
    central = struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, 0, 8, 0, 0, 0, len(body), 100, len(file), 0, 0, 0, 0, 0, 0)  # fmt: skip
    start = len(local) + len(file) + len(body)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, len(central) + len(file), start, 0)
    return local + file + body + central + file + end


def _linked(target: str) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        link = zipfile.ZipInfo("doc.kml")
        link.create_system = 3
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, target)
    return sink.getvalue()


def _many_members() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("doc.kml", KML)
        for number in range(20_000):
            archive.writestr(f"f/{number}", b"")
    return sink.getvalue()


def _twice() -> bytes:
    """Two members of one name, of which two readers would read two."""
    body = _zip_of({"doc.kml": KML, "eoc.kml": VRT})
    return body.replace(b"eoc.kml", b"doc.kml")


def _edited_workbook(edit: Callable[[dict[str, bytes]], None]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(workbook())) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    edit(parts)
    return _zip_of(dict(parts))


def _far_cell(parts: dict[str, bytes]) -> None:
    sheet = parts["xl/worksheets/sheet1.xml"]
    far = b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>'
    parts["xl/worksheets/sheet1.xml"] = sheet.replace(b"</sheetData>", far)


def _wide_grid(parts: dict[str, bytes]) -> None:
    sheet = parts["xl/worksheets/sheet1.xml"]
    far = b'<row r="29000"><c r="AMJ29000"><v>1</v></c></row></sheetData>'
    parts["xl/worksheets/sheet1.xml"] = sheet.replace(b"</sheetData>", far)


def _many_strings(parts: dict[str, bytes]) -> None:
    parts["xl/sharedStrings.xml"] = b"<sst>" + b"<si><t>a</t></si>" * 6_000_000 + b"</sst>"


def _huge_part(parts: dict[str, bytes]) -> None:
    parts["xl/sharedStrings.xml"] = b"<sst>" + b" " * (300 * MIB) + b"</sst>"


def _entities(parts: dict[str, bytes]) -> None:
    name = "xl/workbook.xml"
    laughs = LAUGHS.replace("kml", "workbook").encode()
    parts[name] = laughs + parts[name].replace(b'name="Sheet"', b'name="&a9;"')


def _jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose header claims a size; the picture itself is 64 by 48."""
    body = photo("JPEG")
    at = body.index(b"\xff\xc0")
    return body[: at + 5] + struct.pack(">HH", height, width) + body[at + 9 :]


def _png_of(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    return b"\x89PNG\r\n\x1a\n" + chunk


def _looping_exif() -> bytes:
    """The Exif part's directory points to itself as its GPS part."""
    body = bytearray(photo("JPEG"))
    at = bytes(body).index(b"\x88\x25")
    body[at + 8 : at + 12] = struct.pack(">I", 8)
    return bytes(body)


def _endless_view() -> bytes:
    """A GeoPackage whose layer is a view that never ends."""
    with tempfile.TemporaryDirectory() as folder:
        path = geopackage(Path(folder) / "a.gpkg", 4490)
        with sqlite3.connect(path) as base:
            base.create_function("ST_IsEmpty", 1, lambda _: 0)
            for kind, name in base.execute("SELECT type, name FROM sqlite_master").fetchall():
                if kind == "trigger":
                    base.execute(f'DROP TRIGGER "{name}"')
            base.execute("ALTER TABLE incidents RENAME TO held")
            base.execute(
                "CREATE VIEW incidents AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n)"
                " SELECT held.* FROM held, n WHERE n.x < 0"
            )
            base.execute(
                "UPDATE gpkg_contents SET table_name = 'incidents', identifier = 'incidents'"
            )
            base.execute("UPDATE gpkg_geometry_columns SET table_name = 'incidents'")
        base.close()
        return path.read_bytes()


def _lying_dbf() -> bytes:
    """A Shapefile whose table says it has two thousand million records."""
    with tempfile.TemporaryDirectory() as folder:
        path = shapefile(Path(folder) / "a.zip")
        with zipfile.ZipFile(path) as archive:
            parts = {name: archive.read(name) for name in archive.namelist()}
    for name in list(parts):
        if name.endswith(".dbf"):
            parts[name] = parts[name][:4] + struct.pack("<I", 2_000_000_000) + parts[name][8:]
        if name.endswith((".shp", ".shx")):
            parts[name] = parts[name][:24] + struct.pack(">i", 2_000_000_000) + parts[name][28:]
    return _zip_of(dict(parts))


def _csv(cell: str) -> bytes:
    return (
        f"事发时间,设备类型,预案,经度,纬度\n2026-11-21 08:30,电梯,特种设备,{cell},29.5\n".encode()
    )


POINT = '{"type":"FeatureCollection","features":[{"type":"Feature","properties":{},"geometry":{"type":"Point","coordinates":%s}}]}'
#: Name of the file → how its bytes are made. `refused` is what becomes of most; of those in ROWS a row is.
HOSTILE: dict[str, Callable[[], bytes]] = {
    "vrt.geojson": lambda: VRT.encode(),
    "vrt.kml": lambda: VRT.encode(),
    "vrt.csv": lambda: VRT.encode(),
    "vrt_inside.kmz": lambda: _zip(doc_dot_kml=VRT),
    "vrt_inside.zip": lambda: _zip(a_dot_shp=VRT, a_dot_dbf=VRT, a_dot_shx=VRT),
    "xxe.kml": lambda: _kml_with(XXE).encode(),
    "xxe.gpx": lambda: GPX.replace("?>\n", f"?>\n{XXE}", 1).encode(),
    "xxe_utf16.kml": lambda: _kml_with(XXE).replace("UTF-8", "UTF-16").encode("utf-16"),
    "laughs.kml": lambda: _kml_with(LAUGHS).encode(),
    "laughs_inside.kmz": lambda: _zip(doc_dot_kml=_kml_with(LAUGHS)),
    "laughs.xlsx": lambda: _edited_workbook(_entities),
    "deep.kml": lambda: b"<kml>" + b"<Folder>" * 200_000,
    "long_text.kml": lambda: _kml_with("", "x" * (20 * MIB)).encode(),
    "many_attributes.kml": lambda: (
        b"<kml " + b" ".join(b'a%d="1"' % n for n in range(1_000_000)) + b"/>"
    ),
    "many_placemarks.kml": lambda: b"<kml>" + b"<Placemark/>" * 2_000_000 + b"</kml>",
    "bomb.kmz": _kmz_bomb,
    "lying.kmz": _lying_sizes,
    "nested.kmz": lambda: _zip_of({"a.zip": _kmz_bomb()}),
    "many.kmz": _many_members,
    "twice.kmz": _twice,
    "up.kmz": lambda: _zip_of({"../../doc.kml": KML}),
    "absolute.kmz": lambda: _zip_of({"/etc/doc.kml": KML}),
    "backslash.kmz": lambda: _zip_of({"..\\doc.kml": KML}),
    "drive.kmz": lambda: _zip_of({"C:/doc.kml": KML}),
    "symlink.kmz": lambda: _linked("/etc/passwd"),
    "far.xlsx": lambda: _edited_workbook(_far_cell),
    "grid.xlsx": lambda: _edited_workbook(_wide_grid),
    "strings.xlsx": lambda: _edited_workbook(_many_strings),
    "huge.xlsx": lambda: _edited_workbook(_huge_part),
    "lying.xlsx": lambda: _lying_sizes("xl/workbook.xml"),
    "both.zip": lambda: _zip_of({"doc.kml": KML, "a.shp": b"", "a.dbf": b""}),
    "png.jpg": lambda: _png_of(30_000, 30_000),
    "900mp.jpg": lambda: _jpeg_of(30_000, 30_000),
    "zip_behind.jpg": lambda: photo("JPEG") + _zip(doc_dot_kml=KML),
    "pdf_inside.jpg": lambda: photo("JPEG")[:2] + b"\xff\xfe\x00\x0b%PDF-1.7\n" + photo("JPEG")[2:],
    "zip_behind.geojson": lambda: geojson() + _zip(doc_dot_kml=KML),
    "zip_behind.csv": lambda: _csv("106.5") + _zip(doc_dot_kml=KML),
    "deep.geojson": lambda: (POINT % ("[" * 200_000 + "]" * 200_000)).encode(),
    "deep_collections.geojson": lambda: (
        '{"type":"Feature","properties":{},"geometry":'
        + '{"type":"GeometryCollection","geometries":[' * 200_000
    ).encode(),
    "nan.geojson": lambda: (POINT % "[NaN, 29.5]").encode(),
    "overflow.geojson": lambda: (POINT % "[1e999, 29.5]").encode(),
    "wide.geojson": lambda: (POINT % ("[" + "[]," * (9 * MIB) + "[]]")).encode(),
    "digits.geojson": lambda: (POINT % ("[" + "9" * 5000 + ", 1]")).encode(),
    "surrogate.geojson": lambda: geojson().replace(b"SG-2026-17", rb"\ud800"),
    "list.json": lambda: json.dumps([1, 2]).encode(),
    "nul.csv": lambda: _csv("106.5\0"),
    "columns.csv": lambda: b"a," * 2_000_000 + b"a\n1\n",
    "one_field.csv": lambda: b'a,b\n"' + b"x" * (20 * MIB),
    "many_rows.csv": lambda: b"a\n" + b"1\n" * (10 * MIB),
    "wide_characters.csv": lambda: ("a\n" + "𠀀" * (7 * MIB)).encode(),
    "endless.gpkg": _endless_view,
    "plain.gpkg": lambda: b"SQLite format 3\0" + b"\0" * 4096,
    "lying.zip": _lying_dbf,
    "page.csv": lambda: b"<!DOCTYPE html><html><script>alert(1)</script></html>",
    "program.csv": lambda: b"\x7fELF" + b"\0" * 100,
    "program.jpg": lambda: b"MZ" + b"\0" * 100,
    "letter.csv": lambda: b"%PDF-1.7\n",
    "gzip.csv": lambda: b"\x1f\x8b" + b"\0" * 100,
    "loop.jpg": _looping_exif,
    "overflow.csv": lambda: _csv("1e999"),
    "nan.csv": lambda: _csv("NaN"),
    "nan.kml": lambda: KML.replace("106.5516,29.563", "nan,29.563").encode(),
    "overflow.gpx": lambda: GPX.replace('lon="106.5516"', 'lon="1e999"').encode(),
    "nul.geojson": lambda: geojson().replace("轿厢困人".encode(), rb"\u0000"),
}
#: Read, but the hostile row is refused; the others of the file are as they would be.
ROWS = {
    "overflow.csv",
    "nan.csv",
    "nan.kml",
    "overflow.gpx",
    "nul.geojson",
    "overflow.geojson",
    "surrogate.geojson",
}
#: Harmless once read: what is wrong is not where an incident is.
HARMLESS = {"loop.jpg"}


def write_hostile(folder: Path, names: Iterable[str] = tuple(HOSTILE)) -> dict[str, Path]:
    paths = {}
    for name in names:
        paths[name] = folder / name
        paths[name].write_bytes(HOSTILE[name]())
    return paths
