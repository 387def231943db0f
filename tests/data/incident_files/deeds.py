"""What a function in the sandbox tries to do; each answers what came of it."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from data import confinement, sandbox
from geo import errors


def echo(value: Any) -> Any:
    return value


def refuse(kind: str) -> None:
    raise getattr(errors, kind)([errors.Fault("one", 3, "crs"), errors.Fault("two")])


def die(number: int) -> None:
    # Not os.kill, which is refused: the processor itself or abort() ends it.
    if number == signal.SIGABRT:
        os.abort()
    ctypes.string_at(0)


def raise_key_error() -> None:
    raise KeyError("secret of the file")


def eat(size: int) -> int:
    return len(bytearray(size))


def eat_slowly() -> int:
    held = []
    while True:
        held.append(bytearray(os.urandom(1 << 20)))


def spin() -> None:
    while True:
        pass


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def leave() -> None:
    os._exit(0)


def connect(address: str, port: int) -> str:
    try:
        if address == "unix":
            socket.socket(socket.AF_UNIX)
        else:
            socket.create_connection((address, port), timeout=2)
    except OSError as error:
        return f"{type(error).__name__}"
    return "connected"


def status() -> dict[str, Any]:
    libc = ctypes.CDLL(None, use_errno=True)
    return {
        "in_force": sandbox.in_force(),
        "no_new_privs": libc.prctl(39, 0, 0, 0, 0),
        "seccomp": libc.prctl(21, 0, 0, 0, 0),
    }


def _try(deed: Any) -> str:
    try:
        return f"done {deed()}"
    except OSError as error:
        return type(error).__name__


def start_program(_: int) -> str:
    return _try(lambda: subprocess.run([sys.executable, "-c", ""], check=True, close_fds=False))


def fork(_: int) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(59, b"/bin/true", None, None) == 0 or ctypes.get_errno() != 1:
        return "done"
    return "PermissionError"


def kill_parent(pid: int) -> str:
    return _try(lambda: os.kill(pid, 0))


def leave_group(_: int) -> str:
    return _try(os.setsid)


def read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return type(error).__name__


def write(path: str) -> str:
    try:
        Path(path).write_text("x", encoding="utf-8")
    except OSError as error:
        return type(error).__name__
    return "written"


def write_scratch(size: int) -> int | str:
    try:
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"x" * size)
            file.flush()
            return Path(file.name).stat().st_size
    except OSError as error:
        return f"OSError {error.errno}"


def environment() -> list[str]:
    return list(os.environ)


def say_raw(line: str) -> None:
    assert sandbox._answers is not None
    sandbox._answers.write(line.encode() + b"\n")
    sandbox._answers.flush()
    os._exit(0)


def say_much() -> str:
    return "x" * (2 << 20)


def confine_without_ways() -> str:
    confinement._leave_network = confinement._refuse_calls = lambda *_: False  # type: ignore[assignment]
    try:
        confinement.confine(
            memory_mib=200, cpu_s=10, written_mib=16, files=[], scratch=Path("/tmp")
        )
    except confinement.NotConfined as error:
        return f"NotConfined {error}"
    return "confined"


def print_then_answer() -> str:
    os.write(1, b'{"answer": "printed"}\n')
    sys.stdout.write('{"answer": "printed"}\n')
    sys.stdout.flush()
    return "answer"


def pid() -> int:
    return os.getpid()


def count_slowly(of: int) -> None:
    for done in range(1, of + 1):
        time.sleep(0.25)
        sandbox.report(done, of)
