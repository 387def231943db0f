"""`python -m tests.torture`: every row of the threats, one line of figures each; 1 if one fails."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import structlog

from tests.torture.torture import MINUTES, ROWS, Torture

NOUNS = (
    *("crashes", "defaults", "disk", "uploads", "hang", "bodies", "repeats", "injections"),
    *("access", "pages", "trail", "canary", "conformance", "fuzz", "restoring"),
)


def rows() -> dict[str, str]:
    """Every row's name and threat, in the order they are tried."""
    for noun in NOUNS:
        importlib.import_module(f"tests.torture.{noun}")
    return {name: threat for name, (threat, _) in ROWS.items()}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    known = rows()
    parser.add_argument("--row", action="append", choices=[*known, []], help="only this; repeated")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="how long, about (40)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="the rows and their threats")
    asked = parser.parse_args()
    if asked.list:
        for name, threat in known.items():
            print(f"{name:14} {threat}")
        return 0
    structlog.configure(logger_factory=structlog.WriteLoggerFactory(sys.stderr))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    began = time.monotonic()
    failed = []
    commit = _commit()
    print(
        f"torture: seed {asked.seed}, {asked.minutes:g} minutes, {os.cpu_count()} processors,"
        f" load {os.getloadavg()[0]:.1f}, {commit}, {time.strftime('%Y-%m-%d %H:%M')} UTC",
        flush=True,
    )
    chosen = asked.row or list(known)
    with Torture(asked.seed, asked.minutes / MINUTES, alone=len(chosen) == 1) as torture:
        for name in chosen:
            figures = torture.try_row(name)
            print(figures.line(), flush=True)
            for told in figures.told:
                print(f"  {name}: {told}", file=sys.stderr, flush=True)
            if not figures.ok:
                failed.append(name)
    took_min = (time.monotonic() - began) / 60
    print(
        f"torture: {len(chosen)} rows in {took_min:.1f} min, "
        + (f"FAILED: {', '.join(failed)}" if failed else "all hold")
    )
    return bool(failed)


def _commit() -> str:
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()
    return "no commit"


if __name__ == "__main__":
    sys.exit(main())
