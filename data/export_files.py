"""Exports as files: GeoJSON, GeoPackage, GeoParquet, CSV, XLSX. Each takes chunks as they come.

A file is written under another name and moved into place when it is whole, its manifest inside:
GeoJSON as a member after the features, GeoPackage as a table, GeoParquet in the file's metadata,
XLSX as the second sheet. A CSV has no such place: its manifest is beside it.

Text that a spreadsheet would take for a formula gets an apostrophe in CSV and XLSX; numbers stay
numbers. Times are UTC, in XLSX dates of Beijing time.
"""

from __future__ import annotations

import csv
import os
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pyproj
import shapely

from data.export_collections import Column
from data.export_rows import Chunk, Export
from data.workbook import SheetColumn, write_workbook
from geo.crs import BD09, CGCS2000, GCJ02, WGS84
from geo.errors import Fault, InvalidInput

MEDIA: Final[Mapping[str, str]] = {
    "geojson": "application/geo+json",
    "gpkg": "application/geopackage+sqlite3",
    "parquet": "application/vnd.apache.parquet",
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
FORMULA: Final = tuple("=+-@\t\r\n＝＋－＠")
GEOMETRY: Final = "geometry"
MANIFEST: Final = "manifest"
_ARROW: Final = {
    "text": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "time": pa.timestamp("us", tz="UTC"),
    "json": pa.string(),
}
_DEGREES: Final = (WGS84, CGCS2000, GCJ02, BD09)


def check_format(suffix: str, crs: str) -> None:
    """Raises InvalidInput for a format we do not write, or one that cannot name the crs."""
    if suffix not in MEDIA:
        raise InvalidInput([Fault(f"must be one of {', '.join(MEDIA)}", None, "format")])
    if suffix in ("gpkg", "parquet") and crs in (GCJ02, BD09):
        reason = f"{suffix} has no name for {crs}; take csv or xlsx, or another system"
        raise InvalidInput([Fault(reason, None, "crs")])


def write_export(
    export: Export, path: Path, suffix: str, lang: str | None = None
) -> dict[str, Any]:
    """Write the whole export to `path`, or nothing; its manifest. Durable on return.

    `lang`: headers of CSV (names of the API unless `zh`) and XLSX (Chinese unless `en`).
    """
    check_format(suffix, export.wanted.crs)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        manifest = _WRITERS[suffix](export, part, lang)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(path)
    finally:
        for leftover in path.parent.glob(f".{path.stem}.part*"):
            leftover.unlink(missing_ok=True)
    return manifest


def inert(text: str) -> str:
    """The text as no spreadsheet computes it."""
    return f"'{text}" if text.startswith(FORMULA) else text


# --- GeoJSON ------------------------------------------------------------------------------------


def _geojson(export: Export, path: Path, lang: str | None) -> dict[str, Any]:
    wanted = export.wanted
    names = [column.name for column in export.columns]
    epsg = _epsg(wanted.crs)
    # every reader takes a system it has no code for as WGS-84, so each row says which it is
    unnamed = {"crs": wanted.crs} if epsg is None else {}
    with path.open("wb") as file:
        file.write(b'{"type":"FeatureCollection","name":' + orjson.dumps(wanted.collection.name))
        if wanted.crs != WGS84 and epsg is not None:
            name = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{epsg}"}}
            file.write(b',"crs":' + orjson.dumps(name))
        file.write(b',"features":[')
        separator = b"\n"
        for chunk in export.chunks():
            for row, shape in zip(chunk.rows, shapely.to_geojson(chunk.shapes), strict=True):
                properties = dict(zip(names, row, strict=True)) | unnamed
                file.write(
                    b'%b{"type":"Feature","id":%b,"geometry":%b,"properties":%b}'
                    % (
                        separator,
                        orjson.dumps(row[0]),
                        b"null" if shape is None else shape.encode(),
                        orjson.dumps(properties),
                    )
                )
                separator = b",\n"
        manifest = _complete(export, "geojson")
        file.write(b'\n],"manifest":' + orjson.dumps(manifest) + b"}\n")
    return manifest


def _epsg(crs: str) -> int | None:
    """The code by which files name the system; None for GCJ-02 and BD-09, which have none."""
    if crs in (GCJ02, BD09):
        return None
    return {WGS84: 4326, CGCS2000: 4490}.get(crs) or int(crs.removeprefix("EPSG:"))


def _complete(export: Export, suffix: str) -> dict[str, Any]:
    return {**export.manifest(), "format": suffix}


# --- GeoPackage and GeoParquet ------------------------------------------------------------------


def _schema(export: Export, metadata: Mapping[str, str] | None = None) -> pa.Schema:
    fields = [pa.field(column.name, _ARROW[column.kind]) for column in export.columns]
    marked = {"ARROW:extension:name": "geoarrow.wkb"}
    if metadata is not None:  # GeoParquet says it in the file's own metadata
        marked = {}
    return pa.schema(
        [*fields, pa.field(GEOMETRY, pa.binary(), metadata=marked or None)], metadata=metadata
    )


def _batches(export: Export, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    kinds = [column.kind for column in export.columns]
    for chunk in export.chunks():
        arrays = [
            pa.array(_plain(values, kind), type=_ARROW[kind])
            for kind, values in zip(kinds, zip(*chunk.rows, strict=True), strict=True)
        ]
        arrays.append(pa.array(shapely.to_wkb(chunk.shapes), type=pa.binary()))
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _plain(values: tuple[Any, ...], kind: str) -> Any:
    if kind != "json":
        return values
    return [None if value is None else orjson.dumps(value).decode() for value in values]


def _gpkg(export: Export, path: Path, lang: str | None) -> dict[str, Any]:
    schema = _schema(export)
    collection = export.wanted.collection
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # no geometry at all, of an empty table
        pyogrio.write_arrow(
            pa.RecordBatchReader.from_batches(schema, _batches(export, schema)),
            path,
            layer=collection.name,
            driver="GPKG",
            geometry_type=collection.shape,
            geometry_name=GEOMETRY,
            crs=f"EPSG:{_epsg(export.wanted.crs)}",
        )
    manifest = _complete(export, "gpkg")
    with sqlite3.connect(path) as book:
        book.execute(
            f"CREATE TABLE {MANIFEST} (id INTEGER PRIMARY KEY, key TEXT NOT NULL, value TEXT)"
        )
        book.executemany(f"INSERT INTO {MANIFEST} (key, value) VALUES (?, ?)", _told(manifest))
        book.execute(
            "INSERT INTO gpkg_contents (table_name, data_type, identifier, description)"
            f" VALUES ('{MANIFEST}', 'attributes', '{MANIFEST}', '')"
        )
    book.close()
    return manifest


def _parquet(export: Export, path: Path, lang: str | None) -> dict[str, Any]:
    crs = export.wanted.crs
    system = pyproj.CRS("OGC:CRS84" if crs == WGS84 else f"EPSG:{_epsg(crs)}")
    shape = export.wanted.collection.shape
    geo = {
        "version": "1.1.0",
        "primary_column": GEOMETRY,
        "columns": {
            GEOMETRY: {
                "encoding": "WKB",
                "geometry_types": [] if shape == "Unknown" else [shape],
                "crs": system.to_json_dict(),
            }
        },
    }
    schema = _schema(export, {"geo": orjson.dumps(geo).decode()})
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in _batches(export, schema):
            writer.write_batch(batch)
        manifest = _complete(export, "parquet")
        writer.add_key_value_metadata({"yutu_manifest": orjson.dumps(manifest).decode()})
    return manifest


# --- CSV and XLSX -------------------------------------------------------------------------------


def _place_columns(export: Export, suffix: str) -> list[Column]:
    """Two columns for points; for areas their text in CSV, and in XLSX a point inside."""
    if export.wanted.collection.shape != "Point" and suffix == "csv":
        return [Column("wkt", "WKT几何"), Column("crs", "坐标系")]
    if export.wanted.crs in _DEGREES:
        places = [Column("lon", "经度", "number"), Column("lat", "纬度", "number")]
    else:
        places = [Column("x", "东坐标", "number"), Column("y", "北坐标", "number")]
    return [*places, Column("crs", "坐标系")]


def _places(export: Export, chunk: Chunk, suffix: str) -> Iterator[tuple[Any, ...]]:
    crs = export.wanted.crs
    if export.wanted.collection.shape != "Point":
        if suffix == "csv":
            for shape in chunk.shapes:
                yield None if shape is None else shapely.to_wkt(shape, rounding_precision=9), crs
            return
        points = shapely.point_on_surface(chunk.shapes)
    else:
        points = chunk.shapes
    digits = 9 if crs in _DEGREES else 4
    xs, ys = np.round(shapely.get_x(points), digits), np.round(shapely.get_y(points), digits)
    for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
        yield (None, None, crs) if x != x else (x, y, crs)


def _csv(export: Export, path: Path, lang: str | None) -> dict[str, Any]:
    columns = [*export.columns, *_place_columns(export, "csv")]
    # the mark at the beginning is how Excel knows UTF-8
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(_header(columns, lang or "en"))
        tell = [_CSV_CELL[column.kind] for column in columns]
        for chunk in export.chunks():
            writer.writerows(
                [
                    "" if value is None else told(value)
                    for told, value in zip(tell, (*row, *place), strict=True)
                ]
                for row, place in zip(chunk.rows, _places(export, chunk, "csv"), strict=True)
            )
    return _complete(export, "csv")


def _header(columns: list[Column], lang: str) -> list[str]:
    return [column.title if lang == "zh" else column.name for column in columns]


def _as_json(value: Any) -> str:
    return inert(orjson.dumps(value).decode())


def _as_time(value: datetime) -> str:
    return value.isoformat()


_CSV_CELL: Final[Mapping[str, Callable[[Any], Any]]] = {
    "text": inert,
    "integer": lambda value: value,
    "number": lambda value: value,
    "boolean": lambda value: "true" if value else "false",
    "time": _as_time,
    "json": _as_json,
}


def _xlsx(export: Export, path: Path, lang: str | None) -> dict[str, Any]:
    english = lang == "en"
    columns = [*export.columns, *_place_columns(export, "xlsx")]
    manifest: dict[str, Any] = {}

    def rows() -> Iterator[tuple[Any, ...]]:
        json_at = [i for i, column in enumerate(columns) if column.kind == "json"]
        text_at = [i for i, column in enumerate(columns) if column.kind == "text"]
        for chunk in export.chunks():
            for row, place in zip(chunk.rows, _places(export, chunk, "xlsx"), strict=True):
                cells = [*row, *place]
                for i in json_at:
                    if cells[i] is not None:
                        cells[i] = _as_json(cells[i])
                for i in text_at:
                    if cells[i]:
                        cells[i] = inert(cells[i])
                yield tuple(cells)

    def facts() -> Iterator[tuple[str, str]]:
        manifest.update(_complete(export, "xlsx"))
        for name, value in _told(manifest):
            yield name, inert(value)

    write_workbook(
        path,
        export.wanted.collection.name if english else export.wanted.collection.title,
        [
            SheetColumn(title, c.kind)
            for title, c in zip(_header(columns, lang or "zh"), columns, strict=True)
        ],
        rows(),
        MANIFEST if english else "说明",
        facts,
    )
    return manifest


def _told(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The manifest as pairs of texts."""
    return [
        (name, value if isinstance(value, str) else orjson.dumps(value).decode())
        for name, value in manifest.items()
    ]


_WRITERS: Final[Mapping[str, Callable[[Export, Path, str | None], dict[str, Any]]]] = {
    "geojson": _geojson,
    "gpkg": _gpkg,
    "parquet": _parquet,
    "csv": _csv,
    "xlsx": _xlsx,
}
