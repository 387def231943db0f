"""An operator's own file of divisions: districts, or functional zones that overlap them.

Nothing is repaired: no unit is dissolved, snapped or dropped. The file is taken as it is, or every
fault in it is reported with its row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import geopandas
import numpy as np
import pandas as pd
import shapely
from shapely import MultiPolygon, Polygon

from data.readers.vector import read_vector
from geo.crs import area_m2, frame_to_wgs84
from geo.districts import coverage_faults, overlap_faults
from geo.errors import Fault, InvalidInput
from geo.validate import AREAS, frame_faults, raise_faults

DISTRICT: Final = "district"
ZONE: Final = "functional_zone"

# Customary column names, the most specific first; compared without case, spaces and underscores.
_CUSTOMARY: Final[dict[str, tuple[str, ...]]] = {
    "code": (
        "adcode", "districtadcode", "行政区划代码", "区划代码", "行政区代码", "区县代码",
        "单位代码", "xzqdm", "xzqhdm", "pac", "gb", "代码", "编码", "code", "id",
    ),
    "name": (
        "name", "districtname", "行政区名称", "区划名称", "区县名称", "单位名称", "xzqmc", "区县",
        "名称", "名字", "mc", "namezh", "namechn", "district",
    ),
    "name_en": ("nameen", "英文名称", "英文名", "拼音", "pinyin", "ename"),
    "population": ("population", "人口", "常住人口", "pop"),
    "kind": ("kind", "类型", "类别"),
}  # fmt: skip
_KIND_WORDS: Final = {
    "district": DISTRICT, "区县": DISTRICT, "行政区": DISTRICT, "行政区划": DISTRICT,
    "zone": ZONE, "functional zone": ZONE, ZONE: ZONE, "功能区": ZONE, "开发区": ZONE,
}  # fmt: skip


def read_divisions_file(
    path: Path,
    columns: Mapping[str, str] | None = None,
    *,
    crs: str | None = None,
    layer: str | None = None,
    kind: str = DISTRICT,
) -> Any:
    """The divisions of a vector file as a GeoDataFrame in EPSG:4326, ordered by code.

    Columns: `kind` (district or functional_zone), `code`, `name`, `name_en` (null if absent),
    `population` (Int64, null if absent), `area_m2` (WGS-84 ellipsoid), `geometry` (MultiPolygon).
    `columns` maps these names to the file's where they are not customary ones; it wins over them.
    `kind` holds for a file without such a column.

    Raises InvalidInput with every fault and its row: a code or name missing or repeated, a district
    code that is not six digits, geometries that are not valid polygons, and, once the rows are
    sound, districts that are not a coverage or zones that overlap each other. CrsError and other
    faults of the file as `read_vector`.
    """
    raw = read_vector(path, layer, crs=crs)
    chosen = _choose_columns([str(name) for name in raw.columns], dict(columns or {}))
    moved = frame_to_wgs84(raw, raw.attrs["crs"])
    faults: list[Fault] = []
    kinds = _kinds(raw, chosen.get("kind"), kind, faults)
    frame = geopandas.GeoDataFrame(
        {
            "kind": kinds,
            "code": _codes(raw[chosen["code"]], kinds, chosen["code"], faults),
            "name": [_text(value) for value in raw[chosen["name"]]],
            "name_en": _optional_text(raw, chosen.get("name_en")),
            "population": _population(raw, chosen.get("population"), faults),
        },
        geometry=[_multi(shape) for shape in moved.geometry],
        crs="EPSG:4326",
    )
    faults += frame_faults(frame, types=AREAS, required=["code", "name"], unique=["code"])
    raise_faults(sorted(faults, key=lambda fault: fault.row or 0))
    districts = frame[frame["kind"] == DISTRICT]
    zones = frame[frame["kind"] == ZONE]
    raise_faults(
        _in_rows_of(frame, districts, coverage_faults(districts, "code") if len(districts) else [])
        + _in_rows_of(frame, zones, overlap_faults(zones, "code") if len(zones) else [])
    )
    frame.insert(5, "area_m2", area_m2(np.asarray(frame.geometry.array, dtype=object)))
    return frame.sort_values("code", ignore_index=True)


def _choose_columns(present: list[str], said: dict[str, str]) -> dict[str, str]:
    """Which column of the file holds what; `code` and `name` must be found."""
    faults = [
        Fault(f"there is no such meaning; there are {', '.join(_CUSTOMARY)}", None, meaning)
        for meaning in said
        if meaning not in _CUSTOMARY
    ]
    faults += [
        Fault(f"the file has no column {column!r}", None, meaning)
        for meaning, column in said.items()
        if meaning in _CUSTOMARY and column not in present
    ]
    plain = {re.sub(r"[\s_]+", "", name).lower(): name for name in reversed(present)}
    chosen = dict(said)
    for meaning, names in _CUSTOMARY.items():
        found = next((plain[name] for name in names if name in plain), None)
        if meaning not in chosen and found is not None and found not in said.values():
            chosen[meaning] = found
    shown = ", ".join(repr(name) for name in present if name != "geometry")[:300]
    faults += [
        Fault(f"no column is known to hold it; say which of {shown}", None, meaning)
        for meaning in ("code", "name")
        if meaning not in chosen
    ]
    raise_faults(faults)
    return chosen


def _kinds(raw: Any, column: str | None, default: str, faults: list[Fault]) -> list[str]:
    if default not in (DISTRICT, ZONE):
        raise InvalidInput(
            [Fault(f"is {default!r}; expected is district or functional_zone", None, "kind")]
        )
    if column is None:
        return [default] * len(raw)
    kinds = []
    for row, value in enumerate(raw[column], start=1):
        text = _text(value)
        known = default if text is None else _KIND_WORDS.get(text.lower())
        if known is None:
            faults.append(Fault(f"{text!r} is neither district nor functional_zone", row, column))
        kinds.append(known or default)
    return kinds


def _codes(values: Any, kinds: list[str], column: str, faults: list[Fault]) -> list[str | None]:
    codes = []
    for row, (value, kind) in enumerate(zip(values, kinds, strict=True), start=1):
        code = _text(value)
        if kind == DISTRICT and code is not None:
            # 天地图 writes the country, 156, before the code.
            code = code[3:] if re.fullmatch(r"156\d{6}", code) else code
            if not re.fullmatch(r"\d{6}", code):
                faults.append(
                    Fault(f"{code[:40]!r} is not a district code of six digits", row, column)
                )
        codes.append(code)
    return codes


def _population(raw: Any, column: str | None, faults: list[Fault]) -> Any:
    if column is None:
        return pd.array([None] * len(raw), dtype="Int64")
    people: list[int | None] = []
    for row, value in enumerate(raw[column], start=1):
        text = _text(value)
        if text is not None and not re.fullmatch(r"\d{1,10}", text):
            faults.append(Fault(f"{text[:40]!r} is not a number of people", row, column))
            text = None
        people.append(None if text is None else int(text))
    return pd.array(people, dtype="Int64")


def _optional_text(raw: Any, column: str | None) -> list[str | None]:
    return [None] * len(raw) if column is None else [_text(value) for value in raw[column]]


def _text(value: Any) -> str | None:
    """A cell as stripped text; a whole number without the `.0` that a float column gives it."""
    if value is None or value is pd.NA or value != value:
        return None
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    return str(value).strip() or None


def _multi(shape: Any) -> Any:
    """Polygons as multipolygons, rings wound as RFC 7946 wants; anything else as it is."""
    if isinstance(shape, Polygon) and not shape.is_empty:
        shape = MultiPolygon([shape])
    return shapely.orient_polygons(shape) if isinstance(shape, MultiPolygon) else shape


def _in_rows_of(whole: Any, part: Any, faults: list[Fault]) -> list[Fault]:
    """Faults numbered within a part of the file, renumbered by the whole of it."""
    rows = (np.flatnonzero(whole.index.isin(part.index)) + 1).tolist()
    return [Fault(f.reason, None if f.row is None else rows[f.row - 1], f.field) for f in faults]
