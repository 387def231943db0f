"""A function run in a child process that may do nothing but compute, with a limit on everything.

For whatever takes apart a file that a stranger sent. The child is a fresh interpreter with a clean
environment, confined (`data.confinement`) before the function's module is even imported. It answers
in lines of JSON of limited size, and nothing it says is ever executed: a result is plain data, a
refusal is a list of faults. Whatever ends the child otherwise (a crash, memory, time) is the file's
fault and told as such. `report` and `hand_over` are for the function: how far it has come, and an
answer too large to be said at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import logging
import os
import resource
import selectors
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final

import orjson

from data.confinement import MIB, NotConfined, confine
from data.scratch import scratch_folder
from geo.errors import CrsError, Fault, InvalidInput, TooLarge, Unavailable

_log = logging.getLogger(__name__)
ROOT: Final = Path(__file__).resolve().parent.parent
AT_ONCE_MAX: Final = 64
_REMEDY: Final = "save it anew with the program that made it, or send it in parts"
_LOOK_S: Final = 0.02
_REPORT_S: Final = 0.2
_BLOCK_BYTES: Final = 1 << 20
#: Objects made before the child looks for garbage: hardly ever while it imports.
_GARBAGE_AFTER: Final = 50_000
_PART: Final = b'{"part":'
_KINDS: Final = {"CrsError": CrsError, "TooLarge": TooLarge, "InvalidInput": InvalidInput}


@dataclass(frozen=True)
class Limits:
    """What the child may use: seconds by the clock and of computing, mebibytes resident, of all it
    answers, of one line of it, and of each file it writes; how many children of one `lane` at once,
    and how long to wait for one. Lanes keep long work from holding up what is urgent."""

    seconds: float = 60.0
    cpu_seconds: int = 30
    memory_mib: int = 240
    answer_mib: int = 64
    line_mib: int = 64
    written_mib: int = 256
    at_once: int = 2
    wait_seconds: float = 10.0
    lane: str = ""


def run_sandboxed(
    function: Callable[..., Any],
    *args: Any,
    limits: Limits | None = None,
    progress: Callable[[int, int], None] | None = None,
    parts: Callable[[Any], None] | None = None,
    files: Sequence[Path] = (),
) -> Any:
    """What `function(*args)` answers in a confined child that can read nothing but `files`.

    `function` stands in a module by its name; arguments and answer are JSON. `progress` is called
    with what the function reports: how much is done, of how much in all; `parts` with each part it
    hands over, as they come; it raises TypeError for what is none.
    Raises InvalidInput, CrsError or TooLarge with the function's own faults; InvalidInput when the
    child crashed or needed more than `limits`; Unavailable when none can be started now.
    """
    limits = limits or Limits()
    turn = _turn_of(limits.lane)
    if not turn.acquire(limits):
        raise Unavailable("too many files are being read now; send it again later", 5)
    try:
        with scratch_folder("parse") as scratch:
            order = {
                "module": function.__module__,
                "function": function.__qualname__,
                "args": args,
                "limits": asdict(limits),
                "files": [str(path.resolve()) for path in files],
                "scratch": str(scratch),
            }
            child = _start(str(scratch))
            try:
                return _Conversation(child, limits, progress, parts).hold(order)
            finally:
                _end(child)
    finally:
        turn.release()


def report(done: int, total: int) -> None:
    """Tell the parent how far the function has come; outside a sandbox nothing happens."""
    global _reported_at
    if _answers is not None and time.monotonic() - _reported_at > _REPORT_S:
        _reported_at = time.monotonic()
        _say({"progress": [done, total]})


def hand_over(part: Any) -> None:
    """Give the parent a part of the answer, of text and whole numbers; only inside a sandbox."""
    assert _answers is not None  # noqa: S101 (opened before the function runs)
    _answers.write(_PART + orjson.dumps(part) + b"}\n")
    _answers.flush()


def in_force() -> list[str]:
    """Which of namespace, landlock and seccomp confine this process; none outside a sandbox."""
    return list(_in_force)


# --- the parent -----------------------------------------------------------------------------------


class _Turn:
    """How many children of one lane there are in this process; later ones wait."""

    def __init__(self) -> None:
        self._running = 0
        self._changed = threading.Condition()

    def acquire(self, limits: Limits) -> bool:
        with self._changed:
            free = self._changed.wait_for(
                lambda: self._running < limits.at_once, timeout=limits.wait_seconds
            )
            self._running += free
            return free

    def release(self) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify()


_turns: dict[str, _Turn] = {}
_turns_lock = threading.Lock()


def _turn_of(lane: str) -> _Turn:
    with _turns_lock:
        return _turns.setdefault(lane, _Turn())


def _start(scratch: str) -> subprocess.Popen[bytes]:
    environment = {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "HOME": scratch,
        "TMPDIR": scratch,
        "PYTHONUTF8": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        # One thread each: memory is counted, and a file is no reason to take every core.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "ARROW_IO_THREADS": "1",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "GDAL_NUM_THREADS": "1",
        "GDAL_CACHEMAX": "16",
        "MALLOC_ARENA_MAX": "1",
        "MALLOC_TRIM_THRESHOLD_": "1048576",
    }
    try:
        return subprocess.Popen(
            [sys.executable, "-s", "-m", "data.sandbox"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        raise Unavailable("files cannot be read now; send it again later", 5) from None


def _end(child: subprocess.Popen[bytes]) -> None:
    """Nothing of the child is left, whatever it started."""
    if child.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


class _Conversation:
    """One order to the child and the lines that come back, within time and memory."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        limits: Limits,
        progress: Callable[[int, int], None] | None,
        parts: Callable[[Any], None] | None,
    ) -> None:
        self._child = child
        self._limits = limits
        self._progress = progress
        self._parts = parts
        self._deadline = time.monotonic() + limits.seconds

    def hold(self, order: dict[str, Any]) -> Any:
        assert self._child.stdin is not None  # noqa: S101 (both are pipes)
        assert self._child.stdout is not None  # noqa: S101
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.write(json.dumps(order).encode())
            self._child.stdin.close()
        for line in self._lines(self._child.stdout):
            try:
                if self._parts is not None and line.startswith(_PART):
                    self._parts(orjson.loads(line)["part"])
                    continue
                said = json.loads(line)
            except (TypeError, ValueError, RecursionError):
                said = None
            if not isinstance(said, dict):
                break
            if "progress" in said:
                self._pass_on(said["progress"])
            elif "refused" in said:
                raise _refusal(said["refused"])
            elif "unconfined" in said:
                raise Unavailable("files cannot be read safely on this machine", 60)
            elif "memory" in said:
                raise self._too_hungry()
            elif "crashed" in said:
                _log.warning("the reader of a file failed: %s", str(said["crashed"])[:200])
                break
            elif "answer" in said:
                return said["answer"]
            else:
                break
        raise self._post_mortem()

    def _lines(self, pipe: IO[bytes]) -> Any:
        """Whole lines as they come. Raises InvalidInput when time, memory or size runs out."""
        begun: list[bytes] = []  # of a line whose end has not come yet
        begun_bytes = taken = 0
        os.set_blocking(pipe.fileno(), False)
        with contextlib.suppress(OSError):  # fewer turns; more than root allows is refused
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _BLOCK_BYTES)
        with selectors.DefaultSelector() as waiting:
            waiting.register(pipe, selectors.EVENT_READ)
            while True:
                left = self._deadline - time.monotonic()
                if left <= 0:
                    raise InvalidInput(
                        "the file could not be read: it took longer than"
                        f" {self._limits.seconds:g} seconds; {_REMEDY}"
                    )
                if self._resident_mib() > self._limits.memory_mib:
                    raise self._too_hungry()
                if not waiting.select(min(left, _LOOK_S)):
                    continue
                block = pipe.read(_BLOCK_BYTES)
                if block is None:
                    continue
                if not block:
                    return
                taken += len(block)
                first, *others = block.split(b"\n")
                begun.append(first)
                begun_bytes += len(first)
                for size, most in (
                    (taken, self._limits.answer_mib),
                    (begun_bytes, self._limits.line_mib),
                ):
                    if size > most * MIB:
                        raise TooLarge(
                            "the file could not be read: what it holds is over"
                            f" {most} MiB; {_REMEDY}"
                        )
                if others:
                    yield b"".join(begun)
                    yield from others[:-1]
                    begun, begun_bytes = [others[-1]], len(others[-1])

    def _resident_mib(self) -> float:
        try:
            pages = Path(f"/proc/{self._child.pid}/statm").read_text(encoding="ascii").split()[1]
        except (OSError, IndexError):
            return 0.0
        return int(pages) * resource.getpagesize() / MIB

    def _pass_on(self, said: Any) -> None:
        match said:
            case [int(done), int(total)] if self._progress is not None:
                self._progress(done, total)

    def _too_hungry(self) -> InvalidInput:
        return TooLarge(
            "the file could not be read: it needs more memory than the"
            f" {self._limits.memory_mib} MiB allowed; {_REMEDY}"
        )

    def _post_mortem(self) -> InvalidInput:
        """What became of a child that closed its mouth without an answer."""
        try:
            status = self._child.wait(max(0.1, min(2.0, self._deadline - time.monotonic())))
        except subprocess.TimeoutExpired:
            status = 0
        if status in (-signal.SIGXCPU, -signal.SIGKILL):
            return InvalidInput(
                "the file could not be read: it took more than"
                f" {self._limits.cpu_seconds} seconds of computing; {_REMEDY}"
            )
        return InvalidInput(
            f"the file could not be read: it is damaged in a way that stopped its reader; {_REMEDY}"
        )


def _refusal(said: Any) -> InvalidInput:
    """The error the child tells of; anything that is no such error is a damaged file."""
    match said:
        case [str(kind), [*faults]] if kind in _KINDS:
            told = []
            for fault in faults:
                match fault:
                    case [str(reason), int() | None as row, str() | None as field]:
                        told.append(Fault(reason[:2000], row, field))
            if told:
                return _KINDS[kind](told)
    return InvalidInput(f"the file could not be read; {_REMEDY}")


# --- the child ------------------------------------------------------------------------------------

_answers: IO[bytes] | None = None
_reported_at = 0.0
_in_force: list[str] = []


def _say(what: dict[str, Any]) -> None:
    assert _answers is not None  # noqa: S101 (opened before anything is said)
    line = json.dumps(what, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    _answers.write(line.encode() + b"\n")
    _answers.flush()


def _whereabouts(error: Exception) -> str:
    """The kind of an error and the line of ours it comes from; nothing of the file."""
    ours = [step for step in traceback.extract_tb(error.__traceback__) if "/data/" in step.filename]
    where = f" at {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
    return f"{type(error).__name__}{where}"


def answer_one_order() -> None:
    """The child's whole life: read the order, be confined, run the function, say what came of it.

    Libraries that print reach nobody: the parent's pipe moves to another number first.
    """
    global _answers, _in_force
    gc.set_threshold(_GARBAGE_AFTER)
    _answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    order = json.loads(sys.stdin.buffer.read())
    import data.readers  # noqa: F401 (what GDAL may not do, before anything can import it)

    limits = Limits(**order["limits"])
    try:
        _in_force = confine(
            memory_mib=limits.memory_mib,
            cpu_s=limits.cpu_seconds,
            written_mib=limits.written_mib,
            files=[Path(one) for one in order["files"]],
            scratch=Path(order["scratch"]),
        )
    except NotConfined:
        _say({"unconfined": True})
        return
    reserve = bytearray(1 << 20)
    try:
        function: Any = importlib.import_module(order["module"])
        for name in order["function"].split("."):
            function = getattr(function, name)
        answer = {"answer": function(*order["args"])}
    except InvalidInput as error:
        kind = next(name for name, known in _KINDS.items() if isinstance(error, known))
        faults = [[fault.reason, fault.row, fault.field] for fault in error.faults]
        answer = {"refused": [kind, faults]}
    except MemoryError:
        answer = {"memory": True}
    except Exception as error:
        answer = {"crashed": _whereabouts(error)}
    del reserve
    try:
        _say(answer)
    except MemoryError:
        _say({"memory": True})


if __name__ == "__main__":
    from data.sandbox import answer_one_order as answer

    answer()
