"""So many clients at once, each asking again as soon as it is answered, reading and writing in
turns, in one event loop of a process of its own: 192 threads of the tormentor keep each other
waiting for seconds, which no server can mend.

`python -m tests.torture.crowd` reads what to do from its input and prints what was answered.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from tests.data.stored import at

HOST = "127.0.0.1"
READ = "/v1/outages?limit=50"
WRITE = "/v1/status"
EVENTS = 5
REFUSED = (429, 503)
PAUSE_S = 0.05
ANSWER_WITHIN_S = 60.0
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Orders:
    """What a crowd is told: where, as whom, how many, how long, about how many facilities."""

    port: int
    clients: int
    lasts_s: float
    facilities: int
    reader: dict[str, str]
    writer: dict[str, str]


@dataclass
class Crowd:
    """What so many clients were answered. `own_lag_s`: how late their own loop was at worst, which
    is in the times above."""

    acknowledged: list[str] = field(default_factory=list)
    taken: int = 0
    shed: int = 0
    slowest_503_s: float = 0.0
    slowest_2xx_s: float = 0.0
    own_lag_s: float = 0.0
    rate: float = 0.0
    #: Every answer that is no success: method, path, status, headers, body.
    refusals: list[tuple[str, str, int, dict[str, str], str]] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, orders: Orders) -> Crowd:
        """Let it loose and wait for its end."""
        done = subprocess.run(
            [sys.executable, "-m", "tests.torture.crowd"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            input=json.dumps(asdict(orders)),
            stdout=subprocess.PIPE,
            text=True,
            timeout=orders.lasts_s + 3 * ANSWER_WITHIN_S,
            check=True,
        )
        return cls(**json.loads(done.stdout))

    def answers(self) -> list[httpx.Response]:
        """The refusals as httpx tells them."""
        return [
            httpx.Response(
                status,
                headers=headers,
                text=body,
                request=httpx.Request(method, f"http://{HOST}{path}"),
            )
            for method, path, status, headers, body in self.refusals
        ]


class Line:
    """One connection that is kept as long as the server keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> tuple[int, dict[str, str], str]:
        """Raises OSError or EOFError when it is not answered, on a new connection if need be."""
        kept = self._reader is not None and not self._reader.at_eof()
        try:
            return await self._ask(request)
        except (OSError, EOFError):
            self.close()
            if not kept:
                raise
        return await self._ask(request)  # the server had closed it: every id is there to be resent

    async def _ask(self, request: bytes) -> tuple[int, dict[str, str], str]:
        if self._reader is None or self._writer is None or self._reader.at_eof():
            self.close()
            self._reader, self._writer = await asyncio.open_connection(HOST, self._port)
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
        body = await self._reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            self.close()
        return int(first.split()[1]), headers, body.decode()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


async def _client(number: int, orders: Orders, crowd: Crowd, ends_at: float) -> None:
    line = Line(orders.port)
    turn = number
    while time.monotonic() < ends_at:
        turn += 1
        ids = [uuid4().hex for _ in range(EVENTS)] if turn % 2 == 0 else []
        request = _write(ids, turn, orders) if ids else _head("GET", READ, orders.reader)
        method, path = ("POST", WRITE) if ids else ("GET", READ)
        began = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                status, headers, body = await line.ask(request)
        except (OSError, EOFError) as error:  # TimeoutError is one
            crowd.silent.append(f"no answer: {method} {path}: {type(error).__name__}")
            line.close()
            continue
        took_s = time.monotonic() - began
        if status < 400:
            crowd.taken += 1
            crowd.acknowledged += ids
            crowd.slowest_2xx_s = max(crowd.slowest_2xx_s, took_s)
            continue
        crowd.refusals.append((method, path, status, headers, body))
        if status in REFUSED:
            crowd.shed += 1
            crowd.slowest_503_s = max(crowd.slowest_503_s, took_s)
            await asyncio.sleep(PAUSE_S)
    line.close()


def _write(ids: list[str], turn: int, orders: Orders) -> bytes:
    place = f"F{turn % orders.facilities}"
    events: list[dict[str, Any]] = [
        {"event_id": one, "facility_id": place, "state": "down", "observed_at": at(1)}
        for one in ids
    ]
    body = json.dumps(events).encode()
    told = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    return _head("POST", WRITE, orders.writer | told) + body


def _head(method: str, path: str, headers: dict[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


async def _own_lag(crowd: Crowd) -> None:
    while True:
        began = time.monotonic()
        await asyncio.sleep(PAUSE_S)
        crowd.own_lag_s = max(crowd.own_lag_s, time.monotonic() - began - PAUSE_S)


async def main(orders: Orders) -> Crowd:
    crowd = Crowd()
    began = time.monotonic()
    lag = asyncio.ensure_future(_own_lag(crowd))
    ends_at = began + orders.lasts_s
    await asyncio.gather(*(_client(n, orders, crowd, ends_at) for n in range(orders.clients)))
    lag.cancel()
    crowd.rate = crowd.taken / (time.monotonic() - began)
    return crowd


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(main(Orders(**json.loads(sys.stdin.read())))))))
