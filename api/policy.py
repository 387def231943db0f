"""Who may call what: one row per route, nothing else decides. No row, no start.

A row is a method, a path template, the roles allowed (`OPEN` needs no credential), and what of the
answer depends on the account's scope; docs/authorization.md is printed from it. It also says
what the middleware must know before the body is read: how large that body may be, and whether the
answer is a page for people, who are sent to sign in where programs get 401.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from starlette.routing import compile_path

from data.tables import ROLES

MIB = 2**20
BODY_BYTES_MAX = 10 * MIB
STATUS_BYTES_MAX = 50 * MIB
IMPORT_BYTES_MAX = 200 * MIB
FORM_BYTES_MAX = 64 * 1024
ATTACHMENT_BYTES_MAX = 31 * MIB  # a file of 30 MiB and the form around it

#: What of the answer depends on the account's districts and operators.
NO_PLACE = "no place"  # nothing: it speaks of no place
CITY_WIDE = "city"  # nothing: the same for everyone the role lets in
DISTRICTS = "districts"  # rows and objects of the account's districts, and its own submissions
OPERATORS = "operators"  # facilities of the account's operators
OWN = "own"  # the account's own, and what its owner shared
SCOPES = (NO_PLACE, CITY_WIDE, DISTRICTS, OPERATORS, OWN)

OPEN: frozenset[str] | None = None
ANY_ACCOUNT = frozenset(ROLES)


@dataclass(frozen=True, slots=True)
class Rule:
    """One row. `roles` None: anyone, without credential. Sizes in bytes."""

    method: str
    path: str
    roles: frozenset[str] | None
    scope: str
    body_bytes_max: int = BODY_BYTES_MAX
    page: bool = False
    csrf_in_form: bool = False  # the handler checks it: a page without script can send no header

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def safe(self) -> bool:
        """Whether the method changes nothing, so that a cookie alone may authorize it."""
        return self.method in {"GET", "HEAD"}


def roles(*names: str) -> frozenset[str]:
    """A set of roles; raises on one that does not exist."""
    unknown = set(names) - set(ROLES)
    if unknown:
        raise ValueError(f"no such role: {', '.join(sorted(unknown))}")
    return frozenset(names)


def rule(
    method: str,
    path: str,
    allowed: frozenset[str] | None,
    scope: str,
    *,
    body: int = BODY_BYTES_MAX,
    page: bool = False,
    csrf_in_form: bool = False,
) -> Rule:
    if scope not in SCOPES:
        raise ValueError(f"{method} {path}: the scope is one of {', '.join(SCOPES)}")
    return Rule(method, path, allowed, scope, body, page, csrf_in_form)


READS_INCIDENTS = roles("viewer", "field", "planner", "commander", "admin")
SENDS_INCIDENTS = roles("field", "commander")
KNOWS_INCIDENTS = roles("field", "planner", "commander", "admin")
SUPPOSES = roles("planner", "commander", "admin")
READS_SCENARIOS = roles("viewer", "planner", "commander", "admin")

_OGC_COLLECTION = "/collections/{collectionId}"
_OGC_TILES = f"{_OGC_COLLECTION}/tiles/{{tileMatrixSetId}}"
#: Under /ogc. Which collections an account sees is decided there: `incidents` as for /v1/incidents.
OGC_PATHS = (
    *("", "/", "/conformance", "/collections", _OGC_COLLECTION, f"{_OGC_COLLECTION}/queryables"),
    *(f"{_OGC_COLLECTION}/items", f"{_OGC_COLLECTION}/items/{{itemId:path}}"),
    *("/tileMatrixSets", "/tileMatrixSets/{tileMatrixSetId}", f"{_OGC_COLLECTION}/tiles"),
    *(_OGC_TILES, f"{_OGC_TILES}/{{z}}/{{x}}/{{y}}", f"{_OGC_TILES}/tilejson.json"),
    f"{_OGC_TILES}/style.json",
)

POLICY: tuple[Rule, ...] = (
    # the service itself
    rule("GET", "/health", OPEN, NO_PLACE),
    rule("GET", "/ready", OPEN, NO_PLACE),
    rule("GET", "/metrics", ANY_ACCOUNT, NO_PLACE),
    rule("GET", "/static/{path:path}", OPEN, NO_PLACE),
    rule("GET", "/ca.crt", OPEN, NO_PLACE),
    rule("GET", "/docs", ANY_ACCOUNT, NO_PLACE, page=True),
    rule("GET", "/openapi.json", ANY_ACCOUNT, NO_PLACE),
    # who is asking
    rule("POST", "/v1/token", OPEN, NO_PLACE, body=FORM_BYTES_MAX),
    rule("GET", "/v1/session", ANY_ACCOUNT, NO_PLACE),
    rule("GET", "/v1/audit", roles("admin"), CITY_WIDE),
    rule("GET", "/login", OPEN, NO_PLACE, page=True),
    rule("POST", "/login", OPEN, NO_PLACE, body=FORM_BYTES_MAX, page=True),
    rule("GET", "/login/oidc", OPEN, NO_PLACE, page=True),
    rule("GET", "/login/oidc/callback", OPEN, NO_PLACE, page=True),
    rule("POST", "/logout", ANY_ACCOUNT, NO_PLACE, body=FORM_BYTES_MAX, csrf_in_form=True),
    # the situation
    rule("GET", "/", ANY_ACCOUNT, CITY_WIDE, page=True),
    rule("GET", "/maps/{plan}", ANY_ACCOUNT, CITY_WIDE, page=True),
    rule("GET", "/planner", SUPPOSES, CITY_WIDE, page=True),
    rule("GET", "/field", SENDS_INCIDENTS, NO_PLACE, page=True),
    rule("GET", "/field/districts.json", SENDS_INCIDENTS, CITY_WIDE),
    rule("GET", "/field/worker.js", SENDS_INCIDENTS, NO_PLACE),
    rule("GET", "/v1/situation", ANY_ACCOUNT, CITY_WIDE),
    rule("GET", "/v1/situation/stream", ANY_ACCOUNT, DISTRICTS),
    rule("GET", "/v1/districts", ANY_ACCOUNT, CITY_WIDE),
    rule("GET", "/v1/districts/{adcode}", ANY_ACCOUNT, CITY_WIDE),
    rule("GET", "/v1/history", ANY_ACCOUNT, CITY_WIDE),
    # asking about regions
    rule("POST", "/v1/regions/query", ANY_ACCOUNT, DISTRICTS, body=4 * MIB),
    rule("POST", "/v1/scenarios/evaluate", SUPPOSES, CITY_WIDE, body=4 * MIB),
    rule("POST", "/v1/scenarios", SUPPOSES, OWN, body=4 * MIB),
    rule("GET", "/v1/scenarios", READS_SCENARIOS, OWN),
    rule("GET", "/v1/scenarios/compare", SUPPOSES, OWN),
    rule("GET", "/v1/scenarios/{scenario_id}", READS_SCENARIOS, OWN),
    rule("PATCH", "/v1/scenarios/{scenario_id}", SUPPOSES, OWN, body=MIB),
    rule("DELETE", "/v1/scenarios/{scenario_id}", SUPPOSES, OWN),
    # the inventory
    rule(
        "POST", "/v1/facilities/import", roles("planner", "admin"), CITY_WIDE, body=IMPORT_BYTES_MAX
    ),
    rule("GET", "/v1/facilities/template", roles("planner", "admin"), NO_PLACE),
    # what operators report
    rule("POST", "/v1/status", roles("utility"), OPERATORS, body=STATUS_BYTES_MAX),
    rule("POST", "/v1/outages", roles("utility"), OPERATORS, body=MIB),
    rule("GET", "/v1/outages", ANY_ACCOUNT, DISTRICTS),
    rule("POST", "/v1/returns", roles("utility"), OPERATORS),
    rule("GET", "/v1/returns", roles("utility", "planner", "commander", "admin"), OPERATORS),
    rule("POST", "/v1/heartbeats", roles("utility"), OPERATORS, body=MIB),
    # incidents and what a commander declares
    rule("POST", "/v1/incidents", roles("field", "commander"), DISTRICTS, body=MIB),
    rule("POST", "/v1/incidents/import", SENDS_INCIDENTS, DISTRICTS, body=IMPORT_BYTES_MAX),
    rule("GET", "/v1/incidents/import/template", SENDS_INCIDENTS, NO_PLACE),
    rule("GET", "/v1/incidents", READS_INCIDENTS, DISTRICTS),
    rule("GET", "/v1/incidents/{incident_id}", READS_INCIDENTS, DISTRICTS),
    rule("GET", "/v1/incidents/{incident_id}/history", KNOWS_INCIDENTS, DISTRICTS),
    rule("POST", "/v1/incidents/{incident_id}/merge", roles("commander"), DISTRICTS, body=MIB),
    rule("POST", "/v1/incidents/{incident_id}/unmerge", roles("commander"), DISTRICTS, body=MIB),
    rule("POST", "/v1/incidents/{incident_id}/distinct", SENDS_INCIDENTS, DISTRICTS, body=MIB),
    rule("PATCH", "/v1/incidents/{incident_id}", roles("field", "commander"), DISTRICTS, body=MIB),
    rule(
        "POST",
        "/v1/incidents/{incident_id}/attachments",
        roles("field", "commander"),
        DISTRICTS,
        body=ATTACHMENT_BYTES_MAX,
    ),
    rule("GET", "/v1/incidents/{incident_id}/attachments", READS_INCIDENTS, DISTRICTS),
    rule(
        "GET", "/v1/incidents/{incident_id}/attachments/{attachment_id}", READS_INCIDENTS, DISTRICTS
    ),
    rule(
        "GET",
        "/v1/incidents/{incident_id}/attachments/{attachment_id}/original",
        READS_INCIDENTS,
        DISTRICTS,
    ),
    rule("GET", "/v1/hotline/{order_number}", KNOWS_INCIDENTS, DISTRICTS),
    rule(
        "POST", "/v1/hotline/{order_number}/told", roles("field", "commander"), DISTRICTS, body=MIB
    ),
    rule("PUT", "/v1/plans/{plan}/facts", roles("commander"), CITY_WIDE, body=MIB),
    # Cursor on Target, and where teams are
    rule("GET", "/v1/cot/incidents.xml", READS_INCIDENTS, DISTRICTS),
    rule("POST", "/v1/cot", SENDS_INCIDENTS, DISTRICTS, body=MIB),
    rule("GET", "/v1/teams", READS_INCIDENTS, DISTRICTS),
    # OGC API: tipg's routes
    *(rule("GET", f"/ogc{path}", ANY_ACCOUNT, DISTRICTS, page=True) for path in OGC_PATHS),
    rule("GET", "/v1/export/{collection}.{format}", ANY_ACCOUNT, DISTRICTS),
    rule("GET", "/tiles/facilities/{z}/{x}/{y}.mvt", ANY_ACCOUNT, DISTRICTS),
    # the rules
    rule("GET", "/v1/plans", ANY_ACCOUNT, NO_PLACE),
    rule("GET", "/v1/plans/{plan}", ANY_ACCOUNT, NO_PLACE),
    rule("POST", "/v1/plans/{plan}/assess", ANY_ACCOUNT, NO_PLACE, body=MIB),
)


@dataclass
class Match:
    """What a path leads to: the rule for this method, or the methods that path has."""

    rule: Rule | None
    methods: frozenset[str] = field(default_factory=frozenset)
    open: bool = False


class PolicyTable:
    """The rows, indexed: an exact path by dictionary, a template by its compiled pattern."""

    def __init__(self, rows: Iterable[Rule] = POLICY) -> None:
        self.rows: tuple[Rule, ...] = tuple(rows)
        self._by_path: dict[str, dict[str, Rule]] = {}
        for row in self.rows:
            methods = self._by_path.setdefault(row.path, {})
            if row.method in methods:
                raise RuntimeError(f"two policy rows for {row}")
            methods[row.method] = row
        self._exact = {path: rows for path, rows in self._by_path.items() if "{" not in path}
        self._templates: Sequence[tuple[re.Pattern[str], dict[str, Rule]]] = [
            (compile_path(path)[0], rows) for path, rows in self._by_path.items() if "{" in path
        ]

    def match(self, method: str, path: str) -> Match | None:
        """None: no such path. `Match.rule` None: the path exists, not with this method."""
        found = self._exact.get(path)
        known: dict[str, Rule] = dict(found) if found else {}
        if method not in known:
            for pattern, rows in self._templates:
                if pattern.match(path):
                    known = {**rows, **known}
                    if method in rows:
                        break
        if not known:
            return None
        everyone = all(row.roles is OPEN for row in known.values())
        return Match(known.get(method), frozenset(known), everyone)

    def find(self, method: str, template: str) -> Rule | None:
        return self._by_path.get(template, {}).get(method)

    def check(self, routes: Iterable[tuple[str, str]]) -> None:
        """Raises RuntimeError naming each route without a row and each row without a route."""
        served = set(routes)
        ruled = {(row.method, row.path) for row in self.rows}
        wrong = [f"no policy row for {m} {p}" for m, p in sorted(served - ruled)]
        wrong += [f"no route for the policy row {m} {p}" for m, p in sorted(ruled - served)]
        if wrong:
            raise RuntimeError("; ".join(wrong))
