"""Facility files: rows as people wrote them → the validated frame that `import_facilities` takes.

Every fault of a file is reported, with its row, its field and what would be right. Whole columns
are worked on at once; only what is wrong is looked at row by row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from data.facilities import COLUMNS
from data.facility_columns import (
    EXAMPLE_PREFIX,
    HEADERS,
    WORDS,
    FieldSource,
    field_of,
    read_mapping,
)
from data.facility_file import FAULTS_MAX, FacilityTable, as_text, few_faults
from data.fields import AMOUNT_MAX
from data.status import MAX_ID_LENGTH
from geo.assign import DistrictLocator
from geo.crs import CHONGQING_BBOX, parse_crs, to_wgs84
from geo.errors import CrsError, Fault, InvalidInput

NAME_LENGTH_MAX: Final = 200
BATTERY_HOURS_MAX: Final = 8760.0

_IDENTIFIERS: Final = ("facility_id", "operator", "network", "unit", "feeds_from")
_AMOUNTS: Final = ("load_kw", "customers", "population")
_DEFAULTS: Final = {"main_grid": True, "synthetic": False, "state": "unknown"}
_OTHER_BLANKS: Final = re.compile("[\u00a0\u2000-\u200a\u3000]")

Objects = NDArray[np.object_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FacilityRows:
    """The rows that are right, ready for `import_facilities`, and what is wrong with the others.

    `unread`: columns nothing was read from.
    """

    frame: pd.DataFrame
    rejected: tuple[Fault, ...]
    unread: tuple[str, ...] = ()


def facility_rows(
    table: FacilityTable,
    *,
    kind: str | None = None,
    mapping: Mapping[str, str] | None = None,
    synthetic: bool = False,
    partial: bool = False,
) -> FacilityRows:
    """Check every row. Raises InvalidInput with all faults together, unless `partial` and what is
    wrong is single rows: then those are `rejected`.

    `kind` is that of every row which does not say one itself. `mapping` (field → column, see
    `read_mapping`) comes before the names of the columns.
    """
    reader = _Reader(table.frame)
    reader.choose_columns(mapping or {}, kind, table.crs)
    lon, lat, x, y, systems = reader.positions(table.crs)
    columns: dict[str, Any] = {name: reader.identifiers(name) for name in _IDENTIFIERS}
    ids = columns["facility_id"]
    names = reader.names()
    columns |= {
        "name": _filled(names, ids),
        "kind": reader.kinds(kind),
        **{name: reader.amounts(name) for name in _AMOUNTS},
        "battery_hours": reader.hours("battery_hours", BATTERY_HOURS_MAX),
        "key_level": reader.words("key_level"),
        "rescue_code": reader.rescue_codes(),
        "main_grid": reader.words("main_grid"),
        "state_at_import": reader.words("state"),
        "synthetic": np.full(len(ids), True) if synthetic else reader.words("synthetic"),
        "attributes": reader.attributes(),
        "crs": systems,
        "original_x": x,
        "original_y": y,
        "lon": lon,
        "lat": lat,
    }
    for name in ("operator", "network"):
        columns[name] = _filled(columns[name], "")
    reader.refuse_repeats("facility_id", ids)
    reader.refuse_repeats("rescue_code", columns["rescue_code"])
    faults = sorted(
        few_faults([*table.faults, *reader.faults]), key=lambda f: (f.row or 0, f.field or "")
    )
    whole = [f for f in faults if f.row is None]
    if whole or (faults and not partial):
        raise InvalidInput(whole or faults)
    frame = pd.DataFrame(columns, index=table.frame.index)
    frame = frame[~frame.index.isin({f.row for f in faults})]
    nullable = ("unit", "feeds_from", "key_level", "rescue_code", "attributes")
    types: dict[str, Any] = {**dict.fromkeys(_AMOUNTS, "int64"), "main_grid": bool}
    frame = frame.astype({**types, "synthetic": bool, **dict.fromkeys(nullable, object)})
    frame[list(nullable)] = frame[list(nullable)].where(frame[list(nullable)].notna(), None)
    return FacilityRows(
        frame[[*COLUMNS, "lon", "lat"]], tuple(faults), reader.unread(table.headers)
    )


def within_city(frame: pd.DataFrame, locator: DistrictLocator) -> tuple[pd.DataFrame, int]:
    """The rows inside some district, and how many were left out for being outside all of them."""
    inside = locator.assign(frame["lon"].to_numpy(), frame["lat"].to_numpy()) >= 0
    return frame[inside], int((~inside).sum())


@dataclass
class _Reader:
    """One file's columns, read field by field; what is wrong is collected in `faults`."""

    frame: pd.DataFrame
    faults: list[Fault] = field(default_factory=list)
    sources: dict[str, FieldSource] = field(default_factory=dict)

    def choose_columns(self, mapping: Mapping[str, str], kind: str | None, crs: str | None) -> None:
        """Which column each field is read from. Raises InvalidInput if a needed one is missing."""
        headers = [str(name) for name in self.frame.columns]
        self.sources = read_mapping(mapping, headers)
        by_field: dict[str, list[str]] = {}
        for header in headers:
            name = field_of(header)
            if name is not None and name not in self.sources:
                by_field.setdefault(name, []).append(header)
        faults = []
        for name, found in by_field.items():
            if len(found) > 1:
                shown = " and ".join(repr(h) for h in found)
                faults.append(
                    Fault(f"the columns {shown} both name it; map one of them", None, name)
                )
            self.sources[name] = FieldSource(found[0])
        needed = ["facility_id", "lon", "lat", *([] if kind else ["kind"])]
        for name in needed:
            if name not in self.sources:
                known = ", ".join(HEADERS[name][:5])
                faults.append(Fault(f"no column names it ({known}); map one", None, name))
        if crs is None and "crs" not in self.sources:
            faults.append(Fault("declare the coordinate system; it is never guessed", None, "crs"))
        if faults:
            raise InvalidInput(faults)

    def unread(self, headers: Sequence[str] | None) -> tuple[str, ...]:
        """Which of the file's columns (without `headers` the frame's) no field is read from."""
        used = {source.column for source in self.sources.values()}
        known = map(str, self.frame.columns) if headers is None else headers
        return tuple(header for header in known if header not in used)

    def fault(self, wrong: Any, name: str, reason: str) -> None:
        """Note `reason` at each row where `wrong` is true."""
        most = max(0, FAULTS_MAX + 1 - len(self.faults))
        rows = self.frame.index[np.flatnonzero(wrong)[:most]]
        self.faults += [Fault(reason, int(row), name) for row in rows]

    def cells(self, name: str) -> Objects:
        """A field's cells as stripped text, None where empty or where no column names it."""
        source = self.sources.get(name)
        if source is None or (source.column is None and not source.constant):
            return np.full(len(self.frame), None, dtype=object)
        if source.column is None:
            return np.full(len(self.frame), source.constant, dtype=object)
        cells = as_text(self.frame[source.column])
        if source.factor is None:
            return cells
        return np.array([_scaled(cell, source.factor) for cell in cells], dtype=object)

    # --- text ---

    def identifiers(self, name: str) -> Objects:
        cells = self.cells(name)
        filled = ~_missing(cells)
        long = np.array([c is not None and len(c) > MAX_ID_LENGTH for c in cells], dtype=bool)
        self.fault(long, name, f"must be at most {MAX_ID_LENGTH} characters")
        unprintable = np.array([c is not None and not c.isprintable() for c in cells], dtype=bool)
        self.fault(unprintable & ~long, name, "must hold printable characters only")
        if name == "facility_id":
            self.fault(~filled, name, "is empty; every facility needs an id of its own")
            example = np.array([c is not None and c.startswith(EXAMPLE_PREFIX) for c in cells])
            self.fault(example, name, "this is the template's example; delete the row")
        return cells

    def names(self) -> Objects:
        cells = self.cells("name")
        long = np.array([c is not None and len(c) > NAME_LENGTH_MAX for c in cells], dtype=bool)
        self.fault(long, "name", f"must be at most {NAME_LENGTH_MAX} characters")
        bad = [c is not None and not _OTHER_BLANKS.sub(" ", c).isprintable() for c in cells]
        self.fault(np.array(bad, dtype=bool) & ~long, "name", "must hold no control characters")
        return cells

    def words(self, name: str) -> Objects:
        """A field whose cells are one of a few words, in English or Chinese."""
        known = WORDS[name]
        cells = self.cells(name)
        lowered = [c if c is None else c.casefold() for c in cells]
        values = np.array([known.get(c or "", None) for c in lowered], dtype=object)
        wrong = ~_missing(cells) & _missing(values)
        self.fault(wrong, name, f"must be one of {_choices(name)}")
        default = _DEFAULTS.get(name)
        return values if default is None else _filled(values, default)

    def kinds(self, kind: str | None) -> Objects:
        if kind is not None and kind not in WORDS["kind"]:
            raise InvalidInput([Fault(f"must be one of {_choices('kind')}", None, "kind")])
        values = self.words("kind")
        if kind is None:
            self.fault(_missing(self.cells("kind")), "kind", "is empty, and no kind is declared")
            return values
        other = ~_missing(values) & (values != WORDS["kind"][kind])
        self.fault(other, "kind", f"is another than {kind}, which is declared for the whole file")
        return _filled(values, WORDS["kind"][kind])

    def rescue_codes(self) -> Objects:
        cells = self.cells("rescue_code")
        wrong = [c is not None and not re.fullmatch("[0-9]{6}", c) for c in cells]
        reason = "must be six digits; one that begins with 0 has to be stored as text"
        self.fault(np.array(wrong, dtype=bool), "rescue_code", reason)
        return cells

    def attributes(self) -> Objects:
        """The `attributes.*` fields of each row as one JSON object, None where all are empty."""
        given = {}
        for name in (n for n in self.sources if n.startswith("attributes.")):
            cells = self.words(name) if name in WORDS else self.cells(name)
            long = np.array([c is not None and len(c) > NAME_LENGTH_MAX for c in cells], dtype=bool)
            self.fault(long, name, f"must be at most {NAME_LENGTH_MAX} characters")
            bad = [c is not None and not _OTHER_BLANKS.sub(" ", c).isprintable() for c in cells]
            self.fault(np.array(bad, dtype=bool) & ~long, name, "must hold no control characters")
            given[name.removeprefix("attributes.")] = cells
        out = np.full(len(self.frame), None, dtype=object)
        if given:
            rows = zip(*given.values(), strict=True)
            for position, row in enumerate(rows):
                held = {k: v for k, v in zip(given, row, strict=True) if v is not None}
                out[position] = json.dumps(held, ensure_ascii=False) if held else None
        return out

    def refuse_repeats(self, name: str, cells: Objects) -> None:
        series = pd.Series(cells, dtype=object)
        repeated = series.notna() & series.duplicated()
        if not repeated.any():
            return
        first = series[series.notna()].drop_duplicates()
        row_of = dict(zip(first, self.frame.index[first.index], strict=True))
        for position in np.flatnonzero(repeated)[: FAULTS_MAX + 1].tolist():
            reason = f"is already that of row {row_of[cells[position]]}; it must be unique"
            self.faults.append(Fault(reason, int(self.frame.index[position]), name))

    # --- numbers ---

    def _numbers(self, name: str) -> tuple[Floats, Any]:
        """Values, nan where empty or no number; and where a fault was noted."""
        cells = self.cells(name)
        values = np.asarray(pd.to_numeric(pd.Series(cells, dtype=object), errors="coerce"), float)
        bad = ~_missing(cells) & ~np.isfinite(values)
        self.fault(bad, name, "must be a number such as 1200.5, without unit or separators")
        return values, bad

    def amounts(self, name: str) -> NDArray[np.int64]:
        values, bad = self._numbers(name)
        known = np.isfinite(values) & ~bad
        number = np.where(known, values, 0.0)
        negative = known & (number < 0)
        self.fault(negative, name, "must not be negative")
        self.fault(known & (number > AMOUNT_MAX), name, f"must be at most {AMOUNT_MAX}")
        broken = known & (number != np.floor(number))
        unit = "kW; map the column with a factor if it is in MW" if name == "load_kw" else ""
        self.fault(
            broken & ~negative, name, "must be a whole number" + (f" of {unit}" if unit else "")
        )
        usable = known & ~negative & ~broken & (number <= AMOUNT_MAX)
        return np.where(usable, number, 0).astype(np.int64)

    def hours(self, name: str, most: float) -> Floats:
        values, bad = self._numbers(name)
        wrong = ~bad & np.isfinite(values) & ~((values >= 0) & (values <= most))
        self.fault(wrong, name, f"must be from 0 to {most:g} hours")
        return values

    # --- positions ---

    def positions(self, declared: str | None) -> tuple[Floats, Floats, Floats, Floats, Objects]:
        """lon, lat in WGS-84 degrees, x, y as given, and the system of each row."""
        x, bad_x = self._numbers("lon")
        y, bad_y = self._numbers("lat")
        for name, values, bad in (("lon", x, bad_x), ("lat", y, bad_y)):
            self.fault(np.isnan(values) & ~bad, name, "is empty; a facility needs a position")
        systems = self._systems(declared)
        lon, lat = np.full(len(x), np.nan), np.full(len(x), np.nan)
        there = np.isfinite(x) & np.isfinite(y)
        for system in sorted({s for s in systems if s is not None}):
            rows = np.flatnonzero(there & (systems == system))
            lon[rows], lat[rows] = _placed(x[rows], y[rows], system)
            away = rows[~_near_city(lon[rows], lat[rows])]
            swapped = np.zeros(len(x), dtype=bool)
            swapped[away] = _near_city(*_placed(y[away], x[away], system))
            reason = "lies in Chongqing only with the two coordinates exchanged: east comes first"
            self.fault(swapped, "position", reason)
            nowhere = np.zeros(len(x), dtype=bool)
            nowhere[rows] = np.isnan(lon[rows])
            reason = f"is no position in {system}; is the coordinate system right?"
            self.fault(nowhere & ~swapped, "position", reason)
        return lon, lat, x, y, systems

    def _systems(self, declared: str | None) -> Objects:
        """The system of each row: what the row says, else what is declared for the file."""
        whole = parse_crs(declared) if declared is not None else None
        cells = self.cells("crs")
        found: dict[str | None, str | None] = {None: whole}
        for text in {c for c in cells if c is not None}:
            try:
                found[text] = parse_crs(text)
            except CrsError as error:
                self.fault(cells == text, "crs", error.faults[0].reason)
                found[text] = None
            else:
                if whole is not None and found[text] != whole:
                    self.fault(cells == text, "crs", f"is another than the declared {whole}")
        if whole is None:
            self.fault(_missing(cells), "crs", "is empty, and none is declared for the file")
        return np.array([found[c] for c in cells], dtype=object)


def _choices(name: str) -> str:
    """The words a cell may be, each value once, in English and (first) in Chinese."""
    words: dict[object, list[str]] = {}
    for word, value in WORDS[name].items():
        words.setdefault(value, []).append(word)
    pairs = [
        (known[0], next((one for one in known if not one.isascii()), None))
        for known in words.values()
    ]
    return ", ".join(word if zh is None else f"{word} ({zh})" for word, zh in pairs)


def _placed(x: Floats, y: Floats, system: str) -> tuple[Floats, Floats]:
    """WGS-84 degrees, nan where the system has no such position."""
    lon, lat = np.full(len(x), np.nan), np.full(len(x), np.nan)
    rows = np.arange(len(x))
    while len(rows):
        try:
            lon[rows], lat[rows] = to_wgs84(x[rows], y[rows], system)
        except InvalidInput as error:
            bad = {fault.row for fault in error.faults}
            rows = rows[[i + 1 not in bad for i in range(len(rows))]]
        else:
            break
    return lon, lat


def _near_city(lon: Floats, lat: Floats) -> NDArray[np.bool_]:
    west, south, east, north = CHONGQING_BBOX
    near: NDArray[np.bool_] = (lon >= west) & (lon <= east) & (lat >= south) & (lat <= north)
    return near


def _filled(cells: Objects, default: Any) -> Objects:
    """A copy in which `default` (one value, or one per cell) stands where nothing is."""
    out = cells.copy()
    empty = _missing(cells)
    out[empty] = default[empty] if isinstance(default, np.ndarray) else default
    return out


def _missing(cells: Any) -> NDArray[np.bool_]:
    return np.asarray(pd.isna(cells), dtype=bool)


def _scaled(cell: str | None, factor: Decimal) -> str | None:
    """The cell times the factor, exactly; what is no number is left to be refused as it is."""
    if cell is None:
        return None
    try:
        value = Decimal(cell) * factor
    except InvalidOperation:
        return cell
    return format(value.normalize(), "f") if value.is_finite() else cell
