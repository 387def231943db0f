"""Numbers of a region: as brute force over positions counts them, now, in the past, in a scope."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import geopandas as gpd
import numpy as np
import orjson
import pytest
import shapely
from sqlalchemy import Engine, text

from data.accounts import Account
from data.database import reading
from data.divisions import districts_frame, version_at
from data.outages import store_outage
from data.region_people import people_inside
from data.region_query import query_region
from data.rulepacks import load_packs
from geo.coverage import AreaShare
from geo.crs import geometry_from_wgs84
from geo.region import DistrictPart, read_region
from tests.data.stored import bring, event, send
from tests.feeds import NANAN, SHAPINGBA, YUZHONG, ago, facility

PACKS = load_packs()
CITY = Account("planner", "planner", ("*",))
ACROSS = shapely.Polygon([(106.38, 29.47), (106.66, 29.49), (106.64, 29.63), (106.36, 29.66)])
LIANGJIANG = "500157"
KINDS = ("base_station", "substation", "exchange")


def scattered(count: int, seed: int = 5) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    places = rng.uniform([106.2, 29.3], [106.8, 29.8], (count, 2))
    return [
        facility(
            f"F{i}",
            float(lon),
            float(lat),
            kind=KINDS[i % 3],
            operator=("mobile", "grid")[i % 2],
            load_kw=int(i % 3 == 1) * (100 + i),
            customers=int(i % 3 == 1) * i,
            state_at_import=("up", "down", "unknown", "degraded")[i % 4],
        )
        for i, (lon, lat) in enumerate(places)
    ]


@pytest.fixture
def rows(divided: Engine) -> list[dict[str, Any]]:
    made = scattered(600)
    bring(divided, *made)
    return made


def ask(engine: Engine, account: Account = CITY, at: datetime | None = None, **given: Any) -> Any:
    return query_region(engine, read_region(given), PACKS, account=account, at=at)


def as_json(shape: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shapely.to_geojson(shape))
    return found


def brute(rows: list[dict[str, Any]], shape: Any) -> dict[str, dict[str, int]]:
    """By GeoPandas, from positions and states."""
    frame = gpd.GeoDataFrame(
        rows, geometry=gpd.points_from_xy([r["lon"] for r in rows], [r["lat"] for r in rows])
    )
    frame = frame[frame.intersects(shape)]
    return {
        kind: {"total": len(one)}
        | {s: int((one["state_at_import"] == s).sum()) for s in ("down", "unknown", "degraded")}
        for kind, one in frame.groupby("kind")
    }


def nearly_all(engine: Engine) -> Any:
    """A region in which most districts lie mostly, and none wholly that has a border."""
    with reading(engine) as connection:
        frame = districts_frame(connection, version_at(connection).id)
    city = shapely.union_all(frame.geometry.to_numpy())
    return shapely.simplify(shapely.buffer(city, -0.05), 0.01)


def counts(answer: dict[str, Any]) -> dict[str, dict[str, int]]:
    names = ("total", "down", "unknown", "degraded")
    return {kind: {n: v[n] for n in names} for kind, v in answer["facilities"].items()}


@pytest.mark.parametrize("crs", ["WGS84", "CGCS2000", "GCJ-02", "BD-09", "EPSG:4545"])
def test_facilities_are_those_brute_force_finds_in_every_datum(
    divided: Engine, rows: list[dict[str, Any]], crs: str
) -> None:
    answer = ask(divided, geometry=as_json(geometry_from_wgs84(ACROSS, crs)), crs=crs)
    assert counts(answer) == brute(rows, ACROSS)
    assert len(answer["districts"]) >= 3
    inside = [r for r in rows if ACROSS.intersects(shapely.Point(r["lon"], r["lat"]))]
    assert answer["load"]["load_mw"] == sum(r["load_kw"] for r in inside) / 1000
    lost = sum(r["load_kw"] for r in inside if r["state_at_import"] == "down")
    assert answer["load"]["load_shed_mw"] == lost / 1000
    for kind in answer["facilities"].values():
        for name in ("total", "down", "unknown", "degraded"):
            assert kind[name] == sum(o[name] for o in kind["operators"].values())


def test_mostly_and_wholly_covered_districts_count_as_positions_do(
    divided: Engine, rows: list[dict[str, Any]]
) -> None:
    with reading(divided) as connection:
        frame = districts_frame(connection, version_at(connection).id)
    nearly = nearly_all(divided)
    holed = shapely.difference(nearly, shapely.box(106.5, 29.5, 106.6, 29.6))
    for shape in (nearly, holed, shapely.box(105, 28, 111, 33)):
        assert counts(ask(divided, geometry=as_json(shape))) == brute(rows, shape)
    listed = frame[frame["adcode"].isin([YUZHONG, SHAPINGBA, NANAN])]
    several = shapely.union_all(listed.geometry.to_numpy())
    answer = ask(divided, adcodes=listed["adcode"].tolist())
    assert counts(answer) == brute(rows, several)
    assert answer["outside_m2"] == 0


def test_a_scope_limits_facilities_and_says_so(divided: Engine, rows: list[dict[str, Any]]) -> None:
    with reading(divided) as connection:
        frame = districts_frame(connection, version_at(connection).id)
    own = frame.loc[frame["adcode"] == YUZHONG].geometry.iloc[0]
    account = Account("field", "field", (YUZHONG,))
    answer = ask(divided, account, geometry=as_json(ACROSS))
    assert counts(answer) == brute(rows, shapely.intersection(own, ACROSS))
    assert answer["scope"]["districts"] == [YUZHONG]
    # areas are the same for everyone
    assert answer["districts"] == ask(divided, geometry=as_json(ACROSS))["districts"]
    grid = Account("utility", "utility", ("*",), ("grid",))
    mine = [r for r in rows if r["operator"] == "grid"]
    assert counts(ask(divided, grid, geometry=as_json(ACROSS))) == brute(mine, ACROSS)


def test_the_past_is_answered_as_it_was_known(divided: Engine, rows: list[dict[str, Any]]) -> None:
    """Each moment's answer, kept when it was the present, is what `at=` answers later."""
    shapes = {
        "across": as_json(shapely.segmentize(ACROSS, 0.01)),
        "wide": as_json(shapely.box(105.9, 29.0, 107.0, 30.0)),
        "nearly all": as_json(nearly_all(divided)),
    }
    rng = np.random.default_rng(9)
    kept: list[tuple[datetime, str, Any]] = []

    def keep() -> None:
        with reading(divided) as connection:
            now = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        for name, shape in shapes.items():
            kept.append((now, name, ask(divided, geometry=shape)))

    keep()
    for step in range(6):
        chosen = rng.choice(600, 40, replace=False).tolist()
        state = ("down", "up", "degraded")[step % 3]
        minute = float(rng.integers(0, 300))  # late and early observations alike
        send(divided, *(event(f"E{step}-{i}", f"F{i}", state, minute) for i in chosen))
        keep()
        if step == 2:
            moved = [rows[i] | {"lon": 106.5, "lat": 29.55, "original_x": 106.5} for i in range(20)]
            bring(divided, *moved)
            keep()
    for at, name, then in kept:
        now = ask(divided, at=at, geometry=shapes[name])
        for key in ("facilities", "sequence", "as_of", "load", "customers", "area_m2"):
            assert now[key] == then[key], (name, key)
    assert len({orjson.dumps(then["facilities"]) for _, name, then in kept}) > 8


def test_what_is_not_known_of_people_is_said_of_which_districts(
    divided: Engine, divided_owner: Engine
) -> None:
    known = ask(divided, adcodes=[NANAN, YUZHONG])["population"]
    assert known["inside"] > 500_000
    assert known["affected"] is None  # no area shares are computed here
    assert known["unknown"] == {"population": [], "power_area_share": [YUZHONG, NANAN]}
    assert known["basis"].endswith(f"; not known: power area share of {YUZHONG}, {NANAN}")
    with divided_owner.begin() as connection:
        forget = "UPDATE district SET population = NULL WHERE adcode = :code"
        connection.execute(text(forget), {"code": NANAN})
    found = ask(divided, geometry=as_json(ACROSS))["population"]
    assert (found["inside"], found["affected"]) == (None, None)
    # of the district made in 2025 no census has counted the people
    assert found["unknown"]["population"] == [NANAN, LIANGJIANG]
    assert f"; not known: population of {NANAN}, {LIANGJIANG}; power area" in found["basis"]
    assert ask(divided, adcodes=[YUZHONG])["population"]["inside"] < known["inside"]


@pytest.mark.parametrize(
    ("population", "shares", "told"),
    [
        (1000, {"substation": {YUZHONG: AreaShare(0.25, 0.25, "exact")}}, (500, 125, "")),
        (None, {"substation": {YUZHONG: AreaShare(0.25, 0.25, "exact")}}, (None, None, "population")),
        (1000, {"exchange": {YUZHONG: AreaShare(0.25, 0.25, "exact")}}, (500, None, "power_area_share")),
        (1000, {}, (500, None, "power_area_share")),
        (0, {"power_plant": {YUZHONG: AreaShare(1.0, 1.0, "exact")}}, (0, 0, "")),
    ],
)  # fmt: skip
def test_people_are_null_only_for_what_is_named_as_unknown(
    population: int | None, shares: dict[str, Any], told: tuple[int | None, int | None, str]
) -> None:
    part = DistrictPart(YUZHONG, "渝中区", population, 1e6, 0.5, whole=False)
    found = people_inside([part], shares, ("substation", "power_plant"))
    assert (found["inside"], found["affected"]) == told[:2]
    assert {what for what, codes in found["unknown"].items() if codes} == {told[2]} - {""}
    assert ("not known" in found["basis"]) == bool(told[2])


def test_before_the_reform_there_are_38_districts(
    divided: Engine, rows: list[dict[str, Any]]
) -> None:
    everything = as_json(shapely.box(105, 28, 111, 33))
    now = ask(divided, geometry=everything)
    then = ask(divided, geometry=everything, at=datetime(2025, 10, 1, tzinfo=UTC))
    assert (len(now["districts"]), len(then["districts"])) == (37, 38)
    assert now["area_m2"] == pytest.approx(then["area_m2"])
    assert then["facilities"] == {}


def test_what_was_loaded_later_is_counted_by_the_districts_of_then(divided: Engine) -> None:
    """In force since before the reform: in districts cut, mostly covered and whole."""
    made = scattered(300, seed=6)
    since = datetime(2025, 1, 1, tzinfo=UTC)
    bring(divided, *made, valid_from=since)
    send(divided, *(event(f"E{i}", f"F{i}", "down", 1) for i in range(0, 300, 7)))
    before = datetime(2025, 10, 1, tzinfo=UTC)
    for shape in (ACROSS, nearly_all(divided), shapely.box(105, 28, 111, 33)):
        assert counts(ask(divided, at=before, geometry=as_json(shape))) == brute(made, shape)
    jiangbei, yubei = "500105", "500112"
    with reading(divided) as connection:
        frame = districts_frame(connection, version_at(connection, before).id)
    both = shapely.union_all(frame.loc[frame["adcode"].isin([jiangbei, yubei])].geometry.to_numpy())
    answer = ask(divided, at=before, adcodes=[jiangbei, yubei])
    assert counts(answer) == brute(made, both)
    assert {d["adcode"] for d in answer["districts"]} == {jiangbei, yubei}


def test_reported_outages_count_by_the_part_inside_and_once(divided: Engine) -> None:
    bring(
        divided,
        facility("S1", 106.5525, 29.5525, load_kw=10_000, customers=500, state_at_import="down"),
        facility("S2", 106.5575, 29.5525, load_kw=10_000, customers=500),
    )
    shape = shapely.box(106.55, 29.55, 106.56, 29.555)
    feature = {
        "type": "Feature",
        "geometry": as_json(shape),
        "properties": {
            "outage_id": "O1",
            "revision": 1,
            "load_shed_kw": 8_000,
            "customers_out": 300,
            "started_at": ago(hours=1),
        },
    }
    store_outage(divided, feature, body=orjson.dumps(feature), account="utility")
    half = shapely.box(106.55, 29.5, 106.555, 29.6)
    answer = ask(divided, geometry=as_json(half))
    assert answer["outages_open"] == 1
    assert answer["outages"][0]["share_inside"] == pytest.approx(0.5, rel=1e-6)
    # S1 is down, and counts only through the outage: half of its 8 MW
    assert answer["load"]["load_shed_mw"] == 4.0
    assert answer["customers"]["out"] == 150
    whole = ask(divided, geometry=as_json(shapely.box(106.5, 29.5, 106.6, 29.6)))
    assert whole["load"]["load_shed_mw"] == 8.0
    before = ask(divided, geometry=as_json(half), at=datetime.now(UTC) - timedelta(minutes=30))
    assert before["outages_open"] == 0
