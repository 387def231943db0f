"""A zone's kind is `functional_zone`, as the rule packs call it"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _rename(before: str, after: str) -> None:
    op.drop_constraint(op.f("ck_unit_kind"), "unit", type_="check")
    op.execute(f"UPDATE unit SET kind = '{after}' WHERE kind = '{before}'")
    op.create_check_constraint(op.f("ck_unit_kind"), "unit", f"kind IN ('district', '{after}')")


def upgrade() -> None:
    _rename("zone", "functional_zone")


def downgrade() -> None:
    _rename("functional_zone", "zone")
