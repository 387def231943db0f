"""Views and a reading role for OGC API, exports and tiles"""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    sql = Path(__file__).parents[1] / "sql" / "0005_ogc.sql"
    driver = op.get_bind().connection.driver_connection
    driver.execute(sql.read_text(encoding="utf-8"))  # not through a driver that reads "%"
