"""One run: which rows, how long, by which chance, on which site."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.torture.figures import Figures
from tests.torture.neighbours import Neighbours
from tests.torture.pulse import Pulse
from tests.torture.site import PREFIX, Site

MINUTES = 40.0
Row = Callable[["Torture"], None]
ROWS: dict[str, tuple[str, Row]] = {}


def row(name: str, threat: str) -> Callable[[Row], Row]:
    """Register a row under `name`; `threat` is what THREATS calls it."""

    def register(function: Row) -> Row:
        if name in ROWS:
            raise RuntimeError(f"two rows {name}")
        ROWS[name] = (threat, function)
        return function

    return register


@dataclass
class Torture:
    """`scale` 1 is the long form; each row takes its counts and durations times that."""

    seed: int = 1
    scale: float = 1.0
    figures: Figures = field(default_factory=lambda: Figures("none"))
    alone: bool = False  # this one row was asked for
    _site: Site | None = None
    _kept: ExitStack = field(default_factory=ExitStack)
    _row: ExitStack = field(default_factory=ExitStack)
    _neighbours: Neighbours | None = None
    _looks: int = 0
    _pulses: list[Pulse] = field(default_factory=list)
    _sites: list[tuple[Site, int]] = field(default_factory=list)

    def __enter__(self) -> Torture:
        self._neighbours = Neighbours([f"/tmp/{PREFIX}", "/tmp/yutu-test-", "/dev/shm/yutu-test-"])
        self._neighbours.start()
        return self

    def __exit__(self, *_: object) -> None:
        for pulse in self._pulses:  # of a site that no row was tried on
            pulse.end()
        self._kept.close()
        if self._neighbours is not None:
            self._neighbours.end()

    def count(self, whole: int, least: int = 1) -> int:
        """So many at full length, fewer in a short run."""
        return max(least, round(whole * min(self.scale, 1.0)))

    def seconds(self, whole: float, least: float = 1.0) -> float:
        return max(least, whole * self.scale)

    @property
    def rng(self) -> np.random.Generator:
        """Anew for each row, so that a row alone draws as it does among others."""
        return np.random.default_rng([self.seed, *self.figures.row.encode()])

    def factor(self) -> float:
        """What limits of time are multiplied by on a machine that is shared."""
        return 1.0 if self._neighbours is None else self._neighbours.factor(self._looks)

    def site(self) -> Site:
        """The site of all rows that break nothing; /health is asked from now to the row's end."""
        if self._site is None:
            self._site = self._kept.enter_context(Site())
        self._look_at(self._site)
        return self._site

    def folder(self) -> Path:
        """For files in passing, gone when the row is over."""
        made = Path(self._row.enter_context(tempfile.TemporaryDirectory(prefix=PREFIX)))
        made.chmod(0o755)  # PostgreSQL's user passes through
        return made

    def keep(self, site: Site) -> None:
        """Use this one as the site of rows that break nothing."""
        self._site = self._kept.enter_context(site)

    def own_site(self, **more: object) -> Site:
        """A site for this row alone."""
        site = self._row.enter_context(Site(**more))  # type: ignore[arg-type]
        self._look_at(site)
        return site

    def _look_at(self, site: Site) -> None:
        if any(site is one for one, _ in self._sites):
            return
        site.figures = self.figures
        self._sites.append((site, site.deaths))
        if not site.serves:
            return
        pulse = Pulse(site.server.port)
        pulse.start()
        self._pulses.append(pulse)

    def try_row(self, name: str) -> Figures:
        """Its figures; whatever it raised is a violation."""
        self.figures = Figures(name)
        self._looks = len(self._neighbours.seen) if self._neighbours else 0
        self._row = ExitStack()
        try:
            ROWS[name][1](self)
        except Exception as error:
            import traceback

            traceback.print_exc(file=sys.stderr)
            self.figures.violate(f"{type(error).__name__}: {error}")
        finally:
            pulses, self._pulses = self._pulses, []
            self.figures.deaths += sum(site.deaths - before for site, before in self._sites)
            self._sites = []
            try:
                self._row.close()
            finally:
                for pulse in pulses:
                    self.figures.health_s += pulse.end()
        self.figures.factor = self.factor()
        self.figures.end()
        return self.figures
