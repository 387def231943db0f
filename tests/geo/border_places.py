"""Places beside the districts' borders where numbers read in the wrong datum change the district.

`python -m tests.geo.border_places` prints how often that happens when nobody says that numbers are
GCJ-02 or BD-09 and they are read as WGS-84. Every figure is of the 37 districts in force, seeded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from data.inventory import make_inventory
from data.readers.boundaries import default_divisions
from geo.assign import OUTSIDE, DistrictLocator
from geo.crs import METRIC_CRS, from_wgs84, geometry_from_wgs84, to_wgs84

SEED = 20251106
COUNT = 200
ANYWHERE = 200_000
FACILITIES = 50_000
NEAR_M = 500.0
MISREAD = ("GCJ-02", "BD-09")
#: Degrees with six decimals, as phones and map services give them: 0.1 m.
DECIMALS = 6

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BorderPlace:
    """A place in `adcode` (WGS-84 degrees), a step from its neighbour.

    `misread` names, per datum, the district its numbers in that datum fall into when they are read
    as WGS-84: always another one of the city.
    """

    lon: float
    lat: float
    adcode: str
    misread: dict[str, str]

    def numbers(self, crs: str) -> tuple[float, float]:
        """The place in `crs`, east before north."""
        return from_wgs84(self.lon, self.lat, crs)


#: Degree systems, in which the same place is written with different numbers.
DATUMS = ("WGS84", "GCJ-02", "BD-09", "CGCS2000")


def as_text(x: float, y: float, turn: int) -> str:
    """Longitude and latitude as somebody types them; `turn` chooses one of six ways."""

    def sexagesimal(degrees: float) -> str:
        thousandths = round(degrees * 3_600_000)
        minutes, rest = divmod(thousandths, 60_000)
        return f"{minutes // 60}°{minutes % 60:02d}′{rest / 1000:06.3f}″"

    wide = str.maketrans("0123456789.,", "０１２３４５６７８９．，")
    return (
        f"{x:.6f},{y:.6f}",
        f"{x:.6f},{y:.6f}".translate(wide),
        f"{sexagesimal(y)}N {sexagesimal(x)}E",
        f"东经{sexagesimal(x)}、北纬{sexagesimal(y)}",
        f"N{int(y)}°{y % 1 * 60:.5f}′；E{int(x)}°{x % 1 * 60:.5f}′",
        f"纬度：{y:.6f}，经度：{x:.6f}",
    )[turn % 6]


def statements(place: BorderPlace, turn: int) -> list[tuple[str | list[float], str]]:
    """(position, crs): the place as an array and as text in every system it may be declared in."""
    said: list[tuple[str | list[float], str]] = []
    for crs in DATUMS:
        x, y = (round(n, DECIMALS) for n in place.numbers(crs))
        said += [([x, y], crs), (as_text(x, y, turn), crs)]
    zone = round((place.lon - 105) / 3)  # 0, 1, 2: central meridians 105°, 108°, 111° E
    for crs in (f"EPSG:{4523 + zone}", f"EPSG:{4544 + zone}"):
        east, north = (round(n, 2) for n in place.numbers(crs))
        said += [([east, north], crs), (f"{east:.2f}，{north:.2f}", crs)]
        if crs == f"EPSG:{4523 + zone}":  # its zone stands before the easting
            said += [([east, north], "CGCS2000"), (f"{east:.2f} {north:.2f}", "CGCS2000")]
    return said


@cache
def districts() -> Any:
    """The districts in force (EPSG:4326, columns `adcode`, `name`, `geometry`)."""
    return default_divisions()[-1].frame


@cache
def locator() -> DistrictLocator:
    return DistrictLocator(districts()[["adcode", "geometry"]])


def district_of(lon: Floats, lat: Floats) -> list[str]:
    """The code of each place's district, empty outside."""
    return ["" if i == OUTSIDE else locator().adcodes[i] for i in locator().assign(lon, lat)]


def shared_borders() -> Iterator[Any]:
    """The common border of each pair of neighbours, in metres."""
    rings = geometry_from_wgs84(
        np.asarray([shapely.boundary(one) for one in districts().geometry], dtype=object),
        METRIC_CRS,
    )
    for a, b in combinations(rings, 2):
        if shapely.intersects(a, b):
            border = shapely.line_merge(shapely.intersection(a, b))
            if shapely.length(border) > NEAR_M:
                yield border


def beside(border: Any, count: int, random: np.random.Generator) -> tuple[Floats, Floats]:
    """Places within NEAR_M of a border, as degrees: along it evenly, aside of it in any way."""
    parts = np.asarray([p for p in shapely.get_parts(border) if shapely.length(p)], dtype=object)
    lengths = shapely.length(parts)
    chosen = random.choice(len(parts), count, p=lengths / lengths.sum())
    along = random.uniform(0, 1, count)
    points = shapely.line_interpolate_point(parts[chosen], along, normalized=True)
    angle, reach = (
        random.uniform(0, 2 * np.pi, count),
        NEAR_M * np.sqrt(random.uniform(0, 1, count)),
    )
    east = shapely.get_x(points) + reach * np.cos(angle)
    north = shapely.get_y(points) + reach * np.sin(angle)
    lon, lat = to_wgs84(east, north, METRIC_CRS)
    return np.round(lon, DECIMALS), np.round(lat, DECIMALS)


@cache
def border_places() -> tuple[BorderPlace, ...]:
    """COUNT places, from every pair of neighbours in turn, each in another district once misread."""
    random = np.random.default_rng(SEED)
    found: list[list[BorderPlace]] = []
    for border in shared_borders():
        lon, lat = beside(border, 400, random)
        told = district_of(lon, lat)
        read = {crs: district_of(*from_wgs84(lon, lat, crs)) for crs in MISREAD}
        found.append(
            [
                BorderPlace(float(lon[i]), float(lat[i]), here, {c: read[c][i] for c in MISREAD})
                for i, here in enumerate(told)
                if here and all(read[crs][i] not in ("", here) for crs in MISREAD)
            ]
        )
    rounds = max(len(one) for one in found)
    ordered = [one[n] for n in range(rounds) for one in found if n < len(one)]
    return tuple(ordered[:COUNT])


def near_borders() -> tuple[Floats, Floats]:
    """Places within NEAR_M of a border between two districts, by the borders' length."""
    random = np.random.default_rng(SEED)
    return beside(shapely.union_all(list(shared_borders())), ANYWHERE // 4, random)


def anywhere() -> tuple[Floats, Floats]:
    """Places of the city, every square metre alike."""
    random = np.random.default_rng(SEED)
    west, south, east, north = districts().total_bounds
    sines = np.sin(np.radians([south, north]))
    lon = random.uniform(west, east, ANYWHERE)
    lat = np.degrees(np.arcsin(random.uniform(*sines, ANYWHERE)))
    inside = locator().assign(lon, lat) != OUTSIDE
    return lon[inside], lat[inside]


def facilities() -> tuple[Floats, Floats]:
    """Where the synthetic inventory's facilities stand, which follow the residents."""
    made = make_inventory(FACILITIES, SEED, [one.frame for one in default_divisions()])
    return made["lon"].to_numpy(dtype=float), made["lat"].to_numpy(dtype=float)


def wrong_share(lon: Floats, lat: Floats, crs: str) -> float:
    """Part of the places that fall into another district, or none, when misread."""
    there = locator().assign(*from_wgs84(lon, lat, crs))
    return float((there != locator().assign(lon, lat)).mean())


@cache
def rates() -> dict[str, dict[str, float]]:
    """Wrong districts per datum read as WGS-84: {sample: {datum: share}}."""
    chosen = border_places()
    samples = {
        "chosen": (np.array([p.lon for p in chosen]), np.array([p.lat for p in chosen])),
        "near": near_borders(),
        "anywhere": anywhere(),
        "facilities": facilities(),
    }
    return {name: {c: wrong_share(*xy, c) for c in MISREAD} for name, xy in samples.items()}


def as_printed(share: float) -> str:
    return f"{share * 100:.1f} %"


if __name__ == "__main__":
    for sample, by_datum in rates().items():
        told = ", ".join(f"{crs} {as_printed(share)}" for crs, share in by_datum.items())
        print(f"wrong district when read as WGS-84, {sample}: {told}")
