"""One number, computed in PostgreSQL and by `geo`: the same, on a seeded inventory with statuses.

The facilities are those of the demonstration, the outages of every sort. Whatever SQL is used here
is the plainest there is, so that it says what is meant.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, text

from data.counters import counters_at, counters_now, fold
from data.database import WHOLE_CITY, app_engine, reading, sequence_at, set_scope
from data.demo import load_demo
from data.divisions import DivisionVersion, districts_frame, version_at, versions
from data.outages import open_outages, store_outage
from data.power import power_known
from data.rulepacks import load_packs
from data.settings import SituationSettings
from data.situation import situation_now
from data.status import ingest_status
from geo.aggregate import count_shares, customer_shares, load_shares, population_affected
from geo.assign import DistrictLocator
from geo.coverage import AreaShare, exact_area_share, service_cells
from geo.power import Supply
from geo.split import split_by_weights
from tests.feeds import INSIDE, NANAN, YUZHONG, ago

FACILITIES = 20_000
MEASURES = ("total", "down", "degraded", "unknown")

#: Points on border lines at which arithmetic in plain doubles errs by its last digit: PostGIS's
#: ST_Covers puts them on the border, the exact predicate on one side of it.
HAIR_FROM_A_BORDER = (
    (106.4642078204805, 29.64844984389289),
    (106.52238902343953, 29.41459683698672),
    (108.7988939206992, 31.411883020209203),
    (107.3456396589165, 29.517900300278654),
    (106.65330399661588, 29.470235275693344),
    (106.450975204915, 29.87604951286336),
)


def box(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    shape: dict[str, Any] = json.loads(shapely.to_geojson(shapely.box(west, south, east, north)))
    return shape


@pytest.fixture(scope="module")
def engine(shared_divided_url: str) -> Iterator[Engine]:
    made = app_engine(shared_divided_url)
    load_demo(made, FACILITIES, seed=7)
    send_statuses(made)
    send_outages(made)
    with made.begin() as connection:
        set_scope(connection, WHOLE_CITY)
        fold(connection)
    yield made
    made.dispose()


def send_statuses(engine: Engine) -> None:
    """A third of the facilities speak, some several times, some late, some of one instant."""
    with reading(engine) as connection:
        ids = (
            connection.execute(text("SELECT facility_id FROM facility ORDER BY 1")).scalars().all()
        )
    rng = random.Random(7)
    now = datetime.now(UTC)
    for batch in range(4):
        events = [
            {
                "event_id": f"{batch}-{n}",
                "facility_id": one,
                "state": rng.choice(["up", "down", "down", "degraded", "unknown"]),
                "observed_at": (now - timedelta(minutes=rng.randrange(0, 30))).isoformat(),
            }
            for n, one in enumerate(rng.sample(ids, 2500))
        ]
        ingest_status(engine, events, body=json.dumps(events).encode(), account="test")


def send_outages(engine: Engine) -> None:
    with reading(engine) as connection:
        named = (
            connection.execute(
                text(
                    "SELECT facility_id FROM facility WHERE kind = 'substation'"
                    " AND adcode IN ('500101', '500112') ORDER BY 1 LIMIT 5"
                )
            )
            .scalars()
            .all()
        )
    lon, lat = INSIDE[YUZHONG]
    sent: list[dict[str, Any]] = [
        {"outage_id": "over four", "geometry": box(106.4, 29.45, 106.7, 29.65), "load_shed_kw": 90_001},
        {"outage_id": "over that", "geometry": box(106.5, 29.5, 106.8, 29.7), "restored_load_kw": 777},
        {"outage_id": "named", "geometry": None, "facility_ids": list(named)},
        {"outage_id": "small", "geometry": box(lon, lat, lon + 1e-4, lat + 1e-4)},
        {"outage_id": "half outside", "geometry": box(105.1, 28.6, 105.9, 29.2)},
        {"outage_id": "local", "geometry": box(108.2, 30.6, 108.5, 30.9), "main_grid": False},
        {"outage_id": "planned", "geometry": box(107, 29.3, 107.3, 29.6), "planned": True},
        {"outage_id": "over", "geometry": box(107.5, 29.3, 107.9, 29.6), "restored_at": ago(minutes=9)},
    ]  # fmt: skip
    common = {
        "revision": 1,
        "load_shed_kw": 5003,
        "customers_out": 1009,
        "started_at": ago(hours=2),
    }
    for one in sent:
        properties = common | one
        feature = {"type": "Feature", "geometry": properties.pop("geometry")}
        feature["properties"] = properties
        store_outage(engine, feature, body=json.dumps(feature).encode(), account="test")


def all_versions(engine: Engine) -> list[DivisionVersion]:
    with reading(engine) as connection:
        return versions(connection)


def facilities(
    connection: Connection, version_id: int, kind: str | None = None
) -> gpd.GeoDataFrame:
    """The inventory in force with states, as `geo` wants it."""
    result = connection.execute(
        text(
            "SELECT f.facility_id, f.kind, f.operator, f.network, f.main_grid, f.load_kw,"
            " f.customers, s.state, d.adcode, d.unit, ST_X(f.geom) AS lon, ST_Y(f.geom) AS lat"
            " FROM facility f JOIN facility_state s ON s.facility_pk = f.pk"
            " JOIN placement_division d"
            " ON d.placement_id = f.placement_id AND d.version_id = :version"
            " WHERE f.retired_at IS NULL AND (CAST(:kind AS text) IS NULL OR f.kind = :kind)"
            " ORDER BY f.facility_id"
        ),
        {"version": version_id, "kind": kind},
    )
    frame = pd.DataFrame(result.all(), columns=list(result.keys()))
    points = shapely.points(frame.pop("lon"), frame.pop("lat"))
    return gpd.GeoDataFrame(frame, geometry=points, crs="EPSG:4326")


def rows_of(frame: pd.DataFrame, by: list[str], columns: list[str]) -> dict[Any, tuple[int, ...]]:
    """{group: sums}, without groups in which nothing is."""
    frame = frame.assign(**{name: frame[name].astype(object) for name in by})
    sums = frame.groupby(by, dropna=False)[columns].sum()
    found = {}
    for key, row in zip(sums.index, sums.to_numpy().tolist(), strict=True):
        parts = key if isinstance(key, tuple) else (key,)
        if any(row):
            found[tuple(None if pd.isna(p) else p for p in parts)] = tuple(int(v) for v in row)
    return found


# --- counters -------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1], ids=["older divisions", "newer divisions"])
@pytest.mark.parametrize(
    "by", [["adcode", "kind"], ["unit", "kind", "operator"], ["network", "main_grid"]], ids=str
)
def test_counters_are_the_counts_of_geo(engine: Engine, which: int, by: list[str]) -> None:
    version = all_versions(engine)[which]
    with reading(engine, snapshot=True) as connection:
        frame = facilities(connection, version.id)
        folded = counters_now(connection, version.id)
        row = connection.execute(text("SELECT max(sequence) AS n, now() AS at FROM change")).one()
        summed = counters_at(connection, version.id, row.n, row.at)
    expected = rows_of(count_shares(frame, by), by, list(MEASURES))
    assert sum(r[0] for r in expected.values()) == FACILITIES
    assert sum(r[1] for r in expected.values()) > 1000
    assert rows_of(folded, by, list(MEASURES)) == expected
    assert rows_of(summed, by, list(MEASURES)) == expected


@pytest.mark.parametrize("which", [0, 1], ids=["older divisions", "newer divisions"])
@pytest.mark.parametrize("main_grid_only", [False, True])
def test_load_and_customers_of_counters_are_those_of_geo(
    engine: Engine, which: int, main_grid_only: bool
) -> None:
    version = all_versions(engine)[which]
    with reading(engine, snapshot=True) as connection:
        frame = facilities(connection, version.id, "substation")
        counters = counters_now(connection, version.id)
    counters = counters[counters["kind"] == "substation"]
    if main_grid_only:
        counters = counters[counters["main_grid"]]
    load = load_shares(frame, main_grid_only=main_grid_only)
    customers = customer_shares(frame, main_grid_only=main_grid_only)
    by = ["adcode"]
    for table, stored, given in (
        (load, ["load_kw", "load_down_kw", "load_unknown_kw"], ["load_kw", "load_shed_kw", "unknown_load_kw"]),
        (customers, ["customers", "customers_down", "customers_unknown"], ["customers", "customers_out", "unknown_customers"]),
    ):  # fmt: skip
        expected = rows_of(table, by, given)
        assert sum(r[1] for r in expected.values()) > 0
        assert rows_of(counters, by, stored) == expected


# --- points and districts -------------------------------------------------------------------------


def assigned_by_sql(
    connection: Connection, version_id: int, points: NDArray[np.float64], covers: str
) -> list[str | None]:
    rows = connection.execute(
        text(
            "SELECT (SELECT min(d.adcode) FROM district d"
            f" WHERE d.version_id = :version AND d.geom && p.geom AND {covers})"
            " FROM (SELECT n, ST_SetSRID(ST_MakePoint(x, y), 4326) AS geom FROM"
            " unnest(CAST(:x AS float8[]), CAST(:y AS float8[])) WITH ORDINALITY AS t (x, y, n)) p"
            " ORDER BY p.n"
        ),
        {"x": points[:, 0].tolist(), "y": points[:, 1].tolist(), "version": version_id},
    )
    return list(rows.scalars())


def assigned_by_geo(districts: gpd.GeoDataFrame, points: NDArray[np.float64]) -> list[str | None]:
    locator = DistrictLocator(districts)
    names = [*locator.adcodes, None]
    return [names[i] for i in locator.assign(points[:, 0], points[:, 1])]


COVERS = "ST_Covers(d.geom, p.geom)"
#: The same word through GEOS's exact predicates: neither inside nor border misses the point.
RELATES = "NOT ST_Relate(d.geom, p.geom, 'F**F*****')"


def chosen_points(districts: gpd.GeoDataFrame, what: str) -> NDArray[np.float64]:
    rng = np.random.default_rng(2026)
    west, south, east, north = districts.total_bounds
    if what == "anywhere":
        return np.column_stack([rng.uniform(west, east, 8000), rng.uniform(south, north, 8000)])
    rings = shapely.get_rings(shapely.get_parts(districts.geometry.to_numpy()))
    vertex, ring = shapely.get_coordinates(rings, return_index=True)
    if what == "vertices":
        return np.asarray(rng.permutation(vertex)[:8000])
    start = np.flatnonzero(ring[1:] == ring[:-1])
    along = 0.5 if what == "midpoints" else rng.random((len(start), 1))
    points = vertex[start] + along * (vertex[start + 1] - vertex[start])
    return np.asarray(rng.permutation(points)[:8000])


@pytest.mark.parametrize("what", ["anywhere", "vertices", "midpoints"])
@pytest.mark.parametrize("which", [0, 1], ids=["older divisions", "newer divisions"])
def test_the_district_of_a_point_is_the_same_in_sql(engine: Engine, which: int, what: str) -> None:
    version = all_versions(engine)[which]
    with reading(engine) as connection:
        districts = districts_frame(connection, version.id)
        points = chosen_points(districts, what)
        by_sql = assigned_by_sql(connection, version.id, points, COVERS)
    assert by_sql == assigned_by_geo(districts, points)
    assert len(set(by_sql)) >= len(districts) - 2  # a border always falls to the smaller adcode


def test_on_border_lines_exact_sql_agrees_and_plain_doubles_differ_by_a_hair_at_most(
    engine: Engine,
) -> None:
    with reading(engine) as connection:
        version = version_at(connection)
        districts = districts_frame(connection, version.id)
        points = np.vstack([chosen_points(districts, "along"), HAIR_FROM_A_BORDER])
        plain = assigned_by_sql(connection, version.id, points, COVERS)
        related = assigned_by_sql(connection, version.id, points, RELATES)
    by_geo = assigned_by_geo(districts, points)
    assert related == by_geo
    differing = [i for i, (a, b) in enumerate(zip(plain, by_geo, strict=True)) if a != b]
    assert len(differing) <= len(HAIR_FROM_A_BORDER) + 2
    shapes = districts.set_index("adcode").geometry
    for i in differing:
        for adcode in {plain[i], by_geo[i]} - {None}:
            assert shapes[adcode].boundary.distance(shapely.Point(points[i])) < 1e-12


def test_every_facility_stands_where_geo_would_put_it(engine: Engine) -> None:
    for version in all_versions(engine):
        with reading(engine) as connection:
            frame = facilities(connection, version.id)
            districts = districts_frame(connection, version.id)
        points = shapely.get_coordinates(frame.geometry.to_numpy())
        assert frame["adcode"].tolist() == assigned_by_geo(districts, points)


# --- outages --------------------------------------------------------------------------------------


#: A geography's edges are geodesics; GeoJSON's are straight in degrees, which short ones equal.
AREA = "ST_Area(ST_Segmentize({}, 0.001)::geography)"


@pytest.mark.parametrize("which", [0, 1], ids=["older divisions", "newer divisions"])
def test_areas_of_an_outage_in_districts_are_those_of_the_spheroid(
    engine: Engine, which: int
) -> None:
    version = all_versions(engine)[which]
    with reading(engine) as connection:
        sequence = sequence_at(connection, None)
        for one in open_outages(connection, sequence, version.id, datetime.now(UTC)):
            if one["geometry"] is None:
                assert all(part["area_m2"] is None for part in one["split"])
                continue
            rows = connection.execute(
                text(
                    f"SELECT d.adcode, {AREA.format('ST_Intersection(d.geom, o.geom)')} AS m2"
                    " FROM outage o JOIN district d ON ST_Intersects(d.geom, o.geom)"
                    " WHERE o.outage_id = :id AND d.version_id = :version"
                ),
                {"id": one["outage_id"], "version": version.id},
            ).all()
            by_sql = {r.adcode: r.m2 for r in rows if r.m2 > 1e-6}
            whole = connection.execute(
                text(f"SELECT {AREA.format('geom')} FROM outage WHERE outage_id = :id"),
                {"id": one["outage_id"]},
            ).scalar_one()
            outside = whole - sum(by_sql.values())
            if outside > whole * 1e-6:
                by_sql[None] = outside
            by_geo = {p["adcode"]: p["area_m2"] for p in one["split"] if p["area_m2"]}
            assert by_geo == pytest.approx(by_sql, rel=2e-6), one["outage_id"]


@pytest.mark.parametrize("which", [0, 1], ids=["older divisions", "newer divisions"])
def test_an_outage_is_divided_by_the_sums_that_sql_finds(engine: Engine, which: int) -> None:
    version = all_versions(engine)[which]
    bases = set()
    with reading(engine) as connection:
        sequence = sequence_at(connection, None)
        for one in open_outages(connection, sequence, version.id, datetime.now(UTC)):
            rows = connection.execute(
                text(
                    "SELECT d.adcode, sum(f.load_kw)::bigint AS load_kw,"
                    " sum(f.customers)::bigint AS customers FROM outage o JOIN facility f"
                    " ON f.kind = 'substation' AND CASE WHEN o.facility_ids <> '{}'"
                    " THEN f.facility_id = ANY (o.facility_ids)"
                    " ELSE ST_Covers(o.geom, f.geom) END"
                    " JOIN placement_division d ON d.placement_id = f.placement_id"
                    " AND d.version_id = :version WHERE o.outage_id = :id GROUP BY 1"
                ),
                {"id": one["outage_id"], "version": version.id},
            ).all()
            areas = {p["adcode"]: p["area_m2"] for p in one["split"] if p["area_m2"]}
            by_load = {r.adcode: r.load_kw for r in rows} or areas
            by_customers = {r.adcode: r.customers for r in rows} or areas
            bases |= {p["load_basis"] for p in one["split"]}
            for amount, weights in (("load_shed_kw", by_load), ("customers_out", by_customers)):
                expected = split_by_weights(one[amount], weights)
                found = {p["adcode"]: p[amount] for p in one["split"] if p[amount]}
                assert found == {k: v for k, v in expected.items() if v}, one["outage_id"]
                assert sum(found.values()) == one[amount]
    assert bases == {"load_kw", "area"}


# --- power ----------------------------------------------------------------------------------------


def counted_through_outages(connection: Connection) -> list[str]:
    """Substations that an open reported outage names or contains."""
    rows = connection.execute(
        text(
            "SELECT DISTINCT f.facility_id FROM facility f JOIN outage o"
            " ON f.facility_id = ANY (o.facility_ids) OR ST_Covers(o.geom, f.geom)"
            " WHERE f.kind = 'substation' AND (o.restored_at IS NULL OR o.restored_at > now())"
        )
    )
    return list(rows.scalars())


def outage_parts(connection: Connection, version_id: int) -> pd.DataFrame:
    """The parts of open unplanned outages, one row each."""
    sequence = sequence_at(connection, None)
    rows = [
        {**part, "main_grid": one["main_grid"]}
        for one in open_outages(connection, sequence, version_id, datetime.now(UTC))
        if one["open"] and not one["planned"]
        for part in one["split"]
    ]
    return pd.DataFrame(rows).astype({"adcode": object})


@pytest.mark.parametrize("which", [0, 1], ids=["older divisions", "newer divisions"])
def test_supply_and_losses_are_the_shares_of_geo(engine: Engine, which: int) -> None:
    version = all_versions(engine)[which]
    now = datetime.now(UTC)
    with reading(engine, snapshot=True) as connection:
        sequence = sequence_at(connection, None)
        known = power_known(
            connection,
            version_id=version.id,
            kinds=("substation",),
            sequence=sequence,
            at=None,
            now=now,
            outages=open_outages(connection, sequence, version.id, now),
        )
        frame = facilities(connection, version.id, "substation")
        parts = outage_parts(connection, version.id)
        counted = counted_through_outages(connection)
    assert len(counted) > 5
    for main_grid_only in (False, True):
        options: dict[str, Any] = {
            "outage_parts": parts,
            "counted_facility_ids": counted,
            "main_grid_only": main_grid_only,
        }
        load = load_shares(frame, **options).set_index("adcode")
        customers = customer_shares(frame, **options).set_index("adcode")
        for adcode in load.index:
            supply = sum(
                (s for (a, main), s in known.supply.items() if a == adcode and main >= main_grid_only),
                Supply(),
            )  # fmt: skip
            lost = [
                one
                for one in known.losses
                if one.adcode == adcode
                and one.main_grid >= main_grid_only
                and one.since <= now
                and (one.until is None or one.until > now)
            ]
            assert (supply.load_kw, sum(one.load_kw for one in lost), supply.load_unknown_kw) == (
                load["load_kw"][adcode],
                load["load_shed_kw"][adcode],
                load["unknown_load_kw"][adcode],
            ), adcode
            assert (
                supply.customers,
                sum(one.customers for one in lost),
                supply.customers_unknown,
            ) == (
                customers["customers"][adcode],
                customers["customers_out"][adcode],
                customers["unknown_customers"][adcode],
            ), adcode


# --- the situation --------------------------------------------------------------------------------


class ExactAreas:
    """Area shares by unions of cells, in place of the samples."""

    def shares(
        self,
        connection: Connection,
        version: DivisionVersion,
        sequence: int,
        at: datetime | None,
        outages: Any,
    ) -> dict[str, dict[str, AreaShare]]:
        frame = facilities(connection, version.id, "substation")
        districts = districts_frame(connection, version.id)
        polygons = [
            o["geometry"]
            for o in outages
            if o["open"] and not o["planned"] and o["geometry"] is not None
        ]
        down = frame.loc[frame["state"] == "down", "facility_id"].tolist()
        cells = service_cells(frame, districts, {"substation": 20_000.0})
        table = exact_area_share(cells, districts, down, polygons)
        found = (AreaShare(*pair, "exact") for pair in zip(table["any"], table["all"], strict=True))
        return {"substation": dict(zip(table["adcode"], found, strict=True))}


def test_the_situation_of_a_district_is_what_plain_joins_say(engine: Engine) -> None:
    document = situation_now(engine, load_packs(), SituationSettings(), area=ExactAreas())
    rows = {d["adcode"]: d for d in document["districts"]}
    with reading(engine, snapshot=True) as connection:
        version = version_at(connection)
        counted = connection.execute(
            text(
                "SELECT d.adcode, f.kind, count(*) AS total,"
                " count(*) FILTER (WHERE s.state = 'down') AS down,"
                " count(*) FILTER (WHERE s.state = 'degraded') AS degraded,"
                " count(*) FILTER (WHERE s.state = 'unknown') AS unknown"
                " FROM facility f JOIN facility_state s ON s.facility_pk = f.pk"
                " JOIN placement_division d ON d.placement_id = f.placement_id"
                " WHERE d.version_id = :version AND f.retired_at IS NULL GROUP BY 1, 2"
            ),
            {"version": version.id},
        ).all()
        supplied = connection.execute(
            text(
                "SELECT d.adcode, sum(f.load_kw)::bigint AS load_kw,"
                " sum(f.customers)::bigint AS customers,"
                " coalesce(sum(f.load_kw) FILTER (WHERE lost), 0)::bigint AS load_lost_kw,"
                " coalesce(sum(f.customers) FILTER (WHERE lost), 0)::bigint AS customers_lost"
                " FROM (SELECT f.*, s.state = 'down' AND NOT EXISTS (SELECT 1 FROM outage o"
                "   WHERE (o.restored_at IS NULL OR o.restored_at > now())"
                "   AND (f.facility_id = ANY (o.facility_ids) OR ST_Covers(o.geom, f.geom)))"
                "   AS lost FROM facility f JOIN facility_state s ON s.facility_pk = f.pk"
                "   WHERE f.kind = 'substation') f"
                " JOIN placement_division d ON d.placement_id = f.placement_id"
                " WHERE d.version_id = :version GROUP BY 1"
            ),
            {"version": version.id},
        ).all()
        reported = connection.execute(
            text(
                "SELECT part ->> 'adcode' AS adcode,"
                " sum((part ->> 'load_shed_kw')::bigint"
                "   - coalesce((part ->> 'restored_load_kw')::bigint, 0))::bigint AS load_kw,"
                " sum((part ->> 'customers_out')::bigint)::bigint AS customers"
                " FROM outage o, jsonb_array_elements(o.split -> CAST(:version AS text)) part"
                " WHERE NOT o.planned AND (o.restored_at IS NULL OR o.restored_at > now())"
                " GROUP BY 1"
            ),
            {"version": str(version.id)},
        ).all()
        districts = districts_frame(connection, version.id).set_index("adcode")
        area = ExactAreas().shares(
            connection,
            version,
            0,
            None,
            open_outages(connection, sequence_at(connection, None), version.id, datetime.now(UTC)),
        )["substation"]
    assert sum(r.total for r in counted) == FACILITIES
    for r in counted:
        share = r.down / r.total
        assert rows[r.adcode]["facilities"][r.kind] == {
            "total": r.total, "down": r.down, "degraded": r.degraded, "unknown": r.unknown,
            "share_down": share,
        }  # fmt: skip
    extra = {r.adcode: r for r in reported}
    assert len({NANAN, YUZHONG} & set(extra)) == 2
    for r in supplied:
        one = rows[r.adcode]
        load = extra[r.adcode].load_kw if r.adcode in extra else 0
        out = extra[r.adcode].customers if r.adcode in extra else 0
        assert one["load"]["load_mw"] == r.load_kw / 1000
        assert one["load"]["load_shed_mw"] == min(r.load_lost_kw + load, r.load_kw) / 1000
        assert one["customers"]["total"] == r.customers
        assert one["customers"]["out"] == min(r.customers_lost + out, r.customers)
    any_share = pd.Series({adcode: share.any for adcode, share in area.items()})
    affected = population_affected(districts["population"], any_share)
    for adcode, one in rows.items():
        people = affected[adcode]
        assert one["population_affected"] == (None if pd.isna(people) else people), adcode
        assert one["area_share"]["substation"]["any"] == area[adcode][0]
