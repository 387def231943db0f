"""Service cells: the ground a facility serves, and the share of a district left without service.

A facility's cell is the part of its district that lies nearer to it than to any other facility of
its kind and network there, and within the reach of its kind. Facilities at one position share one
cell, which is out when any of them is down.

Distances are metres in `geo.crs.METRIC_CRS`, the reach corrected by its scale at the district;
areas are taken on the ellipsoid by `geo.crs.area_m2`, over cells cut with the district in degrees,
so that the cells of a network without reach add up to the district's own area.
`geo/coverage_grid.py` gives the same shares at once, by samples; what is here is exact.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from geo.assign import DistrictLocator, point_positions, require_wgs84
from geo.crs import METRIC_CRS, area_m2, from_wgs84, geometry_to_wgs84, length_m
from geo.cut import cut_one
from geo.errors import Fault, InvalidInput

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Shapes = NDArray[np.object_]

SAME_PLACE_DEGREES = 1e-8
"""Positions that agree to this, about a millimetre, are one."""
EDGE_M = 2000.0
"""Long cell edges get a vertex this often, so that straight in metres stays straight in degrees."""
_QUARTER_SEGMENTS = 16
# radius of the regular polygon that has the disc's area
_SIDES = 4 * _QUARTER_SEGMENTS
_EQUAL_AREA = float(np.sqrt(2 * np.pi / (_SIDES * np.sin(2 * np.pi / _SIDES))))


class AreaShare(NamedTuple):
    """Shares (0–1) of a district's area where some network of a kind is out, and where all are;
    `exact` by unions of cells (here), or `sampled` (`geo/coverage_grid.py`)."""

    any: float
    all: float
    method: Literal["exact", "sampled"]


@dataclass(frozen=True, slots=True)
class Sites:
    """The distinct positions of the facilities of one kind, per district and network.

    Sorted by district (index into `adcodes`), network (index into `networks`), position (degrees,
    EPSG:4326). `of_facility` gives each facility's site, −1 outside every district.
    """

    adcodes: tuple[str, ...]
    networks: tuple[str | None, ...]
    district: Ints
    network: Ints
    lon: Floats
    lat: Floats
    of_facility: Ints

    @classmethod
    def of(
        cls,
        facilities: gpd.GeoDataFrame,
        districts: gpd.GeoDataFrame,
        locator: DistrictLocator | None = None,
    ) -> Sites:
        """From points in EPSG:4326 with `network` (null is one network more); a column `adcode`,
        when there, is taken as their district. Raises `CrsError`, `InvalidInput`."""
        require_wgs84(facilities, "facilities")
        require_wgs84(districts, "districts")
        lon, lat = point_positions(facilities.geometry.to_numpy())
        if "adcode" in facilities.columns:
            adcodes = tuple(sorted(districts["adcode"].astype(str)))
            home = pd.Index(adcodes).get_indexer(facilities["adcode"])
        else:
            locator = locator or DistrictLocator(districts)
            adcodes, home = locator.adcodes, locator.assign(lon, lat)
        network, networks = pd.factorize(facilities["network"].to_numpy(dtype=object), sort=True)
        unnamed = bool((network < 0).any())
        network = np.where(network < 0, len(networks), network)
        x, y = np.round(lon / SAME_PLACE_DEGREES), np.round(lat / SAME_PLACE_DEGREES)
        placed = np.flatnonzero(home >= 0)
        order = placed[np.lexsort((x[placed], y[placed], network[placed], home[placed]))]
        keys = np.column_stack([home[order], network[order], x[order], y[order]])
        first = np.ones(len(order), dtype=bool)
        first[1:] = (keys[1:] != keys[:-1]).any(axis=1)
        of_facility = np.full(len(facilities), -1, dtype=np.int64)
        of_facility[order] = np.cumsum(first) - 1
        kept = order[first]
        return cls(
            adcodes,
            (*networks, None) if unnamed else tuple(networks),
            home[kept].astype(np.int64),
            network[kept].astype(np.int64),
            x[kept] * SAME_PLACE_DEGREES,
            y[kept] * SAME_PLACE_DEGREES,
            of_facility,
        )

    def __len__(self) -> int:
        return len(self.lon)

    def groups(self) -> Iterator[tuple[int, int, slice]]:
        """District, network and the slice of its sites, for every pair that has any."""
        if not len(self):
            return
        changes = np.flatnonzero((np.diff(self.district) != 0) | (np.diff(self.network) != 0)) + 1
        for start, end in zip([0, *changes], [*changes, len(self)], strict=True):
            yield int(self.district[start]), int(self.network[start]), slice(int(start), int(end))


def service_cells(
    facilities: gpd.GeoDataFrame, districts: gpd.GeoDataFrame, reach_m: Mapping[str, float]
) -> gpd.GeoDataFrame:
    """The service cell of every facility inside a district, in EPSG:4326.

    `facilities`: EPSG:4326 points with `facility_id`, `kind`, `network`, and `adcode` if already
    placed; `reach_m`: metres per kind, infinity for no limit. Columns of the answer:
    `facility_id`, `kind`, `network`, `adcode`, `cell_id`, `cell_area_m2` and the cell; the index is
    that of `facilities`, less those outside every district. Facilities at one position have the
    same `cell_id`: add each cell once. Raises `CrsError`, or `InvalidInput` for kinds whose reach
    is not given or not positive and for rows without a position.
    """
    for frame, what in ((facilities, "facilities"), (districts, "districts")):
        require_wgs84(frame, what)
    kinds = sorted(facilities["kind"].unique())
    faults = [
        Fault(f"the reach of {kind} is missing or not above zero", field="reach_m")
        for kind in kinds
        if not reach_m.get(kind, 0) > 0
    ]
    if faults:
        raise InvalidInput(faults)
    locator = None if "adcode" in facilities.columns else DistrictLocator(districts)
    shapes = districts.set_index(districts["adcode"].astype(str)).geometry
    ground = shapely.force_2d(shapes.sort_index().to_numpy())
    tables, rows = [], []
    used = 0
    for kind in kinds:
        of_kind = np.flatnonzero((facilities["kind"] == kind).to_numpy(dtype=bool))
        own = facilities.iloc[of_kind]
        sites = Sites.of(own, districts, locator)
        cells = np.empty(len(sites), dtype=object)
        for district, _, group in sites.groups():
            cells[group] = _cells(
                ground[district], sites.lon[group], sites.lat[group], float(reach_m[kind])
            )
        areas = area_m2(cells)
        placed = sites.of_facility >= 0
        site = sites.of_facility[placed]
        table = own.loc[placed, ["facility_id", "kind", "network"]].assign(
            adcode=np.array(sites.adcodes, dtype=object)[sites.district[site]],
            cell_id=site + used,
            cell_area_m2=areas[site],
        )
        tables.append(gpd.GeoDataFrame(table, geometry=cells[site], crs="EPSG:4326"))
        rows.append(of_kind[placed])
        used += len(sites)
    if not tables:
        columns = ["facility_id", "kind", "network", "adcode", "cell_id", "cell_area_m2"]
        return gpd.GeoDataFrame({name: [] for name in columns}, geometry=[], crs="EPSG:4326")
    in_order = np.argsort(np.concatenate(rows), kind="stable")
    return gpd.GeoDataFrame(pd.concat(tables), crs="EPSG:4326").iloc[in_order]


def exact_area_share(
    cells: gpd.GeoDataFrame,
    districts: gpd.GeoDataFrame,
    down_facility_ids: Collection[str],
    polygons: Sequence[BaseGeometry] = (),
) -> pd.DataFrame:
    """Shares of each district's area out of service, by unions; `cells` of one kind.

    `polygons`: the open reported outages that concern the kind, valid areas in EPSG:4326.
    Columns: `adcode` (sorted), `any` = where some network is out, `all` = where a network serves
    and every network serving it is out (polygons belong to both), `any_m2`, `all_m2`,
    `district_m2`. Seconds to minutes for a city of base stations.
    """
    _one_kind(cells)
    require_wgs84(cells, "cells")
    reported = union_of_polygons(polygons)
    is_down = cells["facility_id"].isin(list(down_facility_ids)).to_numpy(dtype=bool)
    cell_id = cells["cell_id"].to_numpy()
    is_out = np.isin(cell_id, cell_id[is_down])
    once = ~cells["cell_id"].duplicated().to_numpy()
    network = pd.factorize(cells["network"].to_numpy(dtype=object), use_na_sentinel=False)[0]
    shapes, home = cells.geometry.to_numpy(), cells["adcode"].to_numpy()
    rows = []
    for adcode, ground in _sorted_grounds(districts):
        here = once & (home == adcode)
        lost = shapes[here & is_out]
        out = shapely.union_all(lost)
        inside = _areal(cut_one(ground, reported))
        any_m2 = float(area_m2(shapely.union(out, inside)))
        all_m2 = any_m2  # where one network serves, some and all are the same
        if len(np.unique(network[here])) > 1:
            served = shapely.union_all(_overlapping(shapes[here & ~is_out], lost))
            all_m2 = float(area_m2(shapely.union(_areal(shapely.difference(out, served)), inside)))
        # `all` is a part of `any`; overlays agree on that only up to rounding
        rows.append((adcode, any_m2, min(all_m2, any_m2), float(area_m2(ground))))
    return _shares(rows)


def cell_area_share(
    cells: gpd.GeoDataFrame, districts: gpd.GeoDataFrame, down_facility_ids: Collection[str]
) -> pd.DataFrame:
    """The shares of `exact_area_share` as sums of cell areas: exact, and quick, where the kind has
    one network and no polygon is open. Raises `InvalidInput` for several networks."""
    _one_kind(cells)
    if cells["network"].nunique(dropna=False) > 1:
        raise InvalidInput("cells of several networks overlap, their areas cannot be added")
    is_down = cells["facility_id"].isin(list(down_facility_ids))
    out = cells[is_down].drop_duplicates("cell_id").groupby("adcode")["cell_area_m2"].sum()
    rows = []
    for adcode, ground in _sorted_grounds(districts):
        whole = float(area_m2(ground))
        lost = min(float(out.get(adcode, 0.0)), whole)
        rows.append((adcode, lost, lost, whole))
    return _shares(rows)


def union_of_polygons(polygons: Sequence[BaseGeometry]) -> BaseGeometry:
    """One geometry of all areas. Raises `InvalidInput` naming those that are null or not valid."""
    shapes = np.array(list(polygons), dtype=object)
    faults = [
        Fault("is null or not valid", row=int(row) + 1, field="geometry")
        for row in np.flatnonzero(~shapely.is_valid(shapes))
    ]
    if faults:
        raise InvalidInput(faults)
    return _areal(shapely.union_all(shapely.force_2d(shapes)))


def metres(lon: Floats, lat: Floats) -> Floats:
    """Positions on the metric plane, shape (n, 2)."""
    return np.column_stack(from_wgs84(lon, lat, METRIC_CRS))


def plane_scale(bounds: Floats) -> float:
    """Metres on the plane per metre on the ground, in the middle of `bounds` (degrees)."""
    lon, lat = (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2
    ends = metres(np.array([lon - 0.005, lon + 0.005]), np.array([lat, lat]))
    ground = length_m(shapely.LineString([(lon - 0.005, lat), (lon + 0.005, lat)]))
    return float(np.hypot(*(ends[1] - ends[0])) / ground)


def _cells(ground: BaseGeometry, lon: Floats, lat: Floats, reach_m: float) -> Shapes:
    """Cells in degrees of the sites of one network in one district."""
    bounds = np.array(ground.bounds)
    position = metres(lon, lat)
    reach = reach_m * plane_scale(bounds)
    if len(position) == 1:
        if np.isinf(reach):
            return np.array([ground], dtype=object)
        cells = shapely.buffer(
            shapely.points(position), reach * _EQUAL_AREA, quad_segs=_QUARTER_SEGMENTS
        )
    else:
        corners = metres(bounds[[0, 0, 2, 2]], bounds[[1, 3, 1, 3]])
        margin = np.ptp(corners, axis=0).max() * 0.1
        extent = shapely.box(*(corners.min(axis=0) - margin), *(corners.max(axis=0) + margin))
        diagram = shapely.voronoi_polygons(
            shapely.multipoints(position), extend_to=extent, ordered=True
        )
        cells = shapely.get_parts(diagram)
        vertex, cell = shapely.get_coordinates(cells, return_index=True)
        far = np.hypot(*(vertex - position[cell]).T) > reach
        wide = np.unique(cell[far])
        discs = shapely.buffer(
            shapely.points(position[wide]), reach * _EQUAL_AREA, quad_segs=_QUARTER_SEGMENTS
        ) if len(wide) else np.array([], dtype=object)  # fmt: skip
        cells[wide] = shapely.intersection(cells[wide], discs)
    degrees = np.asarray(
        geometry_to_wgs84(shapely.segmentize(cells, EDGE_M), METRIC_CRS), dtype=object
    )
    shapely.prepare(ground)
    crossing = np.flatnonzero(~shapely.contains_properly(ground, degrees))
    cut = shapely.intersection(degrees[crossing], ground)
    degrees[crossing] = [_areal(shape) for shape in cut]
    return degrees


def _overlapping(shapes: Shapes, others: Shapes) -> Shapes:
    """Those of `shapes` whose boxes overlap the box of any of `others`."""
    near: Shapes = shapes[np.unique(shapely.STRtree(shapes).query(others)[1])]
    return near


def _areal(shape: BaseGeometry) -> BaseGeometry:
    """Without the points and lines that an overlay of touching areas leaves."""
    if shape.geom_type in ("Polygon", "MultiPolygon"):
        return shape
    parts = shapely.get_parts(shape)
    return shapely.union_all(parts[shapely.get_dimensions(parts) == 2])


def _sorted_grounds(districts: gpd.GeoDataFrame) -> list[tuple[str, BaseGeometry]]:
    require_wgs84(districts, "districts")
    grounds = zip(districts["adcode"].astype(str), districts.geometry, strict=True)
    return sorted(grounds, key=lambda pair: pair[0])


def _one_kind(cells: gpd.GeoDataFrame) -> None:
    if cells["kind"].nunique() > 1:
        raise InvalidInput("area shares are of one kind; give the cells of one kind at a time")


def _shares(rows: list[tuple[str, float, float, float]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["adcode", "any_m2", "all_m2", "district_m2"])
    for name in ("any", "all"):
        # unions round in the last digits; a share is a share
        table[name] = np.clip(table[f"{name}_m2"] / table["district_m2"], 0.0, 1.0)
    return table[["adcode", "any", "all", "any_m2", "all_m2", "district_m2"]]
