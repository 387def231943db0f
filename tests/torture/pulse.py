"""Asks /health again and again from a process of its own, so that the tormentor's threads do not
count, and tells at the end how long each answer took: `python -m tests.torture.pulse HOST PORT`."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

INTERVAL_S = 0.04
TIMEOUT_S = 10.0
ROOT = Path(__file__).resolve().parents[2]


class Pulse:
    """That process, from `start` to `end`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.pulse", "127.0.0.1", str(self._port)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def end(self) -> list[float]:
        """Seconds of each answer."""
        if self._process is None:
            return []
        process, self._process = self._process, None
        try:
            told, _ = process.communicate("", timeout=60)
        except BaseException:
            process.kill()
            process.wait()
            raise
        return [float(one) for one in json.loads(told)]


def main(host: str, port: int) -> None:
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    took_s: list[float] = []
    while not ended.wait(INTERVAL_S):
        began = time.monotonic()
        with contextlib.suppress(OSError, http.client.HTTPException):
            link = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
            try:
                link.request("GET", "/health")
                if link.getresponse().status == 200:
                    took_s.append(time.monotonic() - began)
            except TimeoutError:
                took_s.append(TIMEOUT_S)
            finally:
                link.close()
    print(json.dumps(took_s))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
