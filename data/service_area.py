"""The share of each district's area out of service, for the situation at a moment.

docs/meanings.md, "Area": per kind, the union of the cells of facilities that are down and, for
kinds that supply power, of the reported outages' polygons. Shares come at once from
`geo.coverage_grid`, within 0.1 percentage point, and in the background from `data.exact_area`. A
kind has no entry while its grid is being made: a wrong share is worse than none, and `revision`
tells the builder when to look again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry
from sqlalchemy import Connection, Engine

from data.coverage_store import Coverage, CoverageStore, Inventories
from data.divisions import DivisionVersion
from data.exact_area import ExactAreas, Shares, Wanted
from data.facility_states import FacilityStates, StatesNow, states_at
from data.outage_split import LOAD_KINDS
from data.settings import SituationSettings
from geo.coverage import AreaShare

#: How long a question about the past waits for its grids, in seconds; then it is answered without.
PATIENCE_S = 2.0
FOOTPRINTS_KEPT = 8


@dataclass(frozen=True)
class _Answer:
    """The last shares of a kind by samples, what they were computed from, and where anything is
    out."""

    content: str
    down: NDArray[np.bool_]
    reported: tuple[tuple[str, int], ...]
    shares: Shares
    wanted: list[Wanted]


class ServiceAreas:
    """Area shares now and in the past; a background part of a process, with a thread of its own.

    `folder` keeps the grids between runs (None: memory only). Without `exact` shares stay as
    sampled, except that where nothing is out zero is exact.
    """

    def __init__(
        self,
        engine: Engine,
        settings: SituationSettings,
        folder: Path | None = None,
        exact: ExactAreas | None = None,
    ) -> None:
        # the farther a kind reaches, the fewer there are: its grid is soon made and comes first
        self._kinds = sorted(settings.reach_m, key=lambda kind: -settings.reach_m[kind])
        self._store = CoverageStore(engine, settings.reach_m, folder)
        self._inventories = Inventories(self._kinds)
        self._computes = exact is not None
        self._exact = exact or ExactAreas()
        self._now = StatesNow()
        self._last: dict[str, _Answer] = {}
        self._footprints: OrderedDict[tuple[Any, ...], NDArray[np.int32]] = OrderedDict()
        self._lock = threading.Lock()
        self._footprints_lock = threading.Lock()

    @classmethod
    def under(cls, engine: Engine, settings: SituationSettings, var: Path) -> ServiceAreas:
        """With the folder of an installation, and exact shares."""
        folder = var / "coverage"
        return cls(engine, settings, folder, ExactAreas(folder))

    def start(self) -> None:
        self._store.start()
        if self._computes:
            self._exact.start()

    def stop(self) -> None:
        self._exact.stop()
        self._store.stop()

    @property
    def revision(self) -> int:
        """Grows whenever more can be said than before although nothing was published."""
        return self._store.revision + self._exact.revision

    @property
    def settled(self) -> bool:
        """Whether every grid the newest situation wanted is ready, and every exact share."""
        return self._store.settled and self._exact.settled

    def told(self, sequence: int) -> None:
        """The situation asked for last (`at` None) is what is stored under `sequence`."""
        self._exact.told(sequence)

    def shares(
        self,
        connection: Connection,
        version: DivisionVersion,
        sequence: int,
        at: datetime | None,
        outages: Sequence[Mapping[str, Any]],
        kinds: Collection[str] | None = None,
    ) -> dict[str, Shares]:
        """{kind: {adcode: share}}; `at` None means now. Of the past only what had been shown by
        then is exact, and only `kinds` are looked at, if given.

        `outages`: the newest revisions known (`data.outages.open_outages`). Kinds without a reach,
        without a facility in force, or whose grid is not ready have no entry.
        """
        self._inventories.learn(connection)
        reported = _polygons(outages)[0]
        wanted = [
            one
            for kind in self._kinds
            if (one := self._inventories.wanted(kind, version.id, sequence, at)).any_facility
            or (reported and kind in LOAD_KINDS)
        ]  # of nothing there is no share, and no grid is made for it
        if at is None:
            coverages = self._store.live(wanted)
            with self._lock:
                states = self._now.at(connection, sequence)
                asked = self._all(coverages, states, outages, keep=True)
                return self._exact.live(asked)
        asked_for = [one for one in wanted if kinds is None or one.kind in kinds]
        coverages = self._store.past(asked_for, PATIENCE_S)
        if not coverages:
            return {}
        asked = self._all(coverages, states_at(connection, sequence), outages, keep=False)
        return {
            kind: self._exact.past(sampled, wanted, sequence)
            for kind, (sampled, wanted) in asked.items()
        }

    def _all(
        self,
        coverages: Mapping[str, Coverage],
        states: FacilityStates,
        outages: Sequence[Mapping[str, Any]],
        *,
        keep: bool,
    ) -> dict[str, tuple[Shares, list[Wanted]]]:
        """By kind the shares as sampled, and the districts in which anything is out."""
        reported, polygons = _polygons(outages)
        found = {}
        for kind, coverage in coverages.items():
            own, areas = (reported, polygons) if kind in LOAD_KINDS else ((), [])
            if not len(coverage.pks) and not areas:
                continue  # of nothing there is no share
            is_down = states.down_among(coverage.pks)
            last = self._last.get(kind)
            if (
                last is not None
                and (last.content, last.reported) == (coverage.content, own)
                and np.array_equal(last.down, is_down)
            ):
                found[kind] = (last.shares, last.wanted)
                continue
            footprint = self._footprint(coverage, own, areas) if areas else None
            table = coverage.grid.area_share(is_down, footprint=footprint)
            pairs = zip(table["any"].tolist(), table["all"].tolist(), strict=True)
            sampled: Shares = {
                adcode: AreaShare(any_share, all_share, "sampled")
                for adcode, (any_share, all_share) in zip(table["adcode"], pairs, strict=True)
            }
            wanted = self._exact.wanted(kind, coverage.inventory, is_down, areas)
            found[kind] = (sampled, wanted)
            if keep:
                self._last[kind] = _Answer(coverage.content, is_down, own, sampled, wanted)
        return found

    def _footprint(
        self,
        coverage: Coverage,
        reported: tuple[tuple[str, int], ...],
        polygons: Sequence[BaseGeometry],
    ) -> NDArray[np.int32]:
        """The samples inside reported outages; the same outages are open for many situations."""
        key = (coverage.content, reported)
        with self._footprints_lock:
            found = self._footprints.get(key)
        if found is None:
            found = coverage.grid.footprint(polygons)
        with self._footprints_lock:
            self._footprints[key] = found
            self._footprints.move_to_end(key)
            if len(self._footprints) > FOOTPRINTS_KEPT:
                self._footprints.popitem(last=False)
        return found


def _polygons(
    outages: Sequence[Mapping[str, Any]],
) -> tuple[tuple[tuple[str, int], ...], list[BaseGeometry]]:
    """The open unplanned outages with an area: which they are, and their areas."""
    which, areas = [], []
    for outage in outages:
        shape = outage["geometry"]
        if not outage["open"] or outage["planned"] or shape is None:
            continue
        if shapely.get_dimensions(shape) == 2:
            which.append((outage["outage_id"], outage["revision"]))
            # valid by the database's library; one that another version doubts must not stop us
            areas.append(shape if shape.is_valid else shapely.make_valid(shape))
    return tuple(which), areas
