"""`yutu db verify`: whether everything stored still follows from what was received."""

from __future__ import annotations

from typing import Annotated

import typer

from api.commands.private_database import database
from data.database import owner_engine
from data.schema_version import has_newest_schema
from data.verify import verify
from geo.errors import Unavailable


def verify_command(
    deep: Annotated[
        bool,
        typer.Option(help="Read every original body again, and place every facility by SQL too."),
    ] = False,
) -> None:
    """Compute states, counters, placements and hashes again from the original records and compare.

    Changes nothing and holds nobody up. Ends with 1, naming what differs, if anything does.
    """
    with database() as url:
        engine = owner_engine(url)
        try:
            with engine.connect() as connection:
                if not has_newest_schema(connection):
                    raise Unavailable("the schema is not the newest; run yutu db migrate")
            report = verify(engine, deep=deep)
        finally:
            engine.dispose()
    for line in report.lines():
        typer.echo(line)
    if not report.clean:
        wrong = [check.name for check in report.checks if check.wrong]
        typer.echo(
            f"yutu: not as received, as of sequence {report.sequence}: {', '.join(wrong)}", err=True
        )
        raise typer.Exit(1)
    typer.echo(f"everything follows from what was received, as of sequence {report.sequence}")
