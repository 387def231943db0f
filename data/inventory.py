"""A synthetic inventory of Chongqing: as large as asked for, the same for the same seed.

No register of the city's facilities is public, so this one is made up, and every row says so
(`synthetic`). What is real in it: the shares of the districts (`reference/synthetic_scale.csv`, by
residents), the city's peak load of 30 280 MW (August 2025) and its roughly 13.5 million customers.
Both totals are always the whole city's, divided over the substations there are, so a district's
shares mean the same at 10 000 facilities and at a million.

Positions are WGS-84. They fall inside the districts of the oldest division version by its shares
and inside some district of every later one, gathered around made-up towns.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from data.facilities import COLUMNS
from geo.assign import DistrictLocator
from geo.errors import Fault, InvalidInput
from geo.split import split_by_weights

SCALE_FILE: Final = Path(__file__).parent / "reference" / "synthetic_scale.csv"
CITY_PEAK_LOAD_KW: Final = 30_280_000
CITY_CUSTOMERS: Final = 13_500_000
FACILITIES_MIN: Final = 2_000
"""Below this a district would have fewer of a kind than a share can be told from."""
FACILITIES_MAX: Final = 1_000_000

#: Kind → part of all facilities, and the least number per district.
_KINDS: Final = {
    "base_station": (0.455, 8),
    "special_equipment": (0.455, 4),
    "tower": (0.05, 1),
    "key_user": (0.018, 2),
    "shelter": (0.012, 1),
    "substation": (0.006, 8),
    "exchange": (0.004, 2),
}
SUBSTATIONS_MAX: Final = 2_000

OPERATORS: Final = {
    "china_mobile": ("中国移动", 0.42),
    "china_telecom": ("中国电信", 0.27),
    "china_unicom": ("中国联通", 0.24),
    "china_broadnet": ("中国广电", 0.07),
}
TOWER_OPERATOR: Final = "china_tower"
MAIN_GRID_OPERATOR: Final = "state_grid"
#: Districts where every sixth substation belongs to a local supplier beside the main grid.
LOCAL_SUPPLIERS: Final = {
    "500101": "local_grid_east",
    "500102": "local_grid_fuling",
    "500114": "local_grid_southeast",
    "500241": "local_grid_southeast",
    "500242": "local_grid_southeast",
}

#: Special equipment: kind → share; lifts 215 of 340, as in the city.
EQUIPMENT: Final = {
    "elevator": 0.633,
    "pressure_vessel": 0.17,
    "in_plant_vehicle": 0.09,
    "crane": 0.08,
    "boiler": 0.014,
    "pressure_pipeline": 0.01,
    "large_amusement_ride": 0.002,
    "passenger_ropeway": 0.001,
}
_EQUIPMENT_NAMES: Final = {
    "elevator": "电梯", "pressure_vessel": "压力容器", "in_plant_vehicle": "场内机动车辆",
    "crane": "起重机械", "boiler": "锅炉", "pressure_pipeline": "压力管道",
    "large_amusement_ride": "大型游乐设施", "passenger_ropeway": "客运索道",
}  # fmt: skip
_KEY_USERS: Final = {
    "hospital": ("医院", 0.4, "city"),
    "government": ("政府机关", 0.3, "district"),
    "water_works": ("自来水厂", 0.2, "district"),
    "railway_station": ("火车站", 0.1, "city"),
}
_KIND_NAMES: Final = {
    "base_station": "基站", "tower": "铁塔", "shelter": "应急避难场所", "substation": "变电站",
    "exchange": "通信机房",
}  # fmt: skip
_PREFIX: Final = {
    "base_station": "BTS", "special_equipment": "SE", "tower": "TWR", "key_user": "KEY",
    "shelter": "SHL", "substation": "SUB", "exchange": "EXC",
}  # fmt: skip

_OFTEN_EMPTY: Final = ("unit", "feeds_from", "key_level", "rescue_code", "attributes")
_TOWNS_PER_DISTRICT: Final = 16
_KM_PER_DEGREE: Final = 111.2

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Columns = dict[str, Any]


def scale_by_district() -> pd.DataFrame:
    """Peak load (MW), 5G sites and lifts of each of the 38 districts, indexed by adcode, sorted."""
    frame = pd.read_csv(SCALE_FILE, dtype={"adcode": "str"}).set_index("adcode")
    return frame.sort_index()


def make_inventory(n: int, seed: int, districts: Sequence[Any]) -> pd.DataFrame:
    """`n` made-up facilities, ready for `data.facilities.import_facilities`.

    `districts`: the division versions' frames (EPSG:4326, `adcode`), the oldest first. The same
    `n`, `seed` and borders give the same rows. Raises InvalidInput for an `n` outside
    FACILITIES_MIN–FACILITIES_MAX, or when the oldest version's districts are not the scale's.
    """
    if not FACILITIES_MIN <= n <= FACILITIES_MAX:
        reason = f"must be from {FACILITIES_MIN} to {FACILITIES_MAX}, not {n}"
        raise InvalidInput([Fault(reason, None, "facilities")])
    scale = scale_by_district()
    locators = [DistrictLocator(frame) for frame in districts]
    if not locators or locators[0].adcodes != tuple(scale.index):
        raise InvalidInput("the synthetic inventory needs the 38 districts of before 2025-11-06")
    rng = np.random.default_rng(seed)
    counts = _counts(n, scale)
    kind = np.repeat(np.array(list(counts), dtype=object), [c.sum() for c in counts.values()])
    district = np.concatenate([np.repeat(np.arange(len(scale)), c) for c in counts.values()])
    lon, lat = _positions(rng, district, districts[0], locators)
    blank = np.full(n, None, dtype=object)
    columns: dict[str, Any] = {
        "facility_id": _identifiers(kind, district, scale),
        "kind": kind,
        "state_at_import": np.full(n, "up", dtype=object),
        "synthetic": np.full(n, True),
        "crs": np.full(n, "WGS84", dtype=object),
        "original_x": lon,
        "original_y": lat,
        "lon": lon,
        "lat": lat,
        "main_grid": np.full(n, True),
        "battery_hours": np.full(n, np.nan),
        **{name: np.zeros(n, np.int64) for name in ("load_kw", "customers", "population")},
        **{name: np.full(n, "", dtype=object) for name in ("name", "operator", "network")},
        **{name: blank.copy() for name in _OFTEN_EMPTY},
    }
    at = {name: np.flatnonzero(kind == name) for name in counts}
    _fill_substations(rng, columns, at["substation"], district, scale)
    _fill_communications(rng, columns, at, district)
    _fill_special_equipment(rng, columns, at["special_equipment"])
    _fill_key_users(rng, columns, at["key_user"])
    _feed(columns, at, district)
    _name(columns, at, district, scale)
    return pd.DataFrame({name: columns[name] for name in (*COLUMNS, "lon", "lat")})


def _split(total: int, weights: Floats) -> Ints:
    """`total` whole things split by weight, remainders to the largest fraction, then the first."""
    parts = split_by_weights(total, {f"{i:06}": float(w) for i, w in enumerate(weights)})
    return np.fromiter(parts.values(), np.int64, len(weights))


def _counts(n: int, scale: pd.DataFrame) -> dict[str, Ints]:
    """How many of each kind in each district; together exactly `n`."""
    weights = {
        kind: scale["elevators" if kind == "special_equipment" else "sites_5g"].to_numpy(float)
        for kind in _KINDS
    }
    counts: dict[str, Ints] = {}
    # The most numerous kind is what the others leave over.
    first, *others = _KINDS
    for kind in others:
        part, least = _KINDS[kind]
        wanted = int(n * part)
        if kind == "substation":
            wanted = min(wanted, SUBSTATIONS_MAX)
        spread = max(0, wanted - least * len(scale))
        counts[kind] = least + _split(spread, weights[kind])
    rest = n - sum(int(c.sum()) for c in counts.values())
    least = _KINDS[first][1]
    return {first: least + _split(rest - least * len(scale), weights[first]), **counts}


def _identifiers(kind: NDArray[np.object_], district: Ints, scale: pd.DataFrame) -> Any:
    """`BTS-500229-00001`: kind, district, number within both."""
    number = pd.Series(np.arange(len(kind))).groupby([kind, district]).cumcount() + 1
    adcode = scale.index.to_numpy(dtype=object)[district]
    prefix = pd.Series(kind).map(_PREFIX)
    return (prefix + "-" + adcode + "-" + number.astype("str").str.zfill(5)).to_numpy(dtype=object)


# --- positions ------------------------------------------------------------------------------------


def _positions(
    rng: np.random.Generator, district: Ints, frame: Any, locators: Sequence[DistrictLocator]
) -> tuple[Floats, Floats]:
    """A point for each facility, gathered around its district's towns, never outside it."""
    areas = frame.set_index("adcode")["area_m2"].reindex(locators[0].adcodes).to_numpy(float)
    town_lon, town_lat = _towns(rng, frame, locators)
    share = 1.0 / np.arange(1, _TOWNS_PER_DISTRICT + 1)
    edges = np.cumsum(share / share.sum())
    # A town's spread grows with the size of its district: 0.4 km in the smallest, 4 km at most.
    spread_deg = np.clip(0.06 * np.sqrt(areas) / 1000, 0.4, 4.0) / _KM_PER_DEGREE
    lon, lat = np.empty(len(district)), np.empty(len(district))
    waiting = np.arange(len(district))
    while len(waiting):
        here = district[waiting]
        town = np.minimum(np.searchsorted(edges, rng.random(len(waiting))), len(share) - 1)
        # Some live far from any town: their spread is three times as wide.
        sigma = spread_deg[here] * np.where(rng.random(len(waiting)) < 0.2, 3.0, 1.0)
        y = town_lat[here, town] + rng.normal(size=len(waiting)) * sigma
        x = town_lon[here, town] + rng.normal(size=len(waiting)) * sigma / np.cos(np.radians(y))
        # Six decimals, as a receiver writes them; decided on the very numbers that are kept.
        x, y = np.round(x, 6), np.round(y, 6)
        good = _inside(locators, here, x, y)
        lon[waiting[good]], lat[waiting[good]] = x[good], y[good]
        waiting = waiting[~good]
    return lon, lat


def _towns(
    rng: np.random.Generator, frame: Any, locators: Sequence[DistrictLocator]
) -> tuple[Floats, Floats]:
    """Towns of each district, shape (districts, towns); the first, the seat, is the largest."""
    bounds = frame.set_index("adcode").geometry.bounds.loc[list(locators[0].adcodes)].to_numpy()
    shape = (len(bounds), _TOWNS_PER_DISTRICT)
    lon, lat = np.empty(shape), np.empty(shape)
    rows, columns = (part.ravel() for part in np.indices(shape))
    while len(rows):
        west, south, east, north = bounds[rows].T
        x = rng.uniform(west, east)
        y = rng.uniform(south, north)
        good = _inside(locators, rows, x, y)
        lon[rows[good], columns[good]], lat[rows[good], columns[good]] = x[good], y[good]
        rows, columns = rows[~good], columns[~good]
    return lon, lat


def _inside(locators: Sequence[DistrictLocator], district: Ints, x: Floats, y: Floats) -> Any:
    good = locators[0].assign(x, y) == district
    for later in locators[1:]:
        good &= later.assign(x, y) >= 0
    return good


# --- what each kind has ---------------------------------------------------------------------------


def _fill_substations(
    rng: np.random.Generator, columns: Columns, rows: Ints, district: Ints, scale: pd.DataFrame
) -> None:
    """The city's whole load and customers over the substations, a district's share in each."""
    load = _split(CITY_PEAK_LOAD_KW, scale["peak_load_mw"].to_numpy(float))
    customers = _split(CITY_CUSTOMERS, scale["peak_load_mw"].to_numpy(float))
    # Of much the same size, so that a part of a district's substations is that part of its load.
    weight = rng.uniform(0.85, 1.15, len(rows))
    per_load = weight * rng.uniform(0.95, 1.05, len(rows))
    kw, people = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    for index, adcode in enumerate(scale.index):
        own = np.flatnonzero(district[rows] == index)
        kw[own] = _split(int(load[index]), weight[own])
        people[own] = _split(int(customers[index]), per_load[own])
        supplier = LOCAL_SUPPLIERS.get(adcode)
        local = own[5::6] if supplier else own[:0]
        _set(columns, rows[own], "operator", MAIN_GRID_OPERATOR)
        _set(columns, rows[local], "operator", supplier)
        _set(columns, rows[local], "main_grid", False)
    _set(columns, rows, "load_kw", kw)
    _set(columns, rows, "customers", people)
    voltage = np.where(kw > 60_000, '{"voltage_kv":220}', '{"voltage_kv":110}')
    _set(columns, rows, "attributes", np.where(kw < 20_000, '{"voltage_kv":35}', voltage))
    _set(columns, rows, "network", columns["operator"][rows])


def _fill_communications(
    rng: np.random.Generator, columns: Columns, at: dict[str, Ints], district: Ints
) -> None:
    names = np.array(list(OPERATORS), dtype=object)
    shares = np.array([share for _, share in OPERATORS.values()])
    for kind, low_h, high_h in (("base_station", 2.0, 8.0), ("exchange", 8.0, 24.0)):
        rows = at[kind]
        operator = names[rng.choice(len(names), len(rows), p=shares)]
        _set(columns, rows, "operator", operator)
        _set(columns, rows, "network", operator)
        # Evenly spread within each district, in a random order.
        rank = pd.Series(rng.random(len(rows))).groupby(district[rows]).rank(method="first")
        most = pd.Series(district[rows]).map(np.bincount(district[rows]).__getitem__)
        part = (rank.to_numpy() - 0.5) / most.to_numpy()
        _set(columns, rows, "battery_hours", np.round(low_h + (high_h - low_h) * part, 1))
    _set(columns, at["tower"], "operator", TOWER_OPERATOR)
    _set(columns, at["tower"], "network", TOWER_OPERATOR)


def _fill_special_equipment(rng: np.random.Generator, columns: Columns, rows: Ints) -> None:
    names = np.array(list(EQUIPMENT), dtype=object)
    share = np.array(list(EQUIPMENT.values()))
    which = rng.choice(len(names), len(rows), p=share / share.sum())
    json_of = np.array([f'{{"equipment":"{name}"}}' for name in names], dtype=object)
    _set(columns, rows, "attributes", json_of[which])
    titles = np.array([_EQUIPMENT_NAMES[name] for name in names], dtype=object)
    _set(columns, rows, "name", titles[which])
    lifts = rows[which == list(EQUIPMENT).index("elevator")]
    codes = 100_000 + rng.permutation(900_000)[: len(lifts)]
    _set(columns, lifts, "rescue_code", codes.astype("U6").astype(object))
    told = [
        f'{{"equipment":"elevator","owner":"合成物业{code % 97 + 1}公司",'
        f'"maintainer":"合成维保{code % 23 + 1}公司"}}'
        for code in codes.tolist()
    ]
    _set(columns, lifts, "attributes", np.array(told, dtype=object))


def _fill_key_users(rng: np.random.Generator, columns: Columns, rows: Ints) -> None:
    share = np.array([part for _, part, _ in _KEY_USERS.values()])
    which = rng.choice(len(share), len(rows), p=share)
    for column, values in (
        ("attributes", [f'{{"category":"{name}"}}' for name in _KEY_USERS]),
        ("name", [title for title, _, _ in _KEY_USERS.values()]),
        ("key_level", [level for _, _, level in _KEY_USERS.values()]),
    ):
        _set(columns, rows, column, np.array(values, dtype=object)[which])


def _feed(columns: Columns, at: dict[str, Ints], district: Ints) -> None:
    """What needs power is fed by the nearest substation of its district."""
    x = columns["lon"] * np.cos(np.radians(30.0))
    y = columns["lat"]
    ids = columns["facility_id"]
    needy = np.concatenate([at[k] for k in ("base_station", "exchange", "special_equipment",
                                            "key_user")])  # fmt: skip
    feeds = np.full(len(columns["kind"]), None, dtype=object)
    for index in range(int(district.max()) + 1):
        sources = at["substation"][district[at["substation"]] == index]
        fed = needy[district[needy] == index]
        tree = cKDTree(np.column_stack([x[sources], y[sources]]))
        _, nearest = tree.query(np.column_stack([x[fed], y[fed]]))
        feeds[fed] = ids[sources][nearest]
    columns["feeds_from"] = feeds


def _name(columns: Columns, at: dict[str, Ints], district: Ints, scale: pd.DataFrame) -> None:
    """`城口县基站00001`: district, what it is, its number; plainly no real name."""
    title = columns["name"]
    for kind, text in _KIND_NAMES.items():
        title[at[kind]] = text
    place = scale["name"].to_numpy(dtype=object)[district]
    columns["name"] = (
        place + title + np.array([i[-5:] for i in columns["facility_id"]], dtype=object)
    )


def _set(columns: Columns, rows: Ints, column: str, values: Any) -> None:
    columns[column][rows] = values
