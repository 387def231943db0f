"""Whole numbers divided over districts, so that the parts add up to the whole exactly.

Largest remainders: each part gets the whole units of its exact share, and the units left over go
one each to the largest remainders, equal remainders in order of adcode. What lies outside the
city has the key None and comes last; it belongs to the sum and to no district.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from fractions import Fraction
from numbers import Rational
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from geo.assign import DistrictLocator, point_positions, require_wgs84
from geo.crs import area_m2, length_m
from geo.cut import cut
from geo.errors import Fault, InvalidInput
from geo.validate import flaw

Key = str | None
Weights = Mapping[Key, int | float | Fraction]

MEASURE_NOISE = 1e-9
"""A part smaller than this share of a footprint is the rounding of an overlay, not an extent."""


def split_by_weights(
    amount: int,
    weights: Weights,
    fallback: Weights | None = None,
    *,
    at_most: Mapping[Key, int] | None = None,
) -> dict[Key, int]:
    """`amount` divided in proportion to `weights`; the parts add up to it exactly.

    `weights` that are all zero give way to `fallback`. `at_most` caps each part, and what a cap
    refuses goes on to the next remainder. The result has every key of the weights used, in order
    of key with None last. Raises `InvalidInput` for a negative amount, for weights that are
    negative or not finite, and when nothing is left to weigh by or the caps cannot hold the amount.
    """
    if amount < 0:
        raise InvalidInput(f"cannot divide the negative amount {amount}")
    used = _exact(weights)
    total = sum(used.values())
    if total == 0 and fallback is not None:
        used = _exact(fallback)
        total = sum(used.values())
    keys = sorted(used, key=_none_last)
    if total == 0:
        if amount:
            raise InvalidInput(f"cannot divide {amount}: every weight is zero")
        return dict.fromkeys(keys, 0)
    room = {key: amount if at_most is None else at_most.get(key, 0) for key in keys}
    parts, remainders = {}, {}
    for key in keys:
        whole, rest = divmod(amount * used[key], total)
        parts[key] = min(int(whole), room[key])
        remainders[key] = rest
    left = amount - sum(parts.values())
    # sorted() is stable: equal remainders stay in order of key
    queue = sorted(keys, key=lambda key: -remainders[key])
    while left:
        takers = [key for key in queue if parts[key] < room[key] and used[key]][:left]
        if not takers:
            raise InvalidInput(f"cannot divide {amount}: the parts may hold {sum(parts.values())}")
        for key in takers:
            parts[key] += 1
        left -= len(takers)
    return parts


@dataclass(frozen=True, slots=True)
class OutagePart:
    """What of an outage falls to one district. None where the outage does not say."""

    load_shed_kw: int | None
    customers_out: int | None
    restored_load_kw: int | None


@dataclass(frozen=True, slots=True)
class OutageSplit:
    """An outage over the districts: `parts` by adcode, None for what lies outside the city.

    `load_basis`, `customers_basis`: `load_kw` or `customers` of facilities, else `area`, `length`,
    `points` of the footprint, `facilities` (each counted once) or `unplaced`.
    `counted_facility_ids` are the facilities named by the outage or inside it, which count only
    through it.
    """

    parts: dict[Key, OutagePart]
    load_basis: str
    customers_basis: str
    counted_facility_ids: tuple[str, ...]


def split_outage(
    load_shed_kw: int | None,
    customers_out: int | None,
    restored_load_kw: int | None,
    *,
    facilities: gpd.GeoDataFrame,
    districts: gpd.GeoDataFrame,
    geometry: BaseGeometry | None = None,
    facility_ids: Collection[str] = (),
    locator: DistrictLocator | None = None,
    areas: Mapping[Key, float] | None = None,
) -> OutageSplit:
    """An outage's figures (kW, customers) divided over the districts it touches.

    Load goes by the `load_kw` of the facilities named in `facility_ids` or covered by `geometry`,
    customers by their `customers`; where these say nothing, by the footprint's geodesic area in
    each district (its length for lines, its points for points), else by the number of facilities.
    Restored load goes like the lost load and no district gets back more than it lost.

    `facilities`: EPSG:4326 points, columns `facility_id`, `load_kw`, `customers` (null is unknown)
    and only those the figures are about, e.g. substations; a column `adcode`, when there, is taken
    as their district. `districts`: EPSG:4326, `adcode`, `geometry`. `locator` saves building one,
    `areas` (`areas_inside` of the footprint) cutting it again. Raises `CrsError`, or
    `InvalidInput` for impossible figures or a footprint that is not valid.
    """
    _refuse_impossible(load_shed_kw, customers_out, restored_load_kw)
    require_wgs84(facilities, "facilities")
    require_wgs84(districts, "districts")
    locator = locator or DistrictLocator(districts)
    counted = facilities[_named_or_inside(facilities, geometry, facility_ids)]
    homes = _homes(counted, locator)
    extent, extent_basis = _extent(geometry, districts, locator, areas)
    if not extent:
        extent, extent_basis = _tally(homes, [1.0] * len(homes)), "facilities"
    if not extent:
        extent, extent_basis = {None: Fraction(1)}, "unplaced"
    by_load = _tally(homes, _known(counted["load_kw"]))
    by_customers = _tally(homes, _known(counted["customers"]))
    load = _split(load_shed_kw, by_load, extent)
    customers = _split(customers_out, by_customers, extent)
    # what is not said to be lost cannot be capped
    caps = load if load_shed_kw is not None else None
    restored = _split(restored_load_kw, by_load, extent, caps)
    keys = sorted({*load, *customers, *restored}, key=_none_last)
    parts = {
        key: OutagePart(
            None if load_shed_kw is None else load.get(key, 0),
            None if customers_out is None else customers.get(key, 0),
            None if restored_load_kw is None else restored.get(key, 0),
        )
        for key in keys
    }
    return OutageSplit(
        parts,
        "load_kw" if any(by_load.values()) else extent_basis,
        "customers" if any(by_customers.values()) else extent_basis,
        tuple(sorted(counted["facility_id"])),
    )


def _none_last(key: Key) -> tuple[bool, str]:
    return (key is None, key or "")


def _exact(weights: Weights) -> dict[Key, Fraction]:
    exact, faults = {}, []
    for key, weight in weights.items():
        # numpy's numbers are not `numbers.Rational`, and int() of them is exact
        value = weight.item() if isinstance(weight, np.generic) else weight
        if not isinstance(value, Rational) and not np.isfinite(value):
            faults.append(Fault(f"the weight of {key or 'outside'} is not a number"))
        elif value < 0:
            faults.append(Fault(f"the weight of {key or 'outside'} is negative"))
        else:
            exact[key] = Fraction(value)
    if faults:
        raise InvalidInput(faults)
    return exact


def _split(
    amount: int | None, weights: Weights, fallback: Weights, caps: Mapping[Key, int] | None = None
) -> dict[Key, int]:
    if amount is None:
        # the districts concerned are named all the same
        amount, caps = 0, None
    return split_by_weights(amount, weights, fallback, at_most=caps)


def _refuse_impossible(
    load_shed_kw: int | None, customers_out: int | None, restored_load_kw: int | None
) -> None:
    given = {
        "load_shed_kw": load_shed_kw,
        "customers_out": customers_out,
        "restored_load_kw": restored_load_kw,
    }
    faults = [
        Fault("is negative", field=name)
        for name, amount in given.items()
        if amount is not None and amount < 0
    ]
    if load_shed_kw is not None and (restored_load_kw or 0) > load_shed_kw:
        faults.append(Fault("is more than load_shed_kw", field="restored_load_kw"))
    if faults:
        raise InvalidInput(faults)


def _named_or_inside(
    facilities: gpd.GeoDataFrame, geometry: BaseGeometry | None, facility_ids: Collection[str]
) -> NDArray[np.bool_]:
    named: NDArray[np.bool_] = facilities["facility_id"].isin(list(facility_ids)).to_numpy(bool)
    if geometry is None or geometry.is_empty:
        return named
    if not geometry.is_valid:
        raise InvalidInput([Fault(flaw(geometry), field="geometry")])
    if shapely.get_dimensions(geometry) < 2:
        return named
    shapely.prepare(geometry)
    inside = shapely.intersects_xy(geometry, *point_positions(facilities.geometry.to_numpy()))
    return np.asarray(named | inside)


def _homes(facilities: gpd.GeoDataFrame, locator: DistrictLocator) -> list[Key]:
    """The adcode of each facility, None outside."""
    if "adcode" in facilities.columns:
        return [None if pd.isna(adcode) else str(adcode) for adcode in facilities["adcode"]]
    return _names(locator, *point_positions(facilities.geometry.to_numpy()))


def _names(locator: DistrictLocator, x: NDArray[np.float64], y: NDArray[np.float64]) -> list[Key]:
    names = [*locator.adcodes, None]
    return [names[k] for k in locator.assign(x, y)]


def _known(column: pd.Series) -> list[float]:
    known: list[float] = pd.to_numeric(column).fillna(0).astype(float).tolist()
    return known


def _tally(homes: list[Key], amounts: list[float]) -> dict[Key, Fraction]:
    collected: dict[Key, list[float]] = {}
    for home, amount in zip(homes, amounts, strict=True):
        collected.setdefault(home, []).append(amount)
    # fsum does not depend on the order of facilities
    return {home: Fraction(math.fsum(several)) for home, several in collected.items()}


def areas_inside(
    geometry: BaseGeometry | None,
    districts: gpd.GeoDataFrame,
    known: MutableMapping[bytes, float] | None = None,
) -> dict[Key, float]:
    """m² of a footprint inside each district it reaches, None for outside; {} without an area.

    `known` remembers what was cut, by the district's own shape, for other divisions that have it.
    """
    if geometry is None or shapely.get_dimensions(geometry) < 2:
        return {}
    known = {} if known is None else known
    geometry = shapely.force_2d(geometry)
    shapely.prepare(geometry)
    reached = districts[shapely.intersects(geometry, districts.geometry.to_numpy())]
    shapes = reached.geometry.to_numpy()
    names = shapely.to_wkb(shapes)
    new = [row for row, name in enumerate(names) if name not in known]
    pieces = area_m2(cut(shapes[new], geometry)) if new else ()
    known.update({names[row]: float(piece) for row, piece in zip(new, pieces, strict=True)})
    inside = [known[name] for name in names]
    return _measured(reached["adcode"], inside, float(area_m2(geometry)))


def _measured(adcodes: Iterable[Any], inside: Iterable[float], whole: float) -> dict[Key, float]:
    """What is measured inside of districts, without noise, and what is left for outside."""
    sizes = {str(adcode): float(part) for adcode, part in zip(adcodes, inside, strict=True)}
    found: dict[Key, float] = {k: v for k, v in sizes.items() if v > whole * MEASURE_NOISE}
    outside = whole - sum(sizes.values())
    if outside > whole * MEASURE_NOISE:
        found[None] = outside
    return found


def _extent(
    geometry: BaseGeometry | None,
    districts: gpd.GeoDataFrame,
    locator: DistrictLocator,
    areas: Mapping[Key, float] | None,
) -> tuple[dict[Key, Fraction], str]:
    """How much of the footprint lies in each district it reaches, and what was measured."""
    if geometry is None or geometry.is_empty:
        return {}, "unplaced"
    geometry = shapely.force_2d(geometry)
    if shapely.get_dimensions(geometry) == 0:
        x, y = shapely.get_coordinates(geometry).T
        return _tally(_names(locator, x, y), [1.0] * len(x)), "points"
    if shapely.get_dimensions(geometry) == 2:
        found = areas_inside(geometry, districts) if areas is None else areas
        return {key: Fraction(part) for key, part in found.items()}, "area"
    reached = districts[shapely.intersects(districts.geometry.to_numpy(), geometry)]
    inside = length_m(shapely.intersection(reached.geometry.to_numpy(), geometry))
    lengths = _measured(reached["adcode"], inside, float(length_m(geometry)))
    return {key: Fraction(part) for key, part in lengths.items()}, "length"
