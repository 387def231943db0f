"""Properties that hold of every plan and any facts."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from data.rulepacks import load_packs
from geo.grade import assess, district_levels

PACKS = load_packs()
COMMS = PACKS.current("communications-2024")
POWER = PACKS.current("power-outage-2021")
SPECIAL = PACKS.current("special-equipment-2023")
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)

Facts = dict[str, Any]
FLAGS = st.sampled_from([None, True, False])
EQUIPMENT = SPECIAL.schema.groups[""].facts["equipment"].values
DAMAGE = {
    "deaths": [0, 1, 2, 3, 9, 10, 29, 30],
    "serious_injuries": [0, 1, 9, 10, 49, 50, 100],
    "direct_loss_yuan": [0, 9999.99, 10000, 10**7, 5 * 10**7, 10**8],
    "boiler_mw": [0, 599.9, 600, 700],
    "shutdown_hours": [0, 239.9, 240],
    "people_relocated": [0, 499, 500, 10000, 50000, 150000],
    "people_stranded": [0, 1, 99, 100],
    "stranded_hours": [0, 0.5, 1, 2, 3.5, 11.9, 12, 24, 47.9, 48],
}
TRUTHS = [
    "exploded",
    "safety_fault",
    "toxic_leak",
    "overturned",
    "structure_broken",
    "hoist_fell",
]


def gravity(level: int | None) -> int:
    return 0 if level is None else 5 - level


@st.composite
def comms_row(draw: st.DrawFn) -> Facts:
    total = draw(st.integers(0, 12))
    down = draw(st.integers(0, total))
    unknown = draw(st.integers(0, total - down))
    row = {"facilities_total": total, "facilities_down": down, "facilities_unknown": unknown}
    for name in row:
        if draw(st.integers(0, 4)) == 0:
            row[name] = None  # type: ignore[assignment]
    return row


@st.composite
def grid(draw: st.DrawFn) -> Facts:
    load = draw(st.sampled_from([0, 1, 100, 149.999, 150, 150.001, 400]))
    customers = draw(st.integers(0, 20))
    row = {
        "load_mw": load,
        "load_shed_mw": round(load * draw(st.integers(0, 20)) / 20, 6),
        "customers": customers,
        "customers_out": draw(st.integers(0, customers)),
    }
    for name in row:
        if draw(st.integers(0, 4)) == 0:
            row[name] = None
    return row


@st.composite
def comms_facts(draw: st.DrawFn) -> Facts:
    rows = draw(st.lists(comms_row(), max_size=4))
    facts: Facts = {"districts": [{"adcode": str(500101 + n), **r} for n, r in enumerate(rows)]}
    facts["district_key_service_down"] = draw(FLAGS)
    facts["national_response"] = draw(st.sampled_from([None, "IV", "III"]))
    return facts


@st.composite
def power_facts(draw: st.DrawFn) -> Facts:
    rows = draw(st.lists(grid(), max_size=3))
    facts: Facts = {"districts": [{"adcode": str(500101 + n), **r} for n, r in enumerate(rows)]}
    facts["city"] = draw(st.none() | grid())
    return facts


@st.composite
def special_facts(draw: st.DrawFn) -> Facts:
    facts: Facts = {"equipment": draw(st.none() | st.sampled_from(EQUIPMENT))}
    for name, values in DAMAGE.items():
        facts[name] = draw(st.sampled_from([None, values[0], *values]))
    for name in TRUTHS:
        facts[name] = draw(FLAGS)
    sites = [None, None, None, "building_site", "ship"]
    facts["site"] = draw(st.sampled_from(sites))
    facts["possible"] = draw(st.sampled_from([None, False, True]))
    return facts


PLANS = st.one_of(
    st.tuples(st.just(COMMS), comms_facts()),
    st.tuples(st.just(POWER), power_facts()),
    st.tuples(st.just(SPECIAL), special_facts()),
)


@given(PLANS)
@settings(max_examples=200, deadline=None)
def test_the_level_lies_within_its_bounds_and_the_findings_agree(given_: Any) -> None:
    pack, facts = given_
    found = assess(pack, facts, now=NOW)
    level, bounds = gravity(found["level"]), found["bounds"]
    assert gravity(bounds["at_least"]) <= level <= gravity(bounds["at_most"])
    assert level == max((gravity(f["level"]) for f in found["findings"]), default=0)
    assert all(gravity(entry["level"]) > level for entry in found["next"])
    for entry in found["next"]:
        assert entry["short_by"] is None or entry["short_by"] > 0
    if gravity(bounds["at_most"]) > level:
        assert found["unknown"]


@given(PLANS, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_the_order_of_districts_never_matters(given_: Any, random: Any) -> None:
    pack, facts = given_
    shuffled = copy.deepcopy(facts)
    random.shuffle(shuffled.setdefault("districts", [])) if pack is not SPECIAL else None
    if pack is SPECIAL:
        shuffled.pop("districts", None)
    first, second = assess(pack, facts, now=NOW), assess(pack, shuffled, now=NOW)
    assert {**first, "facts": None} == {**second, "facts": None}
    assert district_levels(pack, facts, NOW) == district_levels(pack, shuffled, NOW)


def fill_comms(facts: Facts, draw: Any) -> Facts:
    """Any completion: unknown facilities turn up or down, null numbers take an allowed value."""
    for row in facts["districts"]:
        unknown = row["facilities_unknown"] or 0
        down, total = row["facilities_down"], row["facilities_total"]
        if total is None:
            total = (down or 0) + unknown + draw(st.integers(0, 30))
        more = draw(st.integers(0, unknown)) if down is not None else 0
        down = draw(st.integers(0, total)) if down is None else down + more
        row |= {"facilities_total": total, "facilities_down": down, "facilities_unknown": 0}
    return facts


def fill_grid(row: Facts, draw: Any) -> Facts:
    for part, whole, most in (("load_shed_mw", "load_mw", 600), ("customers_out", "customers", 40)):
        amounts = (
            st.integers(0, most)
            if whole == "customers"
            else st.sampled_from([0, 1, 40, 149.999, 150, 200, 600])
        )
        if row.get(whole) is None:
            row[whole] = max(draw(amounts), row.get(part) or 0)
        if row.get(part) is None:
            share = draw(st.integers(0, 20))
            row[part] = (
                row[whole] * share // 20
                if whole == "customers"
                else round(row[whole] * share / 20, 9)
            )
    return row


def fill_power(facts: Facts, draw: Any) -> Facts:
    facts["city"] = fill_grid(facts["city"] or {}, draw)
    facts["districts"] = [fill_grid(row, draw) for row in facts["districts"]]
    return facts


def fill_special(facts: Facts, draw: Any) -> Facts:
    if facts["equipment"] is None:
        facts["equipment"] = draw(st.sampled_from(EQUIPMENT))
    someone = facts["people_stranded"] is None and (facts["stranded_hours"] or 0) > 0
    for name, values in DAMAGE.items():
        if facts[name] is None:
            low = 1 if name == "people_stranded" and someone else 0
            facts[name] = draw(st.sampled_from([v for v in values if v >= low]))
    for name in TRUTHS:
        if facts[name] is None:
            facts[name] = draw(st.booleans())
    return facts


FILL = {COMMS.plan: fill_comms, POWER.plan: fill_power, SPECIAL.plan: fill_special}


@given(PLANS, st.data())
@settings(max_examples=200, deadline=None)
def test_filling_the_unknown_gives_a_level_within_the_bounds(given_: Any, data: Any) -> None:
    pack, facts = given_
    bounds = assess(pack, facts, now=NOW)["bounds"]
    filled = FILL[pack.plan](copy.deepcopy(facts), data.draw)
    found = assess(pack, filled, now=NOW)
    assert gravity(bounds["at_least"]) <= gravity(found["level"]) <= gravity(bounds["at_most"])


@given(comms_facts(), st.data())
@settings(max_examples=200, deadline=None)
def test_more_facilities_down_never_lower_the_level(facts: Facts, data: Any) -> None:
    worse = copy.deepcopy(facts)
    for row in worse["districts"]:
        down, total = row["facilities_down"], row["facilities_total"]
        if down is not None:
            most = down + 9 if total is None else total - (row["facilities_unknown"] or 0)
            row["facilities_down"] = data.draw(st.integers(down, most))
    assert_no_lower(COMMS, facts, worse)


@given(power_facts(), st.data())
@settings(max_examples=200, deadline=None)
def test_more_load_or_customers_lost_never_lower_the_level(facts: Facts, data: Any) -> None:
    worse = copy.deepcopy(facts)
    for row in [*worse["districts"], worse["city"] or {}]:
        for part, whole in (("load_shed_mw", "load_mw"), ("customers_out", "customers")):
            if row.get(part) is not None:
                most = row[part] + 200 if row[whole] is None else row[whole]
                step = data.draw(st.integers(0, 4))
                more = (most - row[part]) * step / 4
                row[part] += round(more, 6) if part == "load_shed_mw" else int(more)
                if row[whole] is not None:
                    row[part] = min(row[part], row[whole])
    assert_no_lower(POWER, facts, worse)


@given(special_facts(), st.data())
@settings(max_examples=200, deadline=None)
def test_more_harm_never_lowers_the_level_of_an_incident(facts: Facts, data: Any) -> None:
    worse = dict(facts)
    for name, values in DAMAGE.items():
        if facts[name] is not None:
            worse[name] = data.draw(st.sampled_from([v for v in values if v >= facts[name]]))
    for name in TRUTHS:
        if facts[name] is False:
            worse[name] = data.draw(st.booleans())
    assert_no_lower(SPECIAL, facts, worse)


def assert_no_lower(pack: Any, facts: Facts, worse: Facts) -> None:
    before, after = assess(pack, facts, now=NOW), assess(pack, worse, now=NOW)
    assert gravity(after["level"]) >= gravity(before["level"])
    assert gravity(after["bounds"]["at_least"]) >= gravity(before["bounds"]["at_least"])


@given(PLANS)
@settings(max_examples=200, deadline=None)
def test_adding_what_next_asks_for_reaches_the_criterion(given_: Any) -> None:
    """The amount named is enough for a single number, and one step less is not."""
    pack, facts = given_
    if pack is not SPECIAL:
        return
    for entry in assess(pack, facts, now=NOW)["next"]:
        if entry["short_by"] is None or entry.get("unknown") or entry.get("also"):
            continue
        reached = {**facts, entry["metric"]: facts[entry["metric"]] + entry["short_by"]}
        again = assess(pack, reached, now=NOW)
        assert entry["clause"] in {f["clause"] for f in again["findings"]}
