"""Questions put to the OGC API, checked before tipg reads them: whatever is wrong is a 400.

tipg answers some garbage with 500 and takes what it does not know in silence; here every parameter
is known and readable, or named as a fault.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qsl, urlencode

import orjson
from cql2 import Expr

from api.bbox import parse_bbox
from data.times import parse_time
from geo.errors import Fault, InvalidInput

#: A page is made on the event loop: this many take about 0.15 s.
LIMIT_MAX = 5_000
OFFSET_MAX = 100_000_000
FILTER_CHARACTERS_MAX = 200_000
#: The parser of CQL2 text tries each open bracket twice, so 24 of them hold a process for minutes,
#: and it goes down into chains until the stack ends: both are counted before it sees the text.
FILTER_BRACKETS_MAX = 10
FILTER_NEGATIONS_MAX = 100
FILTER_OPERATORS_MAX = 2_000
PLAUSIBLE_NAME = re.compile(r"[a-z_]{1,32}")
NAMES_CHARACTERS_TOLD = 300
PARSED_UNTIL = re.compile(r" *--> ([0-9]{1,9}):([0-9]{1,9})\n", re.ASCII)
OPERATOR = re.compile(r"[-+*/^%|]|and|or|div", re.IGNORECASE)
ZOOM_MAX = 24
CRS84 = {
    "http://www.opengis.net/def/crs/OGC/1.3/CRS84",
    "http://www.opengis.net/def/crs/OGC/0/CRS84",
    "urn:ogc:def:crs:OGC:1.3:CRS84",
    "CRS84",
}
#: Taken everywhere: the format and the language.
EVERYWHERE = frozenset({"f", "lang"})
SELECTION = frozenset(
    {"ids", "bbox", "datetime", "filter", "filter-lang", "filter-crs", "bbox-crs", "crs"}
    | {"geom-column", "datetime-column", "properties", "sortby", "limit", "simplify"}
)
SPACE_FOR_PLUS = re.compile(r" (?=\d\d:\d\d$)", re.ASCII)
MEDIA = b"application/geo+json,application/schema+json,application/json"


def tidied(scope: MutableMapping[str, Any]) -> dict[str, Any]:
    """The ASGI scope as tipg can read it: a page of at most 5,000, HTML or JSON and no other.

    OGC API Features asks that a limit beyond the largest be taken as the largest.
    """
    pairs = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    query = [
        (name, str(LIMIT_MAX) if name == "limit" and _beyond(value) else value)
        for name, value in pairs
    ]
    accepts = b",".join(value for name, value in scope["headers"] if name == b"accept")
    media = b"text/html" if b"text/html" in accepts else MEDIA
    headers = [pair for pair in scope["headers"] if pair[0] != b"accept"]
    found = {**scope, "headers": [*headers, (b"accept", media)]}
    if query != pairs:
        found["query_string"] = urlencode(query).encode()
    return found


def _beyond(value: str) -> bool:
    return value.isascii() and value.isdigit() and len(value) <= 12 and int(value) > LIMIT_MAX


def check_query(
    path: str,
    given: Iterable[tuple[str, str]],
    place: Mapping[str, str],
    columns: Collection[str] | None,
) -> None:
    """Raises InvalidInput naming every parameter that is unknown, repeated or unreadable.

    `path` is the route's template, `place` its parameters, `columns` those of the collection.
    """
    faults: list[Fault] = []
    taken = set(EVERYWHERE)
    own = set(columns or ())
    if path.endswith("/items"):
        taken |= SELECTION | {"offset", "bbox-only"} | own
    elif path.endswith("/items/{itemId:path}"):
        taken |= {"properties", "geom-column", "datetime-column", "bbox-only", "simplify", "crs"}
    elif path.endswith("/{z}/{x}/{y}"):
        taken |= SELECTION | own
    elif path.endswith(".json"):
        taken |= SELECTION | {"minzoom", "maxzoom"} | own
    elif path.endswith("/collections"):
        taken |= {"bbox", "datetime", "limit", "offset", "type"}
    seen: set[str] = set()
    for name, value in given:
        if name not in taken:
            known = ", ".join(sorted(taken))
            reason = f"is not a parameter of this resource; those are {known}"
            faults.append(Fault(reason, None, name[:40]))
        elif name in seen:
            faults.append(Fault("is given twice", None, name))
        else:
            try:
                _check(name, value, columns)
            except ValueError as error:
                faults.append(Fault(str(error), None, name))
            except InvalidInput as error:
                faults += error.faults
        seen.add(name)
    if path.endswith("/{z}/{x}/{y}"):
        faults += tile_faults(place)
    if faults:
        raise InvalidInput(faults)


def tile_faults(place: Mapping[str, str]) -> list[Fault]:
    """What is wrong with a tile's z, x and y as texts."""
    for name in ("z", "x", "y"):
        if not re.fullmatch(r"[0-9]{1,9}", place[name], re.ASCII):
            return [Fault("must be a whole number", None, name)]
    z = int(place["z"])
    if z > ZOOM_MAX:
        return [Fault(f"must be at most {ZOOM_MAX}", None, "z")]
    return [
        Fault(f"must be less than {2**z} at this zoom", None, name)
        for name in ("x", "y")
        if int(place[name]) >= 2**z
    ]


def _check(name: str, value: str, columns: Collection[str] | None) -> None:
    if "\x00" in value:
        raise ValueError("has a NUL character")
    check = _CHECKS.get(name)
    if check is not None:
        check(value)
    elif name == "properties" and columns is not None:
        _known(value.split(",") if value else [], columns)
    elif name == "sortby" and columns is not None:
        _known([one.strip().lstrip("+-") for one in value.split(",")], columns)
    elif name in ("geom-column", "datetime-column") and columns is not None:
        _known([] if value.lower() == "none" else [value], columns)


def _known(names: Iterable[str], columns: Collection[str]) -> None:
    strange = [one for one in (name.strip() for name in names) if one not in columns]
    if strange:
        raise ValueError(unknown_property(strange, columns))


def unknown_property(names: Iterable[str], columns: Iterable[str]) -> str:
    """The reason why properties are refused, with those there are. Only what looks like the name
    of one is repeated: anything can stand in its place, also somebody's number."""
    told = ", ".join(name for name in names if PLAUSIBLE_NAME.fullmatch(name))
    known = ", ".join(columns)
    if not told:
        return f"names a property that this collection does not have; it has {known}"
    return (
        f"names {told[:NAMES_CHARACTERS_TOLD]}, which this collection does not have; it has {known}"
    )


def _number(least: int, most: int) -> Callable[[str], None]:
    def check(value: str) -> None:
        if not re.fullmatch(r"[0-9]{1,12}", value, re.ASCII) or not least <= int(value) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")

    return check


def _bbox(value: str) -> None:
    parts = value[:200].split(",")
    parse_bbox(",".join([*parts[:2], *parts[3:5]]) if len(parts) == 6 else value)


def _datetime(value: str) -> None:
    ends = value.split("/")
    if len(ends) > 2:
        raise ValueError("is an instant, or two joined by a slash")
    instants = [
        parse_time(SPACE_FOR_PLUS.sub("+", one.upper())) for one in ends if one not in ("", "..")
    ]
    if not instants:
        raise ValueError("is open at both ends")
    if len(instants) == 2 and instants[0] > instants[1]:
        raise ValueError("ends before it begins")


def _filter(value: str) -> None:
    if len(value) > FILTER_CHARACTERS_MAX:
        raise ValueError("is too long")
    if not value.lstrip().startswith("{"):  # JSON's own parser has a limit
        _check_depth(value)
    try:
        parsed = Expr(value).to_json()
    except BaseException as error:  # a panic of the parser is no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise ValueError(_unread(str(error))) from None
    if not isinstance(parsed, dict | bool):
        raise ValueError("is not a condition")
    try:
        written = orjson.dumps(parsed)
    except TypeError:  # deeper than is ever written
        raise ValueError("is nested too deeply") from None
    if len(written) > FILTER_CHARACTERS_MAX:
        raise ValueError("is too long")


def _unread(told: str) -> str:
    """Where the parser could not go on, if it says so; its own words name what it is made of."""
    place = PARSED_UNTIL.match(told)
    if place is None:
        return "is not CQL2 text or JSON"
    line, column = place.groups()
    return f"is not CQL2: it cannot be read from line {line}, column {column} on"


def _check_depth(text: str) -> None:
    """Raises ValueError for what the parser would not survive. Quotes are not looked at, lest they
    be read in another way than the parser does."""
    depth = 0
    for one in text:
        depth = max(depth + (one in "([{") - (one in ")]}"), 0)
        if depth > FILTER_BRACKETS_MAX:
            raise ValueError("is nested too deeply")
    if text.lower().count("not") > FILTER_NEGATIONS_MAX:
        raise ValueError("is nested too deeply")
    if sum(1 for _ in OPERATOR.finditer(text)) > FILTER_OPERATORS_MAX:
        raise ValueError("is too long")


def _one_of(*allowed: str) -> Callable[[str], None]:
    def check(value: str) -> None:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")

    return check


def _crs(value: str) -> None:
    if value not in CRS84:
        raise ValueError(
            "only http://www.opengis.net/def/crs/OGC/1.3/CRS84 is served here;"
            " /v1/export takes crs=EPSG:4490 and others"
        )


def _simplify(value: str) -> None:
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,12})?", value, re.ASCII):
        raise ValueError("must be a number of degrees")


_CHECKS: Mapping[str, Callable[[str], None]] = {
    "f": _one_of("json", "geojson", "geojsonseq", "ndjson", "html", "schemajson"),
    "lang": _one_of("zh", "en"),
    "limit": _number(1, 10**12),
    "offset": _number(0, OFFSET_MAX),
    "minzoom": _number(0, ZOOM_MAX),
    "maxzoom": _number(0, ZOOM_MAX),
    "bbox": _bbox,
    "datetime": _datetime,
    "filter": _filter,
    "filter-lang": _one_of("cql2-text", "cql2-json"),
    "filter-crs": _crs,
    "bbox-crs": _crs,
    "crs": _crs,
    "bbox-only": _one_of("true", "false", "1", "0"),
    "type": _one_of("Table", "Function"),
    "simplify": _simplify,
}
