"""Shares by count, load, customers and population, from facilities to districts."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.aggregate import STATES, count_shares, customer_shares, load_shares, population_affected
from geo.errors import InvalidInput

A, B = "500101", "500102"


def inventory(*rows: tuple) -> pd.DataFrame:
    columns = ["adcode", "kind", "operator", "state", "load_kw", "customers", "main_grid"]
    frame = pd.DataFrame(
        [(*row, *(None,) * (7 - len(row))) for row in rows], columns=columns, dtype=object
    )
    return frame.assign(facility_id=[f"f{k}" for k in range(len(rows))], network=frame["operator"])


SITES = inventory(
    (A, "base_station", "telecom", "down"),
    (A, "base_station", "telecom", "up"),
    (A, "base_station", "mobile", "degraded"),
    (A, "base_station", "mobile", "unknown"),
    (A, "exchange", "mobile", None),
    (B, "base_station", "mobile", "down"),
    (None, "base_station", "mobile", "down"),
)


def rows(table: pd.DataFrame, *columns: str) -> list[tuple]:
    return [
        tuple(None if pd.isna(v) else v for v in row)
        for row in table[list(columns)].itertuples(index=False)
    ]


def test_only_down_counts_as_down_and_everything_is_in_the_total():
    table = count_shares(SITES)
    assert rows(table, "adcode", "kind", "total", "down", "degraded", "unknown", "share_down") == [
        (A, "base_station", 4, 1, 1, 1, 0.25),
        (A, "exchange", 1, 0, 0, 1, 0.0),
        (B, "base_station", 1, 1, 0, 0, 1.0),
        (None, "base_station", 1, 1, 0, 0, 1.0),
    ]
    assert table["adcode"].iloc[3] is None


def test_operators_are_shown_apart_when_asked_for():
    table = count_shares(SITES, ["adcode", "kind", "operator"])
    assert rows(table, "adcode", "kind", "operator", "total", "down")[:3] == [
        (A, "base_station", "mobile", 2, 0),
        (A, "base_station", "telecom", 2, 1),
        (A, "exchange", "mobile", 1, 0),
    ]


def test_a_silent_operator_widens_the_bounds_and_nothing_else():
    heard, silent = count_shares(SITES), count_shares(SITES, silent_operators={"telecom"})
    plain = ["adcode", "kind", "total", "down", "degraded", "unknown", "share_down"]
    pd.testing.assert_frame_equal(heard[plain], silent[plain])
    assert heard["unknown_for_bounds"].tolist() == [1, 1, 0, 0]
    # the site that is up joins the unknown one; the one that is down stays down
    assert silent["unknown_for_bounds"].tolist() == [2, 1, 0, 0]


def test_a_share_of_nothing_is_null_and_not_zero():
    table = count_shares(SITES, groups=[("500199", "base_station"), (A, "exchange")])
    assert rows(table, "adcode", "total", "down", "share_down") == [
        ("500199", 0, 0, None),
        (A, 1, 0, 0.0),
    ]
    assert table["share_down"].iloc[0] is pd.NA


@pytest.mark.parametrize("by", [(), ("adcode",), ("adcode", "kind")])
def test_an_empty_inventory_has_no_shares(by):
    table = count_shares(SITES.iloc[:0], by)
    assert len(table) == (0 if by else 1)
    assert table["total"].sum() == 0
    assert table["share_down"].isna().all()


def test_an_empty_by_gives_the_city_in_one_row():
    assert rows(count_shares(SITES, ()), "total", "down", "degraded", "unknown") == [(7, 3, 1, 2)]


def test_exactly_half_is_exactly_half():
    many = inventory(*[(A, "base_station", "x", "down" if k % 2 else "up") for k in range(1002)])
    assert rows(count_shares(many), "total", "down", "share_down") == [(1002, 501, 0.5)]


def test_every_wrong_state_is_named_with_its_row():
    wrong = SITES.assign(state=["down", "Down", "up", "off", "up", "up", 3])
    with pytest.raises(InvalidInput) as refused:
        count_shares(wrong)
    assert [(fault.row, fault.field) for fault in refused.value.faults] == [
        (2, "state"),
        (4, "state"),
        (7, "state"),
    ]


def test_missing_columns_are_all_named():
    with pytest.raises(InvalidInput) as refused:
        load_shares(SITES[["kind"]], silent_operators=["x"])
    assert [fault.field for fault in refused.value.faults] == [
        "adcode",
        "facility_id",
        "state",
        "load_kw",
        "operator",
    ]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([A, B, None, np.nan]),
            st.sampled_from(["k1", "k2"]),
            st.sampled_from(["o1", "o2", None]),
            st.sampled_from([*STATES, None]),
        ),
        max_size=60,
    )
)
def test_counts_equal_counting_one_by_one(facilities):
    table = count_shares(inventory(*facilities), silent_operators=["o1"])
    said = {(row.adcode, row.kind): row for row in table.itertuples()}
    homes = {(None if pd.isna(a) else a, k) for a, k, _, _ in facilities}
    assert set(said) == homes
    for home in homes:
        mine = [(o, s) for a, k, o, s in facilities if (None if pd.isna(a) else a, k) == home]
        assert said[home].total == len(mine)
        assert said[home].down == sum(s == "down" for _, s in mine)
        assert said[home].degraded == sum(s == "degraded" for _, s in mine)
        assert said[home].unknown == sum(s in ("unknown", None) for _, s in mine)
        assert said[home].unknown_for_bounds == sum(
            s in ("unknown", None) or (o == "o1" and s != "down") for o, s in mine
        )


SUPPLY = inventory(
    (A, "substation", "grid", "down", 100, 1000, True),
    (A, "substation", "grid", "up", 300, 2000, True),
    (A, "substation", "own", "down", 100, 10, False),
    (B, "substation", "grid", "unknown", 500, 500, True),
    (B, "substation", "grid", "up", None, None, True),
    (None, "substation", "grid", "down", 50, 5, True),
)


def test_load_shed_is_the_load_of_what_is_down_over_every_supplier_of_the_district():
    table = load_shares(SUPPLY)
    assert rows(
        table, "adcode", "load_kw", "load_shed_kw", "share", "unknown_load_kw", "unmeasured"
    ) == [
        (A, 500, 200, 0.4, 0, 0),
        (B, 500, 0, 0.0, 500, 1),
        (None, 50, 50, 1.0, 0, 0),
    ]


def test_city_figures_take_the_main_grid_only():
    city = load_shares(SUPPLY, (), main_grid_only=True)
    assert rows(city, "load_kw", "load_shed_kw", "share") == [(950, 150, 150 / 950)]
    customers = customer_shares(SUPPLY, (), main_grid_only=True)
    assert rows(customers, "customers", "customers_out") == [(3505, 1005)]


def test_a_substation_in_a_reported_outage_counts_only_through_it():
    parts = pd.DataFrame(
        {
            "adcode": [A, None],
            "load_shed_kw": [70, 5],
            "restored_load_kw": [20, None],
            "customers_out": [900, 4],
            "main_grid": [True, True],
        }
    )
    table = load_shares(SUPPLY, outage_parts=parts, counted_facility_ids=["f0", "f3"])
    assert rows(table, "adcode", "load_kw", "load_shed_kw", "unknown_load_kw") == [
        (A, 500, 150, 0),
        (B, 500, 0, 0),
        (None, 50, 55, 0),
    ]
    customers = customer_shares(SUPPLY, outage_parts=parts, counted_facility_ids=["f0"])
    assert rows(customers, "adcode", "customers", "customers_out") == [
        (A, 3010, 910),
        (B, 500, 0),
        (None, 5, 9),
    ]


def test_outages_off_the_main_grid_do_not_reach_city_figures():
    parts = pd.DataFrame({"adcode": [A, A], "load_shed_kw": [70, 1], "main_grid": [False, True]})
    city = load_shares(SUPPLY, (), outage_parts=parts, main_grid_only=True)
    assert rows(city, "load_kw", "load_shed_kw") == [(950, 151)]


def test_an_outage_in_a_district_without_supply_has_no_share():
    parts = pd.DataFrame({"adcode": ["500199"], "load_shed_kw": [70]})
    table = load_shares(SUPPLY, outage_parts=parts)
    assert rows(table[table["adcode"] == "500199"], "load_kw", "load_shed_kw", "share") == [
        (0, 70, None)
    ]


def test_a_silent_operator_makes_its_load_unknown_for_bounds():
    table = load_shares(SUPPLY, silent_operators=["grid"], groups=[A])
    assert rows(table, "adcode", "load_shed_kw", "unknown_load_kw") == [(A, 200, 300)]


@pytest.mark.parametrize("wrong", [-1, 0.5])
def test_amounts_that_are_not_whole_are_named_with_their_row(wrong):
    with pytest.raises(InvalidInput, match="row 2, load_kw"):
        load_shares(SUPPLY.assign(load_kw=[1, wrong, 1, 1, 1, 1]))


def test_more_restored_than_lost_is_refused():
    parts = pd.DataFrame({"adcode": [A], "load_shed_kw": [5], "restored_load_kw": [6]})
    with pytest.raises(InvalidInput, match="row 1, restored_load_kw"):
        load_shares(SUPPLY, outage_parts=parts)


def test_people_are_rounded_to_the_nearest_with_halves_up_and_null_stays_null():
    population = pd.Series([100, 5, 5, None, 7, 0], index=list("abcdef"))
    share = pd.Series([0.254, 0.5, 0.49, 0.5, None, 1.0], index=list("abcdef"))
    affected = population_affected(population, share)
    assert affected.dtype == "Int64"
    assert [None if pd.isna(v) else v for v in affected] == [25, 3, 2, None, None, 0]


@given(st.integers(0, 50_000_000), st.floats(0, 1))
def test_never_more_people_than_there_are(population, share):
    affected = population_affected(pd.Series([population]), pd.Series([share])).iloc[0]
    assert 0 <= affected <= population
    assert abs(affected - population * share) <= 0.5 + 1e-6


@pytest.mark.parametrize(("population", "share"), [(-1, 0.5), (1, 1.2), (1, -0.1)])
def test_impossible_populations_and_shares_are_refused(population, share):
    with pytest.raises(InvalidInput):
        population_affected(pd.Series([population]), pd.Series([share]))


def test_a_million_facilities_are_counted_in_seconds():
    rng = np.random.default_rng(7)
    count = 1_000_000
    million = pd.DataFrame(
        {
            "adcode": rng.choice([f"5001{n:02d}" for n in range(37)], count),
            "kind": rng.choice(["base_station", "substation"], count),
            "operator": rng.choice(["a", "b", "c"], count),
            "state": rng.choice(STATES, count),
        }
    )
    started = time.perf_counter()
    table = count_shares(million, ["adcode", "kind", "operator"], silent_operators=["a"])
    took = time.perf_counter() - started
    assert len(table) == 37 * 2 * 3
    assert table["total"].sum() == count
    assert table["down"].sum() == (million["state"] == "down").sum()
    assert took < 10
