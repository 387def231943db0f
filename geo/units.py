"""District and unit of a point: every facility belongs to exactly one unit.

docs/meanings.md, "Divisions": the unit a facility declares stands where the divisions have it; else
the functional zone that contains the point; else its district. So one outage never counts in two
units. Among zones that cover a point the smallest code wins, as among districts.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from geo.assign import DistrictLocator

Floats = NDArray[np.float64]
Objects = NDArray[np.object_]


class UnitLocator:
    """Places points in one set of divisions.

    `districts`: EPSG:4326, columns adcode, geometry. `zones`: the functional zones that have a
    shape, columns code, geometry; None where none has. `shapeless`: codes of zones without one,
    which only a declaration can name. Raises as `DistrictLocator`.
    """

    def __init__(
        self,
        districts: gpd.GeoDataFrame,
        zones: gpd.GeoDataFrame | None = None,
        shapeless: Collection[str] = (),
    ) -> None:
        self._districts = DistrictLocator(districts)
        has_zones = zones is not None and len(zones) > 0
        self._zones = DistrictLocator(_as_districts(zones)) if has_zones else None
        shaped = self._zones.adcodes if self._zones else ()
        self.zone_codes: frozenset[str] = frozenset([*shaped, *shapeless])
        #: What a facility may declare.
        self.codes: frozenset[str] = self.zone_codes | set(self._districts.adcodes)

    @property
    def adcodes(self) -> tuple[str, ...]:
        return self._districts.adcodes

    def place(
        self, lon: Floats, lat: Floats, declared: Objects | None = None
    ) -> tuple[Objects, Objects]:
        """adcode and unit of WGS-84 points, shape (n,); None outside.

        `declared`: the unit each facility says it belongs to, None where it says none.
        """
        names = np.array([*self._districts.adcodes, None], object)
        adcode: Objects = names[self._districts.assign(lon, lat)]  # -1 is the last: outside
        unit = adcode.copy()
        if self._zones is not None:
            inside = self._zones.assign(lon, lat)
            unit = np.where(
                inside >= 0, np.array([*self._zones.adcodes, None], object)[inside], unit
            )
        if declared is not None:
            stands = np.fromiter((d in self.codes for d in declared), bool, len(declared))
            unit = np.where(stands, declared, unit)
        return adcode, unit


def _as_districts(zones: Any) -> gpd.GeoDataFrame:
    """Zones as `DistrictLocator` takes them."""
    return gpd.GeoDataFrame(
        {"adcode": zones["code"].to_numpy(object)},
        geometry=zones.geometry.to_numpy(),
        crs=zones.crs,
    )
