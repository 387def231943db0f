"""Area shares at once: a grid of equal-area samples that know their nearest facility.

Each district is strewn with samples that all stand for the same area on the ellipsoid. A sample's
nearest facility within reach, per network, is found once; afterwards a share is a count. Samples
with the same nearest facilities are counted once with their number, so the work of an answer goes
with the overlap of cells, not with samples.

The error against `geo.coverage.exact_area_share` stays below 0.1 percentage point. For a regular
grid of n samples the standard error of an area with border B is about
√(0.0724·B/√A)·n^(−3/4) of it (Matérn), which for m cells of which a random half is out asks for
n ∝ m^(1/3): `samples_wanted` holds that to four standard errors.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from shapely.geometry.base import BaseGeometry

from geo.assign import refuse_faulty_districts
from geo.coverage import Sites, metres, plane_scale, union_of_polygons
from geo.cut import clipped
from geo.errors import InvalidInput

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Mask = NDArray[np.bool_]

SAMPLING_ERROR = 0.001
"""No share from samples is farther from the exact one."""
FEWEST_SAMPLES = 100_000
EDGE_DEGREES = 0.05
_E2 = 0.0066943799901413165  # squared eccentricity of WGS-84
_TURN = np.arctan((1 + np.sqrt(5)) / 2)
_COS, _SIN = float(np.cos(_TURN)), float(np.sin(_TURN))
_FORMAT = 1
_DOWN, _UP = np.uint8(1), np.uint8(2)


class GivenUp(Exception):  # no fault: whoever asked for a grid wants none any more
    """A grid was given up while it was being made."""


def samples_wanted(sites: int) -> int:
    """Samples for a district whose largest network of the kind has so many sites."""
    return max(FEWEST_SAMPLES, int(240_000 * (sites / 2500) ** (1 / 3)))


@dataclass(frozen=True, slots=True)
class SampleRaster:
    """Equal-area samples over one district, rows and columns of squares.

    The raster lies on a plane made of longitude and authalic height, both in radians at
    `middle` (degrees of latitude), and is turned by an angle whose tangent is the golden ratio, so
    that no border that runs along a meridian or a parallel can fall in step with its rows.
    """

    middle: float
    west: float
    south: float
    step: float
    columns: int
    rows: int

    @classmethod
    def over(cls, ground: BaseGeometry, count: int) -> SampleRaster:
        """About `count` samples inside `ground` (degrees, EPSG:4326)."""
        middle = (ground.bounds[1] + ground.bounds[3]) / 2
        turned = _turn(ground, middle)
        west, south, east, north = turned.bounds
        step = float(np.sqrt(turned.area / count))
        columns, rows = (max(1, round(side / step)) for side in (east - west, north - south))
        # half a step of margin, since rounding may have cut as much
        return cls(middle, west - step / 2, south - step / 2, step, columns + 1, rows + 1)

    def positions(self, inside: Mask) -> tuple[Floats, Floats]:
        """Longitude and latitude of the samples chosen by a mask (rows × columns)."""
        row, column = np.nonzero(inside)
        u = self.west + (column + 0.5) * self.step
        v = self.south + (row + 0.5) * self.step
        return self._degrees(u, v)

    def _degrees(self, u: NDArray[Any], v: NDArray[Any]) -> tuple[Floats, Floats]:
        """Longitude and latitude of places on the turned plane."""
        cos = np.cos(np.radians(self.middle))
        lon = np.degrees((u * _COS - v * _SIN) / cos)
        height = (u * _SIN + v * _COS) * cos
        table = np.linspace(self.middle - 10, self.middle + 10, 200_001)
        return lon, np.interp(height, _authalic(table), table)

    def box(self) -> tuple[float, float, float, float]:
        """West, south, east, north (degrees) of a box that all samples lie in, with a margin."""
        u = self.west + np.array([0, 0, self.columns, self.columns]) * self.step
        v = self.south + np.array([0, self.rows, 0, self.rows]) * self.step
        lon, lat = self._degrees(u, v)
        pad = max(float(np.ptp(lon)), float(np.ptp(lat))) * 0.01
        return (
            float(lon.min()) - pad,
            float(lat.min()) - pad,
            float(lon.max()) + pad,
            float(lat.max()) + pad,
        )

    def inside(self, area: BaseGeometry) -> tuple[int, Mask]:
        """The first row that `area` (degrees) reaches, and from there which samples it covers:
        along a row, a sample is inside after an odd number of border crossings."""
        # rings, since GEOS asks anew whether an area is valid when it puts corners into it
        rings = _turn(shapely.get_rings(shapely.get_parts(area)), self.middle)
        uv, ring = shapely.get_coordinates(rings, return_index=True)
        column = (uv[:, 0] - self.west) / self.step - 0.5
        row = (uv[:, 1] - self.south) / self.step - 0.5
        # an edge crosses the rows from its lower end, included, to its upper, not included
        reached = np.clip(np.ceil(row), 0, self.rows).astype(np.int64)
        first, end = int(reached.min()), int(reached.max())
        edge = np.flatnonzero(ring[1:] == ring[:-1])
        low = np.minimum(reached[edge], reached[edge + 1])
        count = np.maximum(reached[edge], reached[edge + 1]) - low
        of = np.repeat(edge, count)
        at = np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(low, count)
        slope = (column[of + 1] - column[of]) / (row[of + 1] - row[of])
        crossing = np.ceil(column[of] + (at - row[of]) * slope)
        crossing = np.clip(crossing, 0, self.columns).astype(np.int64)
        width = self.columns + 1
        crossings = np.bincount(
            (at - first) * width + crossing, minlength=(end - first) * width
        ).reshape(end - first, width)
        return first, (np.cumsum(crossings[:, :-1], axis=1, dtype=np.int32) & 1).astype(bool)


class CoverageGrid:
    """Area shares of one kind over a fixed inventory and fixed districts.

    Built by `build`, stored by `save` and `load`. `adcodes` and `networks` name what it covers;
    `facility_count` and `matches` tell whether an inventory is the one it was built from.
    """

    def __init__(self, arrays: dict[str, NDArray[Any]]) -> None:
        self._arrays = arrays
        self.adcodes: tuple[str, ...] = tuple(arrays["adcodes"].tolist())
        self.networks: tuple[str | None, ...] = tuple(
            name[1:] if name else None for name in arrays["networks"].tolist()
        )
        self._site_of_facility: Ints = arrays["site_of_facility"]
        self.facility_count = len(self._site_of_facility)
        self._site_count = int(arrays["site_count"])
        # tuples of nearest sites: per network, the site or −1, and how many samples have the tuple
        self._nearest: Ints = arrays["nearest"]
        self._samples: Ints = arrays["samples"]
        self._starts: NDArray[np.int64] = arrays["starts"]
        self._tuple_at: Ints = arrays["raster"]
        self._first_of_raster: NDArray[np.int64] = arrays["raster_starts"]
        self._rasters = [
            SampleRaster(middle, west, south, step, columns, rows)
            for (middle, west, south, step), (columns, rows) in zip(
                arrays["places"].tolist(), arrays["sizes"].tolist(), strict=True
            )
        ]
        self._district_samples = np.add.reduceat(self._samples.astype(np.int64), self._starts)

    @classmethod
    def build(
        cls,
        facilities: gpd.GeoDataFrame,
        districts: gpd.GeoDataFrame,
        reach_m: float,
        *,
        samples_per_district: int | None = None,
        workers: int = 1,
        given_up: Callable[[], bool] = lambda: False,
    ) -> CoverageGrid:
        """From the facilities of one kind (EPSG:4326, `facility_id`, `network`, `adcode` if placed)
        and the districts (EPSG:4326, `adcode`); `reach_m` in metres, infinity for no limit.
        Once `given_up` answers true, raises `GivenUp` before the next district."""
        if not reach_m > 0:
            raise InvalidInput("reach_m must be above zero")
        refuse_faulty_districts(districts)
        sites = Sites.of(facilities, districts)
        position = metres(sites.lon, sites.lat)
        groups: dict[int, list[tuple[int, slice]]] = {}
        for district, network, group in sites.groups():
            groups.setdefault(district, []).append((network, group))
        shapes = districts.set_index(districts["adcode"].astype(str)).geometry
        tables, counts, rasters, layouts = [], [], [], []
        used = 0
        for district, ground in enumerate(shapes.reindex(sites.adcodes)):
            if given_up():
                raise GivenUp
            own = groups.get(district, [])
            largest = max((group.stop - group.start for _, group in own), default=0)
            layout = SampleRaster.over(ground, samples_per_district or samples_wanted(largest))
            first, mask = layout.inside(ground)
            inside = np.zeros((layout.rows, layout.columns), dtype=bool)
            inside[first : first + len(mask)] = mask
            # where no facility is, all samples are alike, wherever they lie
            sample = metres(*layout.positions(inside)) if own else np.empty((1, 2))
            reach = reach_m * plane_scale(np.array(ground.bounds))
            nearest = np.full((len(sites.networks), len(sample)), -1, dtype=np.int32)
            for network, group in own:
                _, found = cKDTree(position[group]).query(
                    sample, distance_upper_bound=reach, workers=workers
                )
                hit = found < group.stop - group.start
                nearest[network, hit] = found[hit] + group.start
            table, number, count = _distinct(nearest)
            if not own:
                number, count = np.zeros(1, dtype=np.int64), np.array([np.count_nonzero(inside)])
            raster = np.full(inside.shape, -1, dtype=np.int32)
            raster[inside] = number + used
            tables.append(table)
            counts.append(count)
            rasters.append(raster.reshape(-1))
            layouts.append(layout)
            used += len(count)
        return cls(
            {
                "format": np.array(_FORMAT),
                "adcodes": np.array(sites.adcodes, dtype=str),
                # a mark before the name keeps null and the empty name apart
                "networks": np.array(
                    ["" if name is None else f"={name}" for name in sites.networks], dtype=str
                ),
                "fingerprint": np.array(_fingerprint(facilities["facility_id"])),
                "site_of_facility": sites.of_facility.astype(np.int32),
                "site_count": np.array(len(sites)),
                "nearest": np.concatenate(tables, axis=1),
                "samples": np.concatenate(counts).astype(np.int32),
                "starts": np.cumsum([0, *(len(count) for count in counts)])[:-1],
                "raster": np.concatenate(rasters),
                "raster_starts": np.cumsum([0, *(len(raster) for raster in rasters)])[:-1],
                "places": np.array(
                    [(raster.middle, raster.west, raster.south, raster.step) for raster in layouts]
                ),
                "sizes": np.array([(raster.columns, raster.rows) for raster in layouts]),
            }
        )

    def matches(self, facility_ids: Iterable[str]) -> bool:
        """Whether the facilities, in this order, are those the grid was built from."""
        return str(self._arrays["fingerprint"]) == _fingerprint(facility_ids)

    def footprint(self, polygons: Sequence[BaseGeometry]) -> Ints:
        """Samples inside the union of `polygons` (valid areas, EPSG:4326) for each tuple; worth
        keeping while the same outages are open. Raises `InvalidInput`."""
        covered = np.zeros(len(self._samples), dtype=np.int32)
        area = union_of_polygons(polygons)
        if area.is_empty:
            return covered
        for layout, start in zip(self._rasters, self._first_of_raster, strict=True):
            part = clipped(area, layout.box())
            if part.is_empty:
                continue
            first, mask = layout.inside(part)
            begin = int(start) + first * layout.columns
            number = self._tuple_at[begin : begin + mask.size][mask.reshape(-1)]
            number = number[number >= 0]
            if len(number):
                low = int(number.min())
                found = np.bincount(number - low)
                covered[low : low + len(found)] += found.astype(np.int32)
        return covered

    def area_share(
        self,
        state_down: Mask,
        polygons: Sequence[BaseGeometry] = (),
        *,
        footprint: Ints | None = None,
    ) -> pd.DataFrame:
        """Share of each district out of service: columns `adcode`, `any`, `all` (fractions) and
        the counts they are made of, `any_samples`, `all_samples`, `samples`.

        `state_down`: per facility, in the order of `build`. `polygons`: the open outages that
        concern the kind, or their `footprint`. Meanings as in `geo.coverage.exact_area_share`.
        """
        down = np.asarray(state_down, dtype=bool)
        if down.shape != (self.facility_count,):
            raise InvalidInput(f"{down.size} states for a grid of {self.facility_count} facilities")
        if footprint is None and len(polygons):
            footprint = self.footprint(polygons)
        # the last place stands for "no facility within reach"; indexing by −1 finds it
        state = np.full(self._site_count + 1, _UP, dtype=np.uint8)
        state[-1] = 0
        sites = self._site_of_facility[down]
        state[sites[sites >= 0]] = _DOWN
        seen = np.zeros(len(self._samples), dtype=np.uint8)
        for nearest in self._nearest:
            seen |= state[nearest]
        # without footprint a tuple is out with all its samples or with none
        inside = np.zeros(1, dtype=np.int32) if footprint is None else footprint
        any_out = np.where((seen & _DOWN) != 0, self._samples, inside)
        all_out = np.where(seen == _DOWN, self._samples, inside)
        table = pd.DataFrame(
            {
                "adcode": list(self.adcodes),
                "any_samples": np.add.reduceat(any_out.astype(np.int64), self._starts),
                "all_samples": np.add.reduceat(all_out.astype(np.int64), self._starts),
                "samples": self._district_samples,
            }
        )
        table["any"] = table["any_samples"] / table["samples"]
        table["all"] = table["all_samples"] / table["samples"]
        return table[["adcode", "any", "all", "any_samples", "all_samples", "samples"]]

    def save(self, path: str | Path) -> None:
        """Write to `path` (.npz), whole or not at all."""
        path = Path(path)
        arrays = dict(self._arrays)
        # neighbours mostly share a tuple, so differences compress far better than numbers
        arrays["raster"] = np.diff(self._tuple_at, prepend=np.int32(0))
        arrays["nearest"] = np.diff(self._nearest, axis=1, prepend=np.int32(0))
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        with partial.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    @classmethod
    def load(cls, path: str | Path) -> CoverageGrid:
        """Read what `save` wrote. Raises `InvalidInput` for anything else."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            if int(arrays["format"]) != _FORMAT:
                raise InvalidInput(f"{path} is of another version; build the grid anew")
            arrays["raster"] = np.cumsum(arrays["raster"], dtype=np.int32)
            arrays["nearest"] = np.cumsum(arrays["nearest"], axis=1, dtype=np.int32)
            return cls(arrays)
        except (ValueError, KeyError, EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:
            raise InvalidInput(f"{path} is not a coverage grid; build it anew") from error


def _turn(area: Any, middle: float) -> Any:
    """An area, or rings of one, on the turned equal-area plane of a raster."""
    cos = np.cos(np.radians(middle))

    def project(degrees: Floats) -> Floats:
        x, y = np.radians(degrees[:, 0]) * cos, _authalic(degrees[:, 1]) / cos
        return np.column_stack([x * _COS + y * _SIN, y * _COS - x * _SIN])

    # heights are not proportional to latitude: long edges bend by a hair, short ones do not
    return shapely.transform(shapely.segmentize(area, EDGE_DEGREES), project)


def _authalic(lat: Floats) -> Floats:
    """Height (radians) on the cylinder whose areas are those of the WGS-84 ellipsoid, with half
    the authalic function q of Snyder (1987), equation 3-12, as the unit's definition."""
    sine = np.sin(np.radians(lat))
    q = sine / (1 - _E2 * sine * sine) + np.arctanh(np.sqrt(_E2) * sine) / np.sqrt(_E2)
    return np.asarray((1 - _E2) * q / 2)


def _distinct(nearest: Ints) -> tuple[Ints, NDArray[np.int64], NDArray[np.int64]]:
    """Distinct columns of `nearest`, the number of each sample's column, and how many have it."""
    code = np.zeros(nearest.shape[1], dtype=np.int64)
    count = np.array([nearest.shape[1]])
    for line in nearest:
        low = int(line.min(initial=0))
        span = int(line.max(initial=0)) - low + 1
        # renumbering after each network keeps the code small
        _, code, count = np.unique(
            code * span + (line - low), return_inverse=True, return_counts=True
        )
    # numbered in order of first appearance, so that neighbours have near numbers
    first = np.full(len(count), len(code), dtype=np.int64)
    np.minimum.at(first, code, np.arange(len(code)))
    order = np.argsort(first)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return nearest[:, first[order]], rank[code], count[order]


def _fingerprint(facility_ids: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for facility_id in facility_ids:
        text = str(facility_id).encode()
        digest.update(len(text).to_bytes(4, "big") + text)
    return digest.hexdigest()
