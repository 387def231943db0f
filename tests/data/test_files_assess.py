"""Files graded without a server: the same answer as a server that was sent the same."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import geopandas as gpd
import numpy as np
import openpyxl
import orjson
import pandas as pd
import pytest
from shapely import Point, box
from sqlalchemy import Engine

from data.division_changes import Validity, import_zones
from data.facility_file import read_facility_file
from data.facility_rows import facility_rows
from data.files_situation import (
    FileDivisions,
    divisions_from_files,
    incidents_from_file,
    known_from_files,
)
from data.incident_submission import store_incident
from data.rulepacks import load_packs
from data.settings import SituationSettings
from data.situation import situation_now
from data.status_file import read_status_file
from data.zones import read_zones
from geo.errors import InvalidInput
from geo.situation import NoiseFloor, Situation, situation
from tests.data.stored import bring, send
from tests.feeds import CHENGDU, COMMANDER, INSIDE, SHAPINGBA, YUZHONG, ago

PACKS, SETTINGS = load_packs(), SituationSettings()
COMMS, POWER, SPECIAL = "communications-2024", "power-outage-2021", "special-equipment-2023"
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
FLOOR = NoiseFloor(SETTINGS.noise_floor_sites, SETTINGS.noise_floor_share)


def facility_file(folder: Path, rows: pd.DataFrame, kind: str = "csv") -> Path:
    path = folder / f"facilities.{kind}"
    if kind == "csv":
        rows.to_csv(path, index=False)
    elif kind == "xlsx":
        rows.astype(str).replace("nan", "").to_excel(path, index=False)
    elif kind == "parquet":
        rows.to_parquet(path)
    else:
        points = [Point(*p) for p in zip(rows["lon"], rows["lat"], strict=True)]
        frame = gpd.GeoDataFrame(rows.drop(columns=["lon", "lat"]), geometry=points, crs=4326)
        frame.to_crs("EPSG:4490").to_file(path) if kind == "gpkg" else frame.to_file(path)
    return path


def made_up(count: int, seed: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(105.9, 107.5, count), rng.uniform(28.9, 30.3, count)
    kinds = np.array(["base_station", "exchange", "substation", "tower"], object)
    return pd.DataFrame(
        {
            "facility_id": [f"F{i}" for i in range(count)],
            "kind": kinds[np.arange(count) % 4],
            "operator": np.array(["mobile", "telecom", "grid"], object)[np.arange(count) % 3],
            "lon": np.round(lon, 6),
            "lat": np.round(lat, 6),
            "main_grid": np.where(np.arange(count) % 5 > 0, "true", "false"),
            "load_kw": rng.integers(0, 400_000, count),
            "customers": rng.integers(0, 5_000, count),
            "state": np.array(["up", "up", "unknown"], object)[np.arange(count) % 3],
        }
    )


def status_events(count: int, facilities: int, seed: int = 6) -> list[dict[str, str]]:
    """Late ones, ties in time and gravity, and some of facilities that do not exist."""
    rng = np.random.default_rng(seed)
    return [
        {
            "event_id": str(uuid4()),
            "facility_id": f"F{int(rng.integers(0, facilities + 3))}",
            "state": ("up", "degraded", "down", "unknown")[int(rng.integers(0, 4))],
            "observed_at": ago(minutes=10 * int(rng.integers(1, 8))),
        }
        for _ in range(count)
    ]


def read(path: Path) -> pd.DataFrame:
    table = read_facility_file(path, path.name, crs=None if path.suffix == ".gpkg" else "WGS84")
    return facility_rows(table).frame


def graded(
    plan: str,
    facilities: pd.DataFrame | None,
    status: Path | None,
    at: datetime,
    divisions: FileDivisions | None = None,
    **more: Any,
) -> Situation:
    pack = PACKS.at(plan, at)
    events = None if status is None else read_status_file(status, status.name, at)
    known = known_from_files(
        pack, divisions or divisions_from_files(None, None, at), facilities, events, at, **more
    )
    return situation(known.known, [pack], FLOOR)


def assert_same(served: dict[str, Any], plan: str, from_files: Situation) -> None:
    """Level, reasons, distances, bounds and facts; and every district's figures."""
    mine, theirs = from_files.plans[plan], served["plans"][plan]
    for name in ("level", "label", "colour", "findings", "next", "bounds", "facts", "unknown"):
        assert mine[name] == theirs[name], name
    by_code = {d["adcode"]: d for d in served["districts"]}
    assert {d["adcode"] for d in from_files.districts} == by_code.keys()
    for row in from_files.districts:
        other = by_code[row["adcode"]]
        assert row["plans"][plan] == other["plans"][plan]
        for name in ("facilities", "load", "customers", "population", "name"):
            if plan == POWER or name not in ("load", "customers"):
                assert row[name] == other[name], (row["adcode"], name)


# --- parity with the server -------------------------------------------------------------------


@pytest.mark.parametrize("plan", [COMMS, POWER])
@pytest.mark.parametrize("seed", [1, 2])
def test_files_are_graded_as_the_server_grades_the_same(
    divided: Engine, tmp_path: Path, plan: str, seed: int
) -> None:
    path = facility_file(tmp_path, made_up(240, seed))
    events = status_events(400, 240, seed)
    status = tmp_path / "status.ndjson"
    status.write_bytes(b"\n".join(orjson.dumps(e) for e in events))
    frame = read(path)
    early = datetime(2020, 1, 1, tzinfo=UTC)
    bring(divided, *frame.to_dict("records"), valid_from=early)
    assert not send(divided, *events).rejected
    served = situation_now(divided, PACKS, SETTINGS)
    # every operator was heard of a moment ago, so none is silent on either side
    files = graded(plan, frame, status, datetime.now(UTC))
    assert_same(served, plan, files)
    assert files.plans[plan]["level"] is not None


def test_zones_are_units_in_files_as_on_the_server(
    divided: Engine, divided_owner: Engine, tmp_path: Path
) -> None:
    zone_file = tmp_path / "zones.geojson"
    lon, lat = INSIDE[SHAPINGBA]
    gpd.GeoDataFrame(
        {"code": ["Z-GX"], "name": ["高新"]},
        geometry=[box(lon - 0.02, lat - 0.02, lon + 0.02, lat + 0.02)],
        crs=4326,
    ).to_file(zone_file)
    rows = made_up(60)
    rows.loc[:9, ["lon", "lat"]] = INSIDE[SHAPINGBA]
    rows["unit"] = [None] * 50 + [YUZHONG] * 10
    frame = read(facility_file(tmp_path, rows))
    import_zones(
        divided_owner,
        read_zones(zone_file, zone_file.name),
        Validity(datetime(2026, 1, 1, tzinfo=UTC)),
        source="drawn",
        account="planner",
        body=zone_file.read_bytes(),
    )
    bring(divided, *frame.to_dict("records"))
    events = [
        {"event_id": f"e{i}", "facility_id": f"F{i}", "state": "down", "observed_at": ago(hours=1)}
        for i in range(40)
    ]
    status = tmp_path / "status.json"
    status.write_bytes(orjson.dumps(events))
    send(divided, *events)
    now = datetime.now(UTC)
    files = graded(COMMS, frame, status, now, divisions_from_files(None, zone_file, now))
    assert_same(situation_now(divided, PACKS, SETTINGS), COMMS, files)
    assert "Z-GX" in {f["adcode"] for f in files.plans[COMMS]["facts"]["districts"]}


def test_incidents_are_graded_one_by_one_as_on_the_server(divided: Engine) -> None:
    bodies = [
        {
            "incident_id": str(uuid4()),
            "plan": SPECIAL,
            "kind": kind,
            "occurred_at": ago(minutes=30),
            "position": list(place),
            "facts": facts,
        }
        for kind, place, facts in (
            ("elevator", INSIDE[YUZHONG], {"people_stranded": 3, "stranded_since": ago(hours=3)}),
            ("boiler", INSIDE[SHAPINGBA], {"exploded": True, "deaths": 3}),
            ("crane", CHENGDU, {"deaths": 0, "serious_injuries": 0, "direct_loss_yuan": 0}),
        )
    ]
    for body in bodies:
        store_incident(
            divided, body, body=orjson.dumps(body), account=COMMANDER, packs=PACKS, lang="en"
        )
    served = situation_now(divided, PACKS, SETTINGS)
    now = datetime.now(UTC)
    divisions = divisions_from_files(None, None, now)
    opened = incidents_from_file(bodies, SPECIAL, PACKS, now, divisions.locator())
    files = graded(SPECIAL, None, None, now, divisions, incidents=opened)
    mine, theirs = files.plans[SPECIAL], served["plans"][SPECIAL]
    assert mine["level"] == theirs["level"] == 3
    assert mine["bounds"] == theirs["bounds"]
    clauses = [(f["clause"], f["incident_id"], f["districts"]) for f in mine["findings"]]
    said = [(f["clause"], f["incident_id"], f["districts"]) for f in theirs["findings"]]
    assert sorted(clauses) == sorted(said)
    levels = {d["adcode"]: d["plans"][SPECIAL] for d in served["districts"]}
    assert {d["adcode"]: d["plans"][SPECIAL] for d in files.districts} == levels


# --- files of every kind ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "xlsx", "parquet", "geojson", "gpkg"])
def test_any_file_of_facilities_gives_the_same_answer(tmp_path: Path, kind: str) -> None:
    rows = made_up(80)
    at = NOON
    wanted = graded(COMMS, read(facility_file(tmp_path, rows)), None, at)
    found = graded(COMMS, read(facility_file(tmp_path, rows, kind)), None, at)
    assert found.plans == wanted.plans
    assert found.districts == wanted.districts


EVENTS = [
    {"event_id": "a", "facility_id": "F0", "state": "down", "observed_at": "2026-07-01T10:00:00Z"},
    {"event_id": "b", "facility_id": "F0", "state": "up", "observed_at": "2026-07-01T11:00:00Z"},
    {"event_id": "c", "facility_id": "7", "state": "down", "observed_at": "2026-07-01T11:00:00Z"},
]


@pytest.mark.parametrize("kind", ["csv", "csv-gb18030", "xlsx", "parquet", "json", "ndjson"])
def test_status_may_come_in_any_table_or_json(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "status"
    table = pd.DataFrame(EVENTS)
    if kind == "csv":
        table.to_csv(path, index=False)
    elif kind == "csv-gb18030":
        chinese = {"facility_id": "设施编号", "state": "状态", "observed_at": "观测时间"}
        said = table.assign(state=table["state"].map({"down": "中断", "up": "正常"}))
        path.write_bytes(said.rename(columns=chinese).to_csv(index=False).encode("gb18030"))
    elif kind == "xlsx":
        book = openpyxl.Workbook()
        for row in [list(table.columns), *table.to_numpy().tolist()]:
            # a spreadsheet takes an id of digits for a number
            book.active.append([int(c) if c == "7" else c for c in row])
        book.save(path)
    elif kind == "parquet":
        table.to_parquet(path)
    else:
        lines = [orjson.dumps(e) for e in EVENTS]
        path.write_bytes(b"[" + b",".join(lines) + b"]" if kind == "json" else b"\n".join(lines))
    found = read_status_file(path, "status", NOON)
    assert {f: e.state for f, e in found.winners().items()} == {"F0": "up", "7": "down"}
    assert not found.snapshot


@pytest.mark.parametrize("kind", ["shp", "fgb"])
def test_ones_own_districts_take_the_place_of_the_shipped(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"own.{kind}"
    gpd.GeoDataFrame(
        {"code": ["500901", "500902"], "name": ["West", "East"]},
        geometry=[box(106, 29, 106.5, 30), box(106.5, 29, 107, 30)],
        crs=4326,
    ).to_file(path)
    rows = pd.DataFrame(
        {"facility_id": ["w", "border", "e", "out"], "kind": "exchange", "state": "down"}
        | {"lon": [106.2, 106.5, 106.8, 108.0], "lat": 29.5}
    )
    divisions = divisions_from_files(path, None, NOON)
    pack = PACKS.at(COMMS, NOON)
    frame = read(facility_file(tmp_path, rows))
    known = known_from_files(pack, divisions, frame, None, NOON)
    assert known.outside == 1
    found = situation(known.known, [pack], FLOOR)
    totals = {d["adcode"]: d["facilities"]["exchange"]["total"] for d in found.districts}
    assert totals == {"500901": 2, "500902": 1}
    assert found.plans[COMMS]["level"] == 2


@pytest.mark.parametrize(
    ("at", "count"), [("2025-11-05T23:59:59+08:00", 38), ("2025-11-06T00:00:00+08:00", 37)]
)
def test_the_shipped_divisions_are_those_of_the_moment_asked_about(at: str, count: int) -> None:
    divisions = divisions_from_files(None, None, datetime.fromisoformat(at))
    assert len(divisions.districts) == count
    assert len(divisions.units()) == count


# --- the rules of time ------------------------------------------------------------------------


def write_events(folder: Path, *rows: tuple[str, str, str, str]) -> Path:
    names = ("event_id", "facility_id", "state", "observed_at")
    path = folder / "status.json"
    path.write_bytes(orjson.dumps([dict(zip(names, row, strict=True)) for row in rows]))
    return path


def minute(n: float) -> str:
    return (NOON + timedelta(minutes=n)).isoformat()


@pytest.mark.parametrize(
    ("rows", "state", "winner"),
    [
        ([("b", "up", -1), ("a", "down", -2)], "up", "b"),  # whatever the order, the later one
        ([("a", "down", -2), ("b", "up", -1)], "up", "b"),
        ([("a", "up", -1), ("b", "down", -1), ("c", "degraded", -1)], "down", "b"),
        ([("a", "unknown", -1), ("b", "up", -1)], "unknown", "a"),
        ([("a", "down", -1), ("b", "down", -1)], "down", "b"),
        ([("a", "down", -1), ("z", "up", 5)], "up", "z"),  # five minutes ahead still holds
        ([("a", "down", -1), ("z", "up", 5.01)], "down", "a"),
    ],
)
def test_the_winner_is_the_latest_then_the_gravest_then_the_greater_id(
    tmp_path: Path, rows: list[tuple[str, str, float]], state: str, winner: str
) -> None:
    path = write_events(tmp_path, *((i, "F", s, minute(n)) for i, s, n in rows))
    found = read_status_file(path, path.name, NOON)
    assert (found.winners()["F"].state, found.winners()["F"].event_id) == (state, winner)
    assert len(found.events) + len(found.ahead) == len(rows)


def test_what_lies_ahead_and_what_no_facility_has_is_listed_and_not_applied(tmp_path: Path) -> None:
    rows = pd.DataFrame([{"facility_id": "F", "kind": "exchange", "lon": 106.553, "lat": 29.553}])
    frame = read(facility_file(tmp_path, rows.assign(state="up")))
    path = write_events(tmp_path, ("a", "F", "down", minute(6)), ("b", "Q", "down", minute(-6)))
    events = read_status_file(path, path.name, NOON)
    pack = PACKS.at(COMMS, NOON)
    known = known_from_files(pack, divisions_from_files(None, None, NOON), frame, events, NOON)
    assert [e.event_id for e in events.ahead] == ["a"]
    assert known.unknown_facilities == ["Q"]
    assert known.known.counts["down"].sum() == 0


def test_a_snapshot_without_times_holds_at_the_moment_asked_about(tmp_path: Path) -> None:
    path = tmp_path / "now.csv"
    path.write_text("facility_id,state\nF,down\nG,up\nG,up\n", encoding="utf-8")
    found = read_status_file(path, path.name, NOON)
    assert found.snapshot
    assert found.duplicates == 1
    assert found.winners()["F"].observed_at == NOON
    path.write_text("facility_id,state\nF,down\nF,up\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match="row 2, facility_id: conflict: row 1"):
        read_status_file(path, path.name, NOON)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("facility_id,colour\nF,red\n", "state: no column holds it"),
        ("facility_id,state,observed_at\nF,on fire,2026-07-01T10:00:00Z\n", "row 1, state: must"),
        ("facility_id,state,observed_at\nF,up,2026-07-01 10:00:00\n", "row 1, observed_at: must"),
        ("facility_id,state,observed_at\n,up,2026-07-01T10:00:00Z\n", "row 1, facility_id: is"),
        ("facility_id,state,observed_at\nF,up,\nG,up,2026-07-01T10:00:00Z\n", "row 1, observed_at"),
        ('[{"facility_id": "F", "state": NaN}]', "NaN is no number"),
        ('{"facility_id": "F", "state": "up"}\n{"state"', "row 2: is not valid JSON"),
        ('[{"facility_id": 7, "state": "Up"}, 3]', "row 1, facility_id"),
        (
            '{"event_id": "e", "facility_id": "F", "state": "up"}\n'
            '{"event_id": "e", "facility_id": "G", "state": "up"}',
            "row 2, event_id: conflict",
        ),
    ],
)
def test_what_is_wrong_in_a_status_file_is_told_with_row_and_field(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "status"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInput, match=says):
        read_status_file(path, path.name, NOON)


def test_with_partial_the_good_rows_are_taken_and_the_others_told(tmp_path: Path) -> None:
    path = tmp_path / "status.csv"
    path.write_text("facility_id,state\nF,down\nG,purple\n,up\n", encoding="utf-8")
    found = read_status_file(path, path.name, NOON, partial=True)
    assert list(found.winners()) == ["F"]
    assert [(f.row, f.field) for f in found.rejected] == [(2, "state"), (3, "facility_id")]


def test_no_operator_is_silent_unless_asked_and_then_only_bounds_move(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {"facility_id": ["A", "B"], "kind": "exchange", "operator": ["loud", "mute"]}
        | {"lon": [106.553, 106.40], "lat": [29.553, 29.62], "state": "up"}
    )
    frame = read(facility_file(tmp_path, rows))
    path = write_events(tmp_path, ("a", "A", "up", minute(-1)), ("b", "B", "up", minute(-30)))
    calm = graded(COMMS, frame, path, NOON).plans[COMMS]
    asked = graded(COMMS, frame, path, NOON, silent_after_minutes=15).plans[COMMS]
    assert (calm["level"], calm["bounds"]["at_most"]) == (None, None)
    assert (asked["level"], asked["bounds"]["at_most"]) == (None, 3)


def test_power_remembers_the_worst_moment_of_the_file(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {"facility_id": ["S", "T"], "kind": "substation", "operator": "grid", "state": "up"}
        | {"lon": [106.553, 106.40], "lat": [29.553, 29.62], "load_kw": 100_000, "customers": 9}
    )
    frame = read(facility_file(tmp_path, rows))
    path = write_events(tmp_path, ("a", "S", "down", minute(-60)), ("b", "S", "up", minute(-10)))
    found = graded(POWER, frame, path, NOON).plans[POWER]
    assert found["level"] == 1
    assert found["current"]["level"] is None
    assert found["event"]["worst_at"] == minute(-60)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"declared": {"districts": []}}, "districts: follows from the files"),
        ({"declared": {"national_response": "V"}}, "national_response"),
    ],
)
def test_only_what_an_authority_declares_may_stand_beside_files(
    tmp_path: Path, more: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        graded(COMMS, read(facility_file(tmp_path, made_up(5))), None, NOON, **more)


def test_a_declared_fact_beside_files_is_graded_with_them(tmp_path: Path) -> None:
    frame = read(facility_file(tmp_path, made_up(5)))
    found = graded(COMMS, frame, None, NOON, declared={"national_response": "II"})
    alone = graded(COMMS, frame, None, NOON)
    assert alone.plans[COMMS]["level"] is None
    (finding,) = found.plans[COMMS]["findings"]
    assert (found.plans[COMMS]["level"], finding["metric"]) == (1, "national_response")


def test_a_declared_unit_that_nobody_loaded_is_refused_with_its_row(tmp_path: Path) -> None:
    rows = made_up(4).assign(unit=[None, None, "Z-NOWHERE", None])
    with pytest.raises(InvalidInput, match="row 3, unit: unit 'Z-NOWHERE' is not loaded"):
        graded(COMMS, read(facility_file(tmp_path, rows)), None, NOON)


# --- zone files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("code,name\nZ-A,甲\n", "adcodes: no column holds it"),
        ("code,name,adcodes\nZ A,甲,500106\n", "row 1, code: 'Z A' is no zone's code"),
        ("code,name,adcodes\nZ-A,甲,500106\nZ-A,乙,500107\n", "row 2, code: is that of row 1"),
        ("code,name,adcodes\nZ-A,,500106\n", "row 1, name: is empty"),
        ("code,name,adcodes\nZ-A,甲,沙坪坝\n", "row 1, adcodes: must list"),
    ],
)
def test_what_is_wrong_in_a_table_of_zones_is_told_with_row_and_field(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "zones.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidInput, match=says):
        read_zones(path, path.name)


def test_zones_without_shape_name_their_hosts_and_only_declarations_fill_them(
    tmp_path: Path,
) -> None:
    path = tmp_path / "zones.csv"
    path.write_text("代码,名称,所在区县\nZ-GX,高新,500106；500107\n", encoding="utf-8")
    divisions = divisions_from_files(None, path, NOON)
    (zone,) = [u for u in divisions.units() if u["kind"] == "functional_zone"]
    assert zone["adcodes"] == ["500106", "500107"]
    locator = divisions.locator()
    lon, lat = np.array([INSIDE[SHAPINGBA]] * 2).T
    _, unit = locator.place(lon, lat, np.array([None, "Z-GX"], object))
    assert unit.tolist() == [SHAPINGBA, "Z-GX"]
