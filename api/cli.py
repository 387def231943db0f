"""`yutu`: the jobs of the service from a shell. What goes wrong is said in one line a fault, with
code 1, or 2 for a setting that cannot be used."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from api.commands import (
    account,
    assess,
    audit,
    bench,
    demo,
    divisions,
    export,
    facilities,
    incidents,
    schema,
    service,
)
from data.settings import WrongSetting
from geo.errors import InvalidInput, YutuError

FAULTS_SHOWN = 20


class Commands(TyperGroup):
    """A command group that shows the domain's errors as text and not as tracebacks."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except YutuError as error:
            for line in told(error):
                typer.echo(f"yutu: {line}", err=True)
            raise typer.Exit(2 if isinstance(error, WrongSetting) else 1) from None


app = typer.Typer(
    name="yutu",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="渝图 Yutu: the situation of Chongqing under its three emergency plans.",
)
app.command("run")(service.run_command)
app.command("serve")(service.serve_command)
app.command("assess")(assess.assess_command)
app.command("export")(export.export_command)
app.command("bench")(bench.bench_command)
app.add_typer(schema.app, name="db")
app.add_typer(account.app, name="account")
app.add_typer(audit.app, name="audit")
app.add_typer(demo.app, name="demo")

imports = typer.Typer(no_args_is_help=True, help="Files into the database.")
imports.command("facilities")(facilities.facilities_command)
imports.command("incidents")(incidents.incidents_command)
imports.command("districts")(divisions.districts_command)
imports.command("zones")(divisions.zones_command)
app.add_typer(imports, name="import")


def told(error: YutuError) -> list[str]:
    """What to print of an error, a line per fault."""
    if not isinstance(error, InvalidInput):
        return [str(error)]
    lines = [str(fault) for fault in error.faults[:FAULTS_SHOWN]]
    hidden = len(error.faults) - len(lines)
    return [*lines, f"and {hidden} more"] if hidden else lines


if __name__ == "__main__":
    app()
