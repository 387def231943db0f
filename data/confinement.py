"""What a process that reads a stranger's file may still do: compute, read that file, write scratch.

`confine` takes the rest away for good, in the process that calls it: memory, time and sizes by
rlimits; new privileges; the network by a namespace without interfaces and by a seccomp filter that
refuses sockets, other programs and reaching into other processes; the file system by Landlock where
the kernel has it. Without the namespace or the filter nothing is read at all. Linux only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

MIB: Final = 1 << 20
#: Code and tables of libraries are mapped beside what a process fills itself, and some of what it
#: reserves it never fills: of 240 MiB resident it may so reserve 192.
MAPPED_MIB: Final = 3072
RESIDENT_MAPPED_MIB: Final = 48

_NEW_USER: Final = 0x10000000
_NEW_NET: Final = 0x40000000
_SET_NO_NEW_PRIVS: Final = 38
_SET_PDEATHSIG: Final = 1
_SET_DUMPABLE: Final = 4
_SET_SECCOMP: Final = 22
_FILTER_MODE: Final = 2

#: Machine → number of its audit architecture, and of each system call that is refused.
_REFUSED: Final = {
    "x86_64": (0xC000003E, {
        "socket": 41, "connect": 42, "sendto": 44, "fork": 57, "vfork": 58, "execve": 59,
        "kill": 62, "ptrace": 101, "setpgid": 109, "setsid": 112, "mount": 165, "unshare": 272,
        "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311, "bpf": 321,
        "execveat": 322, "io_uring_setup": 425, "pidfd_send_signal": 424, "tkill": 200,
    }),
    "aarch64": (0xC00000B7, {
        "mount": 40, "unshare": 97, "ptrace": 117, "kill": 129, "tkill": 130, "setpgid": 154,
        "setsid": 157, "socket": 198, "connect": 203, "sendto": 206, "execve": 221, "setns": 268,
        "process_vm_readv": 270, "process_vm_writev": 271, "bpf": 280, "execveat": 281,
        "pidfd_send_signal": 424, "io_uring_setup": 425,
    }),
}  # fmt: skip

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_READ: Final = 0b1101  # execute (mapping code needs none, but folders do no harm), read file, list
_FILES_ALL: Final = (1 << 13) - 1  # every right of Landlock's first version
_SCRATCH: Final = _FILES_ALL & ~1


class NotConfined(RuntimeError):
    """The machine offers none of the ways in which the network can be taken away."""


def confine(
    *, memory_mib: int, cpu_s: int, written_mib: int, files: Iterable[Path], scratch: Path
) -> list[str]:
    """Take away everything but computing, reading `files` and writing in `scratch`.

    Gives the names of what is in force: `namespace`, `seccomp`, `landlock`. Raises NotConfined when
    neither of the first two is.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_DATA: (memory_mib - RESIDENT_MAPPED_MIB) * MIB,
        resource.RLIMIT_AS: (memory_mib + MAPPED_MIB) * MIB,
        resource.RLIMIT_FSIZE: written_mib * MIB,
        resource.RLIMIT_NOFILE: 128,
    }
    for which, most in limits.items():
        resource.setrlimit(which, (most, most))
    # A write beyond the limit is then an error of that write; the default would end the process.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    libc.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_SET_DUMPABLE, 0, 0, 0, 0)
    ways: list[tuple[str, Callable[[], bool]]] = [
        ("namespace", lambda: _leave_network(libc)),
        ("landlock", lambda: _close_files(libc, files, scratch)),
        ("seccomp", lambda: _refuse_calls(libc)),
    ]
    if libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise NotConfined("no_new_privs cannot be set")
    in_force = [name for name, take in ways if take()]
    if not {"namespace", "seccomp"} & set(in_force):
        raise NotConfined("neither a network namespace nor a seccomp filter can be had")
    return in_force


def _leave_network(libc: ctypes.CDLL) -> bool:
    """Into a network namespace of its own, which has not even a loopback that is up."""
    return any(libc.unshare(flags) == 0 for flags in (_NEW_NET, _NEW_USER | _NEW_NET))


def _refuse_calls(libc: ctypes.CDLL) -> bool:
    known = _REFUSED.get(platform.machine())
    if known is None or sys.byteorder != "little":
        return False
    architecture, calls = known
    numbers = sorted(set(calls.values()))
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    allow, refuse, kill = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
    steps = [(load, 0, 0, 4), (equal, 1, 0, architecture), (answer, 0, 0, kill), (load, 0, 0, 0)]
    # The x32 interface has the same calls under numbers of its own, from this one on.
    steps.append((at_least, len(numbers) + 1, 0, 0x40000000))
    steps += [(equal, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
    steps += [(answer, 0, 0, allow), (answer, 0, 0, refuse)]
    program = b"".join(struct.pack("<HBBI", *step) for step in steps)
    buffer = ctypes.create_string_buffer(program, len(program))
    head = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(buffer)))
    return bool(libc.prctl(_SET_SECCOMP, _FILTER_MODE, head, 0, 0) == 0)


def _close_files(libc: ctypes.CDLL, files: Iterable[Path], scratch: Path) -> bool:
    """Only the interpreter, its packages and `files` can be read, only in `scratch` written."""
    handled = ctypes.create_string_buffer(struct.pack("<Q", _FILES_ALL), 8)
    ruleset = libc.syscall(_CREATE_RULESET, handled, ctypes.c_size_t(8), 0)
    if ruleset < 0:
        return False
    readable = {*_installed(), *(path.resolve() for path in files)}
    for path, rights in [*((one, _READ) for one in readable), (scratch.resolve(), _SCRATCH)]:
        try:
            there = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        # A file has no entries that could be listed or made.
        allowed = rights if path.is_dir() else rights & 0b101
        rule = ctypes.create_string_buffer(struct.pack("<Qi", allowed, there), 12)
        libc.syscall(_ADD_RULE, ruleset, 1, rule, 0)
        os.close(there)
    done = libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return bool(done)


def _installed() -> set[Path]:
    """Where Python, its packages, shared libraries and our own code are; no data folder."""
    here = Path(__file__).resolve().parent
    said = {Path(one).resolve() for one in sys.path if one} - {here.parent}
    system = {"/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/null", "/dev/urandom"}
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    return {here, here.parent / "geo", *said, *(Path(one).resolve() for one in system | prefixes)}
