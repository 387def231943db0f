"""Exact area shares that were computed, and since which sequence each has been shown.

In memory, and in a file that the processes of an installation share: a line of JSON for each key,
appended once a situation has shown it. So a restart finds them, and a question about the past is
answered with an exact share only where it had been shown by then. What was not asked for longest
is forgotten. The file is no record of anything: without it shares are computed anew.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

import structlog

FILE = "exact_shares.jsonl"
#: Keys kept in memory and, once there are twice as many lines, in the file. One is 150 bytes there.
KEPT = 20_000

log = structlog.get_logger()

Pair = tuple[float, float]


class ExactResults:
    """(any, all) by key; `since` is the sequence of the first situation that showed it."""

    def __init__(self, folder: Path | None = None) -> None:
        self._path = None if folder is None else folder / FILE
        self._found: OrderedDict[str, Pair] = OrderedDict()
        self._since: dict[str, int] = {}
        #: How far which file has been read.
        self._read: tuple[int, int] = (0, 0)
        self._lines = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._found)

    def get(self, key: str, through: int | None) -> Pair | None:
        """What is known of a key; with `through`, what had been shown by that sequence."""
        with self._lock:
            if through is not None and self._since.get(key, through + 1) > through:
                return None
            if key in self._found:
                self._found.move_to_end(key)
            return self._found.get(key)

    def add(self, key: str, pair: Pair) -> None:
        """What was just computed."""
        with self._lock:
            self._keep(key, pair)

    def shown(self, keys: Iterable[str], sequence: int) -> None:
        """The situation of a sequence is stored and has these: note those that are new in it."""
        with self._lock:
            new = [
                key
                for key in keys
                if key in self._found and self._since.get(key, sequence + 1) > sequence
            ]
            self._since.update(dict.fromkeys(new, sequence))
            if new and self._path is not None:
                lines = [self._line(key) for key in new]
                try:
                    self._append(self._path, "".join(lines).encode())
                except OSError as error:  # a full or read-only disk: known until the restart
                    log.warning(
                        "exact_shares_not_stored", path=str(self._path), error=error.strerror
                    )

    def refresh(self) -> None:
        """Take over what this or another process has written since."""
        if self._path is None:
            return
        with self._lock:
            try:
                there = self._path.stat()
                if (there.st_ino, there.st_size) != self._read:
                    self._take_over(self._path)
            except FileNotFoundError:
                return
            except OSError as error:
                log.warning("exact_shares_not_read", path=str(self._path), error=error.strerror)

    # --- under the lock ---

    def _keep(self, key: str, pair: Pair) -> None:
        self._found[key] = pair
        self._found.move_to_end(key)
        while len(self._found) > KEPT:
            old, _ = self._found.popitem(last=False)
            self._since.pop(old, None)

    def _line(self, key: str) -> str:
        any_share, all_share = self._found[key]
        told = {"key": key, "any": any_share, "all": all_share, "since": self._since[key]}
        return json.dumps(told) + "\n"

    def _take_over(self, path: Path) -> None:
        with path.open("rb") as file:
            inode, offset = os.fstat(file.fileno()).st_ino, 0
            if inode == self._read[0] and os.fstat(file.fileno()).st_size >= self._read[1]:
                offset = self._read[1]
            else:
                self._lines = 0
            file.seek(offset)
            whole, newline, _ = file.read().rpartition(b"\n")  # a line half written comes later
        self._read = (inode, offset + len(whole) + len(newline))
        for line in whole.splitlines():
            self._lines += 1
            try:
                told = json.loads(line)
                key, since = str(told["key"]), int(told["since"])
                pair = (float(told["any"]), float(told["all"]))
            except (ValueError, KeyError, TypeError):
                continue  # damaged: as good as not there
            if len(key) == 64 and 0 <= pair[1] <= pair[0] <= 1:
                self._keep(key, pair)
                self._since[key] = min(since, self._since.get(key, since))

    def _append(self, path: Path, lines: bytes) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (path.parent / f".{FILE}.lock").open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            try:
                self._take_over(path)
            except FileNotFoundError:
                self._read, self._lines = (0, 0), 0
            if self._lines > 2 * KEPT:
                self._rewrite(path)
                return
            with path.open("ab") as file:
                if file.tell() != self._read[1]:  # the end of a line that a killed process began
                    file.write(b"\n")
                file.write(lines)
                self._read = (os.fstat(file.fileno()).st_ino, file.tell())
        self._lines += lines.count(b"\n")

    def _rewrite(self, path: Path) -> None:
        """Keep only what is in memory, whole or not at all."""
        partial = path.with_name(f".{FILE}.{os.getpid()}")
        lines = "".join(self._line(key) for key in self._found if key in self._since).encode()
        with partial.open("wb") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
            self._read = (os.fstat(file.fileno()).st_ino, file.tell())
        partial.replace(path)
        self._lines = lines.count(b"\n")
