"""A thread that works beside the requests of its process until it is stopped."""

from __future__ import annotations

import threading
import time

#: Other threads that use more than this share of a core have the process to themselves for longer.
BUSY = 0.3
LOOK_S = 0.1
#: As many times as long as it worked it rests at most.
REST_AT_MOST = 9

#: How long stopping waits for what is at hand; a daemon thread then ends with the process.
STOP_S = 0.5


class Background:
    """A daemon thread of this name that runs `_run`.

    What it shares with those who ask is read and written holding `_changed`, which is notified of
    every change. `_run` returns once `_stopping` is true.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """What is being made is given up."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=STOP_S)

    def _rest(self, worked_s: float) -> None:
        """Rest as long as it worked, and while the process is busy up to nine times as long: Python
        runs one thread at a time, whatever their priorities. Call it holding `_changed`."""
        started = time.monotonic()
        while not self._stopping:
            looked_at, used_s = time.monotonic(), time.process_time()
            rested_s = looked_at - started
            if rested_s >= worked_s * REST_AT_MOST:
                return
            wait_s = max(LOOK_S, worked_s - rested_s)
            self._changed.wait_for(lambda: self._stopping, timeout=wait_s)
            share = (time.process_time() - used_s) / (time.monotonic() - looked_at)
            if share < BUSY and time.monotonic() - started >= worked_s:
                return

    def _stopped_within(self, wait_s: float) -> bool:
        """Wait so long, or until it is to stop; whether it is. Call it without `_changed`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._stopping, timeout=wait_s)

    def _run(self) -> None:
        raise NotImplementedError
