"""Folders for files in passing, readable by this process's user alone.

Each is removed when its work is done. Their names say which process made them, so that those of a
process that was killed in the middle are found and removed by the next that starts.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(r"yutu-[a-z]+-(\d+)-(\d+)-[^/]+")
#: Of /proc/<pid>/stat behind the name of the program: when the process began, in ticks since boot.
_BEGAN: Final = 19


def make_scratch(purpose: str) -> Path:
    """A new folder; `purpose` is a word of small letters. Remove it with `remove_scratch`."""
    pid = os.getpid()
    return Path(tempfile.mkdtemp(prefix=f"yutu-{purpose}-{pid}-{_began(pid)}-"))


def remove_scratch(folder: Path) -> None:
    """Remove it and what is in it; harmless when it is gone already."""
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """A new folder that is gone after the block."""
    folder = make_scratch(purpose)
    try:
        yield folder
    finally:
        remove_scratch(folder)


def sweep_scratch() -> int:
    """Remove what processes left behind that are gone now; how many folders that were."""
    swept = 0
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        for entry in entries:
            made_by = _NAME.fullmatch(entry.name)
            if made_by is None or not entry.is_dir(follow_symlinks=False):
                continue
            if _began(int(made_by[1])) != int(made_by[2]):
                remove_scratch(Path(entry.path))
                swept += 1
    return swept


def _began(pid: int) -> int:
    """When the process began; 0 when there is none of that number."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        return int(told.rpartition(")")[2].split()[_BEGAN])
    except (OSError, ValueError, IndexError):
        return 0
