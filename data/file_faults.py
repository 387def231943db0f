"""Faults of one of several files, told with its name: `stations.csv: row 3, lon: is empty`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geo.errors import Fault, InvalidInput


@contextmanager
def faults_of(file: Path | None) -> Iterator[None]:
    """Within, InvalidInput names the file; without one it is as it was."""
    try:
        yield
    except InvalidInput as error:
        if file is None:
            raise
        raise type(error)(in_file(file, fault) for fault in error.faults) from None


def in_file(file: Path, fault: Fault) -> Fault:
    """The fault with the file, its row and field as text."""
    return Fault(f"{file.name}: {str(fault).removeprefix(f'{file.name!r} ')}")
