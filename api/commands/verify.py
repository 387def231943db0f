"""`yutu db verify`: whether everything stored still follows from what was received."""

from __future__ import annotations

from typing import Annotated

import typer

from api.commands.private_database import newest_database
from data.verify import verify


def verify_command(
    deep: Annotated[
        bool,
        typer.Option(help="Read every original body again, and place every facility by SQL too."),
    ] = False,
) -> None:
    """Compute states, counters, placements and hashes again from the original records and compare.

    Changes nothing and holds nobody up. Ends with 1, naming what differs, if anything does.
    """
    with newest_database() as (_, engine):
        report = verify(engine, deep=deep)
    for line in report.lines():
        typer.echo(line)
    if not report.clean:
        wrong = [check.name for check in report.checks if check.wrong]
        typer.echo(
            f"yutu: not as received, as of sequence {report.sequence}: {', '.join(wrong)}", err=True
        )
        raise typer.Exit(1)
    typer.echo(f"everything follows from what was received, as of sequence {report.sequence}")
