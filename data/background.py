"""A thread that works beside the requests of its process until it is stopped."""

from __future__ import annotations

import threading

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

    def _run(self) -> None:
        raise NotImplementedError
