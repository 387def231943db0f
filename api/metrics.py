"""The metrics of all workers together, in Prometheus' text format.

With several workers each writes into the folder `PROMETHEUS_MULTIPROC_DIR`, which `yutu serve`
makes before they start; any of them then answers for all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
MEDIA_TYPE = CONTENT_TYPE_LATEST


class _Given:
    """A collector of what was read already."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def exposition(more: Sequence[Metric] = ()) -> bytes:
    """Every metric as text, and `more`, which no process counts by itself."""
    given = CollectorRegistry()
    given.register(_Given(more))
    return generate_latest(_counted()) + generate_latest(given)


def _counted() -> CollectorRegistry:
    if FOLDER_VARIABLE not in os.environ:
        return REGISTRY
    _forget_the_dead(Path(os.environ[FOLDER_VARIABLE]))
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry


def _forget_the_dead(folder: Path) -> None:
    """Gauges of a worker that was killed would count its requests as in progress for ever."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdigit() and not Path("/proc", pid).exists():
            file.unlink(missing_ok=True)
