"""API keys of their own, sessions that end, sign-in attempts, identities of elsewhere"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

ROLES = "'viewer', 'field', 'utility', 'planner', 'commander', 'admin'"

#: What was one key an account has becomes its first.
KEYS = """
INSERT INTO account_key (username, label, sha256, created_at)
SELECT username, 'first', api_key_sha256, created_at FROM account
WHERE api_key_sha256 IS NOT NULL
"""

#: Every process re-reads its accounts when told; that a key was used is no change.
NOTICES = """
CREATE FUNCTION tell_accounts_changed() RETURNS trigger
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM pg_notify('yutu_accounts', '');
    RETURN NULL;
END $$;
CREATE TRIGGER tell_changed AFTER INSERT OR UPDATE OR DELETE ON account
    FOR EACH STATEMENT EXECUTE FUNCTION tell_accounts_changed();
CREATE TRIGGER tell_changed AFTER INSERT OR DELETE
    OR UPDATE OF sha256, role, districts, operators, expires_at, revoked_at ON account_key
    FOR EACH STATEMENT EXECUTE FUNCTION tell_accounts_changed();
CREATE TRIGGER tell_changed AFTER INSERT ON ended_session
    FOR EACH STATEMENT EXECUTE FUNCTION tell_accounts_changed();
"""

RIGHTS = """
GRANT SELECT ON account_key, ended_session, sign_in_limit, account_identity TO yutu_app;
GRANT UPDATE (last_used_at) ON account_key TO yutu_app;
GRANT INSERT, DELETE ON ended_session TO yutu_app;
GRANT INSERT, UPDATE, DELETE ON sign_in_limit TO yutu_app;
GRANT INSERT ON account_identity TO yutu_app;
"""


def code(name: str, *, nullable: bool = False) -> sa.Column:
    return sa.Column(name, sa.Text(collation="C"), nullable=nullable)


def time(name: str, *, nullable: bool = True, default: bool = False) -> sa.Column:
    now = sa.text("now()") if default else None
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=now)


def upgrade() -> None:
    op.create_table(
        "account_key",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        code("username"),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        code("role", nullable=True),
        sa.Column("districts", sa.ARRAY(sa.Text(collation="C")), nullable=True),
        sa.Column("operators", sa.ARRAY(sa.Text(collation="C")), nullable=True),
        time("created_at", nullable=False, default=True),
        time("expires_at"),
        time("revoked_at"),
        time("last_used_at"),
        sa.CheckConstraint("octet_length(sha256) = 32", name=op.f("ck_account_key_sha256")),
        sa.CheckConstraint(f"role IN ({ROLES})", name=op.f("ck_account_key_role")),
        sa.CheckConstraint(
            "cardinality(districts) > 0 AND cardinality(operators) > 0",
            name=op.f("ck_account_key_scope"),
        ),
        sa.ForeignKeyConstraint(
            ["username"], ["account.username"], name=op.f("fk_account_key_username")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account_key")),
        sa.UniqueConstraint("sha256", name=op.f("uq_account_key_sha256")),
    )
    op.create_index(op.f("ix_account_key_username"), "account_key", ["username"])
    op.create_table(
        "ended_session",
        code("session_id"),
        time("expires_at", nullable=False),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_ended_session")),
    )
    op.create_index(op.f("ix_ended_session_expires_at"), "ended_session", ["expires_at"])
    op.create_table(
        "sign_in_limit",
        code("subject"),
        sa.Column("failures", sa.Integer(), nullable=False),
        time("since", nullable=False),
        time("blocked_until"),
        time("succeeded_at"),
        sa.CheckConstraint("failures >= 0", name=op.f("ck_sign_in_limit_failures")),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_sign_in_limit")),
    )
    op.create_table(
        "account_identity",
        code("issuer"),
        code("subject"),
        code("username"),
        time("created_at", nullable=False, default=True),
        sa.ForeignKeyConstraint(
            ["username"], ["account.username"], name=op.f("fk_account_identity_username")
        ),
        sa.PrimaryKeyConstraint("issuer", "subject", name=op.f("pk_account_identity")),
        sa.UniqueConstraint("username", name=op.f("uq_account_identity_username")),
    )
    op.execute(KEYS)
    op.drop_constraint(op.f("uq_account_api_key_sha256"), "account")
    op.drop_column("account", "api_key_sha256")
    op.execute(NOTICES)
    op.execute(RIGHTS)


def downgrade() -> None:
    op.add_column("account", sa.Column("api_key_sha256", sa.LargeBinary(), nullable=True))
    op.create_unique_constraint(op.f("uq_account_api_key_sha256"), "account", ["api_key_sha256"])
    op.execute(
        "UPDATE account a SET api_key_sha256 = k.sha256 FROM account_key k"
        " WHERE k.username = a.username AND k.label = 'first' AND k.revoked_at IS NULL"
    )
    op.execute("DROP TRIGGER tell_changed ON account")
    for table in ("account_identity", "sign_in_limit", "ended_session", "account_key"):
        op.drop_table(table)
    op.execute("DROP FUNCTION tell_accounts_changed")
