"""`yutu`: the jobs of the service from a shell. What goes wrong is said in one line a fault, with
code 1, or 2 for a setting that cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import typer

from api.commands.later import LaterGroup, nothing
from data.settings import WrongSetting
from geo.errors import InvalidInput, YutuError

FAULTS_SHOWN = 20


class Commands(LaterGroup):
    """Every command; errors of the domain and of the database are shown as text and not as
    tracebacks."""

    places: ClassVar[Mapping[str, str]] = {
        "run": "service:run_command",
        "serve": "service:serve_command",
        "assess": "assess:assess_command",
        "export": "export:export_command",
        "bench": "bench:bench_command",
        "db": "schema:app",
        "account": "account:app",
        "audit": "audit:app",
        "demo": "demo:app",
        "import": "imports:app",
    }

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except YutuError as error:
            for line in told(error):
                typer.echo(f"yutu: {line}", err=True)
            raise typer.Exit(2 if isinstance(error, WrongSetting) else 1) from None
        except Exception as error:
            from api.commands.database_fault import unavailable  # not for `yutu --help`

            instead = unavailable(error)
            if instead is None:
                raise
            typer.echo(f"yutu: {instead}", err=True)
            raise typer.Exit(1) from None


app = typer.Typer(
    name="yutu",
    cls=Commands,
    callback=nothing,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="渝图 Yutu: the situation of Chongqing under its three emergency plans.",
)


def told(error: YutuError) -> list[str]:
    """What to print of an error, a line per fault."""
    if not isinstance(error, InvalidInput):
        return [str(error)]
    lines = [str(fault) for fault in error.faults[:FAULTS_SHOWN]]
    hidden = len(error.faults) - len(lines)
    return [*lines, f"and {hidden} more"] if hidden else lines


if __name__ == "__main__":
    app()
