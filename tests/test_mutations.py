"""The checks themselves are checked: each wall taken away alone turns a named test red.

A copy of the checkout is made, one thing taken out of it, and the test run there that must fail.
Deselected by default, for each run starts a database of its own: `make mutations`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FAILED = 1  # pytest's exit code for "tests were run and some failed"
FIRST = "data/migrations/versions/0001_the_first_schema.py"
WALLS = "data/migrations/sql/0001_functions.sql"
AUDIT = "data/migrations/versions/0013_audit_trail.py"
GEOM_CHECK = """        sa.CheckConstraint(
            "ST_X(geom) BETWEEN -180 AND 180 AND ST_Y(geom) BETWEEN -90 AND 90 AND NOT ST_IsEmpty(geom)",
            name=op.f("ck_facility_geom"),
        ),
"""
RESCUE_CHECK = """        sa.CheckConstraint("rescue_code ~ '^[0-9]{6}$'", name=op.f("ck_facility_rescue_code")),
"""


@dataclass(frozen=True)
class Mutation:
    """Something taken away: where, which words (they stand there once), what instead, and whose
    absence shows it."""

    what: str
    file: str
    words: str
    instead: str
    test: str

    def __str__(self) -> str:
        return self.what


MUTATIONS = [
    Mutation(
        "the policy row of a route",
        "api/policy.py",
        '    rule("GET", "/v1/teams", READS_INCIDENTS, DISTRICTS),\n',
        "",
        "tests/api/test_policy.py::test_every_route_has_a_row_and_every_row_a_route",
    ),
    Mutation(
        "the roles of a route",
        "api/policy.py",
        'rule("PUT", "/v1/plans/{plan}/facts", roles("commander")',
        'rule("PUT", "/v1/plans/{plan}/facts", ANY_ACCOUNT',
        "tests/api/test_policy.py::test_the_printed_table_is_the_policy",
    ),
    Mutation(
        "the refusal of roles that may not",
        "api/credentials.py",
        "if rule.roles is None or caller.account.role not in rule.roles:",
        "if rule.roles is None:",
        "tests/api/test_policy.py::test_each_role_gets_exactly_what_the_policy_says",
    ),
    Mutation(
        "the CSRF token of a write by cookie",
        "api/credentials.py",
        "if not services.signer.csrf_matches(caller.session_id, sent):",
        "if False:",
        "tests/api/test_credentials.py::test_writes_by_cookie_need_the_sessions_own_csrf_token",
    ),
    Mutation(
        "the row-level policy of incidents",
        WALLS,
        "ALTER TABLE incident ENABLE ROW LEVEL SECURITY;",
        "",
        "tests/api/test_scope.py::test_the_tables_show_nothing_of_elsewhere",
    ),
    Mutation(
        "the row-level policy of facilities",
        WALLS,
        "ALTER TABLE facility ENABLE ROW LEVEL SECURITY;",
        "",
        "tests/data/test_schema.py::test_a_transaction_sees_only_the_districts_it_named",
    ),
    Mutation(
        "the wall between operators",
        "data/migrations/versions/0016_operators_wall.py",
        "USING (({DISTRICTS}) AND ({OPERATORS}))",
        "USING ({DISTRICTS})",
        "tests/api/test_operator_sites.py::test_the_database_alone_keeps_them_apart",
    ),
    Mutation(
        "the row-level policy of returns",
        "data/migrations/versions/0017_returns_wall.py",
        '    op.execute("ALTER TABLE operator_return ENABLE ROW LEVEL SECURITY")\n',
        "",
        "tests/data/test_returns.py::test_an_account_held_to_operators_reads_their_returns_alone",
    ),
    Mutation(
        "the row-level policy of what the stream tells",
        "data/migrations/versions/0011_second_wall.py",
        '    op.execute("ALTER TABLE stream_event ENABLE ROW LEVEL SECURITY")\n',
        "",
        "tests/api/test_scope.py::test_a_replayed_stream_is_read_within_the_scope",
    ),
    Mutation(
        "the spatial index behind the wall",
        WALLS,
        "ALTER FUNCTION st_intersects(geometry, geometry) LEAKPROOF;",
        "",
        "tests/data/test_schema.py::test_a_scoped_spatial_query_uses_the_index",
    ),
    Mutation(
        "the UNIQUE on the ids of status events",
        FIRST,
        '        sa.PrimaryKeyConstraint("event_key", name=op.f("pk_status_ledger")),\n',
        "",
        "tests/data/test_status.py::test_the_same_event_again_is_a_duplicate_and_changes_nothing",
    ),
    Mutation(
        "the UNIQUE on the ids of outages",
        FIRST,
        '        sa.PrimaryKeyConstraint("outage_id", "revision", name=op.f("pk_outage")),\n',
        "",
        "tests/data/test_outages.py::test_one_revision_sent_by_forty_threads_is_stored_once",
    ),
    Mutation(
        "the escape of formulas",
        "data/export_files.py",
        'return f"\'{text}" if text.startswith(FORMULA) else text',
        "return text",
        "tests/api/test_export_command.py::test_text_that_begins_like_a_formula_is_quoted",
    ),
    Mutation(
        "the escape of text in pages",
        "maps/page.py",
        "autoescape=True",
        "autoescape=False",
        "tests/maps/test_map_html.py::test_hostile_text_adds_no_element_and_comes_through_whole",
    ),
    Mutation(
        "the vertex cap",
        "geo/geojson.py",
        "VERTICES_MAX: Final = 10_000",
        "VERTICES_MAX: Final = 10_000_000",
        "tests/geo/test_region.py::test_a_spiky_region_is_refused_before_any_geometry_is_made",
    ),
    Mutation(
        "the CHECK on where a facility stands",
        FIRST,
        GEOM_CHECK,
        "",
        "tests/data/test_schema.py::test_no_facility_stands_at_an_impossible_place",
    ),
    Mutation(
        "any other CHECK of a table",
        FIRST,
        RESCUE_CHECK,
        "",
        "tests/data/test_walls.py"
        "::test_the_migrations_build_every_wall_that_is_written_down_and_no_other",
    ),
    Mutation(
        "the end of a revoked key",
        "data/api_keys.py",
        "revoked_at IS NULL AND (expires_at",
        "(expires_at",
        "tests/api/test_access.py::test_a_revoked_key_is_refused_by_every_worker_within_a_second",
    ),
    Mutation(
        "the limit on guessing",
        "data/sign_in_limit.py",
        "if wait_s > 0:",
        "if False:",
        "tests/api/test_access.py::test_guessing_is_held_off_by_all_workers_together",
    ),
    Mutation(
        "the limit on requests",
        "api/credentials.py",
        "services.get(RequestLimits).take(caller.account.username, caller.key_id)",
        "pass",
        "tests/api/test_request_limits.py::test_two_server_processes_let_through_one_limit",
    ),
    Mutation(
        "the counting of requests together",
        "data/request_limit.py",
        "self._shared, self._telling = found, {}",
        "self._telling = {}",
        "tests/api/test_request_limits.py::test_processes_share_what_they_counted",
    ),
    Mutation(
        "the row of a write in the audit trail",
        "data/database.py",
        "if act is not None:",
        "if False:",
        "tests/api/test_audit.py::test_a_write_and_its_row_are_one",
    ),
    Mutation(
        "the lock at the end of the audit trail",
        AUDIT,
        "    PERFORM pg_advisory_xact_lock(7115);\n",
        "",
        "tests/data/test_audit.py::test_two_hundred_acts_at_once_make_one_unbroken_chain",
    ),
    Mutation(
        "the refusal to change the audit trail",
        AUDIT,
        "BEFORE UPDATE OR DELETE OR TRUNCATE ON audit",
        "BEFORE TRUNCATE ON audit",
        "tests/data/test_audit.py::test_even_the_owner_is_told_that_rows_stay",
    ),
    Mutation(
        "the hash of a row, computed again",
        "data/audit_chain.py",
        "if row_sha256(row, previous) != told:",
        "if False:",
        "tests/data/test_audit.py::test_a_superusers_change_is_named",
    ),
    Mutation(
        "the mask over what may be a telephone number",
        "data/audit.py",
        'return DIGITS.sub("…", said)',
        "return said",
        "tests/data/test_audit.py::test_text_is_masked_where_it_could_be_a_telephone_number",
    ),
    Mutation(
        "the nonce of ID tokens",
        "api/identity_provider.py",
        '"nonce": nonce,',
        '"nonce": None,',
        "tests/api/test_sign_on.py::test_a_token_that_does_not_hold_lets_nobody_in",
    ),
    Mutation(
        "the one proxy that is believed",
        "api/serving.py",
        "        forwarded_allow_ips=configuration.server.proxies,",
        "        #",
        "tests/api/test_trusted_proxy.py::test_nobody_else_can_say_who_is_calling",
    ),
    Mutation(
        "the look at the newest backup before older ones go",
        "data/backup_keep.py",
        "    check_base(found[-1])\n",
        "",
        "tests/data/test_backup_keep.py"
        "::test_older_backups_go_and_what_is_left_restores_to_any_moment_since",
    ),
    Mutation(
        "the keys of before, carried over by a migration",
        "data/migrations/versions/0009_access.py",
        "    op.execute(KEYS)\n",
        "",
        "tests/data/test_migrations.py::test_the_api_serves_a_database_of_the_first_schema",
    ),
    Mutation(
        "the reporter's number, hidden",
        "data/incidents.py",
        "if account.role in READS_REPORTERS or row.account == account.username:",
        "if True:",
        "tests/api/test_scope.py::test_a_telephone_number_is_nowhere_but_where_it_is_needed",
    ),
]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of what git knows here, with the maps' packages in place."""
    copy = tmp_path_factory.mktemp("mutant")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    (copy / "maps/assets/node_modules").symlink_to(ROOT / "maps/assets/node_modules")
    yield copy
    shutil.rmtree(copy)


def run(checkout: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("YUTU_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
        cwd=checkout,
        env=environment | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.mutation
def test_the_copy_as_it_is_passes_every_named_test(checkout: Path) -> None:
    found = run(checkout, *sorted({one.test for one in MUTATIONS}))
    assert found.returncode == 0, found.stdout[-3000:]


@pytest.mark.mutation
@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_what_is_taken_away_is_missed(checkout: Path, mutation: Mutation) -> None:
    place = checkout / mutation.file
    before = place.read_text(encoding="utf-8")
    assert before.count(mutation.words) == 1, f"{mutation.words!r} stands there once"
    place.write_text(before.replace(mutation.words, mutation.instead), encoding="utf-8")
    try:
        found = run(checkout, mutation.test)
    finally:
        place.write_text(before, encoding="utf-8")
    assert found.returncode == FAILED, found.stdout[-3000:]
    named = mutation.test.rpartition("::")[2]
    assert any(
        line.startswith(("FAILED", "ERROR")) and named in line for line in found.stdout.splitlines()
    )
    print(f"mutation: {mutation.what}: {named} is red")


def test_every_mutation_still_finds_what_it_takes_away() -> None:
    """Fast, and in every run: a wall that moved must be looked for where it went."""
    for mutation in MUTATIONS:
        assert (ROOT / mutation.file).read_text(encoding="utf-8").count(mutation.words) == 1, (
            mutation
        )
        file, _, name = mutation.test.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), mutation
    security = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for mutation in MUTATIONS:
        assert mutation.test.rpartition("::")[2] in security, f"SECURITY.md names {mutation.test}"
