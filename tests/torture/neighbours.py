"""How much of this machine others take while a row runs: what time limits are multiplied by.

A fair scheduler gives one of n runnable processes 1/n. The mean number of runnable processes that
are not ours, over the processors, is therefore how much longer anything of ours takes.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

INTERVAL_S = 0.3


def state_and_parent(process: Path) -> tuple[str, int, str]:
    """State, parent's pid and name of a process. Raises OSError when it is gone."""
    text = (process / "stat").read_text(encoding="utf-8", errors="replace")
    name, _, rest = text.partition("(")[2].rpartition(")")
    state, parent = rest.split()[:2]
    return state, int(parent), name


class Neighbours(threading.Thread):
    """Looks at every process again and again; `own_folder` marks servers that are not children."""

    def __init__(self, own_folders: list[str]) -> None:
        super().__init__(daemon=True, name="neighbours")
        self._own_folders = own_folders
        self._ended = threading.Event()
        self._known: dict[int, bool] = {}
        self.seen: list[int] = []

    def run(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            self.seen.append(self._runnable_of_others())

    def end(self) -> None:
        self._ended.set()

    def factor(self, since: int = 0) -> float:
        """What limits are multiplied by, of what was seen from the `since`th look on."""
        looks = self.seen[since:]
        mean = sum(looks) / len(looks) if looks else 0.0
        return 1 + mean / (os.cpu_count() or 1)

    def _runnable_of_others(self) -> int:
        parents: dict[int, int] = {}
        running: list[int] = []
        for process in Path("/proc").iterdir():
            if process.name.isdigit():
                with contextlib.suppress(OSError, ValueError):
                    state, parent, _ = state_and_parent(process)
                    parents[int(process.name)] = parent
                    if state == "R":
                        running.append(int(process.name))
        self._known = {pid: own for pid, own in self._known.items() if pid in parents}
        return sum(not self._own(pid, parents) for pid in running)

    def _own(self, pid: int, parents: dict[int, int]) -> bool:
        if pid in self._known:
            return self._known[pid]
        own = False
        at = pid
        while at > 1 and not own:
            own = at == os.getpid() or self._in_own_folder(at)
            at = parents.get(at, 0)
        self._known[pid] = own
        return own

    def _in_own_folder(self, pid: int) -> bool:
        """Whether it works in a folder of ours, as PostgreSQL's processes do in their data."""
        with contextlib.suppress(OSError):
            where = str(Path(f"/proc/{pid}/cwd").readlink())
            return any(where.startswith(folder) for folder in self._own_folders)
        return False
