"""Area shares of the situation: right, never in the way, and found again after a restart."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
from sqlalchemy import Engine, text

import data.coverage_store as coverage_store
from data.builder import Builder
from data.database import reading, sequence_at
from data.divisions import districts_frame, version_at
from data.facilities import COLUMNS, import_facilities, retire_facilities
from data.outages import open_outages, store_outage
from data.rulepacks import load_packs
from data.service_area import ServiceAreas
from data.settings import SituationSettings
from data.situation import situation_now
from data.status import ingest_status
from geo.coverage import exact_area_share, service_cells
from geo.coverage_grid import CoverageGrid
from tests.feeds import (
    INSIDE,
    LIANGJIANG,
    NANAN,
    SHAPINGBA,
    YUZHONG,
    ago,
    facility,
    load_facilities,
)

READY_S = 60.0
TENTH_OF_A_POINT = 0.001
SUBSTATIONS = SituationSettings(reach_m={"substation": 20_000.0})
BOTH_KINDS = SituationSettings(reach_m={"substation": 20_000.0, "base_station": 3_000.0})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grids found again from one test to the next: making one takes seconds."""
    return tmp_path_factory.mktemp("coverage")


@pytest.fixture
def engine(divided: Engine) -> Engine:
    return divided


Areas = Callable[..., ServiceAreas]


@pytest.fixture
def areas(engine: Engine, folder: Path) -> Iterator[Areas]:
    """Makes started service areas; stops them at the end."""
    made: list[ServiceAreas] = []

    def make(
        settings: SituationSettings = SUBSTATIONS, *, kept_in: Path | None = folder
    ) -> ServiceAreas:
        made.append(ServiceAreas(engine, settings, kept_in))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.stop()


def substations() -> list[dict[str, Any]]:
    """Two in Nan'an, 6 km apart, and one in Yuzhong."""
    lon, lat = INSIDE[NANAN]
    return [
        facility("S-Y", *INSIDE[YUZHONG]),
        facility("S-N1", lon, lat),
        facility("S-N2", lon + 0.06, lat + 0.02),
    ]


def report(engine: Engine, *events: tuple[str, str, str], operators: Sequence[str] = ("*",)) -> int:
    """Status events (facility_id, state, observed_at) in one batch; its sequence."""
    rows = [
        {"event_id": str(uuid.uuid4()), "facility_id": f, "state": s, "observed_at": t}
        for f, s, t in events
    ]
    receipt = ingest_status(
        engine, rows, body=json.dumps(rows).encode(), account="grid", operators=operators
    )
    assert receipt.accepted == len(rows), receipt.rejected
    return receipt.sequence


Pairs = dict[str, tuple[float, float]]


def shares(area: ServiceAreas, engine: Engine, at: datetime | None = None) -> dict[str, Pairs]:
    """What the situation at `at` (None: now) would be given, sampled: any and all by district."""
    with reading(engine, snapshot=True) as connection:
        version = version_at(connection, at)
        sequence = sequence_at(connection, at)
        now = at or datetime.now(UTC)
        outages = open_outages(connection, sequence, version.id, now)
        found = area.shares(connection, version, sequence, at, outages)
    return {kind: {code: (s.any, s.all) for code, s in by.items()} for kind, by in found.items()}


def when_ready(
    area: ServiceAreas, engine: Engine, at: datetime | None = None, kinds: int = 1
) -> dict[str, Pairs]:
    deadline = time.monotonic() + READY_S
    while len(found := shares(area, engine, at)) < kinds:
        assert time.monotonic() < deadline, f"only {sorted(found)} became ready"
        time.sleep(0.05)
    return found


def database_time(engine: Engine) -> datetime:
    """Now by the database's clock, after everything committed so far."""
    with reading(engine) as connection:
        instant: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        return instant


def exact(engine: Engine, kind: str, down: Sequence[str], polygons: Any = ()) -> dict[str, Any]:
    """The shares by unions of cells, from the facilities in force now."""
    with reading(engine) as connection:
        rows = connection.execute(
            text(
                "SELECT facility_id, kind, network, ST_X(geom) AS x, ST_Y(geom) AS y FROM facility"
                " WHERE kind = :kind AND retired_at IS NULL"
            ),
            {"kind": kind},
        ).all()
        districts = districts_frame(connection, version_at(connection).id)
    frame = gpd.GeoDataFrame(
        {name: [getattr(r, name) for r in rows] for name in ("facility_id", "kind", "network")},
        geometry=shapely.points([r.x for r in rows], [r.y for r in rows]),
        crs="EPSG:4326",
    )
    cells = service_cells(frame, districts, BOTH_KINDS.reach_m)
    table = exact_area_share(cells, districts, down, polygons)
    return {a: (x, y) for a, x, y in zip(table["adcode"], table["any"], table["all"], strict=True)}


def outage(engine: Engine, outage_id: str, shape: Any, revision: int = 1, **more: Any) -> None:
    properties = {
        "outage_id": outage_id,
        "revision": revision,
        "load_shed_kw": 100,
        "customers_out": 10,
        "started_at": ago(hours=1),
        "cause": "wind",
        "planned": False,
        "main_grid": True,
    } | more
    feature = {
        "type": "Feature",
        "geometry": None if shape is None else json.loads(shapely.to_geojson(shape)),
        "properties": properties,
    }
    store_outage(engine, feature, body=json.dumps(feature).encode(), account="grid")


# --- what the shares are --------------------------------------------------------------------------


def test_shares_are_those_of_the_exact_union_within_a_tenth_of_a_point(
    engine: Engine, areas: Areas
) -> None:
    rng = np.random.default_rng(11)
    lon, lat = INSIDE[SHAPINGBA]
    stations = [
        facility(
            f"B-{n}", lon + x, lat + y, kind="base_station", network=str(n % 2), operator="telecom"
        )
        for n, (x, y) in enumerate(rng.uniform(-0.05, 0.05, (60, 2)))
    ]
    load_facilities(engine, [*substations(), *stations])
    area = areas(BOTH_KINDS)
    hill = shapely.box(106.58, 29.49, 106.62, 29.55)
    outage(engine, "O-1", hill)
    down = ["S-N1", *(f"B-{n}" for n in range(0, 60, 3))]
    report(engine, *((one, "down", ago(minutes=5)) for one in down))
    report(engine, ("S-Y", "degraded", ago(minutes=5)), ("B-1", "unknown", ago(minutes=5)))
    found = when_ready(area, engine, kinds=2)
    for kind, polygons in (("substation", [hill]), ("base_station", [])):
        wanted = exact(engine, kind, down, polygons)
        assert set(found[kind]) == set(wanted)
        for adcode, (any_share, all_share) in wanted.items():
            assert found[kind][adcode] == pytest.approx(
                (any_share, all_share), abs=TENTH_OF_A_POINT
            )
    assert found["substation"][NANAN][0] > 0.2
    assert found["base_station"][SHAPINGBA][0] > found["base_station"][SHAPINGBA][1] > 0


def test_a_facility_inside_a_reported_outage_is_not_counted_twice(
    engine: Engine, areas: Areas
) -> None:
    load_facilities(engine, substations())
    area = areas()
    with reading(engine) as connection:
        frame = districts_frame(connection, version_at(connection).id).set_index("adcode")
    outage(engine, "O-1", frame.geometry[YUZHONG], facility_ids=["S-Y"])
    report(engine, ("S-Y", "down", ago(minutes=5)))
    found = when_ready(area, engine)["substation"]
    assert found[YUZHONG] == pytest.approx((1.0, 1.0), abs=TENTH_OF_A_POINT)
    assert found[NANAN] == pytest.approx((0.0, 0.0), abs=TENTH_OF_A_POINT)


def test_only_open_unplanned_outages_with_an_area_count_and_only_for_supply(
    engine: Engine, areas: Areas
) -> None:
    station = facility("B-1", *INSIDE[YUZHONG], kind="base_station", operator="telecom")
    load_facilities(engine, [*substations(), station])
    area = areas(BOTH_KINDS)
    hill = shapely.box(106.58, 29.49, 106.62, 29.55)
    outage(engine, "planned", hill, planned=True)
    outage(engine, "over", hill, restored_at=ago(minutes=1))
    outage(engine, "nowhere", None, facility_ids=["S-N1"])
    outage(engine, "a point", shapely.Point(INSIDE[NANAN]))
    found = when_ready(area, engine, kinds=2)
    assert {share for kind in found.values() for share in kind.values()} == {(0.0, 0.0)}
    outage(engine, "open", hill)
    found = shares(area, engine)
    assert found["substation"][NANAN][0] > 0.05
    assert found["base_station"][NANAN] == (0.0, 0.0)
    outage(engine, "open", hill, revision=2, restored_at=ago(minutes=0))
    assert shares(area, engine)["substation"][NANAN] == (0.0, 0.0)


def test_an_outage_outside_the_city_takes_nothing_of_it(engine: Engine, areas: Areas) -> None:
    load_facilities(engine, substations())
    area = areas()
    outage(engine, "O-1", shapely.box(104.0, 30.5, 104.2, 30.8))
    found = when_ready(area, engine)["substation"]
    assert set(found.values()) == {(0.0, 0.0)}


def test_of_no_facilities_there_is_no_share_but_a_reported_area_is_one(
    engine: Engine, areas: Areas
) -> None:
    area = areas(BOTH_KINDS)
    assert shares(area, engine) == {}
    hill = shapely.box(106.58, 29.49, 106.62, 29.55)
    outage(engine, "O-1", hill)
    found = when_ready(area, engine)
    assert set(found) == {"substation"}
    with reading(engine) as connection:
        districts = districts_frame(connection, version_at(connection).id)
    part = shapely.intersection(districts.set_index("adcode").geometry[NANAN], hill)
    expected = part.area / districts.set_index("adcode").geometry[NANAN].area
    assert found["substation"][NANAN] == pytest.approx((expected, expected), abs=TENTH_OF_A_POINT)


# --- when they are known --------------------------------------------------------------------------


def test_a_situation_is_built_at_once_and_again_with_shares_when_the_grid_is_ready(
    engine: Engine, areas: Areas, divided_database_url: str
) -> None:
    load_facilities(engine, substations())
    report(engine, ("S-Y", "down", ago(minutes=5)))
    area = areas(kept_in=None)
    builder = Builder(engine, divided_database_url, load_packs(), SUBSTATIONS, area)
    started = time.monotonic()
    first = builder.build_once()
    assert first is not None
    assert time.monotonic() - started < 1.5  # the grid takes longer
    assert all(d["area_share"] == {} for d in stored(engine, first))
    deadline = time.monotonic() + READY_S
    while (second := builder.build_once()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert second == first + 1
    by_code = {d["adcode"]: d for d in stored(engine, second)}
    assert by_code[YUZHONG]["area_share"]["substation"]["any"] > 0.9
    assert by_code[NANAN]["area_share"]["substation"] == {
        "any": 0.0,
        "all": 0.0,
        "method": "exact",
    }
    with reading(engine) as connection:
        kind = connection.execute(
            text("SELECT kind FROM change WHERE sequence = :n"), {"n": second}
        ).scalar_one()
    assert kind == "tick"
    assert builder.build_once() is None


def stored(engine: Engine, sequence: int) -> list[dict[str, Any]]:
    with reading(engine) as connection:
        body = connection.execute(
            text("SELECT body FROM situation_bytes WHERE sequence = :n AND lang = 'zh'"),
            {"n": sequence},
        ).scalar_one()
    districts: list[dict[str, Any]] = json.loads(bytes(body))["districts"]
    return districts


def test_shares_are_left_out_after_the_inventory_changed_until_its_grid_is_ready(
    engine: Engine, areas: Areas
) -> None:
    load_facilities(engine, substations())
    report(engine, ("S-N1", "down", ago(minutes=5)))
    area = areas()
    before = when_ready(area, engine)["substation"]
    lon, lat = INSIDE[NANAN]
    load_facilities(engine, [facility("S-N3", lon - 0.02, lat - 0.02)])
    assert shares(area, engine) == {}
    after = when_ready(area, engine)["substation"]
    assert 0 < after[NANAN][0] < before[NANAN][0]
    retire_facilities(engine, ["S-N3"], account="planner", body=b"{}", reason="test")
    assert shares(area, engine) == {}
    assert when_ready(area, engine)["substation"] == before
    load_facilities(engine, [facility("S-N3", lon - 0.02, lat - 0.02)])  # taken up again
    assert shares(area, engine) == {}
    assert when_ready(area, engine)["substation"] == after


def test_an_edit_that_moves_nothing_leaves_the_shares_in_place(
    engine: Engine, areas: Areas
) -> None:
    load_facilities(engine, substations())
    report(engine, ("S-N1", "down", ago(minutes=5)))
    area = areas()
    before = when_ready(area, engine)
    lon, lat = INSIDE[NANAN]
    load_facilities(engine, [facility("S-N1", lon, lat, load_kw=500, name="new")])
    assert shares(area, engine) == before
    shelter = facility("H-1", lon, lat, kind="shelter")
    load_facilities(engine, [shelter])
    assert shares(area, engine) == before
    load_facilities(engine, [facility("S-N1", lon + 0.01, lat)])
    assert shares(area, engine) == {}
    assert when_ready(area, engine)["substation"][NANAN] != before["substation"][NANAN]


def test_a_facility_down_is_followed_through_every_change_and_its_kind(
    engine: Engine, areas: Areas
) -> None:
    load_facilities(engine, substations())
    area = areas()
    when_ready(area, engine)
    report(engine, ("S-Y", "down", ago(minutes=5)))
    assert shares(area, engine)["substation"][YUZHONG][0] > 0.9
    report(engine, ("S-Y", "up", ago(minutes=9)))  # older, arrives later
    assert shares(area, engine)["substation"][YUZHONG][0] > 0.9
    report(engine, ("S-Y", "up", ago(minutes=1)))
    assert shares(area, engine)["substation"][YUZHONG] == (0.0, 0.0)


# --- the past -------------------------------------------------------------------------------------


def test_the_past_has_the_states_outages_and_cells_of_then(engine: Engine, areas: Areas) -> None:
    load_facilities(engine, substations())
    calm = database_time(engine)
    report(engine, ("S-N1", "down", ago(minutes=5)))
    struck = database_time(engine)
    outage(engine, "O-1", shapely.box(106.545, 29.54, 106.56, 29.56))
    reported = database_time(engine)
    lon, lat = INSIDE[NANAN]
    load_facilities(engine, [facility("S-N3", lon - 0.02, lat - 0.02)])
    report(engine, ("S-N1", "up", ago(minutes=1)), ("S-N3", "down", ago(minutes=1)))
    area = areas()
    now = when_ready(area, engine)["substation"]
    then = {at: when_ready(area, engine, at)["substation"] for at in (calm, struck, reported)}
    assert then[calm][NANAN] == (0.0, 0.0)
    assert then[struck][NANAN][0] > now[NANAN][0] > 0  # S-N3 took a part of what was S-N1's
    assert then[struck][YUZHONG] == (0.0, 0.0)
    assert then[reported][YUZHONG] == now[YUZHONG]
    assert then[reported][YUZHONG][0] > 0
    assert then[reported][NANAN] == then[struck][NANAN]


def test_before_the_first_facility_and_under_older_divisions(engine: Engine, areas: Areas) -> None:
    before = database_time(engine)
    load_facilities(engine, substations())
    area = areas()
    when_ready(area, engine)
    assert shares(area, engine, before) == {}
    old = datetime.fromisoformat("2025-06-01T00:00:00+08:00")
    assert shares(area, engine, old) == {}
    document = situation_now(engine, load_packs(), SUBSTATIONS, database_time(engine), area)
    assert set(document["districts"][0]["area_share"]) == {"substation"}


def test_what_was_loaded_as_in_force_earlier_counts_from_then_under_the_divisions_of_then(
    engine: Engine, areas: Areas
) -> None:
    frame = pd.DataFrame(
        [facility("S-Y", *INSIDE[YUZHONG], state_at_import="down")],
        columns=[*COLUMNS, "lon", "lat"],
    )
    since = datetime.fromisoformat("2025-03-01T00:00:00+08:00")
    import_facilities(engine, frame, account="planner", body=b"{}", valid_from=since)
    lon, lat = INSIDE[YUZHONG]
    load_facilities(engine, [facility("S-Y2", lon + 0.01, lat)])
    area = areas()
    assert 0.1 < when_ready(area, engine)["substation"][YUZHONG][0] < 0.9
    then = when_ready(area, engine, since + timedelta(days=90))["substation"]
    assert then[YUZHONG] == pytest.approx((1.0, 1.0), abs=TENTH_OF_A_POINT)
    assert LIANGJIANG not in then  # a district of the newer divisions only
    assert shares(area, engine, since - timedelta(days=1)) == {}


def test_a_question_about_the_past_does_not_wait_for_a_thread_that_is_not_running(
    engine: Engine,
) -> None:
    load_facilities(engine, substations())
    area = ServiceAreas(engine, SUBSTATIONS)
    started = time.monotonic()
    assert shares(area, engine, database_time(engine)) == {}
    assert time.monotonic() - started < 1
    area.stop()


# --- files and faults -----------------------------------------------------------------------------


def test_a_restart_finds_the_grid_again_instead_of_making_it(
    engine: Engine, areas: Areas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_facilities(engine, substations())
    report(engine, ("S-N1", "down", ago(minutes=5)))
    kept = tmp_path / "var" / "coverage"
    first = when_ready(areas(kept_in=kept), engine)
    files = list(kept.glob("*.npz"))
    assert len(files) == 1

    def never(*_: Any, **__: Any) -> CoverageGrid:
        raise AssertionError("made anew")

    monkeypatch.setattr(CoverageGrid, "build", never)
    assert when_ready(areas(kept_in=kept), engine) == first


def test_a_damaged_file_is_made_anew(engine: Engine, areas: Areas, tmp_path: Path) -> None:
    load_facilities(engine, substations())
    report(engine, ("S-N1", "down", ago(minutes=5)))
    first = when_ready(areas(kept_in=tmp_path), engine)
    (file,) = tmp_path.glob("*.npz")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert when_ready(areas(kept_in=tmp_path), engine) == first
    assert CoverageGrid.load(file).facility_count == 3


def test_old_and_half_written_files_go(
    engine: Engine, areas: Areas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage_store, "FILES_KEPT", 3)
    for n in range(6):
        (tmp_path / f"{n}.npz").write_bytes(b"")
    (tmp_path / ".0.npz.999999").write_bytes(b"half")
    load_facilities(engine, substations())
    when_ready(areas(kept_in=tmp_path), engine)
    assert not list(tmp_path.glob(".*.npz.*"))
    assert len(list(tmp_path.glob("*.npz"))) == 3


def test_without_a_usable_folder_grids_live_in_memory(
    engine: Engine, areas: Areas, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    load_facilities(engine, substations())
    report(engine, ("S-Y", "down", ago(minutes=5)))
    found = when_ready(areas(kept_in=file / "coverage"), engine)
    assert found["substation"][YUZHONG][0] > 0.9


def test_a_fault_in_the_background_is_tried_again(
    engine: Engine, areas: Areas, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []

    def fails_twice(*given: Any) -> gpd.GeoDataFrame:
        tried.append(1)
        if len(tried) < 3:
            raise RuntimeError("the database went away")
        return districts_frame(*given)

    monkeypatch.setattr(coverage_store, "RETRY_S", 0.05)
    monkeypatch.setattr(coverage_store, "districts_frame", fails_twice)
    load_facilities(engine, substations())
    area = areas()
    assert shares(area, engine) == {}
    assert set(when_ready(area, engine)) == {"substation"}
    assert len(tried) == 3


def test_many_questions_about_the_past_do_not_keep_every_grid(
    engine: Engine, areas: Areas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage_store, "PAST_KEPT", 1)
    load_facilities(engine, substations())
    first = database_time(engine)
    lon, lat = INSIDE[NANAN]
    load_facilities(engine, [facility("S-N1", lon + 0.01, lat)])
    second = database_time(engine)
    load_facilities(engine, [facility("S-N1", lon, lat)])
    area = areas()
    when_ready(area, engine)
    for at in (first, second, first):
        when_ready(area, engine, at)
        assert len(area._store._ready) <= 2
    assert set(shares(area, engine)) == {"substation"}


def test_nothing_is_computed_while_there_are_no_facilities(engine: Engine, areas: Areas) -> None:
    area = areas(BOTH_KINDS, kept_in=None)
    assert shares(area, engine) == {}
    assert area.settled
    time.sleep(0.2)
    assert area.revision == 0
    load_facilities(engine, substations())
    shares(area, engine)
    assert not area.settled


def test_stopping_while_a_grid_is_made_takes_no_longer_than_a_district(
    engine: Engine, areas: Areas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geo.coverage_grid.FEWEST_SAMPLES", 2_000_000)  # seconds of work
    load_facilities(engine, substations())
    area = areas(kept_in=None)
    shares(area, engine)
    time.sleep(0.3)
    started = time.monotonic()
    area.stop()
    assert time.monotonic() - started < 1.0
    assert area.revision == 0
