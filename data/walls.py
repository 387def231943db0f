"""What in the database itself keeps data right and apart, read from its catalogue: its walls.

Constraints, triggers, row-level security, policies, functions and views, the rights of the roles
requests work under, and those roles. `reference/walls.json` holds what the migrations make, an
entry a line. After a change of the migrations it is written anew, from a database made for that:

    .venv/bin/python -m data.walls

Definitions are compared only where the server's major version is the one the file was written with,
since another words them otherwise; that a wall stands, and its state, always. Left out are objects
of PostGIS, alembic's table and, but for rights to write, the partitions, which are made at run
time; and what the owner published in the schema `ogc` beside our views (docs/meanings.md, "Walls").
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import Connection, text

FILE: Final = Path(__file__).parent / "reference" / "walls.json"
PUBLISHED: Final = "ogc."


class Wall(NamedTuple):
    """One thing that stands. `state` is short and the same on every server, `definition` is not."""

    kind: str
    of: str
    name: str
    state: str = ""
    definition: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.kind, self.of, self.name


@dataclass(frozen=True)
class Walls:
    """Those of one database, and the major version of its server."""

    postgresql: int
    walls: tuple[Wall, ...]
    #: Whether who asked could mark functions of PostGIS LEAKPROOF, which takes a superuser.
    superuser: bool = True


#: Names are written as seen from `public` and the schema of PostGIS, wherever that lies.
_SEEN_FROM = """
SELECT set_config('search_path', 'public, ' || coalesce(
    (SELECT quote_ident(nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
     WHERE extname = 'postgis'), 'public'), true)
"""
_SERVER = """
SELECT current_setting('server_version_num')::integer / 10000,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
"""
_WALLS = """
WITH grantee AS (
    SELECT oid, rolname::text AS name FROM pg_roles WHERE rolname IN ('yutu_app', 'yutu_reader')
    UNION ALL SELECT 0, 'PUBLIC'
), space AS (
    SELECT * FROM pg_namespace WHERE nspname IN ('public', 'ogc', 'archive')
), relation AS (
    SELECT c.*, c.oid::regclass::text AS label, c.relispartition
        OR c.relname = 'alembic_version' OR starts_with(c.relname, 'status_log_') AS passing
    FROM pg_class c JOIN space n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT EXISTS (
        SELECT 1 FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
), standing AS (
    SELECT * FROM relation WHERE NOT passing
), routine AS (
    SELECT p.*, p.oid::regprocedure::text AS label
    FROM pg_proc p JOIN space n ON n.oid = p.pronamespace WHERE NOT EXISTS (
        SELECT 1 FROM pg_depend d
        WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
), granted AS (
    SELECT label, relacl AS acl, passing FROM relation WHERE relkind <> 'S'
    UNION ALL SELECT 'sequence ' || label, relacl, false FROM standing WHERE relkind = 'S'
    UNION ALL
    SELECT r.label || ' (' || a.attname || ')', a.attacl, r.passing
    FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND NOT a.attisdropped
    UNION ALL
    SELECT 'function ' || label, coalesce(proacl, acldefault('f', proowner)), false FROM routine
    UNION ALL
    SELECT 'schema ' || nspname, coalesce(nspacl, acldefault('n', nspowner)), false FROM space
    UNION ALL
    SELECT 'the database', datacl, false FROM pg_database WHERE datname = current_database()
)
SELECT CASE c.contype WHEN 'c' THEN 'CHECK' WHEN 'u' THEN 'UNIQUE' WHEN 'p' THEN 'PRIMARY KEY'
           WHEN 'f' THEN 'FOREIGN KEY' ELSE 'EXCLUDE' END,
       r.label, c.conname::text, CASE WHEN c.convalidated THEN 'validated' ELSE 'unvalidated' END,
       pg_get_constraintdef(c.oid)
FROM pg_constraint c JOIN standing r ON r.oid = c.conrelid
WHERE c.contype IN ('c', 'u', 'p', 'f', 'x') AND c.conparentid = 0
UNION ALL
SELECT 'unique index', r.label, x.relname::text,
       CASE WHEN i.indisvalid THEN 'valid' ELSE 'not valid' END, pg_get_indexdef(x.oid)
FROM pg_index i JOIN standing r ON r.oid = i.indrelid JOIN pg_class x ON x.oid = i.indexrelid
WHERE i.indisunique AND NOT EXISTS (SELECT 1 FROM pg_constraint c WHERE c.conindid = i.indexrelid)
UNION ALL
SELECT 'trigger', r.label, t.tgname::text,
       CASE t.tgenabled WHEN 'O' THEN 'enabled' WHEN 'D' THEN 'disabled' WHEN 'A' THEN 'always'
           ELSE 'for replicas alone' END,
       pg_get_triggerdef(t.oid)
FROM pg_trigger t JOIN standing r ON r.oid = t.tgrelid WHERE NOT t.tgisinternal
UNION ALL
SELECT 'row-level security', label, '',
       CASE WHEN NOT relrowsecurity THEN 'off' WHEN relforcerowsecurity THEN 'forced'
           ELSE 'on' END, ''
FROM standing WHERE relrowsecurity OR relforcerowsecurity
UNION ALL
SELECT 'policy', r.label, p.polname::text,
       CASE WHEN p.polpermissive THEN '' ELSE 'restrictive ' END
       || CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
           WHEN 'd' THEN 'DELETE' ELSE 'ALL' END || ' to '
       || (SELECT string_agg(coalesce(a.rolname::text, 'PUBLIC'), ', ' ORDER BY a.rolname)
           FROM unnest(p.polroles) AS u(one) LEFT JOIN pg_roles a ON a.oid = u.one),
       'USING ' || coalesce(pg_get_expr(p.polqual, p.polrelid), '-')
       || ' WITH CHECK ' || coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '-')
FROM pg_policy p JOIN standing r ON r.oid = p.polrelid
UNION ALL
SELECT 'view', label, '', coalesce(array_to_string(reloptions, ', '), 'seen as its owner'),
       'sha256 ' || left(encode(sha256(convert_to(pg_get_viewdef(oid), 'UTF8')), 'hex'), 16)
FROM standing WHERE relkind IN ('v', 'm')
UNION ALL
SELECT 'function', label, '',
       concat_ws(', ', CASE WHEN prosecdef THEN 'SECURITY DEFINER' ELSE 'SECURITY INVOKER' END,
           array_to_string(proconfig, ', '),
           'body ' || left(encode(sha256(convert_to(prosrc, 'UTF8')), 'hex'), 16)), ''
FROM routine
UNION ALL
SELECT 'LEAKPROOF', label, '', '', '' FROM routine WHERE proleakproof
UNION ALL
SELECT 'LEAKPROOF', oid::regprocedure::text, '', '', '' FROM pg_proc
WHERE proleakproof AND oid IN (to_regprocedure('geometry_overlaps(geometry, geometry)'),
                               to_regprocedure('st_intersects(geometry, geometry)'))
UNION ALL
SELECT 'right', g.label, w.name || ' '
       || a.privilege_type || CASE WHEN a.is_grantable THEN ' and grant it' ELSE '' END, '', ''
FROM granted g CROSS JOIN LATERAL aclexplode(g.acl) a JOIN grantee w ON w.oid = a.grantee
WHERE NOT (g.passing AND a.privilege_type = 'SELECT')
  AND NOT (g.label = 'the database' AND a.privilege_type <> 'CREATE')
  AND NOT (starts_with(g.label, 'schema ') AND w.oid = 0 AND a.privilege_type = 'USAGE')
UNION ALL
SELECT 'right', 'the database', name || ' TEMPORARY', '', '' FROM grantee
WHERE name = 'yutu_app' AND has_database_privilege(oid, current_database(), 'TEMPORARY')
UNION ALL
SELECT 'owner', o.label, w.name, '', ''
FROM (SELECT label, relowner AS owner FROM relation UNION ALL SELECT label, proowner FROM routine
      UNION ALL SELECT 'schema ' || nspname, nspowner FROM space) o
JOIN grantee w ON w.oid = o.owner
UNION ALL
SELECT 'role', rolname::text, '', concat_ws(', ', 'ordinary',
       CASE WHEN rolsuper THEN 'SUPERUSER' END, CASE WHEN rolbypassrls THEN 'BYPASSRLS' END,
       CASE WHEN rolcreaterole THEN 'CREATEROLE' END, CASE WHEN rolcreatedb THEN 'CREATEDB' END,
       CASE WHEN rolreplication THEN 'REPLICATION' END), ''
FROM pg_roles WHERE rolname IN ('yutu_app', 'yutu_reader')
UNION ALL
SELECT 'member', m.roleid::regrole::text, w.name, '', ''
FROM pg_auth_members m JOIN grantee w ON w.oid = m.member
"""


def read_walls(connection: Connection) -> Walls:
    """Those of the database, in the order of the file. Any role may ask."""
    before = connection.execute(text("SELECT current_setting('search_path')")).scalar_one()
    connection.execute(text(_SEEN_FROM))
    version, superuser = connection.execute(text(_SERVER)).one()
    found = sorted(Wall(*row) for row in connection.execute(text(_WALLS)))
    connection.execute(text("SELECT set_config('search_path', :p, true)"), {"p": before})
    return Walls(version, tuple(found), superuser)


def meant_walls() -> Walls:
    """Those the migrations of this checkout make."""
    held = json.loads(FILE.read_text(encoding="utf-8"))
    return Walls(held["postgresql"], tuple(Wall(*one) for one in held["walls"]))


def wall_faults(found: Walls, meant: Walls) -> list[str]:
    """Each difference as one line. Without a superuser no mark LEAKPROOF is missed: answers are the
    same without it (docs/operations.md, "Your own database")."""
    stands = {one.key: one for one in found.walls}
    stood = {one.key: one for one in meant.walls}
    known = {_thing(one) for one in meant.walls}
    faults = []
    for key in sorted(stands.keys() | stood.keys()):
        has, wants = stands.get(key), stood.get(key)
        if wants is None:
            extra = stands[key]
            if not (_thing(extra).startswith(PUBLISHED) and _thing(extra) not in known):
                faults.append(_not_meant(extra))
        elif has is None:
            if wants.kind != "LEAKPROOF" or found.superuser:
                faults.append(_missing(wants))
        elif has.state != wants.state:
            faults.append(f"{_called(has)} is {has.state}, not {wants.state}")
        elif found.postgresql == meant.postgresql and has.definition != wants.definition:
            faults.append(f"{_called(has)} is {has.definition}, not {wants.definition}")
    return [" ".join(fault.split()) for fault in faults]


def _thing(wall: Wall) -> str:
    """What it is of: a relation also for a right on one of its columns."""
    return wall.of.removeprefix("function ").removeprefix("sequence ").split(" (")[0]


def _called(wall: Wall) -> str:
    if wall.kind == "row-level security":
        return f"row-level security of {wall.of}"
    if wall.name:
        return f"the {wall.kind} {wall.name} of {wall.of}"
    return f"the {wall.kind} {wall.of}"


def _missing(wall: Wall) -> str:
    who, _, may = wall.name.partition(" ")
    match wall.kind:
        case "row-level security":
            return f"row-level security of {wall.of} is off"
        case "right":
            return f"{who} may not {may} on {wall.of}, as it must"
        case "LEAKPROOF":
            return f"{wall.of} is not LEAKPROOF"
        case _:
            return f"{_called(wall)} is missing"


def _not_meant(wall: Wall) -> str:
    who, _, may = wall.name.partition(" ")
    match wall.kind:
        case "row-level security":
            said = f"row-level security of {wall.of} is {wall.state}"
        case "right":
            said = f"{who} may {may} on {wall.of}"
        case "LEAKPROOF":
            said = f"{wall.of} is LEAKPROOF"
        case "owner":
            said = f"{wall.name} owns {wall.of}"
        case "member":
            said = f"{wall.name} is a member of {wall.of}"
        case _:
            return f"{_called(wall)} is not one of the migrations'"
    return f"{said}, which is not meant"


def file_text(walls: Walls) -> str:
    """The file's content: an entry a line, sorted."""
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in sorted(walls.walls))
    return f'{{"postgresql": {walls.postgresql}, "walls": [\n{lines}\n]}}\n'


def _write_file() -> None:
    """Migrate a database on a server of its own, gone afterwards, and write down its walls."""
    from data.cluster import Cluster
    from data.database import migrate, owner_engine

    with tempfile.TemporaryDirectory(prefix="yutu-walls-") as folder:
        Path(folder).chmod(0o755)
        cluster = Cluster(Path(folder) / "pg", Path(folder) / "run")
        cluster.start()
        try:
            cluster.create_database("walls")
            migrate(cluster.url("walls"))
            engine = owner_engine(cluster.url("walls"))
            with engine.connect() as connection:
                walls = read_walls(connection)
            engine.dispose()
        finally:
            cluster.stop()
    FILE.write_text(file_text(walls), encoding="utf-8")
    print(f"{FILE}: {len(walls.walls)} walls")


if __name__ == "__main__":
    _write_file()
