"""A small memory file system, to be filled up."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 2**20


class NotMounted(Exception):
    """Mounting one needs root; says what the system said."""


@contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[Path]:
    """`folder`, made, with a file system of that size on it. Raises NotMounted."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m,mode=755", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        raise NotMounted(mounted.stderr.strip())
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def free_bytes(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def fill(folder: Path, size: int) -> Path:
    """A file of so many bytes."""
    path = folder / f"ballast-{size}"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    return path
