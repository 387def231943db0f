"""Divisions change over a stored inventory: everything counts where it lies, then and now.

Four square districts of one degree; later the border between the two in the south moves and the two
in the north become one. Borders are exact numbers, so points on them are on them.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import geopandas as gpd
import numpy as np
import orjson
import pytest
import shapely
from shapely import MultiPolygon, box
from sqlalchemy import Engine, text

from data.accounts import create_account
from data.builder import Builder
from data.database import Scope, app_engine, owner_engine, reading
from data.default_divisions import ensure_default_divisions
from data.division_changes import DivisionsChanged, Validity, import_districts, import_zones
from data.divisions import units, version_at, versions
from data.facilities import retire_facilities
from data.incident_submission import store_incident
from data.outages import open_outages, store_outage
from data.rulepacks import CITY_TIME, load_packs
from data.settings import SituationSettings
from data.situation import situation_now
from geo.crs import area_m2
from geo.errors import InvalidInput, Unavailable
from tests.data.stored import assert_verified, bring, event, send
from tests.feeds import COMMANDER, ago, facility

PACKS, SETTINGS = load_packs(), SituationSettings()
COMMS, SPECIAL = "communications-2024", "special-equipment-2023"
LONG_AGO = datetime(2018, 1, 1, tzinfo=CITY_TIME)
CHANGED = datetime(2026, 1, 1, tzinfo=CITY_TIME)
BEFORE, AFTER = CHANGED - timedelta(days=30), CHANGED + timedelta(days=30)

SQUARES = {
    "500101": box(106, 29, 107, 30),
    "500102": box(107, 29, 108, 30),
    "500103": box(106, 30, 107, 31),
    "500104": box(107, 30, 108, 31),
}
#: Neighbours meet vertex by vertex.
MOVED = {
    "500101": shapely.Polygon([(106, 29), (106.5, 29), (106.5, 30), (106, 30)]),
    "500102": shapely.Polygon([(106.5, 29), (108, 29), (108, 30), (106.5, 30)]),
    "500105": shapely.Polygon([(106, 30), (106.5, 30), (108, 30), (108, 31), (107, 31), (106, 31)]),
}


def frame(shapes: dict[str, Any]) -> gpd.GeoDataFrame:
    geometries = [g if isinstance(g, MultiPolygon) else MultiPolygon([g]) for g in shapes.values()]
    return gpd.GeoDataFrame(
        {
            "adcode": list(shapes),
            "name": [f"区{code}" for code in shapes],
            "population": [1000] * len(shapes),
            "area_m2": area_m2(np.array(geometries, object)),
        },
        geometry=geometries,
        crs="EPSG:4326",
    )


def bring_districts(
    owner: Engine,
    shapes: dict[str, Any],
    since: datetime,
    until: datetime | None = None,
    **more: Any,
) -> DivisionsChanged:
    told: dict[str, Any] = {"label": f"from {since.date()}", "source": "drawn", "licence": "own"}
    told |= {"account": "planner", "body": repr(sorted(shapes)).encode()}
    return import_districts(owner, frame(shapes), Validity(since, until), **told | more)


def zones(**shapes: Any) -> gpd.GeoDataFrame:
    """`Z_A=polygon`, or a list of host districts for a zone without shape."""
    hosts = [None if hasattr(s, "geom_type") else s for s in shapes.values()]
    geometries = [s if hasattr(s, "geom_type") else None for s in shapes.values()]
    codes = [code.replace("_", "-") for code in shapes]
    return gpd.GeoDataFrame(
        {"code": codes, "name": codes, "adcodes": hosts}, geometry=geometries, crs="EPSG:4326"
    )


def bring_zones(
    owner: Engine,
    of: gpd.GeoDataFrame | None,
    since: datetime,
    until: datetime | None = None,
    **more: Any,
) -> DivisionsChanged:
    told: dict[str, Any] = {"source": "drawn", "account": "planner", "body": str(of).encode()}
    return import_zones(owner, of, Validity(since, until), **told | more)


@pytest.fixture
def owner(empty_database_url: str) -> Iterator[Engine]:
    made = owner_engine(empty_database_url)
    bring_districts(made, SQUARES, LONG_AGO)
    yield made
    made.dispose()


@pytest.fixture
def engine(owner: Engine, empty_database_url: str) -> Iterator[Engine]:
    made = app_engine(empty_database_url, pool_size=4)
    yield made
    made.dispose()


def scattered(count: int, seed: int = 3) -> list[dict[str, Any]]:
    """Facilities in and around the squares, a third of them on borders and corners, old and new."""
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(105.8, 108.2, count), rng.uniform(28.8, 31.2, count)
    lon[::3] = rng.choice([106.0, 106.5, 107.0, 108.0], len(lon[::3]))
    lat[::6] = rng.choice([29.0, 30.0, 31.0], len(lat[::6]))
    return [
        facility(
            f"F{i}",
            float(lon[i]),
            float(lat[i]),
            kind=("base_station", "exchange", "substation")[i % 3],
            operator=("mobile", "tower")[i % 2],
            load_kw=100 + i,
            customers=i,
            state_at_import=("up", "down", "unknown", "up")[i % 4],
        )
        for i in range(count)
    ]


def home(shapes: dict[str, Any], lon: float, lat: float) -> str | None:
    """The rule in its plainest form."""
    covering = [c for c, s in shapes.items() if s.covers(shapely.Point(lon, lat))]
    return min(covering, default=None)


def counted(document: dict[str, Any]) -> dict[tuple[str, str], tuple[int, int, int]]:
    return {
        (d["adcode"], kind): (f["total"], f["down"], f["unknown"])
        for d in document["districts"]
        for kind, f in d["facilities"].items()
        if f["total"]
    }


def brute(
    rows: Sequence[dict[str, Any]], shapes: dict[str, Any], state: dict[str, str]
) -> dict[tuple[str, str], tuple[int, int, int]]:
    found: Counter[tuple[str, str, str]] = Counter()
    for row in rows:
        adcode = home(shapes, row["lon"], row["lat"])
        if adcode is not None:
            found[adcode, row["kind"], state[row["facility_id"]]] += 1
    keys = {(a, k) for a, k, _ in found}
    return {
        (a, k): (
            sum(found[a, k, s] for s in ("up", "down", "unknown", "degraded")),
            found[a, k, "down"],
            found[a, k, "unknown"],
        )
        for a, k in keys
    }


def shown(engine: Engine, at: datetime | None = None) -> dict[str, Any]:
    return situation_now(engine, PACKS, SETTINGS, at)


# --- districts --------------------------------------------------------------------------------


def test_counts_are_those_of_plain_counting_under_both_divisions(
    owner: Engine, engine: Engine
) -> None:
    rows = scattered(400)
    bring(engine, *rows, valid_from=LONG_AGO)
    state = {r["facility_id"]: r["state_at_import"] for r in rows}
    before = dict(state)
    events = [event(f"e{i}", f"F{i}", ("down", "up", "degraded")[i % 3], i) for i in range(90)]
    assert not send(engine, *events).rejected
    state |= {e["facility_id"]: e["state"] for e in events}
    assert counted(shown(engine)) == brute(rows, SQUARES, state)

    changed = bring_districts(owner, MOVED, CHANGED)

    assert changed.replaced is not None
    assert changed.replaced.facilities > 0
    assert counted(shown(engine)) == brute(rows, MOVED, state)
    # the past is asked under the divisions of its time, whatever was loaded when
    assert counted(shown(engine, BEFORE)) == brute(rows, SQUARES, before)
    assert counted(shown(engine, AFTER)) == brute(rows, MOVED, before)
    assert_verified(engine)


def test_versions_of_facilities_and_retired_ones_are_placed_again_too(
    owner: Engine, engine: Engine
) -> None:
    bring(engine, facility("A", 106.7, 29.5, kind="base_station"), valid_from=LONG_AGO)
    bring(engine, facility("A", 106.2, 29.5, kind="base_station"))
    bring(engine, facility("R", 107.5, 30.5, kind="base_station"), valid_from=LONG_AGO)
    retire_facilities(engine, ["R"], account="planner", body=b"{}", reason="gone")
    bring_districts(owner, MOVED, CHANGED)
    with reading(engine) as connection:
        found = connection.execute(
            text(
                "SELECT 'past ' || f.facility_id, p.adcode FROM facility_past f"
                " JOIN placement_division p USING (placement_id) WHERE p.version_id = :v"
                " UNION ALL SELECT f.facility_id, f.adcode FROM facility f"
            ),
            {"v": version_at(connection).id},
        ).all()
    assert {tuple(one) for one in found} == {
        ("past A", "500102"),
        ("A", "500101"),
        ("past R", "500105"),
        ("R", "500105"),
    }
    assert_verified(engine)


def test_a_point_on_a_shared_border_belongs_to_the_smallest_code_each_time(
    owner: Engine, engine: Engine
) -> None:
    places = {"E": (107.0, 29.5), "N": (106.5, 30.0), "X": (107.0, 30.0), "O": (106.0, 29.0)}
    bring(engine, *(facility(k, *p) for k, p in places.items()))

    def homes() -> dict[str, str]:
        with reading(engine) as connection:
            rows = connection.execute(text("SELECT facility_id, adcode FROM facility")).all()
        return {r.facility_id: r.adcode for r in rows}

    assert homes() == {"E": "500101", "N": "500101", "X": "500101", "O": "500101"}
    bring_districts(owner, MOVED, CHANGED)
    assert homes() == {"E": "500102", "N": "500101", "X": "500102", "O": "500101"}
    bring_districts(owner, SQUARES, CHANGED + timedelta(days=1), label="back")
    assert homes() == {"E": "500101", "N": "500101", "X": "500101", "O": "500101"}
    assert_verified(engine)


def test_the_change_is_published_and_the_builder_shows_the_new_districts(
    owner: Engine, engine: Engine, empty_database_url: str
) -> None:
    bring(engine, *scattered(30))
    builder = Builder(engine, empty_database_url, PACKS, SETTINGS)
    builder.build_once()
    changed = bring_districts(owner, MOVED, CHANGED)
    assert builder.build_once() == changed.sequence
    with reading(engine) as connection:
        kind, body = connection.execute(
            text(
                "SELECT c.kind, s.body FROM change c JOIN situation_bytes s USING (sequence)"
                " WHERE sequence = :n AND lang = 'zh'"
            ),
            {"n": changed.sequence},
        ).one()
    assert kind == "divisions"
    assert [d["adcode"] for d in orjson.loads(bytes(body))["districts"]] == list(MOVED)


def test_the_same_import_again_changes_nothing(owner: Engine, engine: Engine) -> None:
    bring(engine, *scattered(20))
    assert bring_districts(owner, MOVED, CHANGED).replaced is not None
    again = bring_districts(owner, MOVED, CHANGED)
    assert (again.sequence, again.replaced) == (None, None)
    with reading(engine) as connection:
        assert len(versions(connection)) == 2


@pytest.mark.parametrize(
    ("since", "until", "says"),
    [
        (LONG_AGO, None, "begin at the same time"),
        (LONG_AGO - timedelta(days=9), None, "would overlap"),
        (CHANGED, AFTER, "would be unknown; leave it out"),
        (CHANGED, CHANGED, "later than valid-from"),
        (datetime(2199, 1, 1, tzinfo=UTC), None, "lies ahead"),
        (CHANGED, datetime(2199, 1, 1, tzinfo=UTC), "lies ahead"),
    ],
)
def test_overlapping_times_are_refused_and_nothing_is_changed(
    owner: Engine, engine: Engine, since: datetime, until: datetime | None, says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        bring_districts(owner, MOVED, since, until)
    with reading(engine) as connection:
        assert [(v.valid_from, v.valid_to) for v in versions(connection)] == [(LONG_AGO, None)]


def test_older_divisions_may_be_added_before_the_first(owner: Engine, engine: Engine) -> None:
    rows = scattered(60)
    older = LONG_AGO - timedelta(days=3000)
    bring(engine, *rows, valid_from=older)
    bring_districts(owner, MOVED, older, LONG_AGO)
    state = {r["facility_id"]: r["state_at_import"] for r in rows}
    assert counted(shown(engine, LONG_AGO - timedelta(days=1))) == brute(rows, MOVED, state)
    assert counted(shown(engine)) == brute(rows, SQUARES, state)
    assert_verified(engine)


@pytest.mark.parametrize(
    ("code", "shape", "says"),
    [
        ("500104", box(106.9, 30, 108, 31), r"500104 overlaps 500103 by .* at \(106\.9"),
        ("500104", box(107, 30, 107.9, 31), "vertex by vertex"),
        (
            "500104",
            box(107, 30, 108, 31) - box(107, 30.4, 107.0005, 30.4005),
            r"a gap of .* between 500103, 500104 at \(107\.000",
        ),
    ],
)
def test_a_gap_or_an_overlap_is_refused_naming_districts_and_place(
    owner: Engine, code: str, shape: Any, says: str
) -> None:
    west = shapely.Polygon(
        [(106, 30), (107, 30), (107, 30.4), (107, 30.4005), (107, 31), (106, 31)]
    )
    drawn = west if says.startswith("a gap") else SQUARES["500103"]
    wrong = SQUARES | {"500103": drawn, code: shape}
    with pytest.raises(InvalidInput, match=says):
        bring_districts(owner, wrong, CHANGED)


def test_a_file_that_forgets_a_district_is_refused(owner: Engine) -> None:
    fewer = {code: shape for code, shape in SQUARES.items() if code != "500104"}
    with pytest.raises(InvalidInput, match=r"500104.* would be in no district, .*\(107\.5"):
        bring_districts(owner, fewer, CHANGED)


def test_an_account_of_an_abolished_district_is_named(owner: Engine) -> None:
    with owner.begin() as connection:
        create_account(connection, "north", "field", ["500104"], ["*"])
        create_account(connection, "south", "field", ["500101"], ["*"])
    assert bring_districts(owner, MOVED, CHANGED).homeless == ("north",)


# --- outages and incidents --------------------------------------------------------------------


def outage(outage_id: str, shape: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "geometry": orjson.loads(shapely.to_geojson(shape)),
        "properties": {
            "outage_id": outage_id,
            "revision": 1,
            "load_shed_kw": 1001,
            "customers_out": 101,
            "started_at": ago(hours=1),
        },
    }


def store(engine: Engine, feature: dict[str, Any]) -> Any:
    return store_outage(engine, feature, body=orjson.dumps(feature), account="utility")


def splits(engine: Engine, outage_id: str) -> list[dict[str | None, int]]:
    """Load per district, in each division version by time."""
    with reading(engine) as connection:
        row = connection.execute(
            text("SELECT split, adcodes FROM outage WHERE outage_id = :id"), {"id": outage_id}
        ).one()
        order = [str(v.id) for v in versions(connection)]
    assert set(row.split) == set(order)
    now = {p["adcode"] for p in row.split[order[-1]] if p["adcode"]}
    assert set(row.adcodes) == now
    return [
        {p["adcode"]: p["load_shed_kw"] for p in row.split[v] if p["load_shed_kw"]} for v in order
    ]


def test_outages_are_divided_over_the_new_districts_and_still_add_up(
    owner: Engine, engine: Engine
) -> None:
    bring(
        engine,
        facility("S1", 106.7, 29.5, load_kw=300, customers=10),
        facility("S2", 107.2, 29.5, load_kw=100, customers=30),
        facility("S3", 107.5, 30.5, load_kw=600, customers=5),
    )
    store(engine, outage("wide", box(106.6, 29.2, 107.9, 30.8)))
    old = splits(engine, "wide")[0]
    assert old == {"500101": 300, "500102": 100, "500104": 601}
    # what was divided stands, though the inventory is another by now
    bring(engine, facility("S2", 107.2, 29.5, load_kw=700, customers=30))
    changed = bring_districts(owner, MOVED, CHANGED)
    assert changed.replaced is not None
    assert changed.replaced.outages == 1
    then, now = splits(engine, "wide")
    assert then == old
    assert sum(now.values()) == 1001
    assert set(now) == {"500102", "500105"}
    with reading(engine) as connection:
        current = version_at(connection).id
        (one,) = open_outages(connection, 10**9, current, datetime.now(UTC))
    assert sum(p["customers_out"] for p in one["split"]) == 101


def test_an_incident_is_shown_and_seen_in_the_district_it_lies_in_now(
    owner: Engine, engine: Engine
) -> None:
    body = {
        "incident_id": str(uuid4()),
        "plan": SPECIAL,
        "kind": "elevator",
        "occurred_at": ago(minutes=10),
        "position": [106.7, 29.5],
        "facts": {"deaths": 1},
    }
    stored = store_incident(
        engine, body, body=orjson.dumps(body), account=COMMANDER, packs=PACKS, lang="en"
    )
    assert stored.json["adcode"] == "500101"
    changed = bring_districts(owner, MOVED, CHANGED)
    assert changed.replaced is not None
    assert changed.replaced.incidents == 1
    levels = {d["adcode"]: d["plans"][SPECIAL] for d in shown(engine)["districts"]}
    assert {code for code, level in levels.items() if level} == {"500102"}
    with reading(engine, Scope(("500102",))) as connection:
        assert connection.execute(text("SELECT count(*) FROM incident")).scalar_one() == 1
    with reading(engine, Scope(("500101",))) as connection:
        assert connection.execute(text("SELECT count(*) FROM incident")).scalar_one() == 0


def test_outages_and_statuses_that_arrive_meanwhile_are_whole(
    owner: Engine, engine: Engine
) -> None:
    rows = scattered(300)
    bring(engine, *rows)
    stop = threading.Event()

    def outages() -> int:
        stored = 0
        while not stop.is_set():
            shape = box(106.1, 29.1, 107.9, 30.9)
            assert store(engine, outage(f"O{stored}", shape)).status == "created"
            stored += 1
        return stored

    def statuses() -> int:
        sent = 0
        while not stop.is_set():
            one = event(f"m{sent}", f"F{sent % 300}", ("down", "up")[sent % 2], sent / 100)
            assert send(engine, one).accepted == 1
            sent += 1
        return sent

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(outages), pool.submit(statuses)]
        bring_districts(owner, MOVED, CHANGED)
        bring_zones(owner, zones(Z_A=box(106.6, 29.2, 106.9, 29.8)), AFTER)
        stop.set()
        stored, sent = (one.result() for one in running)
    assert stored > 0
    assert sent > 0
    for n in range(stored):
        assert all(sum(part.values()) == 1001 for part in splits(engine, f"O{n}"))
    assert_verified(engine)


def test_a_reader_who_never_ends_makes_the_import_give_up_whole(
    owner: Engine, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.replacing.READERS_WAIT_S", 1)
    bring(engine, *scattered(10))
    with reading(engine, snapshot=True) as connection:
        assert len(versions(connection)) == 1
        with pytest.raises(Unavailable, match="nothing was changed"):
            bring_districts(owner, MOVED, CHANGED)
    with reading(engine) as connection:
        assert len(versions(connection)) == 1
    assert_verified(engine)
    assert bring_districts(owner, MOVED, CHANGED).sequence


# --- zones ------------------------------------------------------------------------------------

IN_A_AND_B = box(106.8, 29.2, 107.3, 29.8)


def comms_units(document: dict[str, Any]) -> dict[str, tuple[int, int]]:
    rows = document["plans"][COMMS]["facts"]["districts"]
    return {r["adcode"]: (r["facilities_total"], r["facilities_down"]) for r in rows}


def test_an_outage_inside_a_zone_is_one_unit_and_not_also_its_host_district(
    owner: Engine, engine: Engine
) -> None:
    inside = [facility(f"Z{i}", 106.9, 29.5, kind="base_station") for i in range(2)]
    around = [facility(f"A{i}", 106.2, 29.5, kind="base_station") for i in range(3)]
    bring(engine, *inside, *around, valid_from=LONG_AGO)
    send(engine, event("1", "Z0", "down", 0), event("2", "Z1", "down", 0))
    # one district with 2 of 5 down: partial in one district
    assert comms_units(shown(engine)) == {"500101": (5, 2)}
    bring_zones(owner, zones(Z_A=IN_A_AND_B), CHANGED)
    document = shown(engine)
    assert comms_units(document) == {"500101": (3, 0), "Z-A": (2, 2)}
    named = {code for f in document["plans"][COMMS]["findings"] for code in f["districts"]}
    assert named == {"Z-A"}
    assert comms_units(shown(engine, BEFORE)) == {"500101": (5, 0)}
    assert comms_units(shown(engine, AFTER)) == {"500101": (3, 0), "Z-A": (2, 0)}
    # the district's own row still counts all that lies in it
    (row,) = [d for d in document["districts"] if d["adcode"] == "500101"]
    assert row["facilities"]["base_station"]["total"] == 5
    assert_verified(engine)


def test_a_zone_divides_the_version_it_begins_and_ends_in(owner: Engine, engine: Engine) -> None:
    rows = scattered(80)
    bring(engine, *rows, valid_from=LONG_AGO)
    store(engine, outage("o", box(106.1, 29.1, 107.9, 30.9)))
    bring_zones(owner, zones(Z_A=IN_A_AND_B), CHANGED, AFTER)
    with reading(engine) as connection:
        found = versions(connection)
        listed = [
            [u["code"] for u in units(connection, v.id) if u["kind"] == "functional_zone"]
            for v in found
        ]
        hosts = [u["adcodes"] for u in units(connection, found[1].id) if u["code"] == "Z-A"]
    assert [(v.valid_from, v.valid_to) for v in found] == [
        (LONG_AGO, CHANGED),
        (CHANGED, AFTER),
        (AFTER, None),
    ]
    assert listed == [[], ["Z-A"], []]
    assert hosts == [["500101", "500102"]]
    one, two, three = splits(engine, "o")
    assert one == two == three
    state = {r["facility_id"]: r["state_at_import"] for r in rows}
    for at in (BEFORE, CHANGED + timedelta(days=1), None):
        assert counted(shown(engine, at)) == brute(rows, SQUARES, state)
    assert_verified(engine)


def test_a_declared_unit_stands_before_the_zone_and_the_zone_before_the_district(
    owner: Engine, engine: Engine
) -> None:
    with pytest.raises(InvalidInput, match="unit 'Z-B' is not loaded"):
        bring(engine, facility("D", 106.2, 29.5, unit="Z-B"))
    bring_zones(owner, zones(Z_A=IN_A_AND_B, Z_B=["500101"]), CHANGED)
    bring(
        engine,
        facility("D", 106.2, 29.5, unit="Z-B"),  # declares a zone without shape
        facility("E", 106.9, 29.5, unit="500101"),  # declares its district, inside a zone
        facility("I", 106.9, 29.6),
        facility("O", 106.3, 29.5),
        facility("X", 104.0, 30.6),
    )
    query = (
        "SELECT f.facility_id, p.unit FROM facility f JOIN placement_division p"
        " USING (placement_id) WHERE p.version_id = :v"
    )

    def unit_of(at: datetime | None) -> dict[str, str | None]:
        with reading(engine) as connection:
            rows = connection.execute(text(query), {"v": version_at(connection, at).id}).all()
        return {r.facility_id: r.unit for r in rows}

    now = {"D": "Z-B", "E": "500101", "I": "Z-A", "O": "500101", "X": None}
    assert unit_of(None) == now
    assert unit_of(BEFORE) == now | {"D": "500101", "I": "500101"}
    bring_zones(owner, None, AFTER, ended=["Z-B"])
    assert unit_of(None) == now | {"D": "500101"}
    assert unit_of(CHANGED) == now
    assert_verified(engine)


def test_zones_go_on_when_districts_change_unless_they_are_ended(
    owner: Engine, engine: Engine
) -> None:
    bring(engine, facility("I", 106.9, 29.5))
    bring_zones(owner, zones(Z_A=IN_A_AND_B, Z_B=["500104"]), BEFORE)
    with pytest.raises(InvalidInput, match="zone Z-B names 500104"):
        bring_districts(owner, MOVED, CHANGED)
    bring_districts(owner, MOVED, CHANGED, ended_zones=["Z-B"])
    with reading(engine) as connection:
        found = units(connection, version_at(connection).id)
    assert [u["adcodes"] for u in found if u["kind"] == "functional_zone"] == [["500102"]]
    assert_verified(engine)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (zones(Z_A=IN_A_AND_B, Z_C=box(107.2, 29.5, 107.6, 29.9)), "Z-C overlaps Z-A"),
        (zones(Z_C=box(105.5, 29.2, 106.5, 29.8)), "50% of zone Z-C lies outside"),
        (zones(Z_C=["500199"]), "zone Z-C names 500199"),
        (zones(Z_OLD=["500101"]), "Z-OLD is a zone of that time already"),
        (zones(Z_C=box(107.6, 30.2, 107.8, 30.4)), "Z-C overlaps Z-OLD"),
    ],
)
def test_a_zone_that_does_not_fit_is_refused(
    owner: Engine, engine: Engine, given: gpd.GeoDataFrame, says: str
) -> None:
    bring_zones(owner, zones(Z_OLD=box(107.5, 30.1, 107.9, 30.6)), CHANGED)
    with pytest.raises(InvalidInput, match=says):
        bring_zones(owner, given, AFTER)
    with reading(engine) as connection:
        assert len(versions(connection)) == 2


# --- the shipped sets -------------------------------------------------------------------------


def test_the_shipped_divisions_are_loaded_once_though_two_start_at_once(
    empty_database_url: str,
) -> None:
    engines = [owner_engine(empty_database_url) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        loaded = sorted(pool.map(ensure_default_divisions, engines))
    assert loaded == [False, True]
    with reading(engines[0]) as connection:
        found = versions(connection)
        assert [len(units(connection, v.id)) for v in found] == [38, 37]
    for one in engines:
        one.dispose()
