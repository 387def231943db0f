"""The server process of a data folder: alive, dead with its pid file left, or orphaned backends."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import structlog

from geo.errors import Unavailable

ORPHANS_S = 5

log = structlog.get_logger(__name__)


def pid(data_dir: Path) -> int | None:
    """The pid of the live server of this folder; None when the pid file is absent or lies."""
    lines = _pid_file(data_dir)
    if not lines or not lines[0].strip().isdigit():
        return None
    found = int(lines[0])
    try:
        words = Path(f"/proc/{found}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    program = Path(os.fsdecode(words[0])).name
    folders = {os.path.realpath(os.fsdecode(word)) for word in words[1:] if word}
    ours = program in {"postgres", "postmaster"} and os.path.realpath(data_dir) in folders
    return found if ours else None


def socket_dir(data_dir: Path) -> Path | None:
    """Where the live server has its socket, as it says itself; None without one."""
    lines = _pid_file(data_dir)
    return Path(lines[4]) if len(lines) > 4 and lines[4] and pid(data_dir) is not None else None


def clear_stale_pid_file(data_dir: Path) -> None:
    """Remove a pid file that names no live server of this folder.

    PostgreSQL ignores one whose process is gone, but takes a pid since given to another process
    (or a dead child nobody has waited for) for a living server. Its shared memory still guards
    against two servers on one folder.
    """
    file = data_dir / "postmaster.pid"
    if file.exists() and pid(data_dir) is None:
        log.warning("removing the pid file of a database that died", file=str(file))
        file.unlink()


def clear_stale_socket(data_dir: Path, socket: Path) -> None:
    """Remove a socket and its lock file unless a live server listens there.

    For the same reason as the pid file. Raises Unavailable when another folder's server does. Only
    call it when no server of `data_dir` lives.
    """
    lock = socket.with_name(f"{socket.name}.lock")
    lines = _lines(lock)
    if len(lines) > 1 and (other := pid(Path(lines[1]))) is not None and str(other) == lines[0]:
        raise Unavailable(
            f"the database of {lines[1]} listens in {socket.parent}; "
            "set YUTU_RUNTIME to another short folder"
        )
    lock.unlink(missing_ok=True)
    socket.unlink(missing_ok=True)


def processes(data_dir: Path) -> list[int]:
    """The server processes that work on this folder."""
    found = []
    folder = Path(os.path.realpath(data_dir))
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            name = (process / "comm").read_text().strip()
            if name == "postgres" and (process / "cwd").readlink() == folder:
                found.append(int(process.name))
        except OSError:
            continue  # ended meanwhile, or of another user
    return found


def end_orphans(data_dir: Path) -> None:
    """Wait for the backends of a killed server to end; after five seconds kill them.

    They notice its death by themselves unless deep in a computation. While one lives, a new server
    refuses to start, because both could write the same pages. Only call it when no server lives.
    """
    deadline = time.monotonic() + ORPHANS_S
    while alive := processes(data_dir):
        if time.monotonic() > deadline:
            log.warning("ending backends of a database that died", pids=alive)
            for one in alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
            deadline = time.monotonic() + ORPHANS_S
        time.sleep(0.05)


def _pid_file(data_dir: Path) -> list[str]:
    """The lines of postmaster.pid: pid, data folder, start, port, socket folder, and more."""
    return _lines(data_dir / "postmaster.pid")


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
