"""How much one process takes on at once; what is too much is refused at once and may come again.

Reads and writes have places of their own, so that a flood of reports leaves the map alone. A
request takes its place when its body is complete: a slow sender holds up nobody but itself. Bytes
of bodies are counted from the beginning. Beyond it: 503 with `Retry-After`, decided within what
`data.waits` allows from the moment the request was there, whatever it waits for. What answers from
memory needs no place. Writes are refused with 507 while the disk is nearly full, before PostgreSQL
or a file would fail halfway; reading goes on.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, cast

import structlog
from prometheus_client import Counter

from api.credentials import Application, Receive, Scope, Send
from api.language import language_of
from api.policy import Rule
from api.problems import answer_error, problem
from data.settings import AdmissionSettings
from data.waits import CURRENT, Waits
from geo.errors import Unavailable

MIB = 2**20
BUSY = "the server has more to do than it can take on; send it again"
DISK_FULL = "the disk is nearly full; nothing more is taken until there is space again"
RETRY_AFTER_S = 1
DISK_RETRY_AFTER_S = 30
LOOK_AT_DISK_EVERY_S = 1.0

#: Answered from memory or by the event loop alone. A stream waits for as long as it likes.
WITHOUT_PLACE = frozenset(
    {
        "/health",
        "/ready",
        "/metrics",
        "/static/{path:path}",
        "/ca.crt",
        "/v1/situation/stream",
    }
)
#: From memory too, unless its query asks for the past or for a write to be included.
NEWEST = "/v1/situation"
#: Change nothing that is kept, though their method could.
READS_BY_POST = frozenset(
    {
        "/v1/token",
        "/login",
        "/logout",
        "/v1/regions/query",
        "/v1/scenarios/evaluate",
        "/v1/plans/{plan}/assess",
    }
)

SHED = Counter("yutu_requests_shed_total", "Requests refused for lack of room.", ["why"])

log = structlog.get_logger("yutu.admission")


class Disk:
    """Whether there is room where the data lies; looked at once a second at most."""

    def __init__(self, folders: tuple[Path, ...], free_mib: int) -> None:
        self._folders = folders
        self._free_bytes = free_mib * MIB
        self._looked_at = float("-inf")
        self._full = False

    def full(self) -> bool:
        now = time.monotonic()
        if now - self._looked_at >= LOOK_AT_DISK_EVERY_S:
            self._looked_at = now
            full = any(free_bytes(folder) < self._free_bytes for folder in self._folders)
            if full != self._full:
                log.warning("disk nearly full" if full else "disk has space again")
            self._full = full
        return self._full


class Places:
    """A number of places, and a wait for one that ends."""

    def __init__(self, number: int, wait_s: float) -> None:
        self._free = asyncio.Semaphore(number)
        self._wait_s = wait_s

    async def take(self, waits: Waits) -> None:
        """Raises Unavailable when none became free in time."""
        try:
            with waits.drawn():
                async with asyncio.timeout(waits.at_most(self._wait_s)):
                    await self._free.acquire()
        except TimeoutError:
            SHED.labels("places").inc()
            raise Unavailable(BUSY, RETRY_AFTER_S) from None

    def leave(self) -> None:
        self._free.release()


class Admission:
    """ASGI middleware inside the gate: only what the policy lets in takes a place."""

    def __init__(
        self, app: Application, settings: AdmissionSettings, disk_folders: tuple[Path, ...]
    ) -> None:
        self.app = app
        self._settings = settings
        self._reads = Places(settings.reads_at_once, settings.place_wait_s)
        self._writes = Places(settings.writes_at_once, settings.place_wait_s)
        self._body_bytes = 0
        self._disk = Disk(disk_folders, settings.disk_free_mib)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        rule = cast(Rule, scope["state"]["rule"]) if scope["type"] == "http" else None
        if rule is None or rule.path in WITHOUT_PLACE or _newest(rule, scope):
            await self.app(scope, receive, send)
            return
        reads = rule.safe or rule.path in READS_BY_POST
        if not reads and self._disk.full():
            SHED.labels("disk").inc()
            refusal = problem(
                507,
                DISK_FULL,
                lang=language_of(scope),
                headers={"Retry-After": str(DISK_RETRY_AFTER_S), "Connection": "close"},
            )
            await refusal(scope, receive, send)
            return
        waits = Waits(scope["state"]["arrived_at"])
        places = self._reads if reads else self._writes
        stay = _Stay(self, places, waits, receive, _length(scope))
        CURRENT.set(waits)
        try:
            await stay.begin(has_body=_has_body(scope))
        except Unavailable as error:
            refusal = answer_error(error, language_of(scope))
            refusal.headers["Connection"] = "close"
            stay.end()
            await refusal(scope, receive, send)
            return
        try:
            await self.app(scope, stay.receive, send)
        finally:
            stay.end()

    def hold(self, size: int) -> None:
        """Count bytes of a body. Raises Unavailable when all together are too many."""
        if self._body_bytes + size > self._settings.bodies_mib * MIB:
            SHED.labels("bytes").inc()
            raise Unavailable(BUSY, RETRY_AFTER_S)
        self._body_bytes += size

    def release(self, size: int) -> None:
        self._body_bytes -= size


class _Stay:
    """One request's place and bytes, given back exactly once."""

    def __init__(
        self,
        admission: Admission,
        places: Places,
        waits: Waits,
        receive: Receive,
        announced: int,
    ) -> None:
        self._admission = admission
        self._places = places
        self._waits = waits
        self._receive = receive
        self._announced = announced
        self._held = 0
        self._seen = 0
        self._placed = False

    async def begin(self, has_body: bool) -> None:
        if not has_body:
            await self._take()
        elif self._announced:
            self._hold(self._announced)

    async def receive(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        if message["type"] == "http.request" and not self._placed:
            self._seen += len(message.get("body", b""))
            if self._seen > self._held:
                self._hold(self._seen - self._held)
            if not message.get("more_body", False):
                self._waits.allow(self._seen)
                await self._take()
        return message

    def end(self) -> None:
        if self._placed:
            self._places.leave()
            self._placed = False
        self._admission.release(self._held)
        self._held = 0

    async def _take(self) -> None:
        await self._places.take(self._waits)
        self._placed = True

    def _hold(self, size: int) -> None:
        self._admission.hold(size)
        self._held += size


def _newest(rule: Rule, scope: Scope) -> bool:
    query: bytes = scope.get("query_string", b"")
    return rule.path == NEWEST and not (b"at=" in query or b"min_sequence" in query)


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


def _length(scope: Scope) -> int:
    """The announced length in bytes; the gate has checked that it is a number and not too large."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value)
    return 0


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written at `folder`, or the nearest folder above it that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
