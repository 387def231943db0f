"""A facility file before its rows are checked: a table, or a vector file of points.

`parse_facility_file` is for whatever strangers send: it runs `read_facility_file` in a confined
child process (`data.sandbox`) and takes from it, part by part, the text of the columns that are
read, and nothing else. docs/meanings.md, "Files of facilities and returns".
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
import shapely

from data.facility_columns import field_of, read_mapping
from data.readers.no_table import refuse_no_table
from data.readers.tabular import MAX_COLUMNS, MAX_ROWS, Lines, read_table
from data.readers.told import told_faults, told_lines, untold_faults, untold_lines
from data.readers.vector_kind import sniff
from data.sandbox import Limits, hand_over, run_sandboxed
from geo.errors import Fault, InvalidInput

#: An id and the two numbers of a position are the least a table of facilities has.
COLUMNS_MIN = 3
ACCEPTED = (
    "accepted are CSV, XLSX and Parquet with columns such as facility_id, lon, lat, and GeoJSON,"
    " GeoPackage, FlatGeobuf, GeoParquet, zipped Shapefile, KML, KMZ, GPX, GML"
)
#: Rows told to be wrong, of a file that is refused for having more.
FAULTS_MAX = 50_000
_PART_CELLS = 200_000
#: No field takes as much; a longer cell is refused as well when its rest is left out.
_CELL_CHARACTERS_MAX = 1_000


@dataclass(frozen=True)
class FacilityTable:
    """A file's rows before they are checked: `frame` has a row per record, its index the 1-based
    row number; positions may stand in columns `lon`, `lat` made from geometries. `crs` is what
    the file states or the uploader declared; `lines` those the rows of a CSV or XLSX stand in;
    `headers` names all columns of the file where `frame` has only those some field is read from."""

    frame: pd.DataFrame
    crs: str | None
    faults: tuple[Fault, ...] = ()
    lines: Lines | None = None
    headers: tuple[str, ...] | None = None


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
    from data.readers.vector import read_vector  # GDAL and its frames, for no table

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


def few_faults(faults: Sequence[Fault]) -> Sequence[Fault]:
    """The same faults, if they are not too many to be told. Raises InvalidInput with FAULTS_MAX."""
    if len(faults) > FAULTS_MAX:
        reason = f"more than {FAULTS_MAX} faults; the file is refused as a whole"
        raise InvalidInput([Fault(reason), *faults[:FAULTS_MAX]])
    return faults


# --- in a child process ---------------------------------------------------------------------------


def parse_facility_file(
    path: Path,
    name: str,
    *,
    crs: str | None = None,
    mapping: Mapping[str, str] | None = None,
    limits: Limits | None = None,
) -> FacilityTable:
    """`read_facility_file` of a file someone sent, in a child process with limits.

    Every cell is text; `facility_rows` says the same of it as of what the file held. `mapping` is
    what `facility_rows` will be given. Raises InvalidInput also for what the child may not do or
    take, and what `read_mapping` raises.
    """
    from data.parse_settings import ParseSettings  # the child needs none of it

    gathered = _Gathered()
    told = run_sandboxed(
        hand_over_facility_file,
        str(path.resolve()),
        name,
        crs,
        dict(mapping or {}),
        limits=limits or ParseSettings.load().inventory_limits(path),
        parts=gathered.add,
        files=[path],
    )
    try:
        return gathered.table(told)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InvalidInput("the file could not be read; save it anew and send it again") from None


def hand_over_facility_file(
    path: str, name: str, crs: str | None, mapping: Mapping[str, str]
) -> dict[str, Any]:
    """The child's work: parts [row numbers, [cells of each column]], then what stands beside."""
    table = read_facility_file(Path(path), name, crs=crs)
    faults = told_faults(few_faults(table.faults))
    frame = table.frame
    headers = [str(title) for title in frame.columns]
    sources = read_mapping(mapping, headers)
    mapped = {source.column for source in sources.values()}
    kept = [i for i, h in enumerate(headers) if h in mapped or field_of(h) is not None]
    step = max(1, _PART_CELLS // max(1, len(kept)))
    for start in range(0, len(frame), step):
        part = frame.iloc[start : start + step]
        cells = [[_cut(cell) for cell in as_text(part.iloc[:, i])] for i in kept]
        hand_over([part.index.tolist(), cells])
    return {
        "columns": [headers[i] for i in kept],
        "headers": headers,
        "crs": table.crs,
        "faults": faults,
        "lines": told_lines(table.lines),
    }


def _cut(cell: str | None) -> str | None:
    return (
        cell if cell is None or len(cell) <= _CELL_CHARACTERS_MAX else cell[:_CELL_CHARACTERS_MAX]
    )


class _Gathered:
    """The parts of a table as they come, held densely; of a child nothing is taken on trust."""

    def __init__(self) -> None:
        self._numbers: list[Any] = []
        self._columns: list[list[Any]] = []
        self._rows = 0

    def add(self, part: Any) -> None:
        """One part. Raises TypeError for what is none."""
        try:
            numbers, columns = part
            rows = np.array(numbers, dtype=np.int64)
            cells = [pyarrow.array(one, pyarrow.large_string()) for one in columns]
        except (TypeError, ValueError, OverflowError, pyarrow.ArrowException):
            raise TypeError("a part is row numbers and columns of text") from None
        self._columns = self._columns or [[] for _ in cells]
        self._rows += len(rows)
        alike = len(cells) == len(self._columns) <= MAX_COLUMNS and rows.ndim == 1
        if not alike or any(len(one) != len(rows) for one in cells) or self._rows > MAX_ROWS:
            raise TypeError("every part has the same columns, and these the same rows")
        self._numbers.append(rows)
        for column, one in zip(self._columns, cells, strict=True):
            column.append(one)

    def table(self, told: Mapping[str, Any]) -> FacilityTable:
        titles = [str(title) for title in told["columns"]]
        none: list[Any] = [[] for _ in titles]
        columns = {
            title: pd.array(
                pyarrow.chunked_array(cells, pyarrow.large_string()),
                dtype=pd.StringDtype(na_value=np.nan),
            )
            for title, cells in zip(titles, self._columns or none, strict=True)
        }
        if len(columns) != len(titles):
            raise TypeError("no column stands twice")
        rows = np.concatenate(self._numbers) if self._numbers else np.array([], dtype=np.int64)
        return FacilityTable(
            pd.DataFrame(columns, index=pd.Index(rows, name="row")),
            None if told["crs"] is None else str(told["crs"]),
            tuple(untold_faults(told["faults"])),
            untold_lines(told["lines"]),
            tuple(str(title) for title in told["headers"]),
        )


# --- cells as text --------------------------------------------------------------------------------


def as_text(column: pd.Series) -> np.ndarray[Any, np.dtype[np.object_]]:
    """Cells as stripped text, None where empty; whole numbers without a decimal point."""
    if isinstance(column.dtype, pd.StringDtype):
        values = column.str.strip().to_numpy(dtype=object, copy=True)
        values[pd.isna(values) | (values == "")] = None
        return np.asarray(values, dtype=object)
    cells: Sequence[Any] = column.tolist()
    out = np.empty(len(cells), dtype=object)
    out[:] = [_cell_text(cell) for cell in cells]
    return out


def _cell_text(cell: Any) -> str | None:
    if isinstance(cell, str):
        return cell.strip() or None
    if cell is None or cell is pd.NA or cell is pd.NaT:
        return None
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        if cell != cell:
            return None
        return str(int(cell)) if cell.is_integer() and abs(cell) < 2**53 else repr(cell)
    if isinstance(cell, datetime.date | datetime.time):
        return cell.isoformat()
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, dict | list) else str(cell)
