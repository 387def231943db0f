"""GeoPackages and zipped Shapefiles as records: a feature each, in the system the layer states.

GDAL's answer is taken in portions and without frames, which would hold every cell three times.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import shapely

from data.readers import VECTOR_DRIVERS
from data.readers.archive import open_archive
from data.readers.records import FileRecord, FileRecords
from data.readers.shapefile import table_encoding, unpack_shapefile
from data.sandbox import in_force
from geo.crs import name_of_crs
from geo.errors import Fault, InvalidInput, TooLarge

if in_force():  # 90 MB that pyogrio takes along when they are there, and does without
    for _unused in ("geopandas", "pandas", "pyarrow"):
        sys.modules.setdefault(_unused, None)  # type: ignore[arg-type]

import pyogrio
import pyogrio.raw

if set(pyogrio.list_drivers()) - VECTOR_DRIVERS:
    raise ImportError("pyogrio was imported before data.readers could lock it down")

_DRIVERS: Final = {"geopackage": "GPKG", "shapefile": "ESRI Shapefile"}
_PORTION: Final = 1_000
_READ_ERRORS: Final = (RuntimeError, ValueError, OSError, KeyError, TypeError)


def read_layer(path: Path, form: str, rows_max: int) -> FileRecords:
    """The features of the one layer of a file; `crs` is what the layer states.

    Raises InvalidInput for a file that is damaged, empty or has several layers of geometries,
    CrsError for a system that is not accepted, TooLarge.
    """
    with _prepared(path, form) as ready:
        layer = _layer(ready, form)
        options = {"encoding": table_encoding(ready)} if form == "shapefile" else {}
        records: list[FileRecord] = []
        headers: list[str] = []
        while True:
            try:
                meta, _, shapes, columns = pyogrio.raw.read(
                    ready,
                    layer=layer,
                    skip_features=len(records),
                    max_features=_PORTION,
                    datetime_as_string=True,
                    **options,
                )
            except _READ_ERRORS as error:
                raise InvalidInput("the file is damaged, incomplete or empty") from error
            headers = [str(name) for name in meta["fields"]]
            records += _records(headers, shapes, columns, len(records))
            if len(records) > rows_max:
                raise TooLarge(f"the file has more than {rows_max} rows")
            if len(shapes) < _PORTION:
                break
    if not records:
        raise InvalidInput("the file holds no feature")
    stated = None if not meta["crs"] else name_of_crs(meta["crs"])
    return FileRecords(form, records, headers, crs=stated)


@contextmanager
def _prepared(path: Path, form: str) -> Iterator[Path]:
    """The file alone in a folder of its own: nothing beside it is found, nothing written there."""
    with tempfile.TemporaryDirectory(prefix="yutu-layer-") as folder:
        if form == "shapefile":
            with open_archive(path) as archive:
                parts = [p for p in archive.infolist() if not p.filename.startswith("__MACOSX/")]
                yield unpack_shapefile(archive, parts, Path(folder))
        else:
            ready = Path(folder) / "file.gpkg"
            ready.symlink_to(path.resolve())
            yield ready


def _layer(ready: Path, form: str) -> str:
    try:
        driver = pyogrio.read_info(ready, layer=0)["driver"]
        layers = [str(name) for name, shape in pyogrio.list_layers(ready) if shape is not None]
    except _READ_ERRORS as error:
        raise InvalidInput("the file is damaged, incomplete or empty") from error
    if driver != _DRIVERS[form]:
        raise InvalidInput("the file is not what it seems; save it anew")
    if len(layers) != 1:
        raise InvalidInput(
            f"the file has {len(layers)} layers of geometries; send it with one, of the incidents"
        )
    return layers[0]


def _records(
    headers: list[str], shapes: Any, columns: list[Any], before: int
) -> Iterator[FileRecord]:
    cells = [column.tolist() for column in columns]
    points = shapely.from_wkb(shapes, on_invalid="ignore")
    for at, (shape, binary) in enumerate(zip(points, shapes, strict=True)):
        record = FileRecord(before + at + 1, {})
        record.cells = {
            header: value
            for header, column in zip(headers, cells, strict=True)
            if (value := _cell(column[at])) is not None
        }
        if shape is None and binary is not None:
            record.faults.append(Fault("the geometry cannot be read", record.row, "geometry"))
        elif shape is not None and not shape.is_empty:
            record.place = _place(record, shape)
        yield record


def _cell(value: Any) -> Any:
    if value is None or value != value:
        return None
    return value if isinstance(value, bool | int | float | str) else str(value)


def _place(record: FileRecord, shape: Any) -> list[float] | None:
    if shape.geom_type == "MultiPoint" and len(shape.geoms) == 1:
        shape = shape.geoms[0]
    if shape.geom_type != "Point":
        reason = f"an incident is one point; this feature is {shape.geom_type}"
        record.faults.append(Fault(reason, record.row, "geometry"))
        return None
    if not (math.isfinite(shape.x) and math.isfinite(shape.y)):
        reason = "must be two finite numbers, [longitude, latitude]"
        record.faults.append(Fault(reason, record.row, "geometry"))
        return None
    return [float(shape.x), float(shape.y)]
