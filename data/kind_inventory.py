"""The facilities of one kind in force, by district: all that their service cells depend on.

A district's digest names that content. Two inventories in which a district has the same digest
have the same cells there, facility by facility in the same order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

#: Part of every digest; to be raised when cells come to be made otherwise.
CELLS_FORMAT = 1

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class KindInventory:
    """Positions (degrees, EPSG:4326) and networks of the facilities of a kind, and the districts.

    `adcodes`, `grounds` (areas, EPSG:4326) and `digests` have one entry per district; the
    facilities of district i are `order[starts[i]:starts[i + 1]]`, indices into the facilities as
    they were given. `network` indexes `networks`, −1 for null. `reach_m`: metres. `ground_digest`
    names the districts alone.
    """

    reach_m: float
    adcodes: tuple[str, ...]
    grounds: NDArray[np.object_]
    lon: NDArray[np.float64]
    lat: NDArray[np.float64]
    network: NDArray[np.int32]
    networks: tuple[str, ...]
    order: NDArray[np.int32]
    starts: NDArray[np.int64]
    digests: tuple[bytes, ...]
    ground_digest: bytes

    @classmethod
    def of(
        cls, facilities: gpd.GeoDataFrame, districts: gpd.GeoDataFrame, reach_m: float
    ) -> KindInventory:
        """From points with `network` and `adcode` (null: in no district), and areas with `adcode`,
        both in EPSG:4326."""
        adcodes = tuple(districts["adcode"].astype(str))
        grounds = np.array(districts.geometry, dtype=object)
        lon, lat = shapely.get_coordinates(facilities.geometry.to_numpy()).T.astype(np.float64)
        network, networks = pd.factorize(facilities["network"].to_numpy(dtype=object), sort=True)
        home = pd.Index(adcodes).get_indexer(facilities["adcode"].to_numpy(dtype=object))
        order = np.argsort(home, kind="stable").astype(np.int32)
        starts = np.searchsorted(home[order], np.arange(len(adcodes) + 1)).astype(np.int64)
        names = np.array([*(f"={name}" for name in networks), ""], dtype=object)
        drawn = [shapely.to_wkb(ground, byte_order=1) for ground in grounds]
        digests = []
        for i in range(len(adcodes)):
            here = order[starts[i] : starts[i + 1]]
            parts = (
                str(CELLS_FORMAT).encode(),
                np.float64(reach_m).tobytes(),
                drawn[i],
                "\x00".join(names[network[here]]).encode(),
                np.column_stack([lon[here], lat[here]]).astype("<f8").tobytes(),
            )
            digests.append(_digest(*parts))
        return cls(
            float(reach_m),
            adcodes,
            grounds,
            np.ascontiguousarray(lon),
            np.ascontiguousarray(lat),
            network.astype(np.int32),
            tuple(networks),
            order,
            starts,
            tuple(digests),
            _digest(*drawn),
        )

    def districts_with(self, is_down: Mask) -> list[int]:
        """The districts, as indices, in which a facility is down; `is_down` per facility."""
        before = np.concatenate([[0], np.cumsum(is_down[self.order])])
        found = before[self.starts[1:]] > before[self.starts[:-1]]
        return [int(i) for i in np.flatnonzero(found)]

    def down_in(self, district: int, is_down: Mask) -> Mask:
        """Of the facilities of a district, in its own order, which are down."""
        here: Mask = is_down[self.order[self.starts[district] : self.starts[district + 1]]]
        return here

    def key(self, district: int, down: Mask, reported: tuple[bytes, ...]) -> str:
        """What names the district's area out of service, 64 hexadecimal digits: its content, which
        facilities are down (`down_in`), and the digests of the reported areas that reach it."""
        parts = (self.digests[district], np.packbits(down).tobytes(), *sorted(set(reported)))
        return _digest(*parts).hex()

    def facilities_in(self, district: int) -> gpd.GeoDataFrame:
        """The facilities of a district in its own order, as `geo.coverage.service_cells` takes
        them; `facility_id` is their number in that order, `kind` stands for whichever it is."""
        here = self.order[self.starts[district] : self.starts[district + 1]]
        names = np.array([*self.networks, None], dtype=object)
        columns = {
            "facility_id": np.arange(len(here)).astype(str).astype(object),
            "kind": np.full(len(here), "any", dtype=object),
            "network": names[self.network[here]],
            "adcode": np.full(len(here), self.adcodes[district], dtype=object),
        }
        points = shapely.points(self.lon[here], self.lat[here])
        return gpd.GeoDataFrame(columns, geometry=points, crs="EPSG:4326")

    def ground_of(self, district: int) -> gpd.GeoDataFrame:
        """The district as a frame of one row, EPSG:4326."""
        columns = {"adcode": [self.adcodes[district]]}
        return gpd.GeoDataFrame(columns, geometry=[self.grounds[district]], crs="EPSG:4326")


def area_digest(shape: shapely.Geometry) -> bytes:
    """What names a reported area: the hash of its coordinates as they are."""
    return _digest(shapely.to_wkb(shape, byte_order=1))


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()
