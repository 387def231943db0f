"""The collections of the OGC API: whatever stands in the schema `ogc`, as it stands now.

A collection's id is its view's name and its features' id the view's first column. The structure is
read again when it is two seconds old, extents when they are a minute old: a view or table that is
added appears without a restart, and its data are never cached.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import orjson
import shapely
from cql2 import Expr
from tipg.collections import Column, PgCollection

from api.ogc_pool import CITY_READER, SCHEMA, ReaderPool
from api.ogc_query import PLAUSIBLE_NAME, unknown_property
from geo.errors import Fault, InvalidInput

STRUCTURE_S = 2.0
EXTENT_S = 60.0
TILE_FEATURES_MAX = 10_000
#: The city with a margin, for a collection that has no feature yet.
EMPTY_EXTENT = [105.2, 28.1, 110.3, 32.3]

COMPARISONS = {"=", "<>", "<", ">", "<=", ">="}
SPATIAL = {
    *("s_intersects", "s_within", "s_contains", "s_disjoint", "s_touches", "s_crosses"),
    *("s_overlaps", "s_equals"),
}
TEMPORAL = {"t_after", "t_before", "t_equals", "t_during", "t_intersects", "t_disjoint"}
OPERATORS = (
    COMPARISONS
    | SPATIAL
    | TEMPORAL
    | {"and", "or", "not", "like", "between", "in", "isNull", "casei", "+", "-", "*", "/"}
    | {"a_contains", "a_containedBy", "a_equals", "a_overlaps"}
)
GEOMETRY_NAMES = ("geom", "geometry")
DEPTH_MAX = 40
VERTICES_MAX = 20_000

_STRUCTURE = """
SELECT c.relname AS name, obj_description(c.oid, 'pg_class') AS description,
       json_agg(json_build_object(
           'name', a.attname,
           'type', CASE format_type(a.atttypid, NULL)
               WHEN 'timestamp with time zone' THEN 'timestamptz'
               WHEN 'timestamp without time zone' THEN 'timestamp'
               ELSE format_type(a.atttypid, NULL) END,
           'geometry_type', CASE WHEN a.atttypid = 'public.geometry'::regtype
               THEN public.postgis_typmod_type(a.atttypmod) END
       ) ORDER BY a.attnum) AS columns
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p')
  AND a.attnum > 0 AND NOT a.attisdropped AND has_table_privilege(c.oid, 'SELECT')
GROUP BY c.oid, c.relname ORDER BY c.relname
"""


class OgcCollection(PgCollection):
    """A view of the schema; refuses filters on what it does not have and tiles that would lose."""

    def names(self) -> dict[str, str]:
        """What a filter may call a property → its column. The place is `geom` in the views and
        `geometry` in every answer: both are taken."""
        own = {c.name: c.name for c in self.table_columns}
        place = self.geometry_column
        return own if place is None else dict.fromkeys(GEOMETRY_NAMES, place.name) | own

    def cql_where(self, *, cql: Expr | None = None, **more: Any) -> Expr | None:  # type: ignore[override]
        if cql is not None:
            cql = Expr(checked_filter(cql.to_json(), self.names()))
        found: Expr | None = super().cql_where(cql=cql, **more)
        return found

    def _sortby(self, sortby: str | None) -> str:
        """Pages need one order: the id settles what the asked columns leave open."""
        order: str = super()._sortby(sortby)
        return f'{order}, "{self.id_column.name}"' if sortby and self.id_column else order

    async def get_tile(self, conn: Any, *, limit: int | None = None, **more: Any) -> bytes:
        names = ("bbox", "cql", "datetime", "ids", "properties")
        where = self.cql_where(
            **{name: more.get(f"{name}_filter") for name in names},
            geom=more.get("geom"),
            dt=more.get("dt"),
            tile=more["tile"],
            tms=more["tms"],
        )
        within = limit or TILE_FEATURES_MAX
        found = await conn.fetchval(
            f"SELECT count(*) FROM (SELECT FROM {self._qualified_name}"
            f" {self._where_clause(where)} LIMIT {within + 1}) one"
        )
        if found > within:
            raise InvalidInput(
                f"this tile holds more than {within} features; zoom in, filter them, or take"
                " /tiles/facilities, which aggregates"
            )
        tile: bytes = await super().get_tile(conn, limit=limit, **more)
        return tile


class OgcCatalog:
    """The collections as last read, for every route of one process."""

    def __init__(self, pool: ReaderPool) -> None:
        self._pool = pool
        self._read_at = -STRUCTURE_S
        self._structure: list[tuple[str, str | None, list[dict[str, Any]]]] = []
        self._extents: dict[str, tuple[float, list[float]]] = {}
        self._reading = asyncio.Lock()

    def start(self) -> None:
        """Nothing: read when first asked for."""

    def stop(self) -> None:
        """Nothing is held."""

    async def collections(self) -> dict[str, OgcCollection]:
        """Id → collection, in order of the id.

        Where one request's reading hangs in the database, the others take what was read before.
        """
        known = bool(self._structure)
        try:
            async with asyncio.timeout(STRUCTURE_S if known else None):
                await self._reading.acquire()
        except TimeoutError:
            pass
        else:
            try:
                if time.monotonic() - self._read_at >= STRUCTURE_S:
                    await self._read()
            finally:
                self._reading.release()
        return {
            name: self._collection(name, description, columns)
            for name, description, columns in self._structure
        }

    async def _read(self) -> None:
        async with self._pool.acquire(CITY_READER) as connection:
            rows = await connection.fetch(_STRUCTURE, SCHEMA)
            structure = [(r["name"], r["description"], r["columns"]) for r in rows]
            for name, _, columns in structure:
                await self._read_extent(connection, name, columns)
        self._structure = structure  # whole, with an extent for each
        self._read_at = time.monotonic()

    async def _read_extent(self, connection: Any, name: str, columns: list[dict[str, Any]]) -> None:
        """The box around every feature, whoever asks: a reader's scope is not told by it."""
        known = self._extents.get(name)
        if known is not None and time.monotonic() - known[0] < EXTENT_S:
            return
        shape = next((c["name"] for c in columns if c["geometry_type"]), None)
        box = None
        if shape is not None:
            quoted = await connection.fetchval("SELECT quote_ident($1)", shape)
            source = await connection.fetchval(
                "SELECT format('%I.%I', $1::text, $2::text)", SCHEMA, name
            )
            try:
                async with connection.transaction():
                    box = await connection.fetchrow(
                        "SELECT ST_XMin(e) w, ST_YMin(e) s, ST_XMax(e) e, ST_YMax(e) n"
                        f" FROM (SELECT ST_Extent({quoted}) AS e FROM {source}) x"
                    )
            except asyncpg.QueryCanceledError:
                box = None
        extent = EMPTY_EXTENT if box is None or box["w"] is None else [float(v) for v in box]
        self._extents[name] = (time.monotonic(), extent)

    def _collection(
        self, name: str, description: str | None, columns: list[dict[str, Any]]
    ) -> OgcCollection:
        bounds = self._extents[name][1]
        made = [
            Column(name=c["name"], type=c["type"])
            if c["geometry_type"] is None
            else Column(
                name=c["name"],
                type="geometry",
                geometry_type=c["geometry_type"],
                srid=4326,
                bounds=bounds,
            )
            for c in columns
        ]
        return OgcCollection(
            type="Table",
            id=name,
            table=name,
            schema=SCHEMA,
            title=name,
            description=description,
            table_columns=made,
            properties=made,
            id_column=made[0],
            geometry_column=next((c for c in made if c.is_geometry), None),
            datetime_column=next((c for c in made if c.is_datetime), None),
        )


def checked_filter(node: Any, columns: Mapping[str, str], depth: int = 0) -> Any:
    """A CQL2 filter as JSON, with boxes as polygons. The parser lets any function through to SQL:
    here only CQL2's own operators and this collection's columns pass, under their own names.

    Raises InvalidInput.
    """
    if depth > DEPTH_MAX:
        raise _refused("is nested too deeply")
    if isinstance(node, list):
        return [checked_filter(one, columns, depth + 1) for one in node]
    if not isinstance(node, dict):
        return node
    if "property" in node:
        name = str(node["property"])
        if name not in columns:
            raise _refused(unknown_property([name], columns))
        return {"property": columns[name]}
    if "op" in node:
        if node["op"] not in OPERATORS:
            known = ", ".join(sorted(OPERATORS))
            named = str(node["op"])
            if not PLAUSIBLE_NAME.fullmatch(named):
                told = f"uses an operator or a function that is not taken; those are {known}"
                raise _refused(told)
            raise _refused(f"uses {named}, which is not taken; those are {known}")
        args = node.get("args")
        return {"op": node["op"], "args": checked_filter(args, columns, depth + 1)}
    if "bbox" in node:
        return _box(node["bbox"])
    if node.get("type") == "GeometryCollection":
        raise _refused("has a geometry collection")
    if "coordinates" in node:
        if _vertices(node["coordinates"]) > VERTICES_MAX:
            raise _refused("has a geometry with too many vertices")
        return _shape({"type": node.get("type"), "coordinates": node["coordinates"]})
    for name in ("timestamp", "date", "interval"):
        if name in node:
            return {name: checked_filter(node[name], columns, depth + 1)}
    raise _refused("has a part that is not CQL2")


def _shape(geometry: dict[str, Any]) -> dict[str, Any]:
    try:
        valid = bool(shapely.is_valid(shapely.from_geojson(orjson.dumps(geometry))))
    except (shapely.GEOSException, TypeError, ValueError):
        valid = False
    if not valid:
        raise _refused("has a geometry that is not valid")
    return geometry


def _box(numbers: Any) -> dict[str, Any]:
    if not isinstance(numbers, list) or len(numbers) not in (4, 6):
        raise _refused("has a box that is not four numbers")
    west, south, east, north = numbers if len(numbers) == 4 else (*numbers[:2], *numbers[3:5])
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return _shape({"type": "Polygon", "coordinates": [ring]})


def _vertices(coordinates: Any) -> int:
    if not isinstance(coordinates, list):
        return 0
    if coordinates and not isinstance(coordinates[0], list):
        return 1
    return sum(_vertices(one) for one in coordinates)


def _refused(reason: str) -> InvalidInput:
    return InvalidInput([Fault(reason, None, "filter")])
