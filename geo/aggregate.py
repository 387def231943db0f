"""From facilities to shares per district: counts, load, customers, population.

Every sum is a whole number and stands beside the share made of it; a share of nothing is null.
`down` counts only `down`: degraded and unknown facilities are in `total`. An operator from whom
nothing has been heard makes its facilities that are not down unknown, but only where a column says
`for_bounds`; the plain figures do not move.

Frames use the facility columns `facility_id`, `kind`, `operator`, `network`, `unit`, `main_grid`,
`load_kw`, `customers`, `state` and, from placing them, `adcode` (null outside every district, which
is a group of its own). Null `load_kw` or `customers` is unknown: it is left out of the sum and
counted beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from geo.errors import Fault, InvalidInput

STATES = ("up", "degraded", "down", "unknown")
BY_KIND = ("adcode", "kind")
BY_DISTRICT = ("adcode",)


def count_shares(
    facilities: pd.DataFrame,
    by: Sequence[str] = BY_KIND,
    *,
    silent_operators: Collection[str] = (),
    groups: Iterable[Any] | None = None,
) -> pd.DataFrame:
    """Facilities per group: one row a group.

    Columns: those of `by`, `total`, `down`, `degraded`, `unknown`, `unknown_for_bounds`
    (facilities), and `share_down` = down / total, null for 0 of 0. `unknown_for_bounds` is
    `unknown` plus what silent operators left up or degraded; the share lies between down / total
    and (down + unknown_for_bounds) / total. `groups` names the rows wanted, in order (tuples when
    `by` has several columns), with zeros where there is nothing; without it the groups found,
    sorted. An empty `by` gives one row for everything. A null `state` is unknown. Raises
    `InvalidInput` for columns that are missing and rows (1-based) with another state.
    """
    _require(facilities, [*by, "state", *(["operator"] if silent_operators else [])])
    state = _states(facilities)
    counts = {
        "total": np.ones(len(facilities), dtype=np.int64),
        **{word: (state == word).astype(np.int64) for word in ("down", "degraded", "unknown")},
        "unknown_for_bounds": _unknown_for_bounds(facilities, state, silent_operators),
    }
    table = _sum_by(facilities, by, pd.DataFrame(counts), groups)
    return table.assign(share_down=_share(table["down"], table["total"]))


def load_shares(
    facilities: pd.DataFrame,
    by: Sequence[str] = BY_DISTRICT,
    *,
    outage_parts: pd.DataFrame | None = None,
    counted_facility_ids: Collection[str] = (),
    main_grid_only: bool = False,
    silent_operators: Collection[str] = (),
    groups: Iterable[Any] | None = None,
) -> pd.DataFrame:
    """Load and load shed (kW) per group; pass the facilities that supply, e.g. substations.

    Columns: those of `by`, `load_kw`, `load_shed_kw`, `share` (null when no load is known),
    `unknown_load_kw` (of facilities whose state is unknown or whose operator is silent, for
    bounds) and `unmeasured` (facilities whose load is null). Shed is the load of facilities down,
    except those in `counted_facility_ids`, which count only through a reported outage; to it come
    the `outage_parts`: the columns of `by`, `load_shed_kw`, `restored_load_kw?` and, when
    `main_grid_only`, `main_grid`. City figures take the main grid only, district figures every
    supplier. A reported loss may exceed the load on record: the share is then above 1 and says so.
    """
    reported = _reported(outage_parts, by, "load_shed_kw", "restored_load_kw", main_grid_only)
    return _quantity_shares(
        facilities, "load_kw", "load_shed_kw", by, reported, counted_facility_ids,
        main_grid_only, silent_operators, groups,
    ).rename(columns={"unknown": "unknown_load_kw"})  # fmt: skip


def customer_shares(
    facilities: pd.DataFrame,
    by: Sequence[str] = BY_DISTRICT,
    *,
    outage_parts: pd.DataFrame | None = None,
    counted_facility_ids: Collection[str] = (),
    main_grid_only: bool = False,
    silent_operators: Collection[str] = (),
    groups: Iterable[Any] | None = None,
) -> pd.DataFrame:
    """Customers and customers out per group, by the rules of `load_shares`.

    Columns: those of `by`, `customers`, `customers_out`, `share`, `unknown_customers` and
    `unmeasured`; `outage_parts` has `customers_out`.
    """
    reported = _reported(outage_parts, by, "customers_out", None, main_grid_only)
    return _quantity_shares(
        facilities, "customers", "customers_out", by, reported, counted_facility_ids,
        main_grid_only, silent_operators, groups,
    ).rename(columns={"unknown": "unknown_customers"})  # fmt: skip


def population_affected(population: pd.Series, area_share: pd.Series) -> pd.Series:
    """People in the area out: population × area share, aligned on the index, as Int64.

    Rounded to the nearest whole person, halves up. Null where either is null. Raises
    `InvalidInput` for a negative population or a share outside 0–1. Take the share of power as a
    whole; figures of several operators must not be added, they are the same people.
    """
    population, area_share = population.align(area_share, join="left")
    people = population.astype("Float64")
    share = area_share.astype("Float64")
    faults = [
        Fault(f"is {value}, which is negative", field=f"population of {key}")
        for key, value in people[(people < 0).fillna(False)].items()
    ]
    faults += [
        Fault(f"is {value}, not within 0 and 1", field=f"area_share of {key}")
        for key, value in share[((share < 0) | (share > 1)).fillna(False)].items()
    ]
    if faults:
        raise InvalidInput(faults)
    product = (people * share + 0.5).to_numpy(dtype=np.float64, na_value=np.nan)
    affected = pd.array(np.floor(product), dtype="Float64").astype("Int64")
    return pd.Series(affected, index=people.index, name="population_affected")


def _quantity_shares(
    facilities: pd.DataFrame,
    quantity: str,
    lost: str,
    by: Sequence[str],
    reported: pd.DataFrame | None,
    counted_facility_ids: Collection[str],
    main_grid_only: bool,
    silent_operators: Collection[str],
    groups: Iterable[Any] | None,
) -> pd.DataFrame:
    needed = [*by, "facility_id", "state", quantity]
    needed += ["main_grid"] if main_grid_only else []
    _require(facilities, needed + (["operator"] if silent_operators else []))
    amount, known = _whole_amounts(facilities, quantity)
    state = _states(facilities)
    if main_grid_only:
        on_grid = _flags(facilities["main_grid"])
        facilities, amount, known, state = (
            facilities[on_grid], amount[on_grid], known[on_grid], state[on_grid],
        )  # fmt: skip
    own = ~facilities["facility_id"].isin(list(counted_facility_ids)).to_numpy(dtype=bool)
    unknown = _unknown_for_bounds(facilities, state, silent_operators)
    sums = pd.DataFrame(
        {
            quantity: amount,
            lost: np.where((state == "down") & own, amount, 0),
            "unknown": np.where(own, amount * unknown, 0),
            "unmeasured": (~known).astype(np.int64),
        }
    )
    keys = facilities[list(by)]
    if reported is not None:
        keys = pd.concat([keys, reported[list(by)]], ignore_index=True)
        parts = pd.DataFrame({lost: reported["_lost"]}).reindex(columns=sums.columns, fill_value=0)
        sums = pd.concat([sums, parts], ignore_index=True)
    table = _sum_by(keys, by, sums, groups)
    return table.assign(share=_share(table[lost], table[quantity]))[
        [*by, quantity, lost, "share", "unknown", "unmeasured"]
    ]


def _reported(
    parts: pd.DataFrame | None, by: Sequence[str], lost: str, restored: str | None, main_grid: bool
) -> pd.DataFrame | None:
    """The parts of reported outages with what is still lost of each in `_lost`."""
    if parts is None:
        return None
    _require(parts, [*by, lost, *(["main_grid"] if main_grid else [])])
    still, _ = _whole_amounts(parts, lost)
    if restored is not None and restored in parts.columns:
        back, _ = _whole_amounts(parts, restored)
        if (back > still).any():
            raise InvalidInput(
                [
                    Fault(f"is more than {lost}", row=int(row) + 1, field=restored)
                    for row in np.flatnonzero(back > still)
                ]
            )
        still = still - back
    parts = parts.assign(_lost=still)
    return parts[_flags(parts["main_grid"])] if main_grid else parts


def _sum_by(
    keys: pd.DataFrame, by: Sequence[str], amounts: pd.DataFrame, groups: Iterable[Any] | None
) -> pd.DataFrame:
    """Column sums of `amounts` (row for row with `keys`) per group of `by`, as int64."""
    if not by:
        return pd.DataFrame([amounts.sum()], dtype=np.int64)
    # one whole-number code a row is several times faster to group by than columns of text
    code = np.zeros(len(keys), dtype=np.int64)
    levels: list[list[Any]] = []
    for column in by:
        # null gets −1, and so the last place of its level
        position, level = pd.factorize(keys[column].to_numpy(dtype=object), sort=False)
        levels.append([*level, None])
        code = code * len(levels[-1]) + np.where(position < 0, len(level), position)
    found, inverse = np.unique(code, return_inverse=True)
    sums = np.zeros((len(found), len(amounts.columns)), dtype=np.int64)
    for k, column in enumerate(amounts.columns):
        np.add.at(sums[:, k], inverse, amounts[column].to_numpy(dtype=np.int64))
    rows: dict[tuple[Any, ...], Any] = {}
    for number, total in zip(found.tolist(), sums, strict=True):
        key: tuple[Any, ...] = ()
        for level in reversed(levels):
            number, position = divmod(number, len(level))
            key = (level[position], *key)
        rows[key] = total
    if groups is None:
        wanted = sorted(rows, key=lambda key: [(part is None, str(part)) for part in key])
    else:
        wanted = [key if isinstance(key, tuple) else (key,) for key in groups]
    nothing = np.zeros(len(amounts.columns), dtype=np.int64)
    names = {
        # of type object, so that the None of "outside" stays None
        column: pd.Series([key[k] for key in wanted], dtype=object)
        for k, column in enumerate(by)
    }
    values = np.array([rows.get(key, nothing) for key in wanted], dtype=np.int64)
    values = values.reshape(len(wanted), len(amounts.columns))
    return pd.DataFrame(names).join(pd.DataFrame(values, columns=amounts.columns), how="right")


def _share(part: pd.Series, whole: pd.Series) -> pd.Series:
    share = np.full(len(whole), np.nan)
    some = whole.to_numpy() > 0
    share[some] = part.to_numpy()[some] / whole.to_numpy()[some]
    return pd.Series(pd.array(share, dtype="Float64"), index=whole.index).mask(~some, pd.NA)


def _states(facilities: pd.DataFrame) -> np.ndarray[Any, Any]:
    state = facilities["state"].astype(object).to_numpy()
    state = np.where(pd.isna(state), "unknown", state)
    wrong = np.flatnonzero(~np.isin(state.astype(str), STATES))
    if len(wrong):
        raise InvalidInput(
            [
                Fault(f"{state[row]!r} is none of {', '.join(STATES)}", int(row) + 1, "state")
                for row in wrong
            ]
        )
    return np.asarray(state)


def _unknown_for_bounds(
    facilities: pd.DataFrame, state: np.ndarray[Any, Any], silent_operators: Collection[str]
) -> np.ndarray[Any, Any]:
    unknown = state == "unknown"
    if silent_operators:
        unknown = unknown | (
            facilities["operator"].isin(list(silent_operators)).to_numpy(dtype=bool)
            & (state != "down")
        )
    return np.asarray(unknown, dtype=np.int64)


def _whole_amounts(
    frame: pd.DataFrame, column: str
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The column as int64 with 0 for null, and which rows are not null."""
    values = pd.to_numeric(frame[column]).to_numpy(dtype=np.float64, na_value=np.nan)
    known = ~np.isnan(values)
    wrong = np.flatnonzero(known & ((values < 0) | (values != np.floor(values))))
    if len(wrong):
        raise InvalidInput(
            [
                Fault(f"{values[row]} is not a whole number from 0", int(row) + 1, column)
                for row in wrong
            ]
        )
    return np.where(known, values, 0).astype(np.int64), known


def _flags(column: pd.Series) -> np.ndarray[Any, Any]:
    """True where the column says so; null is no."""
    said: np.ndarray[Any, Any] = column.astype("boolean").fillna(False).to_numpy(dtype=bool)
    return said


def _require(frame: pd.DataFrame, columns: Iterable[str]) -> None:
    missing = [name for name in dict.fromkeys(columns) if name not in frame.columns]
    if missing:
        raise InvalidInput([Fault("the column is missing", field=name) for name in missing])
