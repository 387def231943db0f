"""What if: graded by the same rules, followed to the minute, and never part of what is."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import orjson
import pytest
import shapely
from sqlalchemy import Engine, text

from api.language import parse_at
from data.accounts import Account
from data.builder import Builder
from data.database import reading
from data.facilities_at import moment_asked
from data.outages import store_outage
from data.returns import store_return
from data.rulepacks import load_packs
from data.scenario import read_scenario, same_body
from data.scenario_run import evaluate
from data.scenario_store import (
    list_scenarios,
    read_saved,
    retire_scenario,
    save_scenario,
    share_scenario,
)
from data.settings import SituationSettings
from data.situation import document, shown_at, situation_now
from geo.errors import Conflict, InvalidInput, NotAllowed, NotFound
from tests.data.stored import bring, counted_now, event, send
from tests.feeds import INSIDE, NANAN, SHAPINGBA, YUZHONG, ago, facility

PACKS = load_packs()
SETTINGS = SituationSettings.load()
PLANNER = Account("planner", "planner", ("*",))
COMMS, POWER, SPECIAL = "communications-2024", "power-outage-2021", "special-equipment-2023"
TWO = {"adcodes": [YUZHONG, NANAN], "kind": "base_station", "state": "down"}


def run(engine: Engine, *changes: dict[str, Any], account: Account = PLANNER, **more: Any) -> Any:
    scenario = read_scenario({"changes": list(changes), **more}, parse_at)
    return evaluate(engine, scenario, PACKS, SETTINGS, account=account, lang="en")


def stations(adcode: str, count: int, **more: Any) -> list[dict[str, Any]]:
    lon, lat = INSIDE[adcode]
    return [
        facility(
            f"B{adcode}-{i}",
            lon + i * 1e-5,
            lat,
            kind="base_station",
            operator=("mobile", "unicom")[i % 2],
            **more,
        )
        for i in range(count)
    ]


@pytest.fixture
def city(divided: Engine) -> Engine:
    rows = [one for adcode in INSIDE for one in stations(adcode, 10)]
    bring(divided, *rows, *substations())
    send(divided, event("hello", f"B{YUZHONG}-0", "up", ago(minutes=1)))
    return divided


def substations() -> list[dict[str, Any]]:
    return [
        facility(f"S{adcode}-{i}", lon, lat + i * 1e-4, load_kw=100_000, customers=1_000)
        for adcode, (lon, lat) in INSIDE.items()
        for i in range(2)
    ]


def real(engine: Engine) -> tuple[Any, Any, Any]:
    """The situation's document without its clock, the counters, and the newest sequence."""
    with reading(engine, snapshot=True) as connection:
        whole = document(shown_at(connection, moment_asked(connection, None), PACKS, SETTINGS))
        newest = connection.execute(text("SELECT max(sequence), count(*) FROM change")).one()
    return orjson.dumps(whole), counted_now(engine), tuple(newest)


def test_every_base_station_of_two_districts_reads_two_and_the_real_situation_stays(
    city: Engine,
) -> None:
    before = real(city)
    answer = run(city, TWO)
    supposed = answer["hypothetical"]["plans"][COMMS]
    assert supposed["level"] == 2
    assert "1.6.2(1)" in [f["clause"] for f in supposed["findings"]]
    assert answer["present"]["plans"][COMMS]["level"] is None
    change = answer["difference"]["plans"][COMMS]
    assert (change["from"]["level"], change["to"]["level"]) == (None, 2)
    assert {d["adcode"] for d in answer["difference"]["districts"]} == {YUZHONG, NANAN}
    assert answer["changed"] == {"base_station": {"up→down": 20}}
    assert real(city) == before


def test_what_is_supposed_is_what_the_situation_says_once_it_is_so(city: Engine) -> None:
    """The same facilities really down give the same figures and levels."""
    chosen = [f"B{YUZHONG}-{i}" for i in range(7)] + [f"S{NANAN}-0", f"S{SHAPINGBA}-1"]
    send(city, *(event(f"u{i}", one, "unknown", ago(minutes=5)) for i, one in enumerate(chosen)))
    supposed = run(city, {"facilities": chosen, "state": "down"})["hypothetical"]
    send(city, *(event(f"d{i}", one, "down", ago(minutes=1)) for i, one in enumerate(chosen)))
    whole = situation_now(city, PACKS, SETTINGS)
    for row, was in zip(supposed["districts"], whole["districts"], strict=True):
        for name in ("facilities", "load", "customers", "plans"):
            assert row[name] == was[name], name
    for plan in (COMMS, POWER):
        for name in ("level", "bounds"):
            assert supposed["plans"][plan][name] == whole["plans"][plan][name]
    assert supposed["plans"][POWER]["current"]["facts"] == whole["plans"][POWER]["current"]["facts"]


def test_a_footprint_takes_what_stands_inside_and_a_later_change_wins(city: Engine) -> None:
    lon, lat = INSIDE[YUZHONG]
    circle = {
        "footprint": {"type": "Point", "coordinates": [lon, lat]},
        "radius_m": 2000,
        "state": "down",
    }
    answer = run(city, circle)
    assert answer["changed"] == {
        "base_station": {"up→down": 10},
        "substation": {"up→down": 2},
    }
    kept = run(city, circle, {"facilities": [f"B{YUZHONG}-0"], "state": "up"})
    rows = {d["adcode"]: d for d in kept["hypothetical"]["districts"]}
    assert rows[YUZHONG]["facilities"]["base_station"]["down"] == 9
    assert rows[YUZHONG]["load"]["load_shed_mw"] == 200


def test_a_scope_limits_what_can_be_chosen(city: Engine) -> None:
    own = Account("planner2", "planner", (YUZHONG,))
    answer = run(city, TWO, account=own)
    assert answer["changed"] == {"base_station": {"up→down": 10}}
    with pytest.raises(InvalidInput, match="not in the inventory"):
        run(city, {"facilities": [f"B{NANAN}-0"], "state": "down"}, account=own)


def test_a_supposed_outage_counts_the_substations_it_covers_once(city: Engine) -> None:
    lon, lat = INSIDE[YUZHONG]
    area = json.loads(
        shapely.to_geojson(shapely.box(lon - 0.01, lat - 0.01, lon + 0.01, lat + 0.01))
    )
    outage = {"outage": {"geometry": area, "load_shed_kw": 150_000, "customers_out": 700}}
    down = {"facilities": [f"S{YUZHONG}-0"], "state": "down"}
    for changes in ([outage], [down, outage]):
        row = next(
            d for d in run(city, *changes)["hypothetical"]["districts"] if d["adcode"] == YUZHONG
        )
        assert row["load"]["load_shed_mw"] == 150
        assert row["customers"]["out"] == 700


def test_a_restored_outage_gives_back_what_it_took(city: Engine) -> None:
    feature = {
        "type": "Feature",
        "geometry": None,
        "properties": {
            "outage_id": "O1",
            "revision": 1,
            "facility_ids": [f"S{YUZHONG}-0"],
            "load_shed_kw": 80_000,
            "customers_out": 500,
            "started_at": ago(hours=1),
        },
    }
    store_outage(city, feature, body=orjson.dumps(feature), account="utility")
    answer = run(city, {"restore": {"outages": ["O1"]}})

    def shed(side: str) -> Any:
        rows = answer[side]["districts"]
        return next(d["load"]["load_shed_mw"] for d in rows if d["adcode"] == YUZHONG)

    assert (shed("present"), shed("hypothetical")) == (80, 0)
    power = answer["hypothetical"]["plans"][POWER]
    assert power["current"]["facts"]["city"]["load_shed_mw"] == 0
    with pytest.raises(InvalidInput, match="no open outage"):
        run(city, {"restore": {"outages": ["O2"]}})


def test_a_past_moment_is_the_ground_of_a_scenario(city: Engine) -> None:
    before = datetime.now(UTC)
    send(city, *(event(f"e{i}", f"B{YUZHONG}-{i}", "down", ago(minutes=1)) for i in range(10)))
    now = run(city, {"adcodes": [NANAN], "kind": "base_station", "state": "down"})
    then = run(
        city,
        {"adcodes": [NANAN], "kind": "base_station", "state": "down"},
        at=before.isoformat(),
    )
    assert now["hypothetical"]["plans"][COMMS]["level"] == 2
    assert then["hypothetical"]["plans"][COMMS]["level"] == 3
    assert then["sequence"] < now["sequence"]


def test_a_return_keeps_its_own_count_and_leaves_the_rest_open(city: Engine) -> None:
    body = {
        "return_id": "R1",
        "operator": "mobile",
        "kind": "base_station",
        "as_of": ago(seconds=30),
        "rows": [{"adcode": YUZHONG, "total": 5, "down": 2}],
    }
    store_return(city, body, body=orjson.dumps(body), account="utility", operators=("*",))
    named = [f"B{YUZHONG}-0", f"B{YUZHONG}-2", f"B{YUZHONG}-4"]  # three of mobile's five
    answer = run(city, {"facilities": named, "state": "down"})
    row = next(d for d in answer["hypothetical"]["districts"] if d["adcode"] == YUZHONG)
    counts = row["facilities"]["base_station"]
    # certain is what is named; whether the two reported are among them nobody knows
    assert (counts["total"], counts["down"], counts["unknown"]) == (10, 3, 2)


# --- the hours after --------------------------------------------------------------------------


def hung(divided: Engine) -> Engine:
    lon, lat = INSIDE[YUZHONG]
    rows = [facility("S1", lon, lat, load_kw=200_000, customers=2_000)]
    rows += substations()
    for i, one in enumerate([*stations(YUZHONG, 10), *stations(NANAN, 10)]):
        # six in each district hang on S1 and last 2 h 6 min or 4 h 30 min
        hours = 2.1 if one["facility_id"].startswith(f"B{YUZHONG}") else 4.5
        fed = i % 10 < 6
        rows.append(one | {"feeds_from": "S1" if fed else None, "battery_hours": hours})
    rows += [
        facility(
            f"L{i}",
            lon,
            lat - i * 1e-4,
            kind="special_equipment",
            operator="",
            feeds_from="S1",
            attributes='{"equipment": "elevator"}' if i else '{"equipment": "boiler"}',
        )
        for i in range(4)
    ]
    bring(divided, *rows)
    send(divided, event("hello", f"B{YUZHONG}-0", "up", ago(minutes=1)))
    return divided


def test_levels_cross_at_the_minute_the_batteries_say(divided: Engine) -> None:
    engine = hung(divided)
    before = real(engine)
    stranded = {
        "incident": {"kind": "elevator", "adcode": YUZHONG, "facts": {"people_stranded": 3}}
    }
    answer = run(engine, {"facilities": ["S1"], "state": "down"}, stranded, hours=6)
    cascade = answer["cascade"]
    assert cascade["falls"] == [
        {"minute": 0, "kind": "special_equipment", "facilities": 4},
        {"minute": 126, "kind": "base_station", "facilities": 6},
        {"minute": 270, "kind": "base_station", "facilities": 6},
    ]
    rows = {row["minute"]: row for row in cascade["timeline"]}
    assert rows[0]["lifts_stopped"] == 3
    assert rows[0]["plans"][COMMS] is None
    assert rows[0]["plans"][POWER] is not None
    assert (rows[126]["plans"][COMMS], rows[270]["plans"][COMMS]) == (3, 2)
    assert 125 not in rows
    special = [row["plans"][SPECIAL] for row in cascade["timeline"]]
    assert special[0] is not None or any(level is not None for level in special)
    assert rows[270]["fallen"] == {"base_station": 12, "special_equipment": 4}
    assert real(engine) == before


def test_stopped_lifts_alone_are_graded_by_no_plan(divided: Engine) -> None:
    cascade = run(hung(divided), {"facilities": ["S1"], "state": "down"}, hours=1)["cascade"]
    assert cascade["lifts_stopped"] == 3
    assert all(row["plans"][SPECIAL] is None for row in cascade["timeline"])
    assert cascade["fallen"] == {"special_equipment": 4}


def test_a_generator_keeps_what_it_feeds(divided: Engine) -> None:
    kept = [f"B{YUZHONG}-{i}" for i in range(6)]
    answer = run(
        hung(divided),
        {"facilities": ["S1"], "state": "down"},
        {"facilities": kept, "state": "up"},
        hours=6,
    )
    assert [f["minute"] for f in answer["cascade"]["falls"]] == [0, 270]


@pytest.mark.parametrize("seed", range(3))
def test_the_timeline_is_what_each_minute_says_by_itself(divided: Engine, seed: int) -> None:
    """Against one evaluation per minute, with everything that has fallen by then named."""
    rng = np.random.default_rng(seed)
    batteries = {
        one["facility_id"]: float(rng.integers(0, 40)) / 10
        for adcode in INSIDE
        for one in stations(adcode, 10)
    }
    rows = [one for adcode in INSIDE for one in stations(adcode, 10)]
    lon, lat = INSIDE[SHAPINGBA]
    bring(
        divided,
        facility("S1", lon, lat, load_kw=1_000),
        *(
            one | {"feeds_from": "S1", "battery_hours": batteries[one["facility_id"]]}
            for one in rows
        ),
    )
    lost = {"facilities": ["S1"], "state": "down"}
    timeline = run(divided, lost, hours=5)["cascade"]["timeline"]
    found = [(row["minute"], row["plans"][COMMS]) for row in timeline]
    expected: list[tuple[int, Any]] = []
    before: Any = None
    for minute in sorted({0, *(round(hours * 60) for hours in batteries.values())}):
        gone = [name for name, hours in batteries.items() if round(hours * 60) <= minute]
        side = run(divided, {"facilities": ["S1", *gone], "state": "down"})["hypothetical"]
        levels = (
            side["plans"][COMMS]["level"],
            [d["plans"][COMMS] for d in side["districts"]],
        )
        if levels != before:
            expected.append((minute, levels[0]))
        before = levels
    assert found == expected
    assert len(found) > 3


# --- kept scenarios ---------------------------------------------------------------------------


@pytest.fixture
def owners(divided_owner: Engine) -> dict[str, Account]:
    with divided_owner.begin() as connection:
        for name in ("planner", "other"):
            connection.execute(
                text(
                    "INSERT INTO account (username, role, districts, password_hash)"
                    " VALUES (:name, 'planner', '{*}', 'x')"
                ),
                {"name": name},
            )
    return {name: Account(name, "planner", ("*",)) for name in ("planner", "other")}


def keep(engine: Engine, account: Account, name: str, *changes: Any, shared: bool = False) -> Any:
    scenario = read_scenario({"changes": list(changes)}, parse_at)
    result = evaluate(engine, scenario, PACKS, SETTINGS, account=account)
    return save_scenario(
        engine,
        name=name,
        shared=shared,
        body=scenario.body,
        body_sha256=same_body(scenario),
        result=result,
        account=account,
    )


def test_kept_scenarios_are_listed_shared_and_retired_and_change_nothing(
    city: Engine, divided_database_url: str, owners: dict[str, Account]
) -> None:
    before = real(city)
    mine, other = owners["planner"], owners["other"]
    saved = keep(city, mine, "two districts", TWO)
    assert saved.status == "created"
    scenario_id = read_id(saved.json)
    assert saved.json["result"]["hypothetical"]["plans"][COMMS]["level"] == 2
    assert keep(city, mine, "two districts", TWO).status == "identical"
    with pytest.raises(Conflict):
        keep(city, mine, "two districts", {**TWO, "adcodes": [YUZHONG]})
    assert keep(city, other, "two districts", TWO).status == "created"
    with pytest.raises(NotFound):
        read_saved(city, scenario_id, other)
    share_scenario(city, scenario_id, True, mine)
    assert read_saved(city, scenario_id, other)["owner"] == "planner"
    assert len(list_scenarios(city, other)) == 2
    with pytest.raises(NotAllowed):
        retire_scenario(city, scenario_id, other)
    retire_scenario(city, scenario_id, mine)
    assert list_scenarios(city, mine) == []
    assert keep(city, mine, "two districts", {**TWO, "adcodes": [YUZHONG]}).status == "created"
    assert real(city) == before
    builder = Builder(city, divided_database_url, PACKS, SETTINGS)
    assert builder.build_once() == before[2][0]
    assert builder.build_once() is None


def read_id(saved: dict[str, Any]) -> Any:
    from uuid import UUID

    return UUID(saved["scenario_id"])


WRONG: dict[str, tuple[Any, str]] = {
    "no changes": ({}, "must be a list"),
    "no form": ({"changes": [{}]}, "exactly one"),
    "two forms": ({"changes": [{"facilities": ["a"], "outage": {}}]}, "exactly one"),
    "no state": ({"changes": [{"facilities": ["a"]}]}, "state: is missing"),
    "odd state": ({"changes": [{"facilities": ["a"], "state": "broken"}]}, "must be one of"),
    "no ids": ({"changes": [{"facilities": [], "state": "down"}]}, "at least one"),
    "no kind": ({"changes": [{"adcodes": [YUZHONG], "state": "down"}]}, "kind"),
    "bad footprint": (
        {"changes": [{"footprint": {"type": "Point", "coordinates": [1, 2]}, "state": "down"}]},
        "radius_m",
    ),
    "hours": ({"changes": [], "hours": 1e6}, "hours"),
    "future": (
        {"changes": [], "at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()},
        "future",
    ),
    "list": ([], "JSON object"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_scenario_is_refused_with_what_would_be_right(name: str) -> None:
    body, said = WRONG[name]
    with pytest.raises(InvalidInput, match=said):
        read_scenario(body, parse_at)


def test_a_district_or_facility_unknown_then_is_refused(city: Engine) -> None:
    with pytest.raises(InvalidInput, match="500105"):
        run(city, {"adcodes": ["500105"], "kind": "base_station", "state": "down"})
    with pytest.raises(InvalidInput, match="not in the inventory"):
        run(city, {"facilities": ["nowhere"], "state": "down"})
