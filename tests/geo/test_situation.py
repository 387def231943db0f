"""What is known becomes what is shown: hand-made frames, the real rule packs."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.rulepacks import load_packs
from geo.coverage import AreaShare
from geo.power import Loss, Supply
from geo.situation import (  # fmt: skip
    COUNTS,
    Known,
    NoiseFloor,
    Situation,
    facility_facts,
    situation,
    with_returns,
)

PACKS = load_packs()
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
COMMS, POWER, SPECIAL = "communications-2024", "power-outage-2021", "special-equipment-2023"
FLOOR = NoiseFloor(fewer_than_sites=3, under_share=0.01)
QIJIANG, SHAPINGBA, JIULONGPO, YUZHONG = "500110", "500106", "500107", "500103"
DISTRICTS = (YUZHONG, SHAPINGBA, JIULONGPO, QIJIANG)
WANSHENG = {"code": "Z-WS", "name": "万盛经开区", "kind": "functional_zone", "adcodes": [QIJIANG]}
HIGH_TECH = {
    "code": "Z-GX",
    "name": "高新区",
    "kind": "functional_zone",
    "adcodes": [SHAPINGBA, JIULONGPO],
}
KEYS = ["kind", "operator", "adcode", "unit"]

Row = tuple[str | None, str | None, int, int, int]


def frame(
    rows: Sequence[Row], kind: str = "base_station", operator: str = "mobile"
) -> pd.DataFrame:
    """Rows of (adcode, unit, total, down, unknown)."""
    made = [
        {"kind": kind, "operator": operator, "adcode": a, "unit": u}
        | {"total": t, "unknown": x, "degraded": 0, "down": d}
        for a, u, t, d, x in rows
    ]
    return pd.DataFrame(made, columns=[*KEYS, *COUNTS]).astype(dict.fromkeys(COUNTS, "int64"))


def known(counts: pd.DataFrame | None = None, **more: Any) -> Known:
    zones = more.pop("zones", [])
    own = [{"code": c, "name": c, "kind": "district", "adcodes": [c]} for c in DISTRICTS]
    base: dict[str, Any] = {
        "districts": [
            {"adcode": c, "name": c, "name_en": None, "population": 1_000, "area_m2": 1e9}
            for c in DISTRICTS
        ],
        "units": [*own, *zones],
        "counts": frame([]) if counts is None else counts,
        "now": NOW,
        "supply_kinds": ("substation",),
    }
    return Known(**(base | more))


def shown(what: Known) -> Situation:
    return situation(what, PACKS.in_force(NOW), FLOOR)


def comms(what: Known) -> dict[str, Any]:
    return shown(what).plans[COMMS]


def row_of(result: Situation, adcode: str) -> dict[str, Any]:
    return next(d for d in result.districts if d["adcode"] == adcode)


# --- units, districts and zones ---------------------------------------------------------------


def test_a_zone_and_its_host_are_two_units_and_each_facility_is_in_one() -> None:
    counts = frame([(QIJIANG, QIJIANG, 10, 0, 0), (QIJIANG, "Z-WS", 10, 10, 0)])
    result = shown(known(counts, zones=[WANSHENG]))
    found = result.plans[COMMS]
    assert [f["adcode"] for f in found["facts"]["districts"]] == [QIJIANG, "Z-WS"]
    assert found["findings"][0]["districts"] == ["Z-WS"]
    assert found["level"] == 3
    district = row_of(result, QIJIANG)
    assert district["facilities"]["base_station"]["total"] == 20
    assert district["facilities"]["base_station"]["share_down"] == 0.5
    assert district["plans"][COMMS] == 3  # what its zone has concerns the host
    assert row_of(result, SHAPINGBA)["plans"][COMMS] is None


def test_one_outage_across_a_zone_and_its_host_does_not_count_as_more_than_these_two() -> None:
    # A zone over two districts: three units are hit, and each facility only once.
    counts = frame(
        [
            (SHAPINGBA, SHAPINGBA, 10, 10, 0),
            (SHAPINGBA, "Z-GX", 4, 2, 0),
            (JIULONGPO, "Z-GX", 6, 3, 0),
            (JIULONGPO, JIULONGPO, 10, 0, 0),
        ]
    )
    found = comms(known(counts, zones=[HIGH_TECH]))
    facts = {f["adcode"]: f for f in found["facts"]["districts"]}
    assert (facts["Z-GX"]["facilities_total"], facts["Z-GX"]["facilities_down"]) == (10, 5)
    assert sum(f["facilities_total"] for f in facts.values()) == 30
    assert sorted(found["findings"][0]["districts"]) == sorted([SHAPINGBA, "Z-GX"])


def test_facilities_outside_the_city_are_graded_nowhere_and_lost_nowhere() -> None:
    counts = frame([(None, None, 5, 5, 0), (YUZHONG, YUZHONG, 10, 0, 0)])
    result = shown(known(counts))
    assert result.plans[COMMS]["level"] is None
    assert [f["adcode"] for f in result.plans[COMMS]["facts"]["districts"]] == [YUZHONG]
    assert sum(d["facilities"]["base_station"]["total"] for d in result.districts) == 10


def test_all_operators_are_pooled_and_only_the_graded_kinds_count() -> None:
    counts = pd.concat(
        [
            frame([(YUZHONG, YUZHONG, 6, 5, 0)], operator="mobile"),
            frame([(YUZHONG, YUZHONG, 4, 0, 0)], operator="telecom"),
            frame([(YUZHONG, YUZHONG, 90, 90, 0)], kind="tower"),
        ]
    )
    found = comms(known(counts))
    assert found["facts"]["districts"] == [
        {"adcode": YUZHONG, "facilities_total": 10, "facilities_down": 5, "facilities_unknown": 0}
    ]
    assert found["level"] == 3


# --- nothing and unknown ----------------------------------------------------------------------


def test_an_empty_inventory_is_shown_as_nothing_and_not_as_an_error() -> None:
    result = shown(known())
    assert [d["adcode"] for d in result.districts] == list(DISTRICTS)
    for plan in result.plans.values():
        assert (plan["level"], plan["findings"]) == (None, [])
    assert result.plans[POWER]["event"] is None
    for district in result.districts:
        assert district["facilities"] == {}
        assert district["load"] == {"load_mw": 0.0, "load_shed_mw": 0.0, "share": None}
        assert district["customers"] == {"total": 0, "out": 0, "share": None}
        assert district["population_affected"] is None
        assert district["level"] is None


def test_nothing_of_nothing_is_no_share_and_no_finding() -> None:
    counts = frame([(YUZHONG, YUZHONG, 0, 0, 0), (SHAPINGBA, SHAPINGBA, 4, 0, 0)])
    result = shown(known(counts))
    assert row_of(result, YUZHONG)["facilities"]["base_station"]["share_down"] is None
    assert row_of(result, SHAPINGBA)["facilities"]["base_station"]["share_down"] == 0.0
    assert result.plans[COMMS]["findings"] == []


def test_a_silent_operator_widens_the_bounds_and_moves_nothing_else() -> None:
    counts = frame([(YUZHONG, YUZHONG, 10, 1, 2)])
    heard = shown(known(counts))
    silent = shown(known(counts, silent=frozenset({"mobile"})))
    assert heard.plans[COMMS]["level"] == silent.plans[COMMS]["level"] == 4
    assert heard.plans[COMMS]["bounds"] == {"at_least": 4, "at_most": 4}
    assert silent.plans[COMMS]["bounds"] == {"at_least": 4, "at_most": 3}
    assert silent.plans[COMMS]["facts"]["districts"][0]["facilities_unknown"] == 9
    assert silent.districts == heard.districts


def test_of_two_operators_only_the_silent_ones_sites_are_unknown() -> None:
    counts = pd.concat(
        [
            frame([(YUZHONG, YUZHONG, 10, 1, 2)], operator="mobile"),
            frame([(YUZHONG, YUZHONG, 8, 0, 1)], operator="telecom"),
        ]
    )
    facts = facility_facts(known(counts, silent=frozenset({"telecom"})), ["base_station"])
    assert facts[0]["facilities_unknown"] == 2 + 8


@pytest.mark.parametrize(
    ("population", "shares", "expected"),
    [
        (1_000, {}, None),
        (1_000, {"substation": (0.2505, 0.1)}, 251),
        (1_000, {"substation": (0.0, 0.0)}, 0),
        (1_000, {"substation": (1.0, 1.0)}, 1_000),
        (None, {"substation": (0.5, 0.5)}, None),
        (1_000, {"base_station": (0.9, 0.9)}, None),
        (1, {"substation": (0.5, 0.5)}, 1),
    ],
)
def test_people_affected_are_the_areas_share_or_not_known(
    population: int | None, shares: Mapping[str, tuple[float, float]], expected: int | None
) -> None:
    found = {kind: AreaShare(*share, "sampled") for kind, share in shares.items()}
    what = known(area_share={kind: {YUZHONG: share} for kind, share in found.items()})
    what.districts[0]["population"] = population
    row = row_of(shown(what), YUZHONG)
    assert row["population_affected"] == expected
    assert row["area_share"] == {k: s._asdict() for k, s in found.items()}
    assert all(set(one) == {"any", "all", "method"} for one in row["area_share"].values())


# --- noise floor ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("total", "down", "below"),
    [(1_000, 1, True), (1_000, 2, True), (1_000, 3, False), (200, 1, True), (200, 2, False), (100, 1, False), (1, 1, False)],
)  # fmt: skip
def test_few_sites_and_a_small_share_are_below_the_noise_floor(
    total: int, down: int, below: bool
) -> None:
    found = comms(known(frame([(YUZHONG, YUZHONG, total, down, 0)])))
    assert found["level"] is not None
    assert found["below_noise_floor"] is below


def test_one_unit_above_the_floor_is_enough_and_a_declared_fact_is_never_noise() -> None:
    counts = frame([(YUZHONG, YUZHONG, 1_000, 1, 0), (SHAPINGBA, SHAPINGBA, 1_000, 5, 0)])
    assert comms(known(counts))["below_noise_floor"] is False
    quiet = frame([(YUZHONG, YUZHONG, 1_000, 1, 0)])
    declared = {COMMS: {"district_key_service_down": True}}
    assert comms(known(quiet, declared=declared))["below_noise_floor"] is False
    assert comms(known(frame([(YUZHONG, YUZHONG, 1_000, 0, 0)])))["below_noise_floor"] is False


# --- declared ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "level"),
    [
        ({"national_response": "I"}, 1), ({"national_response": "II"}, 1), ({"national_response": "III"}, 2),
        ({"national_response": "IV"}, 3), ({"national_response": None}, 4), ({}, 4),
        ({"exceeds_city_capacity": True}, 1), ({"municipal_key_service_down": True}, 2),
        ({"district_key_service_down": True}, 3), ({"district_key_service_down": False}, 4),
    ],
)  # fmt: skip
def test_declared_facts_raise_the_level(declared: dict[str, Any], level: int) -> None:
    counts = frame([(YUZHONG, YUZHONG, 10, 1, 0)])
    result = shown(known(counts, declared={COMMS: declared}))
    assert result.plans[COMMS]["level"] == level
    assert row_of(result, YUZHONG)["plans"][COMMS] == 4, "a district has its own facts alone"


# --- power ------------------------------------------------------------------------------------


def supplied(**mw: int) -> dict[tuple[str | None, bool], Supply]:
    return {(code.removeprefix("d"), True): Supply(load_kw=v * 1000) for code, v in mw.items()}


def test_the_plans_level_is_the_worst_moment_and_the_districts_are_now() -> None:
    hour = timedelta(hours=1)
    losses = [
        Loss(YUZHONG, True, 40_000, 0, NOW - 3 * hour, NOW - 2 * hour),
        Loss(SHAPINGBA, True, 6_000, 0, NOW - hour),
    ]
    what = known(supply=supplied(d500103=100, d500106=100), losses=losses)
    result = shown(what)
    found = result.plans[POWER]
    assert (found["level"], found["current"]["level"]) == (2, None)
    assert found["event"]["worst_at"] == (NOW - 3 * hour).isoformat()
    assert found["bounds"]["at_least"] == 2
    assert row_of(result, YUZHONG)["load"]["load_shed_mw"] == 0
    assert row_of(result, YUZHONG)["plans"][POWER] is None
    assert row_of(result, SHAPINGBA)["load"] == {"load_mw": 100.0, "load_shed_mw": 6.0, "share": 0.06}  # fmt: skip


def test_unknown_supply_widens_the_bounds_of_power() -> None:
    supply = {(YUZHONG, True): Supply(load_kw=100_000, load_unknown_kw=50_000, customers=10)}
    found = shown(known(supply=supply)).plans[POWER]
    assert found["level"] is None
    assert found["bounds"] == {"at_least": None, "at_most": 1}


# --- incidents --------------------------------------------------------------------------------


def incident(number: int, adcode: str | None, **facts: Any) -> dict[str, Any]:
    return {
        "incident_id": f"0000-{number}",
        "plan": SPECIAL,
        "adcode": adcode,
        "unit": adcode,
        "facts": {"equipment": "crane", **facts},
    }


def test_casualties_of_several_incidents_are_never_pooled() -> None:
    open_ = [incident(n, YUZHONG, deaths=2) for n in range(20)]
    result = shown(known(incidents=open_))
    found = result.plans[SPECIAL]
    assert (found["level"], found["incidents"]) == (4, 20)
    assert {f["incident_id"] for f in found["findings"]} == {i["incident_id"] for i in open_}
    assert row_of(result, YUZHONG)["incidents"][SPECIAL] == 20
    assert row_of(result, YUZHONG)["plans"][SPECIAL] == 4


def test_the_plans_assessment_is_the_gravest_incidents() -> None:
    open_ = [incident(1, YUZHONG, deaths=1), incident(2, SHAPINGBA, deaths=10), incident(3, None)]
    result = shown(known(incidents=open_))
    found = result.plans[SPECIAL]
    assert (found["level"], found["incident_id"]) == (2, "0000-2")
    assert found["findings"][0] | {"districts": [SHAPINGBA], "incident_id": "0000-2"} == found["findings"][0]  # fmt: skip
    levels = {d["adcode"]: d["plans"][SPECIAL] for d in result.districts}
    assert levels == {YUZHONG: 4, SHAPINGBA: 2, JIULONGPO: None, QIJIANG: None}


def test_an_incident_outside_the_city_is_graded_and_in_no_district() -> None:
    result = shown(known(incidents=[incident(1, None, deaths=5)]))
    assert result.plans[SPECIAL]["level"] == 3
    assert {d["plans"][SPECIAL] for d in result.districts} == {None}


def test_the_clock_wakes_at_the_next_change_of_any_incident() -> None:
    since = [NOW - timedelta(minutes=m) for m in (119, 30, 121)]
    open_ = [
        incident(n, YUZHONG, people_stranded=2, stranded_since=s.isoformat())
        | {
            "facts": {
                "equipment": "elevator",
                "people_stranded": 2,
                "stranded_since": s.isoformat(),
            }
        }
        for n, s in enumerate(since)
    ]
    assert shown(known(incidents=open_)).next_clock_at == NOW + timedelta(minutes=1)
    assert shown(known(incidents=[])).next_clock_at is None


# --- returns ----------------------------------------------------------------------------------


def returned(*rows: tuple[str, int, int], operator: str = "mobile") -> dict[str, Any]:
    listed = [{"code": c, "total": t, "down": d, "unknown": 0} for c, t, d in rows]
    return {"operator": operator, "kind": "base_station", "rows": listed}


def totals(counts: pd.DataFrame, by: str = "adcode") -> dict[Any, tuple[int, ...]]:
    sums = counts.groupby(by, dropna=False)[["total", "down", "unknown"]].sum()
    rows = zip(sums.index, sums.itertuples(index=False), strict=True)
    return {None if key != key else key: tuple(int(v) for v in row) for key, row in rows}


UNITS = [{"code": c, "adcodes": [c]} for c in DISTRICTS]


def test_a_return_replaces_the_sites_of_its_operator_and_kind_and_no_others() -> None:
    sites = pd.concat(
        [
            frame([(YUZHONG, YUZHONG, 10, 9, 0)], operator="mobile"),
            frame([(YUZHONG, YUZHONG, 5, 1, 0)], operator="telecom"),
            frame([(YUZHONG, YUZHONG, 3, 2, 0)], kind="exchange", operator="mobile"),
        ]
    )
    found = with_returns(sites, [returned((YUZHONG, 12, 4))], UNITS)
    assert totals(found, "operator") == {"mobile": (15, 6, 0), "telecom": (5, 1, 0)}
    assert len(found) == 3


def test_what_a_return_does_not_list_is_unknown_and_never_zero() -> None:
    sites = frame([(YUZHONG, YUZHONG, 10, 9, 0), (SHAPINGBA, SHAPINGBA, 7, 3, 1), (None, None, 2, 2, 0)])  # fmt: skip
    found = with_returns(sites, [returned((YUZHONG, 12, 4))], UNITS)
    assert totals(found) == {YUZHONG: (12, 4, 0), SHAPINGBA: (7, 0, 7), None: (2, 0, 2)}
    facts = facility_facts(known(found), ["base_station"])
    assert [f["facilities_unknown"] for f in facts] == [0, 7]


def test_a_return_for_sites_the_inventory_does_not_have_counts_all_the_same() -> None:
    found = with_returns(frame([]), [returned((YUZHONG, 12, 4))], UNITS)
    assert totals(found) == {YUZHONG: (12, 4, 0)}


def test_a_zones_return_is_divided_over_its_districts_by_the_inventory() -> None:
    sites = frame([(SHAPINGBA, "Z-GX", 30, 0, 0), (JIULONGPO, "Z-GX", 10, 0, 0)])
    found = with_returns(sites, [returned(("Z-GX", 40, 11))], [*UNITS, HIGH_TECH])
    assert totals(found) == {SHAPINGBA: (30, 8, 0), JIULONGPO: (10, 3, 0)}
    assert totals(found, "unit") == {"Z-GX": (40, 11, 0)}


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(0, 50), min_size=3, max_size=3),
    st.integers(0, 60), st.integers(0, 60), st.integers(0, 60),
)  # fmt: skip
def test_a_divided_return_keeps_its_sums_and_is_possible_in_every_district(
    sites: list[int], total: int, down: int, unknown: int
) -> None:
    down = min(down, total)
    unknown = min(unknown, total - down)
    hosts = [YUZHONG, SHAPINGBA, JIULONGPO]
    zone = {"code": "Z", "adcodes": hosts}
    one = returned(("Z", total, down))
    one["rows"][0]["unknown"] = unknown
    inventory = frame([(h, "Z", n, 0, 0) for h, n in zip(hosts, sites, strict=True)])
    found = with_returns(inventory, [one], [*UNITS, zone])
    assert totals(found, "unit") == {"Z": (total, down, unknown)}
    for t, d, u in totals(found).values():
        assert d >= 0
        assert u >= 0
        assert d + u <= t


def test_no_returns_leave_the_sites_alone() -> None:
    sites = frame([(YUZHONG, YUZHONG, 10, 9, 0)])
    assert with_returns(sites, [], UNITS) is sites


# --- order ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_districts_counts_incidents_and_losses_does_not_matter(seed: int) -> None:
    source = random.Random(seed)
    rows = [(c, c, source.randint(1, 40), 0, 0) for c in DISTRICTS]
    counts = frame([(a, u, t, source.randint(0, t), 0) for a, u, t, _, _ in rows])
    losses = [
        Loss(c, True, source.randint(0, 90_000), 3, NOW - timedelta(hours=source.randint(1, 5)))
        for c in DISTRICTS
    ]
    supply = {(c, True): Supply(load_kw=100_000, customers=10) for c in DISTRICTS}
    open_ = [incident(n, c, deaths=n) for n, c in enumerate(DISTRICTS)]
    first = known(counts, losses=losses, supply=supply, incidents=open_, zones=[HIGH_TECH])
    other = known(
        counts.sample(frac=1, random_state=seed), losses=source.sample(losses, 4),
        supply=dict(reversed(supply.items())), incidents=open_, zones=[HIGH_TECH],
    )  # fmt: skip
    source.shuffle(other.districts)
    a, b = shown(first), shown(other)
    assert {p: x["level"] for p, x in a.plans.items()} == {
        p: x["level"] for p, x in b.plans.items()
    }
    assert sorted(a.districts, key=lambda d: d["adcode"]) == sorted(b.districts, key=lambda d: d["adcode"])  # fmt: skip
    assert a.plans[COMMS] == b.plans[COMMS]
    for finding in ("findings", "bounds"):
        assert a.plans[POWER][finding] == b.plans[POWER][finding]
