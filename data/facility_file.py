"""A facility file before its rows are checked: a table, or a vector file of points."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import shapely

from data.facility_columns import field_of
from data.readers.no_table import refuse_no_table
from data.readers.tabular import Lines, read_table
from data.readers.vector import read_vector, sniff
from geo.errors import Fault, InvalidInput

#: An id and the two numbers of a position are the least a table of facilities has.
COLUMNS_MIN = 3
ACCEPTED = (
    "accepted are CSV, XLSX and Parquet with columns such as facility_id, lon, lat, and GeoJSON,"
    " GeoPackage, FlatGeobuf, GeoParquet, zipped Shapefile, KML, KMZ, GPX, GML"
)


@dataclass(frozen=True)
class FacilityTable:
    """A file's rows before they are checked: `frame` has a row per record, its index the 1-based
    row number; positions may stand in columns `lon`, `lat` made from geometries. `crs` is what
    the file states or the uploader declared; `lines` those the rows of a CSV or XLSX stand in."""

    frame: pd.DataFrame
    crs: str | None
    faults: tuple[Fault, ...] = ()
    lines: Lines | None = None


def read_facility_file(path: Path, name: str, *, crs: str | None = None) -> FacilityTable:
    """The rows of a table (CSV, XLSX, Parquet) or a vector file of points.

    Raises InvalidInput for a file that is neither, CrsError when file and declaration differ.
    """
    try:
        kind = sniff(path)
    except InvalidInput:
        refuse_no_table(path, name, columns_min=COLUMNS_MIN, accepted=ACCEPTED)
        table = read_table(path, name)
        return FacilityTable(table.frame, crs, table.faults, table.lines)
    if kind == "Parquet" and not _has_geometry(path, name):
        return FacilityTable(read_table(path, name).frame, crs)
    features = read_vector(path, crs=crs)
    shapes = np.asarray(features.geometry.array, dtype=object)
    frame = pd.DataFrame(features.drop(columns=features.geometry.name))
    frame = frame.drop(columns=[c for c in frame.columns if field_of(str(c)) in ("lon", "lat")])
    frame.index = pd.RangeIndex(1, len(frame) + 1, name="row")
    is_point = np.array([g is not None and g.geom_type == "Point" for g in shapes], dtype=bool)
    is_point &= ~shapely.is_empty(shapes)
    rows = frame.index[~is_point]
    reason = "a facility is one point; this feature has another geometry, or none"
    faults = tuple(Fault(reason, int(row), "geometry") for row in rows)
    frame = frame[is_point].assign(
        lon=shapely.get_x(shapes[is_point]), lat=shapely.get_y(shapes[is_point])
    )
    return FacilityTable(frame, features.attrs["crs"], faults)


def _has_geometry(path: Path, name: str) -> bool:
    try:
        schema = pyarrow.parquet.read_schema(path)
    except (pyarrow.ArrowException, OSError):
        raise InvalidInput(f"{name!r} is not a whole Parquet file") from None
    return b"geo" in (schema.metadata or {})
