"""The audit trail: appended by one function, chained by SHA-256, changed by nobody"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

#: A value as its length in bytes and itself, so that no two rows have the same bytes.
#: `data/audit_chain.py` computes the same in Python.
CHAIN = """
CREATE FUNCTION audit_part(value text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(octet_length(convert_to(value, 'UTF8')) || ':' || value || ',', '-,')
$$;
CREATE FUNCTION append_audit(
    p_act text, p_outcome text, p_account text, p_address text, p_means text, p_subject text,
    p_detail text
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    last record;
    next_number bigint;
    next_at timestamptz;
    next_sha256 bytea;
BEGIN
    -- until COMMIT: rows are appended one after the other, and by what was committed only
    PERFORM pg_advisory_xact_lock(7115);
    SELECT number, at, sha256 INTO last FROM audit ORDER BY number DESC LIMIT 1;
    next_number := coalesce(last.number, 0) + 1;
    next_at := greatest(clock_timestamp(), last.at);
    last.sha256 := coalesce(last.sha256, decode(repeat('00', 32), 'hex'));
    next_sha256 := sha256(convert_to(
        audit_part('yutu audit 1') || audit_part(encode(last.sha256, 'hex'))
        || audit_part(next_number::text)
        || audit_part((extract(epoch FROM next_at) * 1000000)::bigint::text)
        || audit_part(p_act) || audit_part(p_outcome) || audit_part(p_account)
        || audit_part(p_address) || audit_part(p_means) || audit_part(p_subject)
        || audit_part(p_detail), 'UTF8'));
    INSERT INTO audit (number, at, act, outcome, account, address, means, subject, detail,
                       previous_sha256, sha256)
    VALUES (next_number, next_at, p_act, p_outcome, p_account, p_address, p_means, p_subject,
            p_detail, last.sha256, next_sha256);
    RETURN next_number;
END $$;
CREATE FUNCTION refuse_changing_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit trail is appended to, never changed';
END $$;
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_changing_audit();
"""

#: The API's role has no INSERT either: number, time and hash are not its to choose.
RIGHTS = """
REVOKE ALL ON FUNCTION append_audit(text, text, text, text, text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION append_audit(text, text, text, text, text, text, text) TO yutu_app;
GRANT SELECT ON audit TO yutu_app;
"""

#: The first row is of this database alone, so that no other's chain can stand in for it.
BEGINNING = """
SELECT append_audit('audit.begun', 'done', NULL, NULL, 'migration', NULL,
                    '{"chain":"' || gen_random_uuid() || '"}')
"""


def code(name: str, *, nullable: bool = True) -> sa.Column:
    return sa.Column(name, sa.Text(collation="C"), nullable=nullable)


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        code("act", nullable=False),
        code("outcome", nullable=False),
        code("account"),
        code("address"),
        code("means", nullable=False),
        code("subject"),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("previous_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.CheckConstraint("number > 0", name=op.f("ck_audit_number")),
        sa.CheckConstraint("outcome IN ('done', 'refused')", name=op.f("ck_audit_outcome")),
        sa.CheckConstraint("jsonb_typeof(detail::jsonb) = 'object'", name=op.f("ck_audit_detail")),
        sa.CheckConstraint(
            "octet_length(previous_sha256) = 32 AND octet_length(sha256) = 32",
            name=op.f("ck_audit_sha256"),
        ),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_audit")),
    )
    for column in ("at", "act", "account", "subject"):
        op.create_index(op.f(f"ix_audit_{column}"), "audit", [column])
    op.execute(CHAIN)
    op.execute(RIGHTS)
    op.execute(BEGINNING)


def downgrade() -> None:
    op.drop_table("audit")
    op.execute("DROP FUNCTION append_audit(text, text, text, text, text, text, text)")
    op.execute("DROP FUNCTION audit_part(text)")
    op.execute("DROP FUNCTION refuse_changing_audit()")
