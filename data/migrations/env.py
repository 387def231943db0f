"""Alembic's entry: the metadata of `data/tables*.py`, PostGIS types, partitions left alone."""

from __future__ import annotations

from typing import Any

from alembic import context
from geoalchemy2 import alembic_helpers
from sqlalchemy import create_engine

import data.tables_access
import data.tables_audit
import data.tables_relay
import data.tables_reports
import data.tables_retired
import data.tables_scenario
import data.tables_teams  # noqa: F401  (all register their tables)
from data.tables import metadata


def include_name(name: str | None, kind: str, parents: Any) -> bool:
    """Partitions are made by `ensure_status_partitions`, not by migrations."""
    return not (kind == "table" and name is not None and name.startswith("status_log_"))


def include_object(obj: Any, name: str | None, kind: str, reflected: bool, to: Any) -> bool:
    return bool(alembic_helpers.include_object(obj, name, kind, reflected, to))


def run() -> None:
    engine = create_engine(context.config.attributes["url"], hide_parameters=True)
    with engine.connect() as connection:
        context.configure(
            connection=connection,
            target_metadata=metadata,
            include_name=include_name,
            include_object=include_object,
            process_revision_directives=alembic_helpers.writer,
            render_item=alembic_helpers.render_item,
            compare_type=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


run()
