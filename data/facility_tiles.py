"""Facilities as vector tiles (MVT, Web Mercator): counts on a grid below zoom 14, then each alone.

A facility belongs to exactly one tile of a zoom and to one cell of that tile, both half-open, so
the `total` of all features adds up to the table at every zoom; nothing is dropped and nothing is
repeated at a border, which is why there is no buffer. World coordinates run from 0 to 1 from the
north-west; places beyond 85.0511° of latitude lie on no tile.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Engine, text

from data.database import Scope, reading
from geo.errors import Fault, InvalidInput

SINGLE_FROM_ZOOM = 14
ZOOM_MAX = 22
CELLS = 32
EXTENT = 4096
LAYER = "facilities"
STATES = ("up", "unknown", "degraded", "down")
#: Changes that move or alter a facility; others leave every tile as it was.
_RELEVANT = "('facilities', 'status', 'divisions', 'demo')"

#: Longitude and latitude of the four sides of a tile with a hair's margin, for the index alone.
_BOX = """
ST_MakeEnvelope(
    CAST(:x AS float8) / :n * 360 - 180 - 1e-7,
    degrees(atan(sinh(pi() * (1 - 2 * (CAST(:y AS float8) + 1) / :n)))) - 1e-7,
    (CAST(:x AS float8) + 1) / :n * 360 - 180 + 1e-7,
    degrees(atan(sinh(pi() * (1 - 2 * CAST(:y AS float8) / :n)))) + 1e-7, 4326)
"""
_INSIDE = f"""
SELECT f.*, s.state::text AS state, nullif(s.observed_at, '-infinity') AS observed_at,
       p.u * :n - :x AS px, p.v * :n - :y AS py
FROM facility f JOIN facility_state s ON s.facility_pk = f.pk
CROSS JOIN LATERAL (
    SELECT (ST_X(f.geom) + 180) / 360 AS u,
           (1 - asinh(tan(radians(ST_Y(f.geom)))) / pi()) / 2 AS v
    OFFSET 0
) p
WHERE f.retired_at IS NULL AND f.geom && {_BOX}
  AND abs(ST_Y(f.geom)) < 89.9
  AND floor(p.u * :n) = :x AND floor(p.v * :n) = :y
  AND (CAST(:kind AS text) IS NULL OR f.kind = :kind)
  AND (CAST(:state AS text) IS NULL OR s.state::text = :state)
"""
_SINGLE = f"""
SELECT ST_AsMVT(t, '{LAYER}', {EXTENT}, 'geom') FROM (
    SELECT facility_id, name, kind, operator, adcode, state, observed_at::text AS observed_at,
           false AS aggregated, 1 AS total, (state = 'down')::int AS down,
           (state = 'degraded')::int AS degraded, (state = 'unknown')::int AS unknown,
           synthetic::int AS synthetic,
           ST_MakePoint(floor(px * {EXTENT}), floor(py * {EXTENT})) AS geom
    FROM ({_INSIDE}) inside ORDER BY facility_id
) t
"""
_AGGREGATED = f"""
SELECT ST_AsMVT(t, '{LAYER}', {EXTENT}, 'geom') FROM (
    SELECT true AS aggregated, count(*) AS total,
           count(*) FILTER (WHERE state = 'down') AS down,
           count(*) FILTER (WHERE state = 'degraded') AS degraded,
           count(*) FILTER (WHERE state = 'unknown') AS unknown,
           count(*) FILTER (WHERE synthetic) AS synthetic,
           ST_MakePoint(floor(avg(px) * {EXTENT}), floor(avg(py) * {EXTENT})) AS geom
    FROM ({_INSIDE}) inside
    GROUP BY floor(px * {CELLS}), floor(py * {CELLS})
    ORDER BY floor(py * {CELLS}), floor(px * {CELLS})
) t
"""


class TileCache:
    """The last aggregated tiles of a process by ETag: many look at the same few of low zoom."""

    def __init__(self, tiles_max: int = 256) -> None:
        self._tiles: OrderedDict[str, bytes] = OrderedDict()
        self._tiles_max = tiles_max
        self._lock = threading.Lock()

    def start(self) -> None:
        """Nothing runs."""

    def stop(self) -> None:
        """Nothing runs."""

    def get(self, etag: str, make: Callable[[], bytes]) -> bytes:
        """The tile of that ETag, made if it is not known."""
        with self._lock:
            known = self._tiles.get(etag)
            if known is not None:
                self._tiles.move_to_end(etag)
                return known
        made = make()
        with self._lock:
            self._tiles[etag] = made
            if len(self._tiles) > self._tiles_max:
                self._tiles.popitem(last=False)
        return made


def check_tile(z: int, x: int, y: int) -> None:
    """Raises InvalidInput naming what lies outside the world of tiles."""
    if not 0 <= z <= ZOOM_MAX:
        raise InvalidInput([Fault(f"must be from 0 to {ZOOM_MAX}", None, "z")])
    faults = [
        Fault(f"must be from 0 to {2**z - 1} at zoom {z}", None, name)
        for name, value in (("x", x), ("y", y))
        if not 0 <= value < 2**z
    ]
    if faults:
        raise InvalidInput(faults)


def tiles_etag(engine: Engine, scope: Scope, asked: Sequence[object]) -> str:
    """The quoted ETag of a tile: it changes when any facility or state does."""
    with reading(engine) as connection:
        changed = connection.execute(
            text(
                f"SELECT sequence FROM change WHERE kind IN {_RELEVANT}"
                " ORDER BY sequence DESC LIMIT 1"
            )
        ).scalar()
    told = repr((changed, sorted(scope.districts), sorted(scope.operators), list(asked)))
    return f'"{hashlib.sha256(told.encode()).hexdigest()[:32]}"'


def facility_tile(
    engine: Engine,
    z: int,
    x: int,
    y: int,
    *,
    scope: Scope,
    kind: str | None = None,
    state: str | None = None,
) -> bytes:
    """The tile's bytes, empty where nothing is; one layer `facilities`.

    Every feature has `total`, `down`, `degraded`, `unknown` and `synthetic` (counts, 1 or 0 for a
    single one) and `aggregated`; a single one also its id, name, kind, operator, adcode and state.
    """
    check_tile(z, x, y)
    asked: dict[str, Any] = {"n": float(2**z), "x": x, "y": y, "kind": kind, "state": state}
    sql = _SINGLE if z >= SINGLE_FROM_ZOOM else _AGGREGATED
    with reading(engine, scope) as connection:
        tile = connection.execute(text(sql), asked).scalar()
    return bytes(tile or b"")
