"""`yutu bench`: the figures of docs/performance.md, measured again on this machine."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from geo.errors import Unavailable

CHECKOUT = Path(__file__).resolve().parents[2]


def bench_command(
    facilities: Annotated[
        int, typer.Option(min=2000, max=1_000_000, help="Synthetic facilities in the database.")
    ] = 1_000_000,
    only: Annotated[
        str | None, typer.Option(help="One of assign, situation, regions, ingest.")
    ] = None,
) -> None:
    """Measure against named baselines, one line a figure. Needs the checkout's tests folder.

    Starts a database and a server of its own, durable as in service, and removes them.
    """
    if not (CHECKOUT / "tests" / "benchmarks").is_dir():
        raise Unavailable(
            "the benchmarks are in the checkout's tests/benchmarks, which is not here"
        )
    sys.path.insert(0, str(CHECKOUT))
    if only in (None, "assign"):
        _show(_module("bench_assign").run())
    if only == "assign":
        return
    with _module("served").served(facilities) as served:
        typer.echo(f"# {facilities} facilities loaded in {served.load_s:.0f} s")
        for name in ("situation", "regions", "ingest"):
            if only in (None, name):
                _show(_module(f"bench_{name}").run(served))


def _module(name: str) -> Any:
    return importlib.import_module(f"tests.benchmarks.{name}")


def _show(lines: list[tuple[str, float, str, float, str, float, str]]) -> None:
    for name, ratio, baseline, ours, unit, theirs, their_unit in lines:
        typer.echo(
            f"bench {name} {ratio:.2f} x vs {baseline}"
            f" ({ours:.4g} {unit} / {theirs:.4g} {their_unit})"
        )
