"""The metrics of all workers together, in Prometheus' text format.

With several workers each writes into the folder `PROMETHEUS_MULTIPROC_DIR`, which `yutu serve`
makes before they start; any of them then answers for all.
"""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
MEDIA_TYPE = CONTENT_TYPE_LATEST


def exposition() -> bytes:
    """Every metric as text."""
    if FOLDER_VARIABLE not in os.environ:
        return generate_latest(REGISTRY)
    _forget_the_dead(Path(os.environ[FOLDER_VARIABLE]))
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _forget_the_dead(folder: Path) -> None:
    """Gauges of a worker that was killed would count its requests as in progress for ever."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdigit() and not Path("/proc", pid).exists():
            file.unlink(missing_ok=True)
