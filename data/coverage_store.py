"""Coverage grids per kind, division version and inventory in force: built in the background, kept.

One daemon thread builds what was asked for; nobody who asks waits for longer than he said. A grid
is also kept as a file named by the content it was made of (positions, networks, districts, reach),
so a restart, another process and an edit that moves nothing find it again.
"""

from __future__ import annotations

import fcntl
import hashlib
import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
import structlog
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, text

from data.background import Background
from data.database import reading
from data.divisions import districts_frame
from data.kind_inventory import KindInventory
from data.patience import give_time
from geo.coverage_grid import CoverageGrid, GivenUp
from geo.errors import InvalidInput

#: Grids in memory beside those of the newest situation. With 460 000 base stations one is 120 MB.
PAST_KEPT = 6
FILES_KEPT = 16
#: Past moments waiting for their grid; a longer queue forgets its oldest.
PAST_WAITING = 6
RETRY_S = 5.0

log = structlog.get_logger()


@dataclass(frozen=True)
class Wanted:
    """The facilities of a kind that were in force, under a division version: by the changes through
    a sequence (0: none), and of what was loaded as in force from earlier on, all until `backdated`
    (None: none). `learnt` counts how often the inventory was looked at anew."""

    kind: str
    version_id: int
    through: int
    backdated: datetime | None
    learnt: int

    @property
    def any_facility(self) -> bool:
        """Whether the inventory ever had a facility of the kind."""
        return self.through > 0 or self.backdated is not None


@dataclass(frozen=True)
class Coverage:
    """A grid and the facilities it is of: as `facility.pk`, and what their cells are made of, both
    in the grid's order."""

    grid: CoverageGrid
    pks: NDArray[np.int64]
    content: str
    inventory: KindInventory


class Inventories:
    """When the facilities of each kind changed, as far as their cells are concerned."""

    def __init__(self, kinds: Sequence[str]) -> None:
        self._kinds = list(kinds)
        self._sequence: int | None = None
        self._changes: dict[str, tuple[list[int], list[datetime]]] = {}
        self._learnt = dict.fromkeys(self._kinds, 0)
        self._lock = threading.Lock()

    def wanted(self, kind: str, version_id: int, sequence: int, at: datetime | None) -> Wanted:
        """What the cells of a kind rest on at a sequence and `at` (None: now)."""
        with self._lock:
            sequences, instants = self._changes.get(kind, ([], []))
            known = bisect_right(sequences, sequence)
            begun = len(instants) if at is None else bisect_right(instants, at)
            return Wanted(
                kind,
                version_id,
                sequences[known - 1] if known else 0,
                instants[begun - 1] if begun else None,
                self._learnt.get(kind, 0),
            )

    def learn(self, connection: Connection) -> None:
        """Look for changes of the inventory that were not there the last time."""
        with self._lock:
            newest = int(
                connection.execute(
                    text("SELECT coalesce(max(sequence), 0) FROM change")
                ).scalar_one()
            )
            if self._sequence is not None and newest <= self._sequence:
                return
            kinds = self._kinds if self._sequence is None else self._moved(connection, newest)
            if kinds:
                known = _changes(connection, kinds)
                for kind in kinds:
                    self._changes[kind] = known.get(kind, ([], []))
                    self._learnt[kind] += 1
            self._sequence = newest

    def _moved(self, connection: Connection, newest: int) -> list[str]:
        batches = connection.execute(
            text(
                "SELECT batch_id FROM change WHERE kind = 'facilities'"
                " AND sequence > :after AND sequence <= :newest"
            ),
            {"after": self._sequence, "newest": newest},
        ).scalars()
        key = {"batches": list(batches)}
        if not key["batches"]:
            return []
        found = connection.execute(text(_KINDS_MOVED), key).scalars()
        return [kind for kind in found if kind in self._kinds]


#: Kinds of which a facility came, went, moved, or changed kind, network or placement.
_KINDS_MOVED = """
WITH made AS (
    SELECT pk, version, kind, network, geom, placement_id, valid_from,
           retired_at IS NOT NULL AS gone
    FROM facility WHERE batch_id = ANY (:batches)
    UNION ALL
    SELECT pk, version, kind, network, geom, placement_id, valid_from, false
    FROM facility_past WHERE batch_id = ANY (:batches)
)
SELECT DISTINCT unnest(ARRAY[m.kind, p.kind])
FROM made m LEFT JOIN facility_past p ON p.pk = m.pk AND p.version = m.version - 1
WHERE m.gone OR p.pk IS NULL OR p.valid_to <> m.valid_from
   OR (m.kind, m.network, m.placement_id) <> (p.kind, p.network, p.placement_id)
   OR ST_X(m.geom) <> ST_X(p.geom) OR ST_Y(m.geom) <> ST_Y(p.geom)
"""
#: As `data.power`: what was in force before it was loaded counts from then on, once it is known.
_CHANGES = """
WITH made AS (
    SELECT kind, batch_id, valid_from FROM facility WHERE kind = ANY (:kinds) GROUP BY 1, 2, 3
    UNION SELECT kind, batch_id, valid_from FROM facility_past WHERE kind = ANY (:kinds)
), step AS (
    SELECT m.kind, CASE WHEN m.valid_from < b.opened_at THEN NULL ELSE h.sequence END AS sequence,
           CASE WHEN m.valid_from < b.opened_at THEN m.valid_from END AS instant
    FROM made m JOIN batch b ON b.id = m.batch_id JOIN change h ON h.batch_id = m.batch_id
    UNION SELECT p.kind, h.sequence, NULL
    FROM facility_past p JOIN change h ON h.batch_id = p.replaced_by WHERE p.kind = ANY (:kinds)
)
SELECT kind, array_agg(DISTINCT sequence ORDER BY sequence) FILTER (WHERE sequence IS NOT NULL),
       array_agg(DISTINCT instant ORDER BY instant) FILTER (WHERE instant IS NOT NULL)
FROM step GROUP BY kind
"""
_IN_FORCE = """
WITH version AS (
    SELECT pk, version, facility_id, network, geom, placement_id, valid_from, batch_id,
           NULL::bigint AS replaced_by
    FROM facility WHERE kind = :kind AND retired_at IS NULL
    UNION ALL
    SELECT pk, version, facility_id, network, geom, placement_id, valid_from, batch_id, replaced_by
    FROM facility_past WHERE kind = :kind
)
SELECT DISTINCT ON (v.pk) v.pk, v.facility_id, v.network, ST_X(v.geom), ST_Y(v.geom), d.adcode
FROM version v
JOIN batch b ON b.id = v.batch_id
JOIN change h ON h.batch_id = v.batch_id
LEFT JOIN change e ON e.batch_id = v.replaced_by
LEFT JOIN placement_division d ON d.placement_id = v.placement_id AND d.version_id = :version
WHERE CASE WHEN v.valid_from < b.opened_at THEN v.valid_from <= :backdated
           ELSE h.sequence <= :through END
  AND (v.replaced_by IS NULL OR e.sequence > :through)
ORDER BY v.pk, v.version
"""


def _changes(
    connection: Connection, kinds: Sequence[str]
) -> dict[str, tuple[list[int], list[datetime]]]:
    rows = connection.execute(text(_CHANGES), {"kinds": list(kinds)})
    return {kind: (list(numbers or ()), list(instants or ())) for kind, numbers, instants in rows}


class CoverageStore(Background):
    """Grids by what they are wanted for; `revision` grows whenever one has become ready. Stopped
    while it builds one, its file, if any, is whole or not there."""

    def __init__(
        self, engine: Engine, reach_m: Mapping[str, float], folder: Path | None = None
    ) -> None:
        super().__init__("coverage")
        self._engine = engine
        self._reach_m = dict(reach_m)
        self._folder = folder
        self._ready: OrderedDict[Wanted, Coverage] = OrderedDict()
        self._live: dict[str, Wanted] = {}
        self._past: OrderedDict[Wanted, None] = OrderedDict()
        self._retry_at: dict[Wanted, float] = {}
        self.revision = 0

    @property
    def settled(self) -> bool:
        """Whether all grids of the newest situation are ready."""
        with self._changed:
            return all(one in self._ready for one in self._live.values())

    def live(self, wanted: Sequence[Wanted]) -> dict[str, Coverage]:
        """The grids of the newest situation that are ready, by kind; the others are begun."""
        with self._changed:
            self._live = {one.kind: one for one in wanted}
            return self._found(wanted)

    def past(self, wanted: Sequence[Wanted], patience_s: float) -> dict[str, Coverage]:
        """The grids of an earlier moment, by kind; waits at most so long for those not ready."""
        deadline = time.monotonic() + patience_s
        with self._changed:
            for one in wanted:
                if one not in self._ready and one not in self._live.values():
                    self._past[one] = None
                    self._past.move_to_end(one)
            while len(self._past) > PAST_WAITING:
                self._past.popitem(last=False)
            self._changed.notify_all()
            while not all(one in self._ready for one in wanted):
                left = deadline - time.monotonic()
                idle = self._stopping or self._thread is None
                if idle or left <= 0 or not self._changed.wait(left):
                    break
            return self._found(wanted)

    def _found(self, wanted: Sequence[Wanted]) -> dict[str, Coverage]:
        found = {}
        for one in wanted:
            if one in self._ready:
                self._ready.move_to_end(one)
                found[one.kind] = self._ready[one]
            else:
                self._changed.notify_all()
        return found

    # --- the thread ---

    def _run(self) -> None:
        while (wanted := self._await()) is not None:
            try:
                coverage = self._cover(wanted)
            except GivenUp:
                return
            except Exception as error:  # outlives any fault of the database or of one grid
                fault = {"error": type(error).__name__, "detail": str(error)[:300]}
                log.warning("coverage_retries", kind=wanted.kind, **fault)
                with self._changed:
                    self._retry_at[wanted] = time.monotonic() + RETRY_S
                    self._past.pop(wanted, None)
                continue
            with self._changed:
                self._keep(wanted, coverage)

    def _await(self) -> Wanted | None:
        """The next grid to make, the newest situation's first; None once stopped."""
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                self._retry_at = {w: t for w, t in self._retry_at.items() if t > now}
                for one in (*self._live.values(), *self._past):
                    if one not in self._ready and one not in self._retry_at:
                        return one
                self._changed.wait(RETRY_S if self._retry_at else None)
        return None

    def _keep(self, wanted: Wanted, coverage: Coverage) -> None:
        self._past.pop(wanted, None)
        self._ready[wanted] = coverage
        live = set(self._live.values())
        others = [one for one in self._ready if one not in live]
        for one in others[: max(0, len(others) - PAST_KEPT)]:
            del self._ready[one]
        self.revision += 1
        self._changed.notify_all()

    def _cover(self, wanted: Wanted) -> Coverage:
        """Read the facilities and find or make their grid."""
        started = time.monotonic()
        with reading(self._engine, snapshot=True) as connection:
            give_time(connection)
            districts = districts_frame(connection, wanted.version_id)
            key = {
                "kind": wanted.kind,
                "version": wanted.version_id,
                "through": wanted.through,
                "backdated": wanted.backdated,
            }
            rows = connection.execute(text(_IN_FORCE), key).all()
        columns = list(zip(*rows, strict=True)) if rows else [()] * 6
        pks = np.array(columns[0], dtype=np.int64)
        facilities = gpd.GeoDataFrame(
            {
                "facility_id": np.array(columns[1], dtype=object),
                "network": np.array(columns[2], dtype=object),
                "adcode": np.array(columns[5], dtype=object),
            },
            geometry=shapely.points(np.array(columns[3], float), np.array(columns[4], float)),
            crs="EPSG:4326",
        )
        reach_m = self._reach_m[wanted.kind]
        content = content_of(facilities, districts, reach_m)
        with self._changed:
            for other in self._ready.values():
                if other.content == content and np.array_equal(other.pks, pks):
                    return other
        grid = self._load_or_build(content, facilities, districts, reach_m)
        seconds = round(time.monotonic() - started, 2)
        log.info("coverage_ready", kind=wanted.kind, facilities=len(pks), seconds=seconds)
        return Coverage(grid, pks, content, KindInventory.of(facilities, districts, reach_m))

    def _given_up(self) -> bool:
        return self._stopping

    def _load_or_build(
        self,
        content: str,
        facilities: gpd.GeoDataFrame,
        districts: gpd.GeoDataFrame,
        reach_m: float,
    ) -> CoverageGrid:
        if self._folder is None:
            return CoverageGrid.build(facilities, districts, reach_m, given_up=self._given_up)
        path, grid = self._folder / f"{content}.npz", None
        try:
            with _alone(self._folder):
                grid = _load(path, facilities)
                if grid is None:
                    grid = CoverageGrid.build(
                        facilities, districts, reach_m, given_up=self._given_up
                    )
                    _sweep(self._folder)
                    grid.save(path)
        except (
            OSError
        ) as error:  # a full or read-only disk costs a rebuild after a restart, no more
            log.warning("coverage_not_stored", path=str(path), error=error.strerror)
        return grid or CoverageGrid.build(facilities, districts, reach_m, given_up=self._given_up)


def content_of(facilities: gpd.GeoDataFrame, districts: gpd.GeoDataFrame, reach_m: float) -> str:
    """A name for everything a grid depends on, 64 hexadecimal digits."""
    digest = hashlib.sha256()

    def add(part: bytes) -> None:
        digest.update(len(part).to_bytes(8, "big") + part)

    add(np.float64(reach_m).tobytes())
    for adcode, shape in zip(districts["adcode"], districts.geometry, strict=True):
        add(str(adcode).encode())
        add(shapely.to_wkb(shape, byte_order=1))
    for column in ("facility_id", "network", "adcode"):
        add("\x00".join("" if cell is None else f"={cell}" for cell in facilities[column]).encode())
    add(shapely.get_coordinates(facilities.geometry.to_numpy()).astype("<f8").tobytes())
    return digest.hexdigest()


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time builds: the others then find the file. Let go even by a killed one."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _load(path: Path, facilities: gpd.GeoDataFrame) -> CoverageGrid | None:
    if not path.exists():
        return None
    try:
        grid = CoverageGrid.load(path)
    except InvalidInput as error:
        log.warning("coverage_file_unusable", path=str(path), detail=str(error))
        return None
    if not grid.matches(facilities["facility_id"]):
        return None
    path.touch()
    return grid


def _sweep(folder: Path) -> None:
    """Remove what killed processes left half written and all but the files used last."""
    for partial in folder.glob(".*.npz.*"):
        partial.unlink(missing_ok=True)
    files = sorted(folder.glob("*.npz"), key=lambda p: p.stat().st_mtime)
    for old in files[: max(0, len(files) - FILES_KEPT + 1)]:
        old.unlink(missing_ok=True)
