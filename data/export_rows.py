"""The rows of an export, from one snapshot and one server-side cursor, and the manifest of it.

Memory holds one chunk however many rows there are. The manifest is complete once the last chunk
has been taken; before that nobody may call an export whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import orjson
import shapely
from sqlalchemy import Connection, Engine, text

from data.accounts import Account
from data.database import reading, received_at, sequence_at
from data.divisions import version_at
from data.export_collections import (
    COLLECTIONS,
    GUARDED,
    REPORTER_COLUMNS,
    Collection,
    Column,
)
from data.facilities_at import refuse_strange
from data.incidents import OPEN_STATES, READS_REPORTERS, set_reader
from data.patience import give_time
from data.rulepacks import RulePacks
from data.sources import sources_at, sources_now
from data.tables import STATES
from data.tables_reports import INCIDENT_STATES
from geo.crs import WGS84, geometry_from_wgs84, parse_crs
from geo.errors import Fault, InvalidInput, NotAllowed, NotFound
from geo.grade import assess

CHUNK_ROWS = 10_000
STATEMENT_TIMEOUT_S = 600
ADCODES_MAX = 200
ADCODE = re.compile(r"[0-9]{6}", re.ASCII)
READS_INCIDENTS = frozenset({"viewer", "field", "planner", "commander", "admin"})
#: The situation document in force, or the one known at a time.
Document = Callable[[Connection, datetime | None], Mapping[str, Any]]


@dataclass(frozen=True)
class Wanted:
    """What is asked for. `crs` is canonical; `filters` hold only those given."""

    collection: Collection
    crs: str = WGS84
    at: datetime | None = None
    filters: Mapping[str, Any] = field(default_factory=dict)
    reporters: bool = False

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.collection.columns + (REPORTER_COLUMNS if self.reporters else ())


@dataclass(frozen=True)
class Chunk:
    """Some rows, each a tuple in the order of the columns, and their geometries in the crs."""

    rows: list[tuple[Any, ...]]
    shapes: Any


class Export:
    """An export in progress: take every chunk, then ask for the manifest."""

    def __init__(self, wanted: Wanted, chunks: Iterator[Chunk], about: dict[str, Any]) -> None:
        self.wanted = wanted
        self._chunks = chunks
        self._about = about
        self._rows = 0
        self._synthetic = 0
        self._whole = False

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.wanted.columns

    def chunks(self) -> Iterator[Chunk]:
        names = [column.name for column in self.columns]
        marked = names.index("synthetic") if "synthetic" in names else None
        for chunk in self._chunks:
            self._rows += len(chunk.rows)
            if marked is not None:
                self._synthetic += sum(1 for row in chunk.rows if row[marked])
            yield chunk
        self._whole = True

    def manifest(self) -> dict[str, Any]:
        """What the file is. Raises RuntimeError while rows are still to come."""
        if not self._whole:
            raise RuntimeError("the export is not complete yet")
        about = dict(self._about)
        inventory_share = about.pop("synthetic")
        if self.wanted.collection.has_synthetic:
            share = self._synthetic / self._rows if self._rows else None
            synthetic = {"of": "rows", "rows": self._synthetic, "share": share}
        else:
            synthetic = {"of": "inventory", "rows": None, "share": inventory_share}
        return {**about, "rows": self._rows, "synthetic": synthetic}


def wanted_of(
    name: str,
    account: Account,
    *,
    crs: str | None = None,
    at: datetime | None = None,
    reporters: bool = False,
    **filters: Any,
) -> Wanted:
    """Check a request for an export. Raises NotFound, NotAllowed, InvalidInput with every fault."""
    collection = COLLECTIONS.get(name)
    if collection is None:
        raise NotFound(f"no such collection; there are {', '.join(COLLECTIONS)}")
    if name in GUARDED and account.role not in READS_INCIDENTS:
        raise NotAllowed(f"the role {account.role} may not read {name}")
    if reporters and account.role not in READS_REPORTERS:
        raise NotAllowed(f"the role {account.role} may not read reporters")
    given = {key: value for key, value in filters.items() if value not in (None, [], ())}
    faults = [
        Fault(f"is no filter of {name}; those are {', '.join(collection.filters)}", None, key)
        for key in given
        if key not in collection.filters
    ]
    if reporters and name != "incidents":
        faults.append(Fault("only incidents have reporters", None, "reporters"))
    if at is not None and not collection.at:
        faults.append(Fault(f"{name} are exported as they are now", None, "at"))
    states = STATES if name == "facilities" else ("open", *INCIDENT_STATES)
    if "adcode" in given and "adcode" in collection.filters:
        given["adcode"], wrong = _codes(given["adcode"])
        faults += wrong
    if "state" in collection.filters and not set(given.get("state", ())) <= set(states):
        faults.append(Fault(f"must be of {', '.join(states)}", None, "state"))
    system = WGS84
    try:
        system = parse_crs(crs) if crs is not None else WGS84
    except InvalidInput as error:
        faults += error.faults
    if faults:
        raise InvalidInput(faults)
    if "state" in given:
        given["state"] = [
            one
            for state in given["state"]
            for one in (OPEN_STATES if state == "open" else (state,))
        ]
    return Wanted(collection, system, at, given, reporters)


@contextmanager
def export_of(
    engine: Engine, account: Account, wanted: Wanted, packs: RulePacks, document: Document
) -> Iterator[Export]:
    """An export within the account's scope, all from one snapshot."""
    with reading(engine, account.scope, snapshot=True) as connection:
        give_time(connection, STATEMENT_TIMEOUT_S)
        set_reader(connection, account)
        about, asked = _about(connection, account, wanted, document)
        yield Export(wanted, _chunks(connection, wanted, asked, packs), about)


def count_rows(engine: Engine, account: Account, wanted: Wanted, document: Document) -> int:
    """How many rows the export would have now."""
    with reading(engine, account.scope, snapshot=True) as connection:
        give_time(connection, STATEMENT_TIMEOUT_S)
        set_reader(connection, account)
        _, asked = _about(connection, account, wanted, document)
        sql = f"SELECT count(*) FROM {wanted.collection.source}{_where(wanted)}"
        return int(connection.execute(text(sql), _used(sql, asked)).scalar_one())


def _where(wanted: Wanted) -> str:
    conditions = [wanted.collection.filters[name] for name in wanted.filters]
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _used(sql: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that stand in the statement."""
    return {name: value for name, value in asked.items() if f":{name}" in sql}


def _chunks(
    connection: Connection, wanted: Wanted, asked: Mapping[str, Any], packs: RulePacks
) -> Iterator[Chunk]:
    listed = ", ".join(
        f"{column.sql} AS {column.name}" if column.sql else f"e.{column.name}"
        for column in wanted.columns
    )
    collection = wanted.collection
    sql = (
        f"SELECT {listed}, ST_AsBinary(e.geom) FROM {collection.source}{_where(wanted)}"
        f" ORDER BY {collection.order}"
    )
    streaming = connection.execution_options(stream_results=True, max_row_buffer=CHUNK_ROWS)
    result = streaming.execute(text(sql), _used(sql, asked))
    grade = _grader(wanted, packs, asked["moment"])
    for part in result.partitions(CHUNK_ROWS):
        shapes = shapely.from_wkb(np.array([row[-1] for row in part], dtype=object))
        rows = [grade(tuple(row[:-1])) for row in part]
        yield Chunk(rows, geometry_from_wgs84(shapes, wanted.crs))


def _grader(
    wanted: Wanted, packs: RulePacks, moment: datetime
) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """Fills in the level of each incident, which only the rules know."""
    if wanted.collection.name != "incidents":
        return lambda row: row
    names = [column.name for column in wanted.columns]
    plan, facts, level = (names.index(name) for name in ("plan", "facts", "level"))
    in_force = {pack.plan: pack for pack in packs.in_force(moment)}

    def graded(row: tuple[Any, ...]) -> tuple[Any, ...]:
        pack = in_force.get(row[plan])
        found = assess(pack, row[facts], now=moment)["level"] if pack else None
        return (*row[:level], found, *row[level + 1 :])

    return graded


def _codes(given: Iterable[str]) -> tuple[list[str], list[Fault]]:
    """Codes of districts, repeated or with commas between them, each once in order."""
    codes = list(dict.fromkeys(one.strip() for text in given for one in text.split(",")))
    wrong = [one[:20] for one in codes if not ADCODE.fullmatch(one)]
    if wrong:
        reason = f"is six digits for each district, not {', '.join(wrong[:10]) or 'nothing'}"
        return codes, [Fault(reason, None, "adcode")]
    if len(codes) > ADCODES_MAX:
        return codes, [Fault(f"are more than {ADCODES_MAX} districts", None, "adcode")]
    return codes, []


def _chosen_districts(
    connection: Connection, version_id: int, codes: Sequence[str]
) -> list[dict[str, str]]:
    """Codes and names in the divisions used. Raises InvalidInput naming every unknown code."""
    known = text(
        "SELECT adcode, name FROM district WHERE version_id = :v AND adcode = ANY (:codes)"
    )
    names = {
        row.adcode: row.name
        for row in connection.execute(known, {"v": version_id, "codes": list(codes)})
    }
    strange = [code for code in codes if code not in names]
    if strange:
        reason = f"the divisions used have no district {', '.join(strange[:10])}"
        raise InvalidInput([Fault(reason, None, "adcode")])
    return [{"adcode": code, "name": names[code]} for code in codes]


def _about(
    connection: Connection, account: Account, wanted: Wanted, document: Document
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest but for what the rows say, and every parameter of the statement."""
    now = datetime.now(UTC)
    moment = wanted.at or now
    known = sequence_at(connection, wanted.at)
    received = received_at(connection, known)
    version_row = version_at(connection, wanted.at)
    shown = document(connection, wanted.at) if wanted.collection.name == "situation" else {}
    if wanted.collection.name == "facilities":
        given = wanted.filters
        refuse_strange(connection, given.get("kind"), given.get("operator"))
    chosen = _chosen_districts(connection, version_row.id, wanted.filters.get("adcode", ()))
    asked: dict[str, Any] = {
        **{name: value for name, value in wanted.filters.items() if name != "bbox"},
        "known": known,
        "moment": moment,
        "document": orjson.dumps(shown).decode() if shown else None,
    }
    if "bbox" in wanted.filters:
        box = wanted.filters["bbox"]
        asked |= dict(zip(("west", "south", "east", "north"), box, strict=True))
    sources = sources_at(connection, known) if wanted.at else sources_now(connection)
    about = {
        "collection": wanted.collection.name,
        "title": wanted.collection.title,
        "filters": _told(wanted.filters),
        **({"filter_districts": chosen} if chosen else {}),
        "crs": wanted.crs,
        "at": _instant(wanted.at),
        "as_of": shown.get("as_of") or _instant(received),
        "sequence": shown.get("sequence", known),
        "exported_at": _instant(now),
        "districts": list(account.districts),
        "divisions": {
            "label": version_row.label,
            "source": version_row.source,
            "licence": version_row.licence,
            "note": version_row.note,
        },
        "sources": [
            {
                "operator": source.operator,
                "kind": source.kind,
                "source": source.kind_of_source,
                "observed_at": _instant(source.observed_at),
                "heard_at": _instant(source.heard_at),
            }
            for source in sources
        ],
        "columns": {column.name: column.title for column in wanted.columns},
        "software": f"yutu {version('yutu')}",
        "synthetic": _inventory_share(connection),
    }
    return about, asked


def _inventory_share(connection: Connection) -> float | None:
    """The synthetic share of the facilities in force, city-wide."""
    total, synthetic = connection.execute(
        text(
            "SELECT coalesce(sum(c.total), 0), coalesce(sum(c.total) FILTER (WHERE g.synthetic), 0)"
            " FROM counter c JOIN counter_group g ON g.id = c.group_id"
        )
    ).one()
    return float(synthetic / total) if total else None


def _told(filters: Mapping[str, Any]) -> dict[str, Any]:
    """As the manifest has them: one district is its code, several are a list."""
    found: dict[str, Any] = {
        name: _instant(value) if isinstance(value, datetime) else value
        for name, value in filters.items()
    }
    if len(found.get("adcode", ())) == 1:
        found["adcode"] = found["adcode"][0]
    return found


def _instant(value: datetime | None) -> str | None:
    return None if value is None else value.isoformat()
