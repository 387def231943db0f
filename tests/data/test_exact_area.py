"""Exact area shares: right, in the background, told once, and found again."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import orjson
import pyproj
import pytest
import shapely
from shapely import MultiPolygon, Polygon, box
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient
from sqlalchemy import Engine, text

from data import exact_area
from data.background import STOP_S
from data.builder import Builder
from data.database import app_engine, reading
from data.divisions import districts_frame, version_at
from data.exact_area import ExactAreas, Wanted, exact_pair
from data.exact_results import FILE, ExactResults
from data.kind_inventory import KindInventory
from data.rulepacks import load_packs
from data.service_area import ServiceAreas
from data.settings import SituationSettings
from data.situation import situation_now
from data.verify import verify
from geo.coverage import AreaShare
from geo.coverage_grid import SAMPLING_ERROR, CoverageGrid
from geo.crs import METRIC_CRS
from tests.data.test_builder import newest, running, sequences, until
from tests.data.test_service_area import database_time, outage, report, substations
from tests.feeds import INSIDE, NANAN, SHAPINGBA, YUZHONG, ago, facility, load_facilities

PACKS = load_packs()
BOTH_KINDS = SituationSettings(reach_m={"substation": 20_000.0, "base_station": 3_000.0})
NO_LIMIT = float("inf")

# --- the numbers ----------------------------------------------------------------------------------

SQUARE = box(107.9, 29.5, 108.1, 29.7)
DISTRICTS: dict[str, BaseGeometry] = {
    "square": SQUARE,
    "holed": Polygon(
        SQUARE.exterior.coords, [box(107.95, 29.55, 108.05, 29.65).exterior.coords]
    ),
    "scattered": MultiPolygon([box(107.9, 29.5, 107.95, 29.7), box(108.05, 29.5, 108.1, 29.7)]),
    "sliver": Polygon([(107.9, 29.5), (108.1, 29.502), (108.1, 29.5015)]),
    "star": Polygon(
        [
            (108 + r * np.cos(a), 29.6 + r * np.sin(a))
            for a, r in zip(np.linspace(0, 2 * np.pi, 14, endpoint=False), [0.1, 0.03] * 7, strict=True)
        ]
    ),
}  # fmt: skip
REPORTED: dict[str, list[BaseGeometry]] = {
    "none": [],
    "across the border": [box(107.8, 29.55, 107.99, 29.62)],
    "twice the same and a part of it": [
        box(107.95, 29.52, 108.02, 29.6),
        box(107.95, 29.52, 108.02, 29.6),
        box(107.96, 29.53, 107.99, 29.58),
    ],
    "touching from outside": [box(107.7, 29.5, 107.9, 29.7)],
    "a bowtie made valid": [
        shapely.make_valid(Polygon([(107.9, 29.5), (108.1, 29.7), (108.1, 29.5), (107.9, 29.7)]))
    ],
    "holed around the city": [
        Polygon(
            box(107, 29, 109, 30).exterior.coords,
            [box(107.92, 29.52, 108.08, 29.68).exterior.coords],
        )
    ],
}
#: Longitude, latitude, network (null too); two stand on one spot, one on the border.
SITES: list[tuple[float, float, str | None]] = [
    (107.93, 29.56, "a"), (107.97, 29.51, "a"), (108.06, 29.53, "a"), (108.09, 29.66, "a"),
    (107.93, 29.56, "b"), (108.00, 29.60, "b"), (107.90, 29.50, "b"), (108.07, 29.5014, "b"),
    (108.00, 29.69, None), (107.94, 29.60, None), (107.93, 29.56, "a"),
]  # fmt: skip


def wanted(
    ground: BaseGeometry,
    sites: Sequence[tuple[float, float, str | None]],
    down: Sequence[int],
    areas: Sequence[BaseGeometry],
    reach_m: float,
) -> Wanted:
    facilities = gpd.GeoDataFrame(
        {
            "network": np.array([network for _, _, network in sites], dtype=object),
            "adcode": np.full(len(sites), "500101", dtype=object),
        },
        geometry=[shapely.Point(lon, lat) for lon, lat, _ in sites],
        crs="EPSG:4326",
    )
    districts = gpd.GeoDataFrame({"adcode": ["500101"]}, geometry=[ground], crs="EPSG:4326")
    inventory = KindInventory.of(facilities, districts, reach_m)
    is_down = np.isin(np.arange(len(sites)), down)
    mask = inventory.down_in(0, is_down)
    return Wanted(inventory.key(0, mask, ()), "any", inventory, 0, mask, tuple(areas))


PROJECT = pyproj.Transformer.from_crs("EPSG:4326", METRIC_CRS, always_xy=True)


def by_half_planes(
    one: Wanted, reach_m: float, facilities: gpd.GeoDataFrame
) -> tuple[float, float]:
    """The same shares without Voronoi diagrams and overlays in degrees: a cell is what is left of
    the district on the metric plane after cutting off, for every other site, the half nearer to it;
    areas are geodesic."""
    project, geod = PROJECT, pyproj.Geod(ellps="WGS84")

    def plane(shape: BaseGeometry) -> BaseGeometry:
        fine = shapely.segmentize(shape, 0.01)
        return shapely.transform(fine, lambda xy: np.column_stack(project.transform(*xy.T)))

    def ground_m2(shape: BaseGeometry) -> float:
        fine = shapely.segmentize(shape, 1_000.0)
        back = shapely.transform(
            fine, lambda xy: np.column_stack(project.transform(*xy.T, direction="INVERSE"))
        )
        parts = [p for p in shapely.get_parts(back) if p.geom_type == "Polygon"]
        return sum(geod.geometry_area_perimeter(orient(p))[0] for p in parts)

    district = plane(one.inventory.grounds[0])
    west, south, east, north = one.inventory.grounds[0].bounds
    middle = ((west + east) / 2, (south + north) / 2)
    ends = np.array(project.transform([middle[0] - 0.005, middle[0] + 0.005], [middle[1]] * 2)).T
    on_ground = geod.inv(middle[0] - 0.005, middle[1], middle[0] + 0.005, middle[1])[2]
    reach = reach_m * float(np.hypot(*(ends[1] - ends[0]))) / on_ground
    out: dict[Any, list[BaseGeometry]] = {}
    served: dict[Any, list[BaseGeometry]] = {}
    xy = np.column_stack(project.transform(facilities.geometry.x, facilities.geometry.y))
    names = [name if isinstance(name, str) else None for name in facilities["network"]]
    far = 1e6
    for i, (x, y) in enumerate(xy):
        cell = district
        if np.isfinite(reach):
            cell = cell.intersection(shapely.Point(x, y).buffer(reach, quad_segs=90))
        same = [j for j in range(len(xy)) if names[j] == names[i]]
        for j in same:
            gap = xy[j] - xy[i]
            if not gap.any():
                continue
            along, across = gap / np.hypot(*gap), np.array([-gap[1], gap[0]]) / np.hypot(*gap)
            foot = xy[i] + gap / 2
            nearer = Polygon(
                [foot + far * across, foot - far * across,
                 foot - far * across - far * along, foot + far * across - far * along]
            )  # fmt: skip
            cell = cell.intersection(nearer)
        here = [j for j in same if not (xy[j] - xy[i]).any()]
        place = out if any(one.down[j] for j in here) else served
        place.setdefault(names[i], []).append(cell)
    areas = shapely.union_all([plane(a) for a in one.areas]).intersection(district)
    lost = shapely.union_all([c for cells in out.values() for c in cells])
    kept = shapely.union_all([c for cells in served.values() for c in cells])
    whole = ground_m2(district)
    return (
        ground_m2(lost.union(areas)) / whole,
        ground_m2(lost.difference(kept.buffer(0.01)).union(areas)) / whole,
    )


@pytest.mark.parametrize("reach_m", [NO_LIMIT, 4_000.0])
@pytest.mark.parametrize("reported", REPORTED)
@pytest.mark.parametrize("district", DISTRICTS)
def test_the_exact_share_is_that_of_cells_cut_by_half_planes(
    district: str, reported: str, reach_m: float
) -> None:
    ground = DISTRICTS[district]
    for down in ([], [1], [0, 5, 9], list(range(len(SITES)))):
        one = wanted(ground, SITES, down, REPORTED[reported], reach_m)
        found = exact_pair(one)
        assert found is not None
        expected = by_half_planes(one, reach_m, one.inventory.facilities_in(0))
        # without a reach no disc is approximated by a polygon
        close = 1e-5 if reach_m == NO_LIMIT else 3e-4
        assert found == pytest.approx(expected, abs=close), (down, found, expected)
        assert 0 <= found[1] <= found[0] <= 1


def test_nothing_out_is_zero_and_everything_out_is_one_to_the_last_place() -> None:
    for ground in DISTRICTS.values():
        assert exact_pair(wanted(ground, SITES, [], [], 3_000.0)) == (0.0, 0.0)
        everywhere = [box(107, 29, 109, 30)]
        assert exact_pair(wanted(ground, SITES, [1], everywhere, 3_000.0)) == (1.0, 1.0)
        assert exact_pair(wanted(ground, [], [], everywhere, 3_000.0)) == (1.0, 1.0)
        all_down = list(range(len(SITES)))
        assert exact_pair(wanted(ground, SITES, all_down, [], NO_LIMIT)) == (1.0, 1.0)


@pytest.mark.parametrize("district", DISTRICTS)
def test_samples_are_within_a_tenth_of_a_point_of_the_exact_share(district: str) -> None:
    rng = np.random.default_rng(5)
    ground = DISTRICTS[district]
    west, south, east, north = ground.bounds
    sites: list[tuple[float, float, str | None]] = []
    while len(sites) < 40:
        lon, lat = rng.uniform(west, east), rng.uniform(south, north)
        if ground.contains(shapely.Point(lon, lat)):
            sites.append((lon, lat, "ab"[len(sites) % 2]))
    down = list(range(0, 40, 3))
    areas = REPORTED["across the border"]
    one = wanted(ground, sites, down, areas, 2_000.0)
    found = exact_pair(one)
    frame = one.inventory.facilities_in(0)
    grid = CoverageGrid.build(frame, one.inventory.ground_of(0), 2_000.0)
    sampled = grid.area_share(one.down, areas).iloc[0]
    assert found == pytest.approx((sampled["any"], sampled["all"]), abs=SAMPLING_ERROR)


# --- what is wanted -------------------------------------------------------------------------------


def inventory_of_two() -> KindInventory:
    """Two districts side by side with two facilities each; a fifth stands outside both."""
    facilities = gpd.GeoDataFrame(
        {"network": ["", "", "", "", ""], "adcode": ["500102", "500101", None, "500102", "500101"]},
        geometry=shapely.points([108.2, 107.95, 110.0, 108.25, 108.05], [29.6] * 5),
        crs="EPSG:4326",
    )
    districts = gpd.GeoDataFrame(
        {"adcode": ["500101", "500102"]},
        geometry=[SQUARE, box(108.1, 29.5, 108.3, 29.7)],
        crs="EPSG:4326",
    )
    return KindInventory.of(facilities, districts, 5_000.0)


def test_only_districts_with_something_out_are_wanted_and_the_key_names_what() -> None:
    areas, inventory = ExactAreas(), inventory_of_two()

    def keys(down: list[int], *polygons: BaseGeometry) -> dict[str, str]:
        is_down = np.isin(np.arange(5), down)
        return {w.adcode: w.key for w in areas.wanted("substation", inventory, is_down, polygons)}

    assert keys([]) == keys([2]) == {}, "nothing is out, or only outside every district"
    assert set(keys([0])) == {"500102"}
    both = keys([0, 1])
    assert set(both) == {"500101", "500102"}
    assert both["500102"] == keys([0])["500102"] != keys([3])["500102"]
    west, east = box(107.95, 29.55, 107.96, 29.6), box(108.2, 29.55, 108.21, 29.6)
    assert set(keys([], west)) == {"500101"}
    assert keys([0], west)["500102"] == keys([0])["500102"], "it lies in another district"
    assert keys([0], east)["500102"] != keys([0])["500102"]
    assert keys([], east, west, west) == keys([], west, east), "order and repetition do not matter"
    moved = KindInventory.of(
        inventory.facilities_in(0), inventory.ground_of(0), 5_000.0
    )  # the same district by itself
    assert moved.digests[0] == inventory.digests[0]
    assert KindInventory.of(
        inventory.facilities_in(0), inventory.ground_of(0), 6_000.0
    ).digests[0] != moved.digests[0]  # fmt: skip


def sampled(inventory: KindInventory) -> dict[str, AreaShare]:
    return {adcode: AreaShare(0.3, 0.3, "sampled") for adcode in inventory.adcodes}


def test_where_nothing_is_out_zero_is_exact_and_the_rest_waits() -> None:
    areas, inventory = ExactAreas(), inventory_of_two()
    is_down = np.isin(np.arange(5), [0])
    asked = areas.wanted("substation", inventory, is_down, [])
    shares = areas.live({"substation": (sampled(inventory), asked)})["substation"]
    assert shares == {"500101": (0.0, 0.0, "exact"), "500102": (0.3, 0.3, "sampled")}


def test_results_of_many_districts_are_told_together_and_one_no_longer_wanted_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exact_area, "CALM_S", 0.05)
    areas, inventory = ExactAreas(), inventory_of_two()
    computed: list[str] = []
    go_on = threading.Event()

    def compute(one: Wanted, given_up: Any = None) -> tuple[float, float]:
        computed.append(one.adcode)
        go_on.wait(5)
        return 0.25, 0.25

    monkeypatch.setattr(exact_area, "exact_pair", compute)

    def want(*down: int) -> dict[str, AreaShare]:
        asked = areas.wanted("substation", inventory, np.isin(np.arange(5), down), [])
        return areas.live({"substation": (sampled(inventory), asked)})["substation"]

    areas.start()
    try:
        want(0, 1)
        until(lambda: computed, 3)
        assert not areas.settled
        want(1)  # whichever is being computed: 500102 is not wanted any more
        go_on.set()
        until(lambda: areas.settled, 3)
        until(lambda: areas.revision, 3)
        time.sleep(0.2)
        assert areas.revision == 1
        assert want(1) == {"500101": (0.25, 0.25, "exact"), "500102": (0.0, 0.0, "exact")}
        want(0, 1, 3)
        until(lambda: areas.settled, 3)
        until(lambda: areas.revision == 2, 3)
        assert {share.method for share in want(0, 1, 3).values()} == {"exact"}
        count = len(computed)
        want()
        want(0, 1, 3)
        time.sleep(0.3)
        assert (len(computed), areas.revision) == (count, 2), "what is known is not computed again"
    finally:
        areas.stop()


def test_of_very_many_districts_the_first_are_told_before_the_last_are_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exact_area, "CALM_S", 0.05)
    monkeypatch.setattr(exact_area, "TELL_S", 0.4)

    def takes_a_while(*_: Any) -> tuple[float, float]:
        time.sleep(0.1)
        return 0.25, 0.25

    monkeypatch.setattr(exact_area, "exact_pair", takes_a_while)
    codes = [f"5001{n:02}" for n in range(12)]
    facilities = gpd.GeoDataFrame(
        {"network": "", "adcode": codes},
        geometry=[shapely.Point(100 + n + 0.5, 0.5) for n in range(12)],
        crs="EPSG:4326",
    )
    grounds = [box(100 + n, 0, 101 + n, 1) for n in range(12)]
    districts = gpd.GeoDataFrame({"adcode": codes}, geometry=grounds, crs="EPSG:4326")
    inventory = KindInventory.of(facilities, districts, 5_000.0)
    areas = ExactAreas()
    asked = areas.wanted("substation", inventory, np.ones(12, dtype=bool), [])

    def exact_ones() -> int:
        shares = areas.live({"substation": (sampled(inventory), asked)})["substation"]
        return sum(share.method == "exact" for share in shares.values())

    areas.start()
    try:
        assert exact_ones() == 0
        until(lambda: areas.revision, 3)
        assert 2 <= exact_ones() < 12
        until(lambda: areas.settled, 5)
        until(lambda: areas.revision >= 2, 3)
        assert exact_ones() == 12
        assert areas.revision <= 4, "not one a district"
    finally:
        areas.stop()


def test_a_share_that_cannot_be_computed_stays_sampled_and_is_not_tried_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exact_area, "CALM_S", 0.01)
    areas, inventory = ExactAreas(), inventory_of_two()
    tried: list[str] = []

    def fails(one: Wanted, given_up: Any = None) -> tuple[float, float]:
        tried.append(one.adcode)
        if one.adcode == "500101":
            raise shapely.errors.GEOSException("TopologyException: side location conflict")
        return 0.25, 0.25

    monkeypatch.setattr(exact_area, "exact_pair", fails)
    asked = areas.wanted("substation", inventory, np.isin(np.arange(5), [0, 1]), [])
    areas.start()
    try:
        areas.live({"substation": (sampled(inventory), asked)})
        until(lambda: areas.settled and areas.revision, 3)
        shares = areas.live({"substation": (sampled(inventory), asked)})["substation"]
        assert shares == {"500101": (0.3, 0.3, "sampled"), "500102": (0.25, 0.25, "exact")}
        time.sleep(0.2)
        assert sorted(tried) == ["500101", "500102"]
        assert areas.revision == 1
    finally:
        areas.stop()


def test_stopping_does_not_wait_for_a_large_district() -> None:
    rng = np.random.default_rng(3)
    sites = [(lon, lat, "abcd"[n % 4]) for n, (lon, lat) in enumerate(
        zip(rng.uniform(107.9, 108.1, 20_000), rng.uniform(29.5, 29.7, 20_000), strict=True)
    )]  # fmt: skip
    one = wanted(SQUARE, sites, list(range(0, 20_000, 3)), [], 3_000.0)
    areas = ExactAreas()
    areas.start()
    areas.live({"any": ({"500101": AreaShare(0.3, 0.3, "sampled")}, [one])})
    time.sleep(exact_area.CALM_S + 0.4)  # at work now
    assert not areas.settled
    started = time.monotonic()
    areas.stop()
    assert time.monotonic() - started < STOP_S + 0.3


@pytest.mark.skipif(not hasattr(os, "getpriority"), reason="priorities are of Unix")
def test_the_thread_lets_all_others_go_first() -> None:
    areas = ExactAreas()
    areas.start()
    try:
        assert areas._thread is not None
        own, thread = 0, areas._thread.native_id
        until(
            lambda: os.getpriority(os.PRIO_PROCESS, thread) > os.getpriority(os.PRIO_PROCESS, own),
            3,
        )
    finally:
        areas.stop()


# --- what is kept ---------------------------------------------------------------------------------

KEYS = [f"{n:064x}" for n in range(10)]


def test_a_result_is_known_to_the_past_from_the_situation_that_showed_it(tmp_path: Path) -> None:
    one, other = ExactResults(tmp_path), ExactResults(tmp_path)
    one.add(KEYS[0], (0.5, 0.25))
    assert one.get(KEYS[0], None) == (0.5, 0.25)
    assert one.get(KEYS[0], 10**9) is None, "no situation has shown it"
    one.shown([KEYS[0], KEYS[1]], 7)  # KEYS[1] is not known: nothing to note
    one.shown([KEYS[0]], 9)
    for results in (one, other):
        results.refresh()
        assert results.get(KEYS[0], 6) is None
        assert results.get(KEYS[0], 7) == (0.5, 0.25)
        assert results.get(KEYS[1], None) is None
    assert len((tmp_path / FILE).read_text().splitlines()) == 1
    other.add(KEYS[1], (0.1, 0.1))
    other.shown([KEYS[0], KEYS[1]], 3)  # as in another database
    one.refresh()
    assert one.get(KEYS[1], 3) == (0.1, 0.1)
    assert one.get(KEYS[0], 3) == (0.5, 0.25)


def test_damaged_and_half_written_lines_cost_themselves_alone(tmp_path: Path) -> None:
    first = ExactResults(tmp_path)
    for n, key in enumerate(KEYS[:3]):
        first.add(key, (n / 10, 0.0))
    first.shown(KEYS[:3], 5)
    path = tmp_path / FILE
    lines = path.read_bytes().splitlines()
    lines[1] = b'{"key": "x", "any": 2}'
    broken = [b"\xff\xfe", b"[]", b"null", b'{"key": 1, "any": NaN, "all": 0, "since": 1}']
    path.write_bytes(b"\n".join([lines[0], *broken, lines[1], lines[2]]) + b'\n{"key": "ab')
    second = ExactResults(tmp_path)
    second.refresh()
    assert [second.get(key, None) for key in KEYS[:3]] == [(0.0, 0.0), None, (0.2, 0.0)]
    second.add(KEYS[3], (0.3, 0.0))
    second.shown([KEYS[3]], 6)
    third = ExactResults(tmp_path)
    third.refresh()
    assert third.get(KEYS[3], 6) == (0.3, 0.0), "written after the torn line"
    assert third.get(KEYS[2], 5) == (0.2, 0.0)


def test_the_file_and_the_memory_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.exact_results.KEPT", 4)
    results = ExactResults(tmp_path)
    for n in range(60):
        results.add(f"{n:064x}", (0.5, 0.5))
        results.shown([f"{n:064x}"], n)
        assert results.get(f"{0:064x}", None) == (0.5, 0.5), "in use all the time"
        assert len(results) <= 4
        assert len((tmp_path / FILE).read_text().splitlines()) <= 10
    assert results.get(f"{59:064x}", 59) == (0.5, 0.5)
    assert results.get(f"{10:064x}", None) is None
    again = ExactResults(tmp_path)
    again.refresh()
    assert again.get(f"{59:064x}", 59) == (0.5, 0.5)
    assert not list(tmp_path.glob(f".{FILE}.[0-9]*"))


def test_without_a_usable_folder_results_live_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    for folder in (None, tmp_path / "file" / "coverage"):
        results = ExactResults(folder)
        results.refresh()
        results.add(KEYS[0], (0.5, 0.5))
        results.shown([KEYS[0]], 3)
        assert results.get(KEYS[0], 3) == (0.5, 0.5)


# --- the situation --------------------------------------------------------------------------------


@pytest.fixture
def engine(divided_database_url: str) -> Iterator[Engine]:
    made = app_engine(divided_database_url, pool_size=8)
    yield made
    made.dispose()


@pytest.fixture(scope="module")
def grids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grids found again from one test to the next: making one takes seconds."""
    return tmp_path_factory.mktemp("grids")


Areas = Callable[..., ServiceAreas]


@pytest.fixture
def areas(engine: Engine, grids: Path, tmp_path: Path) -> Iterator[Areas]:
    """Makes service areas with exact shares kept in a folder of the test's own."""
    made: list[ServiceAreas] = []

    def make(*, started: bool = True) -> ServiceAreas:
        made.append(ServiceAreas(engine, BOTH_KINDS, grids, ExactAreas(tmp_path)))
        if started:
            made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.stop()


def row_of(document: dict[str, Any] | None, adcode: str) -> dict[str, Any]:
    assert document is not None
    found: dict[str, Any] = next(d for d in document["districts"] if d["adcode"] == adcode)
    return found


def methods(document: dict[str, Any] | None) -> set[str]:
    districts = document["districts"] if document else []
    return {kind["method"] for d in districts for kind in d["area_share"].values()}


def shown_by(engine: Engine, sequence: int) -> dict[str, Any]:
    with reading(engine) as connection:
        body = connection.execute(
            text("SELECT body FROM situation_bytes WHERE sequence = :n AND lang = 'zh'"),
            {"n": sequence},
        ).scalar_one()
    return dict(orjson.loads(bytes(body)))


def quiet(engine: Engine, seconds: float = 3.0) -> list[tuple[int, str]]:
    """The changes so far, after nothing came for a while."""
    before = sequences(engine)
    time.sleep(seconds)
    assert sequences(engine) == before
    return before


def test_a_reported_loss_becomes_exact_once_and_then_it_is_quiet(
    engine: Engine, areas: Areas, divided_database_url: str
) -> None:
    rng = np.random.default_rng(11)
    lon, lat = INSIDE[SHAPINGBA]
    stations = [
        facility(f"B-{n}", lon + x, lat + y, kind="base_station", network=str(n % 2), operator="m")
        for n, (x, y) in enumerate(rng.uniform(-0.05, 0.05, (60, 2)))
    ]
    load_facilities(engine, [*substations(), *stations])
    area = areas()
    builder = Builder(engine, divided_database_url, PACKS, BOTH_KINDS, area)
    hill = box(106.58, 29.49, 106.62, 29.55)
    with running(builder):
        calm = until(
            lambda: (s := newest(engine)) and len(row_of(s, NANAN)["area_share"]) == 2 and s, 60
        )
        assert methods(calm) == {"exact"}, "nothing is out"
        report(engine, *((f"B-{n}", "down", ago(minutes=5)) for n in range(0, 60, 3)))
        outage(engine, "O-1", hill)
        sequence = report(engine, ("S-N1", "down", ago(minutes=5)))
        at_once = until(lambda: (s := newest(engine)) and s["sequence"] >= sequence and s, 5)
        assert methods(at_once) == {"exact", "sampled"}
        exact = until(lambda: (s := newest(engine)) and methods(s) == {"exact"} and s, 20)
        changes = quiet(engine)
    assert changes[-1] == (exact["sequence"], "tick")
    assert [kind for n, kind in changes if n > at_once["sequence"]] == ["tick"]
    # what was shown is right, and nothing else has moved
    expected = independent(engine, ["S-N1"], [hill])
    for code, share in expected.items():
        shown = row_of(exact, code)["area_share"]["substation"]
        assert shown["any"] == pytest.approx(share, abs=2e-4), code
        was = row_of(at_once, code)["area_share"]
        for kind, one in row_of(exact, code)["area_share"].items():
            for name in ("any", "all"):
                assert was[kind][name] == pytest.approx(one[name], abs=SAMPLING_ERROR)
    nanan = row_of(exact, NANAN)
    assert nanan["population_affected"] == int(
        np.floor(nanan["population"] * nanan["area_share"]["substation"]["any"] + 0.5)
    )
    assert exact["plans"] == at_once["plans"]
    assert [(d["level"], d["plans"]) for d in exact["districts"]] == [
        (d["level"], d["plans"]) for d in at_once["districts"]
    ]


def independent(engine: Engine, down: list[str], polygons: list[BaseGeometry]) -> dict[str, float]:
    """`any` of substations by district, by cells cut with half planes."""
    with reading(engine) as connection:
        rows = connection.execute(
            text(
                "SELECT facility_id, ST_X(geom), ST_Y(geom), adcode FROM facility"
                " WHERE kind = 'substation' AND retired_at IS NULL ORDER BY pk"
            )
        ).all()
        districts = districts_frame(connection, version_at(connection).id).set_index("adcode")
    found = {}
    for code in (NANAN, YUZHONG):
        own = [r for r in rows if r[3] == code]
        ground = districts.geometry[code]
        gone = [i for i, r in enumerate(own) if r[0] in down]
        one = wanted(ground, [(r[1], r[2], "") for r in own], gone, polygons, 20_000.0)
        found[code] = by_half_planes(one, 20_000.0, one.inventory.facilities_in(0))[0]
    assert found[NANAN] > 0.2
    return found


def test_the_past_is_answered_as_it_was_shown_sampled_first_and_exact_later(
    engine: Engine, areas: Areas, divided_database_url: str
) -> None:
    load_facilities(engine, substations())
    area = areas()
    builder = Builder(engine, divided_database_url, PACKS, BOTH_KINDS, area)
    with running(builder):
        until(lambda: row_of(newest(engine), NANAN)["area_share"] if newest(engine) else None, 60)
        for state in ("down", "up", "down"):
            sequence = report(engine, ("S-N1", state, ago(seconds=1)))
            until(lambda n=sequence: (newest(engine) or {})["sequence"] >= n, 5)
            until(lambda: methods(newest(engine)) == {"exact"}, 20)
            quiet(engine, 1.2)
    kinds = [kind for _, kind in sequences(engine)]
    assert kinds.count("tick") <= 3, "the second loss is known already and needs no tick"
    elsewhere = areas(started=False)  # another process on the same files
    elsewhere._store.start()
    looked_at = set()
    for sequence, kind in sequences(engine)[1:]:
        shown = shown_by(engine, sequence)
        with reading(engine) as connection:
            at = connection.execute(
                text("SELECT received_at FROM change WHERE sequence = :n"), {"n": sequence}
            ).scalar_one()
        if not row_of(shown, NANAN)["area_share"]:
            continue  # while the grid was being made
        for one in (area, elsewhere):
            then = until(
                lambda one=one, at=at: (
                    (d := situation_now(engine, PACKS, BOTH_KINDS, at, one))
                    and row_of(d, NANAN)["area_share"]
                    and d
                ),
                20,
            )
            assert then["sequence"] == sequence
            for name in ("area_share", "population_affected"):
                assert [d[name] for d in then["districts"]] == [d[name] for d in shown["districts"]]
        looked_at.add((kind, row_of(shown, NANAN)["area_share"]["substation"]["method"]))
    assert {("status", "sampled"), ("tick", "exact"), ("status", "exact")} <= looked_at


def test_a_restart_finds_what_was_exact_and_records_nothing(
    engine: Engine, areas: Areas, divided_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_facilities(engine, substations())
    report(engine, ("S-N1", "down", ago(minutes=5)))
    first = areas()
    with running(Builder(engine, divided_database_url, PACKS, BOTH_KINDS, first)):
        until(lambda: methods(newest(engine)) == {"exact"}, 60)
        before = quiet(engine, 1.5)
    first.stop()
    told = newest(engine)

    def never(*_: Any) -> None:
        raise AssertionError("computed anew")

    monkeypatch.setattr(exact_area, "exact_pair", never)
    second = areas()
    with running(Builder(engine, divided_database_url, PACKS, BOTH_KINDS, second)):
        until(lambda: second.settled and second.revision, 30)
        assert quiet(engine, 2.5) == before
    assert newest(engine) == told


def test_a_restart_that_has_lost_its_files_shows_what_it_showed_and_records_nothing(
    engine: Engine, areas: Areas, divided_database_url: str, tmp_path: Path
) -> None:
    load_facilities(engine, substations())
    report(engine, ("S-N1", "down", ago(minutes=5)))
    first = areas()
    with running(Builder(engine, divided_database_url, PACKS, BOTH_KINDS, first)):
        until(lambda: methods(newest(engine)) == {"exact"}, 60)
        before = quiet(engine, 1.5)
    first.stop()
    (tmp_path / FILE).unlink()
    told = newest(engine)
    second = areas()
    with running(Builder(engine, divided_database_url, PACKS, BOTH_KINDS, second)):
        until(lambda: second.settled and second.revision >= 2, 30)
        assert quiet(engine, 2.5) == before
    assert newest(engine) == told


def test_while_an_exact_share_is_computed_reports_are_shown_at_once(
    engine: Engine, areas: Areas, divided_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work, go_on = threading.Event(), threading.Event()

    def slow(one: Wanted, given_up: Any = None) -> tuple[float, float] | None:
        at_work.set()
        go_on.wait(30)
        return exact_pair(one)

    monkeypatch.setattr(exact_area, "exact_pair", slow)
    load_facilities(engine, substations())
    area = areas()
    with running(Builder(engine, divided_database_url, PACKS, BOTH_KINDS, area)):
        until(lambda: newest(engine) and row_of(newest(engine), NANAN)["area_share"], 60)
        report(engine, ("S-N1", "down", ago(minutes=5)))
        assert at_work.wait(5)
        for state in ("up", "down", "up"):
            started = time.monotonic()
            sequence = report(engine, ("S-Y", state, ago(seconds=0)))
            until(lambda n=sequence: (newest(engine) or {})["sequence"] >= n, 3)
            assert time.monotonic() - started < 1.5
            assert row_of(newest(engine), NANAN)["area_share"]["substation"]["method"] == "sampled"
        report(engine, ("S-N1", "up", ago(seconds=0)))
        until(lambda: methods(newest(engine)) == {"exact"}, 3)
        before = sequences(engine)
        go_on.set()  # the result of what is over changes nothing
        time.sleep(2.5)
        assert sequences(engine) == before


def test_the_database_still_follows_from_its_records(
    engine: Engine, areas: Areas, divided_database_url: str
) -> None:
    load_facilities(engine, substations())
    area = areas()
    with running(Builder(engine, divided_database_url, PACKS, BOTH_KINDS, area)):
        report(engine, ("S-N1", "down", ago(minutes=5)))
        outage(engine, "O-1", box(106.58, 29.49, 106.62, 29.55))
        until(lambda: newest(engine) and row_of(newest(engine), NANAN)["area_share"], 60)
        until(lambda: methods(newest(engine)) == {"exact"}, 20)
    found = verify(engine, deep=True)
    assert found.clean, found.lines()
    assert "tick" in [kind for _, kind in sequences(engine)]
    assert database_time(engine)
