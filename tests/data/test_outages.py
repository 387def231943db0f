"""Reported outages against a real PostGIS: stored once, split exactly, read as known at a time."""

from __future__ import annotations

import copy
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from shapely.geometry import mapping
from shapely.geometry import shape as geometry_of
from sqlalchemy import Engine, text

from data.database import WHOLE_CITY, app_engine, reading, sequence_at, set_scope
from data.divisions import version_at, versions
from data.outages import list_outages, next_outage_instant, open_outages, store_outage
from geo.crs import area_m2, from_wgs84
from geo.errors import Conflict, CrsError, InvalidInput, NotAllowed, NotFound, TooLarge
from tests.feeds import (
    CHENGDU,
    INSIDE,
    LIANGJIANG,
    NANAN,
    SHAPINGBA,
    YUZHONG,
    ago,
    facility,
    load_facilities,
)
from tests.geometries import INVALID, NOT_A_PLACE


@pytest.fixture(scope="module")
def engine(shared_divided_url: str) -> Any:
    made = app_engine(shared_divided_url)
    load_facilities(
        made,
        [
            facility("S-Y", *INSIDE[YUZHONG], load_kw=300, customers=10),
            facility("S-N", *INSIDE[NANAN], load_kw=100, customers=30),
            facility("S-OTHER", *INSIDE[SHAPINGBA], operator="rival", load_kw=50, customers=5),
            facility("B-N", *INSIDE[NANAN], kind="base_station", operator="telecom"),
        ],
    )
    yield made
    made.dispose()


def box(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


BOTH = box(106.545, 29.50, 106.64, 29.56)  # reaches both substations, in Yuzhong and Nan'an


def outage(outage_id: str, geometry: Any = None, /, **properties: Any) -> dict[str, Any]:
    base = {
        "outage_id": outage_id,
        "revision": 1,
        "load_shed_kw": 1001,
        "customers_out": 101,
        "started_at": ago(hours=1),
    }
    return {"type": "Feature", "geometry": geometry, "properties": base | properties}


def store(engine: Engine, feature: Any, **options: Any) -> Any:
    body = json.dumps(feature).encode()
    return store_outage(
        engine, feature, body=body, **{"account": "utility", "lang": "en"} | options
    )


def parts(stored: Any) -> dict[Any, tuple[int, int]]:
    return {p["adcode"]: (p["load_shed_kw"], p["customers_out"]) for p in stored.json["split"]}


def codes(stored: Any) -> list[str]:
    return [w["code"] for w in stored.json["warnings"]]


def test_the_first_is_created_the_same_again_identical_and_another_body_a_conflict(
    engine: Engine,
) -> None:
    feature = outage("O-once", BOTH)
    first = store(engine, feature)
    assert first.status == "created"
    assert first.sequence
    again = store(engine, dict(reversed(feature.items())))
    assert (again.status, again.sequence) == ("identical", None)
    assert again.json["properties"]["split"] == first.json["properties"]["split"]
    other = copy.deepcopy(feature)
    other["properties"]["load_shed_kw"] = 7
    with pytest.raises(Conflict):
        store(engine, other)
    with engine.connect() as connection:
        set_scope(connection, WHOLE_CITY)
        kept = connection.execute(
            text("SELECT load_shed_kw FROM outage WHERE outage_id = 'O-once'")
        ).scalars()
        assert list(kept) == [1001]


def test_one_revision_sent_by_forty_threads_is_stored_once(engine: Engine) -> None:
    feature = outage("O-race", BOTH)
    with ThreadPoolExecutor(10) as pool:
        found = [
            f.result().status for f in [pool.submit(store, engine, feature) for _ in range(40)]
        ]
    assert sorted(set(found)) == ["created", "identical"]
    assert found.count("created") == 1


def test_load_goes_by_the_load_and_customers_by_the_customers_of_substations_inside(
    engine: Engine,
) -> None:
    stored = store(engine, outage("O-inside", BOTH))
    # load 300 : 100 of 1001, customers 10 : 30 of 101; largest remainders
    assert parts(stored)[YUZHONG] == (751, 25)
    assert parts(stored)[NANAN] == (250, 76)
    assert {p["load_basis"] for p in stored.json["split"]} == {"load_kw"}


def test_named_facilities_come_before_those_inside(engine: Engine) -> None:
    stored = store(engine, outage("O-named", BOTH, facility_ids=["S-N"]))
    assert parts(stored)[NANAN] == (1001, 101)
    assert parts(stored)[YUZHONG] == (0, 0)


def test_without_substations_it_goes_by_area_and_the_parts_add_up(engine: Engine) -> None:
    shape = box(106.50, 29.44, 106.53, 29.50)
    stored = store(engine, outage("O-area", shape, restored_load_kw=333))
    split = stored.json["split"]
    assert sum(p["load_shed_kw"] for p in split) == 1001
    assert sum(p["customers_out"] for p in split) == 101
    assert sum(p["restored_load_kw"] for p in split) == 333

    assert sum(p["area_m2"] for p in split) == pytest.approx(area_m2(geometry_of(shape)), rel=1e-9)
    assert {p["load_basis"] for p in split} == {"area"}
    assert len(split) > 1


def test_what_lies_outside_the_city_belongs_to_the_sum(engine: Engine) -> None:
    east, north = CHENGDU
    stored = store(engine, outage("O-far", box(east, north, east + 0.01, north + 0.01)))
    assert parts(stored) == {None: (1001, 101)}
    assert codes(stored) == ["outside"]
    assert "all of the outage lies outside" in stored.json["warnings"][0]["text"]
    partly = store(engine, outage("O-partly", box(east, 29.5, 106.64, 29.56)))
    assert codes(partly) == ["outside"]
    assert partly.json["warnings"][0]["text"].startswith("part of the outage")


def test_an_outage_that_reaches_no_substation_says_by_what_it_is_divided(engine: Engine) -> None:
    rural = box(108.9, 31.5, 108.91, 31.51)
    stored = store(engine, outage("O-rural", rural))
    assert codes(stored) == ["no_facility"]
    assert stored.json["warnings"][0]["text"].endswith("divided by area")
    line = {"type": "LineString", "coordinates": rural["coordinates"][0][:2]}
    told = store(engine, outage("O-line", line), lang="zh").json["warnings"]
    assert [(w["code"], w["text"][-8:]) for w in told] == [("no_facility", "按长度分摊到区县")]
    assert codes(store(engine, outage("O-reached", BOTH))) == []


@pytest.mark.parametrize("place", [BOTH, None, box(104.0, 30.6, 104.1, 30.7)])
def test_an_outage_that_takes_nothing_says_that_every_part_is_zero(
    engine: Engine, place: Any
) -> None:
    name = f"O-nothing-{str(place)[-12:]}"
    stored = store(engine, outage(name, place, load_shed_kw=0, customers_out=0))
    assert set(parts(stored).values()) == {(0, 0)}
    assert codes(stored)[-1] == "nothing_lost"


@pytest.mark.parametrize("ids", [None, [], ["NOBODY"]])
def test_an_outage_with_neither_extent_nor_known_facility_is_kept_unplaced(
    engine: Engine, ids: list[str] | None
) -> None:
    stored = store(engine, outage(f"O-nowhere-{ids}", None, facility_ids=ids))
    assert parts(stored) == {None: (1001, 101)}
    assert "unplaced" in codes(stored)
    assert ("facility_unknown" in codes(stored)) is bool(ids)


def test_facility_ids_alone_place_it_and_unknown_ones_are_kept(engine: Engine) -> None:
    stored = store(engine, outage("O-ids", None, facility_ids=["S-Y", "S-N", "X-9"]))
    assert parts(stored) == {YUZHONG: (751, 25), NANAN: (250, 76)}
    assert codes(stored) == ["facility_unknown"]
    assert stored.json["properties"]["facility_ids"] == ["S-Y", "S-N", "X-9"]


def test_a_facility_that_carries_no_load_still_says_where(engine: Engine) -> None:
    stored = store(engine, outage("O-base-station", None, facility_ids=["B-N"]))
    assert parts(stored) == {NANAN: (1001, 101)}


@pytest.mark.parametrize(
    ("geometry", "basis"),
    [
        ({"type": "Point", "coordinates": list(INSIDE[NANAN])}, "points"),
        (
            {"type": "LineString", "coordinates": [list(INSIDE[NANAN]), list(INSIDE[YUZHONG])]},
            "length",
        ),
    ],
)
def test_points_and_lines_are_split_by_what_they_have(
    engine: Engine, geometry: dict[str, Any], basis: str
) -> None:
    stored = store(engine, outage(f"O-{basis}", geometry))
    assert {p["load_basis"] for p in stored.json["split"]} == {basis}
    assert sum(p["load_shed_kw"] for p in stored.json["split"]) == 1001


def test_every_division_version_has_its_own_split(engine: Engine) -> None:
    place = box(106.66, 29.71, 106.70, 29.74)  # 江北 and 渝北 then, 两江新区 now
    stored = store(engine, outage("O-reform", place))
    assert set(parts(stored)) == {LIANGJIANG}
    with reading(engine) as connection:
        older = versions(connection)[0]
        found = open_outages(connection, sequence_at(connection, None), older.id, datetime.now(UTC))
    split = next(o["split"] for o in found if o["outage_id"] == "O-reform")
    assert {p["adcode"] for p in split} <= {"500105", "500112"}
    assert sum(p["load_shed_kw"] for p in split) == 1001


def test_a_declared_datum_is_converted_and_the_original_kept(engine: Engine) -> None:
    lon, lat = INSIDE[YUZHONG]
    shifted = from_wgs84(lon, lat, "GCJ-02")
    feature = outage("O-gcj", {"type": "Point", "coordinates": list(shifted)})
    stored = store(engine, feature | {"crs": "GCJ-02"})
    assert stored.json["geometry"]["coordinates"] == pytest.approx([lon, lat], abs=1e-7)
    assert stored.json["properties"]["crs"] == "GCJ-02"
    with engine.connect() as connection:
        set_scope(connection, WHOLE_CITY)
        kept = connection.execute(
            text("SELECT feature FROM outage WHERE outage_id = 'O-gcj'")
        ).scalar_one()
    assert kept["geometry"]["coordinates"] == list(shifted)
    with pytest.raises(CrsError):
        store(engine, outage("O-gcj-2", BOTH) | {"crs": "GCJ-02"}, crs="WGS84")


def test_every_fault_is_named_at_once(engine: Engine) -> None:
    feature = outage(
        "",
        BOTH,
        revision="1",
        load_shed_kw=-1,
        customers_out=1.5,
        started_at="yesterday",
        planned="no",
        facility_ids=[3],
    )
    with pytest.raises(InvalidInput) as refused:
        store(engine, feature)
    fields = {f.field for f in refused.value.faults}
    assert fields >= {
        *("outage_id", "revision", "load_shed_kw", "customers_out", "started_at", "planned"),
        "facility_ids.0",
    }


@pytest.mark.parametrize(
    ("properties", "field"),
    [
        ({"restored_load_kw": 1002}, "restored_load_kw"),
        ({"started_at": ago(hours=1), "restored_at": ago(hours=2)}, "restored_at"),
        ({"restored_at": ago(hours=-1)}, "restored_at"),
        ({"revision": None}, "revision"),
        ({"customers_out": None}, "customers_out"),
        ({"load_shed_kw": True}, "load_shed_kw"),
        ({"load_shed_kw": 2**62}, "load_shed_kw"),
    ],
)
def test_impossible_figures_are_refused(
    engine: Engine, properties: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        store(engine, outage("O-impossible", BOTH, **properties))
    assert {f.field for f in refused.value.faults} == {field}


@pytest.mark.parametrize("name", [*INVALID, *NOT_A_PLACE])
def test_a_geometry_that_is_not_valid_is_refused_and_says_so(engine: Engine, name: str) -> None:
    shape = {**INVALID, **NOT_A_PLACE}[name]
    geometry = json.loads(json.dumps(mapping(shape)))
    with pytest.raises(InvalidInput) as refused:
        store(engine, outage("O-invalid", geometry))
    assert refused.value.faults[0].field in ("geometry", "position")


def test_a_bowtie_is_told_where_it_crosses(engine: Engine) -> None:
    ring = [[106.5, 29.5], [106.6, 29.6], [106.6, 29.5], [106.5, 29.6], [106.5, 29.5]]
    with pytest.raises(InvalidInput, match=r"border crosses itself at \[106\.55, 29\.55\]"):
        store(engine, outage("O-bowtie", {"type": "Polygon", "coordinates": [ring]}))


@pytest.mark.parametrize(
    "geometry",
    [
        {"type": "Polygon", "coordinates": [[[106.5, 29.5], [106.6, 29.5], [106.6, 29.6]]]},
        {"type": "Polygon", "coordinates": [[[1, 2], [3, 4], [5, 6], [7, 8]]]},
        {"type": "Polygon", "coordinates": []},
        {"type": "Point", "coordinates": ["106.5", "29.5"]},
        {"type": "Point", "coordinates": [True, 29.5]},
        {"type": "Point", "coordinates": [[106.5, 29.5]]},
        {"type": "LineString", "coordinates": [[106.5, 29.5]]},
        {"type": "GeometryCollection", "geometries": []},
        {"type": "Circle", "coordinates": [1, 2]},
        "POINT(106 29)",
        [],
    ],
)
def test_what_is_no_geometry_is_refused(engine: Engine, geometry: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        store(engine, outage("O-shape", geometry))
    assert refused.value.faults[0].field == "geometry"


def test_exchanged_axes_are_hinted_at_and_never_corrected(engine: Engine) -> None:
    with pytest.raises(InvalidInput, match="exchanged"):
        store(engine, outage("O-swap", box(29.5, 106.5, 29.6, 106.6)))


def test_more_vertices_than_the_limit_are_refused_before_geos(engine: Engine) -> None:
    spikes = [[106.5 + i * 1e-6, 29.5 + (i % 2) * 0.1] for i in range(20_000)]
    geometry = {"type": "Polygon", "coordinates": [[*spikes, spikes[0]]]}
    with pytest.raises(TooLarge):
        store(engine, outage("O-spiky", geometry))


def test_an_account_names_only_its_own_operators_facilities(engine: Engine) -> None:
    with pytest.raises(NotAllowed):
        store(engine, outage("O-rival", None, facility_ids=["S-OTHER"]), operators=["grid"])
    with pytest.raises(NotAllowed):
        store(engine, outage("O-rival", BOTH, operator="rival"), operators=["grid"])
    assert store(engine, outage("O-own", None, facility_ids=["S-Y"]), operators=["grid"]).sequence


def test_an_outage_of_another_operator_cannot_be_revised(engine: Engine) -> None:
    first = store(engine, outage("O-theirs", BOTH), account="rival-desk", operators=["rival"])
    assert first.json["properties"]["operator"] == "rival"
    with pytest.raises(Conflict, match="taken"):
        store(engine, outage("O-theirs", BOTH, revision=2), operators=["grid"])


def listed(engine: Engine, outage_id: str, **asked: Any) -> list[dict[str, Any]]:
    found = list_outages(engine, limit=10_000, **asked)["features"]
    return [f["properties"] for f in found if f["id"] == outage_id]


def test_the_highest_revision_counts_whatever_the_order(engine: Engine) -> None:
    for revision, load in ((3, 30), (1, 10), (2, 20)):
        store(engine, outage("O-order", BOTH, revision=revision, load_shed_kw=load))
    assert [p["load_shed_kw"] for p in listed(engine, "O-order")] == [30]


def test_at_answers_with_what_was_known_then(engine: Engine) -> None:
    store(engine, outage("O-then", BOTH))
    with reading(engine) as connection:
        then = connection.execute(text("SELECT max(received_at) FROM change")).scalar_one()
    store(engine, outage("O-then", BOTH, revision=2, load_shed_kw=5))
    assert listed(engine, "O-then", at=then)[0]["revision"] == 1
    assert listed(engine, "O-then")[0]["revision"] == 2
    assert listed(engine, "O-then", at=then - timedelta(microseconds=1)) == []
    with pytest.raises(NotFound):  # nothing is claimed about divisions before 2018
        listed(engine, "O-then", at=datetime(2015, 1, 1, tzinfo=UTC))


def test_a_revision_that_lies_ahead_is_listed_and_hides_no_other(engine: Engine) -> None:
    stored = store(engine, outage("O-ahead", BOTH, started_at=ago(hours=-3)))
    assert codes(stored) == ["future"]
    assert listed(engine, "O-ahead")[0]["applied"] is False
    store(engine, outage("O-behind", BOTH))
    store(engine, outage("O-behind", BOTH, revision=2, started_at=ago(hours=-3)))
    assert listed(engine, "O-behind")[0]["revision"] == 1
    assert {o["outage_id"] for o in known(engine)} >= {"O-behind"}
    assert "O-ahead" not in {o["outage_id"] for o in known(engine)}


def known(engine: Engine, now: datetime | None = None) -> list[dict[str, Any]]:
    with reading(engine) as connection:
        current = version_at(connection)
        sequence = sequence_at(connection, None)
        return open_outages(connection, sequence, current.id, now or datetime.now(UTC))


def test_from_restored_at_on_it_is_over_and_stays_known_to_its_event(engine: Engine) -> None:
    store(engine, outage("O-over", BOTH, restored_at=ago(minutes=10)))
    found = next(o for o in known(engine) if o["outage_id"] == "O-over")
    assert found["open"] is False
    earlier = datetime.now(UTC) - timedelta(minutes=30)
    assert next(o for o in known(engine, earlier) if o["outage_id"] == "O-over")["open"]
    assert listed(engine, "O-over", is_open=True) == []
    assert len(listed(engine, "O-over", is_open=False)) == 1


def test_a_planned_outage_is_kept_as_planned_and_not_open_before_it_begins(engine: Engine) -> None:
    stored = store(engine, outage("O-planned", BOTH, planned=True, started_at=ago(hours=-3)))
    assert codes(stored) == []
    found = next(o for o in known(engine) if o["outage_id"] == "O-planned")
    assert (found["planned"], found["open"]) == (True, False)
    assert next_outage_instant([found], datetime.now(UTC)) == found["started_at"]
    assert next_outage_instant([found], found["started_at"]) is None


def test_scope_and_filters_choose_what_is_listed(engine: Engine) -> None:
    store(engine, outage("O-nanan", {"type": "Point", "coordinates": list(INSIDE[NANAN])}))
    store(engine, outage("O-nanan-ids", None, facility_ids=["S-N"]))
    for outage_id in ("O-nanan", "O-nanan-ids"):
        assert listed(engine, outage_id, districts=[NANAN])
        assert listed(engine, outage_id, districts=[SHAPINGBA]) == []
        assert listed(engine, outage_id, districts=[YUZHONG, NANAN], adcode=NANAN)
        assert listed(engine, outage_id, adcode=YUZHONG) == []
        assert listed(engine, outage_id, bbox=(106.6, 29.5, 106.65, 29.55))
        assert listed(engine, outage_id, bbox=(107.6, 29.5, 107.65, 29.55)) == []


def test_a_revision_that_left_a_district_does_not_show_its_past_there(engine: Engine) -> None:
    store(engine, outage("O-moved", {"type": "Point", "coordinates": list(INSIDE[SHAPINGBA])}))
    moved = {"type": "Point", "coordinates": list(INSIDE[NANAN])}
    store(engine, outage("O-moved", moved, revision=2))
    assert listed(engine, "O-moved", districts=[SHAPINGBA]) == []
    assert listed(engine, "O-moved", districts=[NANAN])[0]["revision"] == 2


def test_pages_say_how_many_there_are(engine: Engine) -> None:
    whole = list_outages(engine, limit=10_000)
    page = list_outages(engine, limit=2, offset=1)
    assert page["numberMatched"] == whole["numberMatched"] == len(whole["features"])
    assert [f["id"] for f in page["features"]] == [f["id"] for f in whole["features"][1:3]]
    opens = [f["properties"]["open"] for f in whole["features"]]
    assert opens == sorted(opens, reverse=True)
