"""The synthetic inventory: the city's totals at any size, every point in a district, then and now."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from data.facilities import COLUMNS
from data.inventory import (
    CITY_CUSTOMERS,
    CITY_PEAK_LOAD_KW,
    LOCAL_SUPPLIERS,
    OPERATORS,
    make_inventory,
    scale_by_district,
)
from data.readers.boundaries import default_divisions
from geo.assign import DistrictLocator
from geo.errors import InvalidInput

SIZES = (2_000, 20_000, 100_000)


@pytest.fixture(scope="module")
def districts() -> list[Any]:
    return [division.frame for division in default_divisions()]


@pytest.fixture(scope="module", params=SIZES)
def inventory(request: pytest.FixtureRequest, districts: list[Any]) -> pd.DataFrame:
    frame = make_inventory(request.param, 7, districts)
    frame.attrs["n"] = request.param
    return frame


def old_adcode(frame: pd.DataFrame) -> pd.Series:
    return frame["facility_id"].str.split("-").str[1]


def test_there_are_exactly_as_many_as_asked_for_each_with_its_own_id(
    inventory: pd.DataFrame,
) -> None:
    assert len(inventory) == inventory.attrs["n"]
    assert inventory["facility_id"].is_unique
    assert list(inventory.columns) == [*COLUMNS, "lon", "lat"]
    assert inventory["synthetic"].all()
    assert (inventory["state_at_import"] == "up").all()


def test_load_and_customers_are_the_whole_citys_at_any_size(inventory: pd.DataFrame) -> None:
    supply = inventory[inventory["kind"] == "substation"]
    assert supply["load_kw"].sum() == CITY_PEAK_LOAD_KW == inventory["load_kw"].sum()
    assert supply["customers"].sum() == CITY_CUSTOMERS == inventory["customers"].sum()
    scale = scale_by_district()["peak_load_mw"]
    by_district = supply["load_kw"].groupby(old_adcode(supply)).sum()
    share = scale / scale.sum()
    assert np.abs(by_district / CITY_PEAK_LOAD_KW - share).max() < 1e-7
    assert (supply["load_kw"] > 0).all()
    assert (supply["customers"] > 0).all()


def test_every_point_lies_in_its_district_of_then_and_in_one_of_now(
    inventory: pd.DataFrame, districts: list[Any]
) -> None:
    lon, lat = inventory["lon"].to_numpy(), inventory["lat"].to_numpy()
    then = DistrictLocator(districts[0])
    names = np.array(then.adcodes)[then.assign(lon, lat)]
    assert (names == old_adcode(inventory).to_numpy()).all()
    now = DistrictLocator(districts[-1])
    assert (now.assign(lon, lat) >= 0).all()
    assert len(np.unique(now.assign(lon, lat))) == 37


def test_each_district_has_its_share_of_base_stations(inventory: pd.DataFrame) -> None:
    stations = inventory[inventory["kind"] == "base_station"]
    counts = old_adcode(stations).value_counts().sort_index()
    scale = scale_by_district()["sites_5g"]
    assert list(counts.index) == list(scale.index)
    spare = len(stations) - 8 * len(scale)
    expected = 8 + spare * scale / scale.sum()
    assert np.abs(counts.to_numpy() - expected.to_numpy()).max() < 1


def test_what_needs_power_is_fed_by_the_nearest_substation_of_its_district(
    inventory: pd.DataFrame,
) -> None:
    kinds = ["base_station", "exchange", "special_equipment", "key_user"]
    fed = inventory[inventory["kind"].isin(kinds)]
    assert fed["feeds_from"].notna().all()
    assert inventory.loc[~inventory["kind"].isin(kinds), "feeds_from"].isna().all()
    source = inventory.set_index("facility_id").loc[fed["feeds_from"]]
    assert (source["kind"] == "substation").all()
    assert (old_adcode(source.reset_index()).to_numpy() == old_adcode(fed).to_numpy()).all()
    one = fed.iloc[len(fed) // 2]
    near = inventory[
        (inventory["kind"] == "substation")
        & (old_adcode(inventory) == one["facility_id"].split("-")[1])
    ]
    distance = np.hypot(
        (near["lon"] - one["lon"]) * np.cos(np.radians(30)), near["lat"] - one["lat"]
    )
    assert near.loc[distance.idxmin(), "facility_id"] == one["feeds_from"]


def test_four_operators_run_networks_of_their_own(inventory: pd.DataFrame) -> None:
    stations = inventory[inventory["kind"] == "base_station"]
    share = stations["operator"].value_counts(normalize=True)
    assert set(share.index) == set(OPERATORS)
    assert (stations["operator"] == stations["network"]).all()
    for operator, (_, expected) in OPERATORS.items():
        assert share[operator] == pytest.approx(expected, abs=0.06)
    assert stations["battery_hours"].between(2, 8).all()
    middle = stations["battery_hours"].groupby(old_adcode(stations)).median()
    assert middle.between(4.4, 5.6).all()


def test_local_suppliers_are_beside_the_main_grid_in_some_districts_only(
    inventory: pd.DataFrame,
) -> None:
    supply = inventory[inventory["kind"] == "substation"]
    local = supply[~supply["main_grid"]]
    assert set(old_adcode(local)) == set(LOCAL_SUPPLIERS)
    assert set(local["operator"]) == set(LOCAL_SUPPLIERS.values())
    assert (supply.loc[supply["main_grid"], "operator"] == "state_grid").all()


def test_lifts_and_only_lifts_have_a_rescue_code_of_six_digits(inventory: pd.DataFrame) -> None:
    special = inventory[inventory["kind"] == "special_equipment"]
    equipment = special["attributes"].map(json.loads).map(lambda a: a["equipment"])
    lifts = equipment == "elevator"
    codes = special.loc[lifts, "rescue_code"]
    assert codes.str.fullmatch("[0-9]{6}").all()
    assert codes.is_unique
    told = special["attributes"].map(json.loads)
    named = told.map(lambda a: {"owner", "maintainer"} <= set(a))
    assert (named == lifts).all(), "whom to call belongs to a lift"
    assert special.loc[~lifts, "rescue_code"].isna().all()
    assert inventory.loc[inventory["kind"] != "special_equipment", "rescue_code"].isna().all()
    assert lifts.mean() == pytest.approx(0.633, abs=0.05)


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(districts: list[Any]) -> None:
    first = make_inventory(2_000, 3, districts)
    pd.testing.assert_frame_equal(first, make_inventory(2_000, 3, districts))
    assert not first["lon"].equals(make_inventory(2_000, 4, districts)["lon"])


@pytest.mark.parametrize("n", [0, 1_999, 1_000_001])
def test_a_size_out_of_range_is_refused_with_the_range(districts: list[Any], n: int) -> None:
    with pytest.raises(InvalidInput, match="from 2000 to 1000000"):
        make_inventory(n, 1, districts)


def test_without_the_older_districts_there_is_nothing_to_go_by(districts: list[Any]) -> None:
    with pytest.raises(InvalidInput, match="38 districts"):
        make_inventory(2_000, 1, districts[1:])
