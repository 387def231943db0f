"""Metrics of the whole installation, read when somebody asks: any process answers for all.

What happens in one process is counted where it happens (`prometheus_client`); here is what lies in
the database and on the disks. While the database does not answer, `yutu_database_up` is 0 and its
other figures are left out, so that no alert works with old ones.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

from prometheus_client import Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from sqlalchemy import Engine, event
from sqlalchemy.exc import SQLAlchemyError

from api.admission import MIB, free_bytes
from api.aside import Aside
from api.deps import Services
from api.pulse import Pulse
from data.backup_note import PARTS, noted_backups
from data.database import reading
from data.vital_signs import VitalSigns, vital_signs

ASK_S = 1.0

POOL_IN_USE = Gauge(
    "yutu_pool_in_use",
    "Database connections requests hold, of all processes.",
    ["pool"],
    multiprocess_mode="livesum",
)
POOL_MOST = Gauge(
    "yutu_pool_most",
    "Database connections requests may hold, of all processes.",
    ["pool"],
    multiprocess_mode="livesum",
)


def watch_pool(engine: Engine, name: str, most: int) -> None:
    """Count the connections of an engine that are in use."""
    POOL_MOST.labels(name).set(most)
    in_use = POOL_IN_USE.labels(name)
    in_use.set(0)
    event.listen(engine, "checkout", lambda *_: in_use.inc())
    event.listen(engine, "checkin", lambda *_: in_use.dec())


class Vitals:
    """A part of the services: asks the database how it is, without ever waiting for it long."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._aside: Aside[VitalSigns | None] = Aside("vitals", at_once=1, wait_s=ASK_S)

    def start(self) -> None: ...

    def stop(self) -> None: ...

    async def signs(self) -> VitalSigns | None:
        """None while the database does not answer, or is being asked already."""
        if self._services.get(Pulse).hanging():
            return None
        return await self._aside.ask(self._ask)

    def _ask(self) -> VitalSigns | None:
        minutes = self._services.configuration.situation.silent_after_minutes
        try:
            with reading(self._services.health_engine) as connection:
                return vital_signs(connection, minutes)
        except SQLAlchemyError:  # also of a schema that is not the newest
            return None


def add_vitals(services: Services) -> None:
    services.add(Vitals(services))


def gauges(services: Services, signs: VitalSigns | None) -> list[Metric]:
    """Everything as metrics, read from the disks now; `signs` were asked before."""
    found = [
        _gauge("yutu_database_up", "Whether the database answers.", float(signs is not None)),
        _gauge("yutu_clock_seconds", "This machine's clock, Unix time.", time.time()),
        *_disks(services),
        _backups(services),
    ]
    if signs is not None:
        found += [*_situation(signs), *_sources(signs), *_archive(signs)]
    return found


def _disks(services: Services) -> Iterator[Metric]:
    """Free space where the data lies, and the least of it with which writes are taken."""
    paths = services.configuration.paths
    free = GaugeMetricFamily(
        "yutu_disk_free_bytes", "Free where the data lies, on this machine.", labels=["folder"]
    )
    free.add_metric(["files"], free_bytes(paths.var))
    free.add_metric(["database"], free_bytes(paths.cluster))
    yield free
    reserve = services.configuration.admission.disk_free_mib * MIB
    yield _gauge("yutu_disk_reserve_bytes", "Writes are refused below this.", reserve)


def _backups(services: Services) -> Metric:
    """0 for what was never saved: alerts on its age then fire, as they should."""
    noted = noted_backups(services.configuration.paths.var)
    found = GaugeMetricFamily(
        "yutu_backup_timestamp_seconds", "When it was last backed up.", labels=["part"]
    )
    for part in PARTS:
        found.add_metric([part], noted[part].timestamp() if part in noted else 0.0)
    return found


def _situation(signs: VitalSigns) -> Iterator[Metric]:
    yield _gauge("yutu_database_clock_seconds", "The database's clock.", signs.now.timestamp())
    yield _gauge(
        "yutu_situation_behind_seconds",
        "Age of the oldest change that no situation shows yet; 0 when all are shown.",
        signs.behind_s,
    )
    yield _gauge(
        "yutu_situation_timestamp_seconds",
        "as_of of the newest situation.",
        _timestamp(signs.shown_at),
    )
    yield _gauge(
        "yutu_builders_leading", "Processes that build the situation.", signs.builders_leading
    )
    yield _gauge("yutu_database_connections", "Connections in use.", signs.connections)
    yield _gauge("yutu_database_connections_most", "Allowed ones.", signs.connections_most)


def _sources(signs: VitalSigns) -> Iterator[Metric]:
    heard = GaugeMetricFamily(
        "yutu_operator_heard_timestamp_seconds",
        "When an operator was last heard, through any channel.",
        labels=["operator"],
    )
    silent = GaugeMetricFamily(
        "yutu_operator_silent",
        "Whether it has been unheard for YUTU_SILENT_AFTER_MINUTES.",
        labels=["operator"],
    )
    for operator, when in sorted(signs.heard_at.items()):
        heard.add_metric([operator], when.timestamp())
        silent.add_metric([operator], float(operator in signs.silent))
    yield heard
    yield silent


def _archive(signs: VitalSigns) -> Iterator[Metric]:
    archive = signs.archive
    yield _gauge("yutu_wal_kept", "Whether the log is kept elsewhere.", float(archive.kept))
    yield CounterMetricFamily(
        "yutu_wal_archived", "Segments of the log that were kept.", archive.archived
    )
    yield CounterMetricFamily(
        "yutu_wal_archive_failures", "Attempts to keep one that failed.", archive.failed
    )
    yield _gauge(
        "yutu_wal_archive_failing", "Whether the last attempt failed.", float(archive.failing)
    )
    yield _gauge(
        "yutu_wal_archived_timestamp_seconds",
        "When the last segment was kept.",
        _timestamp(archive.archived_at),
    )


def _gauge(name: str, said: str, value: float) -> Metric:
    return GaugeMetricFamily(name, said, value)


def _timestamp(when: datetime | None) -> float:
    return 0.0 if when is None else when.timestamp()
