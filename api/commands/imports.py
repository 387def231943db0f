"""`yutu import`: files into the database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import typer

from api.commands.later import LaterGroup, nothing


class Imports(LaterGroup):
    """What can be imported."""

    places: ClassVar[Mapping[str, str]] = {
        "facilities": "facilities:facilities_command",
        "incidents": "incidents:incidents_command",
        "districts": "divisions:districts_command",
        "zones": "divisions:zones_command",
    }


app = typer.Typer(
    cls=Imports, callback=nothing, no_args_is_help=True, help="Files into the database."
)
