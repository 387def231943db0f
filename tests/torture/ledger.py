"""Writers over HTTP and what they were acknowledged: Jepsen's ledger, compared with what is stored."""

from __future__ import annotations

import threading
import time
from typing import Any
from uuid import UUID, uuid4

import httpx
import numpy as np
from sqlalchemy import text

from tests.api.test_feeds_incidents import incident
from tests.data.stored import at
from tests.torture.site import FACILITIES, Site

WRITERS = 16
OF_INCIDENTS = 4  # of the writers; the others send status events
BATCH = 10
PAUSE_S = 0.03
GIVES_UP_S = 240.0
STATES = ("up", "degraded", "down", "unknown")


class Writer(threading.Thread):
    """Sends one thing after another, each again until it is acknowledged."""

    def __init__(self, site: Site, number: int, seed: int, again: bool = True) -> None:
        super().__init__(name=f"writer-{number}", daemon=True)
        self._site, self._number, self._again = site, number, again
        self._rng = np.random.default_rng([seed, number])
        self._of_incidents = number < OF_INCIDENTS
        self.ended = threading.Event()
        self.acknowledged: list[str] = []
        self.sent: list[str] = []
        self.failures = self.repeated = 0

    def run(self) -> None:
        key = self._site.keys["commander" if self._of_incidents else "utility"]
        with httpx.Client(base_url=self._site.server.url, headers=key, timeout=15) as client:
            while not self.ended.wait(PAUSE_S):
                if self._of_incidents:
                    body = incident(occurred_at=at(1), facts={}, position=self._place())
                    ids, path = [str(body["incident_id"])], "/v1/incidents"
                    self._deliver(client, path, body, ids)
                else:
                    events = [self._event() for _ in range(BATCH)]
                    ids = [str(one["event_id"]) for one in events]
                    self._deliver(client, "/v1/status", events, ids)

    def _place(self) -> list[float]:
        lon, lat = self._rng.uniform(106.2, 106.8), self._rng.uniform(29.3, 29.8)
        return [round(float(lon), 6), round(float(lat), 6)]

    def _event(self) -> dict[str, Any]:
        return {
            "event_id": str(uuid4()),
            "facility_id": f"F{self._rng.integers(0, FACILITIES)}",
            "state": STATES[self._rng.integers(0, 4)],
            "observed_at": at(int(self._rng.integers(0, 600))),
        }

    def _deliver(self, client: httpx.Client, path: str, body: Any, ids: list[str]) -> None:
        self.sent += ids
        gives_up_at = time.monotonic() + GIVES_UP_S
        tries = 0
        while time.monotonic() < gives_up_at:
            tries += 1
            try:
                answer = client.post(path, json=body)
            except httpx.TransportError:
                self._site.figures.count()
                self.failures += 1
            else:
                self._site.figures.note(answer, "writer")
                if answer.is_success:
                    self.acknowledged += ids
                    self.repeated += tries > 1
                    return
                self.failures += 1
                if answer.status_code < 500:
                    self._site.figures.violate(f"refused: {answer.status_code} {answer.text[:200]}")
                    return
            if not self._again:
                return
            time.sleep(0.05)
        self._site.figures.violate(f"never acknowledged by {path}")


class Ledger:
    """All writers of a row."""

    def __init__(self, site: Site, seed: int, again: bool = True, writers: int = WRITERS) -> None:
        self._site = site
        self.writers = [Writer(site, number, seed, again) for number in range(writers)]

    def __enter__(self) -> Ledger:
        for writer in self.writers:
            writer.start()
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self.writers:
            writer.ended.set()
        for writer in self.writers:
            writer.join(GIVES_UP_S + 30)
            self._site.figures.check(not writer.is_alive(), f"{writer.name} hangs")

    @property
    def acknowledged(self) -> set[str]:
        return {one for writer in self.writers for one in writer.acknowledged}

    @property
    def sent(self) -> set[str]:
        return {one for writer in self.writers for one in writer.sent}

    @property
    def failures(self) -> int:
        return sum(writer.failures for writer in self.writers)

    def __len__(self) -> int:
        """How many ids were acknowledged."""
        return sum(len(writer.acknowledged) for writer in self.writers)

    def grows(self, within_s: float = 240.0) -> bool:
        """Wait until each kind of writer was acknowledged something more."""
        before = len(self)
        ends_at = time.monotonic() + within_s
        while len(self) <= before:
            if time.monotonic() > ends_at:
                self._site.figures.violate(f"nothing is taken any more, for {within_s:.0f} s")
                return False
            time.sleep(0.01)
        return True


def stored(site: Site) -> tuple[set[str], int]:
    """Ids of events and incidents in the database, and how many are there more than once."""
    with site.owner.connect() as connection:
        events = connection.execute(text("SELECT event_id FROM status_log")).scalars().all()
        incidents = connection.execute(text("SELECT incident_id FROM incident")).scalars().all()
    ids = [*events, *(str(UUID(str(one))) for one in incidents)]
    return set(ids), len(ids) - len(set(ids))
