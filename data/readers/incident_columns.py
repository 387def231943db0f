"""From the columns of a file to the body of an incident: names, words and units.

The names stand in `data/reference/incident_columns.toml`, the facts in the rule packs. What no name
fits is listed as unread, never guessed; what a cell says unreadably is a fault of its row and names
the column as it is written in the file. docs/meanings.md, "Reading files".
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from data.facility_columns import EQUIPMENT
from data.readers.cell_values import as_number, folded, read_amount, read_time
from data.rulepacks import load_packs
from geo.crs import WGS84, parse_crs
from geo.errors import CrsError, Fault, InvalidInput
from geo.facts import Fact
from geo.position import read_position

NAMES: Final = Path(__file__).resolve().parents[1] / "reference" / "incident_columns.toml"
#: In plans that have this fact, the kind of an incident states it.
KIND_FACT: Final = "equipment"
TEXTS: Final = {
    "facility_id": 128, "address": 500, "reporter_name": 100, "reporter_phone": 40, "source": 200,
}  # fmt: skip
DESCRIPTION_CHARACTERS_MAX: Final = 10_000
PLACES: Final = frozenset({"lon", "lat", "position"})
_BRACKETED: Final = re.compile(r"(.+?)\s*[(（\[【]\s*([^()（）\[\]【】]{1,12})\s*[)）\]】]\s*\*?")
_IDLE: Final = frozenset(
    {"必填", "选填", "可选", "required", "optional", "北京时间", "utc+8", "cst"}
)
#: What to do about a field that a row lacks, by what files of its format are made of.
_REMEDIES: Final[Mapping[str, Mapping[str, str]]] = {
    "columns": {
        "plan": "add a column 预案 or plan, or state the plan beside the file",
        "kind": "add a column 设备类型 or kind, or state the kind beside the file",
        "occurred_at": "add a column 事发时间 or occurred_at",
    },
    "gpx": {
        "plan": "give it in the form part `plan`",
        "kind": "give the waypoint an element <type>, or the form part `kind`",
        "occurred_at": "give the waypoint an element <time>",
    },
    "kml": {
        "plan": 'give the placemark an element <Data name="plan">, or the form part `plan`',
        "kind": 'give the placemark an element <Data name="kind">, or the form part `kind`',
        "occurred_at": "give the placemark an element <TimeStamp> with <when>",
    },
    "photo": {
        "plan": "give it in the form part `plan`",
        "kind": "give it in the form part `kind`",
        "occurred_at": "the photo does not say when it was taken",
    },
}
_MADE_OF: Final = {"gpx": "gpx", "kml": "kml", "kmz": "kml", "jpeg": "photo", "heic": "photo"}
_PLAIN_NUMBER: Final = re.compile(
    r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?|[+-]?(nan|inf\w*)", re.I
)


@dataclass(frozen=True)
class Column:
    """What a column of a file is read as: a field of the body, or `facts.<name>`.

    `unit` is the one behind its name, `crs` the system named there, as in 经度（GCJ-02）.
    """

    field: str
    unit: str | None = None
    crs: str | None = None


@dataclass(frozen=True)
class Names:
    """The table of names, with the facts of every version of every plan."""

    fields: Mapping[str, str]
    facts: Mapping[str, Fact]
    plans: Mapping[str, frozenset[str]]
    words: Mapping[str, Mapping[str, str]]
    truth: Mapping[str, bool]
    unknown: frozenset[str]
    units: Mapping[str, Mapping[str, str]]


@cache
def names() -> Names:
    """The table as it stands on disk. A name given to two fields is an error of the table."""
    table = tomllib.loads(NAMES.read_text(encoding="utf-8"))
    packs = load_packs()
    versions = [pack for plan in packs.plans() for pack in packs.versions(plan)]
    facts = {f.name: f for pack in versions for f in pack.schema.groups[""].facts.values()}
    fields: dict[str, str] = {}

    def learn(field: str, spellings: Iterable[str]) -> None:
        for spelling in spellings:
            known = fields.setdefault(folded(spelling), field)
            if known != field:
                raise RuntimeError(f"{NAMES.name}: {spelling!r} names both {known} and {field}")

    for field, spellings in table["fields"].items():
        learn(field, [field, *spellings])
    for name, fact in facts.items():
        field = "kind" if name == KIND_FACT else f"facts.{name}"
        titles = () if name == KIND_FACT else fact.title.values()
        learn(field, [name, f"facts.{name}", *titles, *table["facts"].get(name, ())])
    for whole in ("facts", "reporter"):
        learn(whole, [whole])
    words = {
        of: {folded(w): value for value, known in values.items() for w in (value, *known)}
        for of, values in table["words"].items()
    }
    for pack in versions:
        words["plan"] |= {folded(title): pack.plan for title in pack.title.values()}
        words["plan"][folded(pack.plan)] = pack.plan
    return Names(
        fields=fields,
        facts=facts,
        plans={p: frozenset(packs.versions(p)[-1].schema.groups[""].facts) for p in packs.plans()},
        words=words,
        truth={folded(w): yes == "yes" for yes, known in table["truth"].items() for w in known},
        unknown=frozenset(folded(word) for word in table["unknown"]["words"]),
        units=table["units"],
    )


def column_of(header: str, *, cut: bool = False) -> Column | None:
    """What a header names, or None. `cut`: it may be cut off, as Shapefiles do after 10 bytes."""
    known = names()
    plain = folded(header)
    if plain in known.fields:
        return Column(known.fields[plain])
    bracketed = _BRACKETED.fullmatch(header.strip())
    if bracketed:
        inner = bracketed[2].strip()
        field = known.fields.get(folded(bracketed[1]))
        if field is None:
            return None
        if inner.casefold() in _IDLE:
            return Column(field)
        if field in PLACES:
            try:
                return Column(field, crs=parse_crs(inner))
            except CrsError:
                return Column(field) if inner in ("°", "度") else None
        units = _units_of(field)
        return Column(field, unit=inner) if inner.casefold() in map(str.casefold, units) else None
    if cut and (len(header.encode("gb18030")) >= 9 or len(header.encode()) >= 9):
        fields = {field for name, field in known.fields.items() if name.startswith(plain)}
        if len(fields) == 1:
            return Column(fields.pop())
    return None


def _units_of(field: str) -> Mapping[str, str]:
    if field == "accuracy_m":
        return names().units["m"]
    fact = names().facts.get(field.removeprefix("facts."))
    return names().units.get(fact.unit or "", {}) if fact is not None else {}


class RowReader:
    """The body of one row from its cells; `faults` collects what is wrong with it, in the words of
    the file's format."""

    def __init__(
        self, columns: Mapping[str, Column], defaults: Mapping[str, str | None], form: str = "csv"
    ) -> None:
        self._columns = columns
        self._defaults = defaults
        self._remedies = _REMEDIES[_MADE_OF.get(form, "columns")]

    def read(
        self, row: int, cells: Mapping[str, Any], place: list[float] | None
    ) -> tuple[dict[str, Any], list[Fault]]:
        """The body without its id's derivation: `incident_id` is the text of the cell, if any."""
        one = _Row(row, self._columns, cells)
        body: dict[str, Any] = {}
        plan = one.word("plan", "plan") or self._defaults.get("plan")
        kind = one.text("kind", 128) or self._defaults.get("kind")
        body["incident_id"] = one.text("incident_id", 200)
        body["plan"], body["kind"] = plan, one.kind(plan, kind)
        for field in ("occurred_at", "device_time"):
            body[field] = one.time(field)
        body["accuracy_m"] = one.amount("accuracy_m", whole=False)
        body["position"] = place if place is not None else one.position()
        if body["position"] is not None:
            body["crs"] = one.crs() or self._defaults.get("crs")
        texts = {field: one.text(field, most) for field, most in TEXTS.items()}
        body["description"] = one.description()
        reporter = {
            key: value
            for key in ("name", "phone")
            if (value := texts.pop(f"reporter_{key}")) is not None
        }
        body["reporter"] = {**one.nested("reporter"), **reporter} or None
        body |= texts
        body["facts"] = {**one.nested("facts"), **one.facts()} or None
        for field, remedy in self._remedies.items():
            if body[field] is None and not one.complained(field):
                one.fault(field, f"is missing; {remedy}")
        if one.faults and body["position"] is not None and not one.complained("crs"):
            one.check_place(body["position"], body.get("crs"))
        return {key: value for key, value in body.items() if value is not None}, one.faults


class _Row:
    def __init__(self, row: int, columns: Mapping[str, Column], cells: Mapping[str, Any]) -> None:
        self._row = row
        self._cells = cells
        self.faults: list[Fault] = []
        self._given: dict[str, tuple[str, Column, Any]] = {}
        self._wrong: set[str] = set()
        self._said: dict[str, list[str]] = {"title": [], "description": []}
        for header, cell in cells.items():
            column = columns.get(header)
            if column is None or cell is None or (isinstance(cell, str) and not cell.strip()):
                continue
            if column.field in self._said:
                self._said[column.field].append(header)
                continue
            earlier = self._given.setdefault(column.field, (header, column, cell))
            if earlier[0] != header and earlier[2] != cell:
                self.fault(
                    column.field, f"says something else than {earlier[0][:60]!r}; keep one", header
                )

    def fault(self, field: str, reason: str, header: str | None = None) -> None:
        self._wrong.add(field)
        written = header or (self._given[field][0] if field in self._given else field)
        self.faults.append(Fault(reason, self._row, written))

    def complained(self, field: str) -> bool:
        return field in self._wrong

    def _cell(self, field: str) -> Any:
        return self._given[field][2] if field in self._given else None

    def text(self, field: str, characters_max: int) -> str | None:
        cell = self._cell(field)
        if cell is None:
            return None
        if isinstance(cell, int | float) and not isinstance(cell, bool):
            cell = str(cell)
        if not isinstance(cell, str):
            self.fault(field, "must be a text")
        elif "\0" in cell:
            self.fault(field, "holds the NUL character")
        elif len(cell) > characters_max:
            self.fault(field, f"must be a text of at most {characters_max} characters")
        else:
            return cell.strip()
        return None

    def description(self) -> str | None:
        """Name, description and remarks, whichever there are, a line each."""
        parts: dict[str, None] = {}
        for header in (*self._said["title"], *self._said["description"]):
            cell = self._cells[header]
            if isinstance(cell, dict | list | bool) or "\0" in str(cell):
                self.fault("description", "must be a text", header)
            else:
                parts[str(cell).strip()] = None
        whole = "\n".join(parts)
        if len(whole) > DESCRIPTION_CHARACTERS_MAX:
            reason = f"must be a text of at most {DESCRIPTION_CHARACTERS_MAX} characters"
            self.fault("description", reason)
        return whole or None

    def word(self, field: str, of: str) -> str | None:
        """A word of the table, by any of its spellings."""
        said = self.text(field, 200)
        if said is None:
            return None
        known = names().words.get(of, {})
        found = known.get(folded(said))
        if found is None:
            self.fault(field, f"must be one of {', '.join(dict.fromkeys(known.values()))}")
        return found

    def kind(self, plan: str | None, said: str | None) -> str | None:
        if said is None or KIND_FACT not in names().plans.get(plan or "", ()):
            return said
        found = names().words[KIND_FACT].get(folded(said))
        if found is None:
            known = ", ".join(
                f"{value} ({EQUIPMENT[value]})" for value in names().facts[KIND_FACT].values
            )
            self.fault("kind", f"must be one of {known}")
        return found

    def time(self, field: str) -> str | None:
        cell = self._cell(field)
        if cell is None:
            return None
        try:
            return read_time(cell)
        except ValueError as error:
            self.fault(field, str(error))
            return None

    def amount(self, field: str, *, whole: bool) -> int | float | None:
        cell = self._cell(field)
        if cell is None:
            return None
        try:
            amount = read_amount(cell, _units_of(field), self._given[field][1].unit)
        except ValueError as error:
            self.fault(field, str(error))
            return None
        if amount is None:
            return None
        if amount < 0:
            self.fault(field, "must not be negative")
        elif whole and amount != amount.to_integral_value():
            self.fault(field, "must be a whole number")
        else:
            return as_number(amount)
        return None

    def nested(self, field: str) -> dict[str, Any]:
        """A GeoJSON property that is an object itself, taken as it is; a reporter may be a name."""
        cell = self._cell(field)
        if cell is None:
            return {}
        if field == "reporter" and isinstance(cell, str):
            said = self.text(field, 100)
            return {} if said is None else {"name": said}
        if not isinstance(cell, dict):
            self.fault(field, "must be an object")
            return {}
        return dict(cell)

    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, fact in names().facts.items():
            field = f"facts.{name}"
            cell = self._cell(field)
            if cell is None or (isinstance(cell, str) and folded(cell) in names().unknown):
                continue
            if fact.numeric:
                value: Any = self.amount(field, whole=fact.type == "integer")
            elif fact.type == "datetime":
                value = self.time(field)
            elif fact.type == "enum":
                value = self.word(field, name)
            else:
                value = self._truth(field, cell)
            if value is not None:
                found[name] = value
        return found

    def _truth(self, field: str, cell: Any) -> bool | None:
        if isinstance(cell, bool):
            return cell
        found = names().truth.get(folded(str(cell))) if isinstance(cell, str | int) else None
        if found is None:
            self.fault(field, "must be 是 or 否, true or false; empty says unknown")
        return found

    def position(self) -> list[float] | str | None:
        """Of two columns, or of one; text that is no number is left to who reads positions."""
        pair = [self._cell("lon"), self._cell("lat")]
        if pair == [None, None]:
            cell = self._cell("position")
            if isinstance(cell, list):
                return cell
            return self.text("position", 200)
        for field, cell in zip(("lon", "lat"), pair, strict=True):
            if cell is None:
                self.fault(field, "is missing; longitude and latitude belong together")
        if None in pair:
            return None
        numbers = [self._degrees(field, pair[i]) for i, field in enumerate(("lon", "lat"))]
        if any(isinstance(number, str) for number in numbers):
            return f"{pair[0]}, {pair[1]}"
        plain = [number for number in numbers if isinstance(number, float)]
        return plain if len(plain) == 2 else None

    def _degrees(self, field: str, cell: Any) -> float | str | None:
        """A number; the text itself where it is none (106°33′); None after a fault."""
        if isinstance(cell, str) and not _PLAIN_NUMBER.fullmatch(cell.strip()):
            return cell
        if isinstance(cell, bool) or not isinstance(cell, str | int | float):
            self.fault(field, "must be a number")
            return None
        number = float(cell)
        if not math.isfinite(number):
            self.fault(field, "must be a finite number")
            return None
        return number

    def check_place(self, place: list[float] | str, crs: str | None) -> None:
        """The faults of a place whose row is refused already, so all are listed together."""
        try:
            read_position(place, parse_crs(crs) if crs is not None else WGS84)
        except InvalidInput as error:
            self.faults += [Fault(f.reason, self._row, f.field) for f in error.faults]

    def crs(self) -> str | None:
        """What the row itself says: its column, else the name behind 经度 or 坐标."""
        cell = self.text("crs", 60)
        try:
            if cell is not None:
                return parse_crs(cell)
        except CrsError as error:
            self.fault("crs", error.faults[0].reason)
            return None
        named = {
            column.crs
            for field in PLACES & self._given.keys()
            if (column := self._given[field][1]).crs is not None
        }
        if len(named) > 1:
            self.fault("lon", "and the latitude name different coordinate systems")
        return next(iter(named), None)
