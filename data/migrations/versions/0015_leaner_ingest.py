"""Facilities are found by id in the index alone; applying a batch counts nothing"""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

UNIQUE = """
ALTER TABLE facility DROP CONSTRAINT uq_facility_facility_id,
    ADD CONSTRAINT uq_facility_facility_id UNIQUE (facility_id){include}
"""
#: Without a hash join the states are reached in the order of the sorted side, that of their key:
#: writers lock them in that order and cannot deadlock, and no statement of its own has to lock them.
APPLY = """
CREATE FUNCTION apply_status(p_batch bigint, p_opened_at timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = public, pg_temp SET enable_hashjoin = off AS $$
BEGIN
    UPDATE facility_state s
    SET state = n.state, observed_at = n.observed_at, event_id = n.event_id, batch_id = p_batch
    FROM (
        SELECT DISTINCT ON (l.facility_pk) l.facility_pk, l.state, l.observed_at, l.event_id
        FROM status_log l
        WHERE l.batch_id = p_batch AND l.received_at = p_opened_at
          AND NOT l.future AND l.facility_pk IS NOT NULL
        ORDER BY l.facility_pk, l.observed_at DESC, l.state DESC, l.event_id DESC
    ) n
    WHERE s.facility_pk = n.facility_pk
      AND (n.observed_at, n.state, n.event_id) > (s.observed_at, s.state, s.event_id);
END $$
"""
APPLY_COUNTING = APPLY.replace(
    "RETURNS void", "RETURNS TABLE (waiting bigint, future bigint)"
).replace(
    "END $$",
    """
    RETURN QUERY
    SELECT count(*) FILTER (WHERE l.facility_pk IS NULL AND NOT l.future),
           count(*) FILTER (WHERE l.future)
    FROM status_log l WHERE l.batch_id = p_batch AND l.received_at = p_opened_at;
END $$""",
)


def upgrade() -> None:
    op.execute(UNIQUE.format(include=" INCLUDE (pk, operator, kind, adcode)"))
    op.execute("DROP FUNCTION apply_status")
    op.execute(APPLY)


def downgrade() -> None:
    op.execute("DROP FUNCTION apply_status")
    op.execute(APPLY_COUNTING)
    op.execute(UNIQUE.format(include=""))
