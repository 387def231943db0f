"""Files of attachments that no row refers to: what an upload left that was cut off before COMMIT.

A file is kept before its row is committed, so a file without a row may be one that is just being
sent. Only what has not been touched for a day is removed. Sending the same bytes again writes the
file anew, and is noticed even between looking and removing.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import structlog
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from data.blobs import BlobFolder
from data.database import reading
from data.retired_log import forget_unread

OLD_ENOUGH_S = 24 * 3600.0
SWEEP_EVERY_S = 3600.0
AT_ONCE = 1_000
LOCK_KEY = 7_205_004
SWEPT = ".swept"

_REFERRED = """
SELECT sha256 FROM attachment WHERE sha256 = ANY (:hashes)
UNION SELECT display_sha256 FROM attachment WHERE display_sha256 = ANY (:hashes)
"""

log = structlog.get_logger("yutu.orphans")


def sweep_orphans(engine: Engine, blobs: BlobFolder, old_enough_s: float = OLD_ENOUGH_S) -> int:
    """Remove files older than that which no attachment refers to; how many. Raises SQLAlchemyError
    while the database does not answer, and then removes nothing more."""
    removed = 0
    before = time.time() - old_enough_s
    for paths in _in_parts(blobs.folder):
        old = []
        for path in paths:
            if _hash_of(path) is None:  # a draft, or what a sweep that was killed set aside
                removed += _remove_stray(path, before)
            elif _touched(path) < before:
                old.append(path)
        removed += _sweep(engine, old, before)
    return removed


def _sweep(engine: Engine, paths: list[Path], before: float) -> int:
    kept = _referred(engine, paths)
    removed = 0
    for path in paths:
        if _hash_of(path) in kept:
            continue
        aside = path.with_name(path.name + SWEPT)
        with contextlib.suppress(FileNotFoundError):
            path.rename(aside)
            # from here on a new upload makes a file of its own under the name
            if _touched(aside) >= before or _hash_of(path) in _referred(engine, [path]):
                _put_back(aside, path)
                continue
            aside.unlink()
            removed += 1
    return removed


def _referred(engine: Engine, paths: list[Path]) -> set[bytes]:
    hashes = [found for path in paths if (found := _hash_of(path)) is not None]
    if not hashes:
        return set()
    with reading(engine) as connection:
        return {
            bytes(row.sha256)
            for row in connection.execute(text(_REFERRED), {"hashes": hashes})
            if row.sha256 is not None
        }


def _put_back(aside: Path, path: Path) -> None:
    with contextlib.suppress(FileExistsError):
        os.link(aside, path)
    aside.unlink(missing_ok=True)


def _remove_stray(path: Path, before: float) -> int:
    original = path.with_name(path.name.removesuffix(SWEPT))
    if path.name.endswith(SWEPT) and _hash_of(original) is not None:
        _put_back(path, original)  # looked at again by the next sweep
        return 0
    if _touched(path) >= before:
        return 0
    path.unlink(missing_ok=True)
    return 1


def _in_parts(folder: Path) -> Iterator[list[Path]]:
    part: list[Path] = []
    for below in sorted(folder.iterdir()) if folder.is_dir() else []:
        if len(below.name) != 2 or not below.is_dir():
            continue
        for path in sorted(below.iterdir()):
            part.append(path)
            if len(part) == AT_ONCE:
                yield part
                part = []
    if part:
        yield part


def _hash_of(path: Path) -> bytes | None:
    try:
        found = bytes.fromhex(path.name)
    except ValueError:
        return None
    return found if len(found) == 32 and path.parent.name == path.name[:2] else None


def _touched(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


class Sweeper:
    """Sweeps once an hour, in one process at a time."""

    def __init__(self, engine: Engine, blobs: BlobFolder) -> None:
        self._engine = engine
        self._blobs = blobs
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="orphans", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=1)

    def _run(self) -> None:
        while not self._stopping.wait(SWEEP_EVERY_S):
            self.once()

    def once(self) -> None:
        """One sweep, unless another process is at it."""
        try:
            with self._engine.connect() as connection, connection.begin():
                connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
                mine = connection.execute(
                    text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": LOCK_KEY}
                ).scalar_one()
                if mine:
                    removed = sweep_orphans(self._engine, self._blobs)
                    if removed:
                        log.info("orphaned files removed", files=removed)
                    forget_unread(self._engine)
        except (SQLAlchemyError, OSError) as error:
            log.warning("orphaned files not swept", error=type(error).__name__)
