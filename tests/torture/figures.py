"""What one row of the threats counts while it is tried, and the line it is told in."""

from __future__ import annotations

import threading
import time
from typing import Any
from urllib.parse import unquote_plus

import httpx

PROBLEM = "application/problem+json"
BUSY = (503, 507)  # an honest refusal of a service that is full, with Retry-After
HEALTH_P99_S = 0.25
VIOLATIONS_KEPT = 40
LEAKS = ("Traceback (most recent", "psycopg", "sqlalchemy", "/site-packages/", "SELECT ", "root:x:")


class Figures:
    """The figures of one row. Threads may note answers at the same time."""

    def __init__(self, row: str) -> None:
        self.row = row
        self.inputs = self.five_hundreds = self.lost = self.deaths = self.violations = 0
        self.told: list[str] = []
        self.own: dict[str, Any] = {}
        self.health_s: list[float] = []
        self.factor = 1.0
        self.health_counts = True  # not where it is the server itself that is killed
        self.took_s = 0.0
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def violate(self, what: str) -> None:
        with self._lock:
            self.violations += 1
            if len(self.told) < VIOLATIONS_KEPT:
                self.told.append(what[:400])

    def check(self, holds: bool, what: str) -> None:
        if not holds:
            self.violate(what)

    def count(self, inputs: int = 1) -> None:
        with self._lock:
            self.inputs += inputs

    def note(self, answer: httpx.Response, what: str) -> None:
        """An answer: no 500, every error an RFC 9457 problem that tells nothing of the inside."""
        with self._lock:
            self.inputs += 1
            self.five_hundreds += answer.status_code >= 500 and answer.status_code not in BUSY
        if answer.status_code < 400:
            return
        asked = f"{answer.request.method} {answer.request.url.raw_path[:120]!r} {what}"
        kind = answer.headers.get("content-type", "").partition(";")[0]
        if answer.status_code >= 500 and answer.status_code not in BUSY:
            self.violate(f"{answer.status_code}: {asked}: {answer.text[:200]}")
        elif kind != PROBLEM or answer.json().get("status") != answer.status_code:
            self.violate(f"{answer.status_code} is no problem of RFC 9457 but {kind}: {asked}")
        if answer.status_code in BUSY:
            self.check("retry-after" in answer.headers, f"no Retry-After: {asked}")
        sent = unquote_plus(str(answer.request.url))
        for leak in LEAKS:
            self.check(leak not in answer.text or leak in sent, f"tells {leak!r}: {asked}")

    def end(self) -> None:
        self.took_s = time.monotonic() - self._began

    @property
    def health_p99_s(self) -> float | None:
        if not self.health_s:
            return None
        return sorted(self.health_s)[int(len(self.health_s) * 0.99)]

    @property
    def ok(self) -> bool:
        """Whether the row holds, `/health` within its limit times what neighbours cost."""
        p99_s = self.health_p99_s
        healthy = p99_s is None or p99_s < HEALTH_P99_S * self.factor or not self.health_counts
        return healthy and not (self.five_hundreds or self.lost or self.violations or self.deaths)

    def line(self) -> str:
        p99_s = self.health_p99_s
        health = "-" if p99_s is None else f"{p99_s * 1000:.0f} ms"
        parts = [
            f"inputs {self.inputs:,}",
            f"500s {self.five_hundreds}",
            f"lost {self.lost}",
            f"violations {self.violations}",
            f"worker deaths {self.deaths}",
            f"/health p99 {health}",
            *(f"{name} {value}" for name, value in self.own.items()),
        ]
        if self.factor > 1.05:
            parts.append(f"neighbours × {self.factor:.1f}")
        how = "ok" if self.ok else "FAILED"
        return f"torture {self.row}: {', '.join(parts)} ({self.took_s:.0f} s) {how}"
