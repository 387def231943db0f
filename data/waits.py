"""How long one request may wait, whatever for: a place, a connection, the database and its locks.

Each of these waits has a limit of its own, and one after another they would add up to many seconds
before a refusal. So they draw on one allowance: what one wait has used the next one lacks. The
request's own computing does not count, nor does anything outside a request.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

MIB = 2**20
ALLOWANCE_S = 1.8
#: A body of many events is seconds of work for the database, which is no waiting but looks alike.
MORE_S_PER_MIB = 1.0
#: Of a wait that begins when nothing is left: most locks and connections are free within it.
LEAST_S = 0.2


class Waits:
    """What is left of one request's allowance, in seconds."""

    def __init__(self, came_at: float) -> None:
        """`came_at`: when the request came, by time.monotonic(). Until now it has waited."""
        self.left_s = ALLOWANCE_S - (time.monotonic() - came_at)
        self._drawing = False

    def allow(self, body_bytes: int) -> None:
        """More for a large body. How long its sender took for it is no wait of ours."""
        self.left_s += body_bytes / MIB * MORE_S_PER_MIB

    def at_most(self, seconds: float) -> float:
        """How long one wait may take that alone might take so many seconds."""
        return min(seconds, max(LEAST_S, self.left_s))

    @contextmanager
    def drawn(self) -> Iterator[None]:
        """What is done meanwhile is waiting; counted once where one wait is within another."""
        if self._drawing:
            yield
            return
        self._drawing, began = True, time.monotonic()
        try:
            yield
        finally:
            self._drawing = False
            self.left_s -= time.monotonic() - began


#: Those of the request that is being worked on; None in threads that belong to no request.
CURRENT: ContextVar[Waits | None] = ContextVar("waits", default=None)


def at_most(seconds: float) -> float:
    """`seconds`, or as much of them as the request at hand may still wait."""
    waits = CURRENT.get()
    return seconds if waits is None else waits.at_most(seconds)


@contextmanager
def drawn() -> Iterator[None]:
    """What is done meanwhile is waiting of the request at hand, if there is one."""
    waits = CURRENT.get()
    if waits is None:
        yield
        return
    with waits.drawn():
        yield
