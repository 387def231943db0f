"""`yutu db retire`: old months of the log of events, out of the database and into files."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from api.commands.private_database import newest_database
from data.log_retirement import retire_before
from data.rulepacks import load_packs
from data.situation import supply_kinds


def retire_command(
    before: Annotated[
        datetime,
        typer.Option(formats=["%Y-%m-%d"], help="Months (UTC) that ended before this date."),
    ],
) -> None:
    """Take old months of the log of events into files under YUTU_VAR/archive.

    The present is not touched, and the past still answers: a month is read back when it is asked
    about. Back up afterwards: yutu db backup FOLDER takes the files along.
    """
    kinds = supply_kinds(load_packs().in_force(datetime.now(UTC)))
    with newest_database() as (url, _):
        done = retire_before(url, before.date(), kinds)
    for one in done:
        typer.echo(
            f"{one.title}: {one.events} events in {one.path} ({one.file_bytes} bytes),"
            f" {one.kept} of them stay in the log"
        )
    if not done:
        typer.echo("no month to retire")
