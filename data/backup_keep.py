"""Old backups go: base backups beyond the newest few, and the log from before the oldest left.

Only after the newest base was read again, every byte, against PostgreSQL's own manifest: so there
is always a good one, whatever the others are. A base is struck from the list before its files go;
one that was half deleted is none to anybody, and the next time removes the rest.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from data.backup import Backup, backups, flush_folder
from data.restore import check_base
from geo.errors import Unavailable

#: What lies in `wal`: a segment, the note of a backup's beginning, a segment that was cut short.
#: The first eight digits are the timeline, which does not order them.
SEGMENT = re.compile(r"[0-9A-F]{8}([0-9A-F]{16})(?:\.[0-9A-F]{8}\.backup|\.partial)?")
STARTED = re.compile(r"^START WAL LOCATION: \S+ \(file [0-9A-F]{8}([0-9A-F]{16})\)$", re.MULTILINE)


@dataclass(frozen=True)
class Deleted:
    """The names of base backups that went, and how many files of the log."""

    bases: list[str]
    segments: int


def keep_newest(folder: Path, number: int) -> Deleted:
    """Delete all but the `number` newest base backups, and the log none of these needs.

    Raises Unavailable, with nothing deleted, when the newest is damaged or there is none.
    """
    found = backups(folder)
    if not found:
        raise Unavailable(f"{folder} holds no finished backup; nothing is deleted")
    check_base(found[-1])
    kept, going = found[-number:], found[:-number]
    for one in going:
        (folder / "base" / f"{one.name}.json").unlink()
    flush_folder(folder / "base")
    _remove_unlisted(folder, {one.name for one in kept})
    return Deleted([one.name for one in going], _cut_log(folder / "wal", kept[0]))


def _remove_unlisted(folder: Path, kept: set[str]) -> None:
    """Bases without their entry and entries without their base, of before the newest."""
    newest = max(kept)
    for path in (folder / "base").iterdir():
        name = path.name.removesuffix(".json")
        if name in kept or name.startswith(".") or name > newest:
            continue  # one that is being made has a name with a dot, and is newer
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _cut_log(wal: Path, oldest: Backup) -> int:
    label = oldest.base / "backup_label"
    started = STARTED.search(label.read_text(encoding="utf-8"))
    if started is None:
        raise Unavailable(f"{label} does not say where its log begins; the log is left alone")
    old = [
        path
        for path in wal.iterdir()
        if (segment := SEGMENT.fullmatch(path.name)) and segment[1] < started[1]
    ]
    for path in old:
        path.unlink()
    flush_folder(wal)
    return len(old)
