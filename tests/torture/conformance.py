"""schemathesis for each role against /openapi.json: no 500, answers as described, nothing leaked."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any
from uuid import uuid4

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.openapi.checks import UndefinedContentType

from api.policy import CITY_WIDE, POLICY
from data.tables import ROLES
from tests.api.test_feeds_incidents import incident
from tests.feeds import INSIDE, NANAN
from tests.torture.access import HERE, district_accounts
from tests.torture.site import Site
from tests.torture.torture import Torture, row

CANARY = "13912345671"
LASTS_S = 330.0
EXAMPLES = 8
#: What these answer is the same for everyone, or a page for people.
CITY = {str(rule) for rule in POLICY if rule.scope == CITY_WIDE}
FOR_PEOPLE = {str(rule) for rule in POLICY if rule.page}
DESCRIBED = (
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)


@row("schemathesis", "schemathesis per role against the description: no 500, conforming, no leak")
def conformance(torture: Torture) -> None:
    """Of every operation valid and invalid cases, sent by an account of each role that sees one
    district; what lies in another one and its reporter's number must be in no answer."""
    site, figures = torture.site(), torture.figures
    accounts = district_accounts(site)
    hidden = incident(position=list(INSIDE[NANAN]), reporter={"name": "x", "phone": CANARY})
    hidden["description"] = f"hidden-{uuid4().hex}"
    site.ask("POST", "/v1/incidents", "commander", json=hidden)
    secret = [CANARY, str(hidden["incident_id"]), hidden["description"]]
    description = site.ask("GET", "/openapi.json", "admin").json()
    description["paths"] = {
        path: one for path, one in description["paths"].items() if not path.endswith("/stream")
    }
    schema = schemathesis.openapi.from_dict(description)
    operations = [found.ok() for found in schema.get_all_operations()]
    statuses: Counter[int] = Counter()
    reached: set[str] = set()
    undescribed: set[str] = set()
    ends_at = time.monotonic() + torture.seconds(LASTS_S, 5)
    rounds = 0
    while rounds == 0 or time.monotonic() < ends_at:
        rounds += 1
        for role in ROLES:
            who = accounts[role, HERE]
            for operation in operations:
                if time.monotonic() > ends_at:
                    break
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                    _try(torture, site, operation, mode, who, rounds, statuses, secret, undescribed)
                reached.add(f"{role} {operation.label}")
    whole = len(reached) == len(operations) * len(ROLES)
    figures.check(whole or torture.scale < 0.5, "not every operation was reached as every role")
    figures.own |= {"operations": len(operations), "roles": len(ROLES)}
    figures.own["reached"] = f"{len(reached)} of {len(operations) * len(ROLES)}"
    figures.own["operations whose media types are not described"] = len(undescribed)
    figures.own |= {"2xx": statuses[2], "4xx": statuses[4], "503": statuses[5]}


def _try(
    torture: Torture,
    site: Site,
    operation: Any,
    mode: GenerationMode,
    who: str,
    rounds: int,
    statuses: Counter[int],
    secret: list[str],
    undescribed: set[str],
) -> None:
    figures = site.figures
    key = site.keys[who]

    @seed(torture.seed * 1_000 + rounds)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: Any) -> None:
        case.headers = {k: v for k, v in (case.headers or {}).items() if k.lower() != "x-api-key"}
        answer = case.call(base_url=site.server.url, headers=key, timeout=60)
        figures.count()
        status = answer.status_code
        statuses[status // 100] += 1
        if status >= 500 and status not in (503, 507):
            figures.five_hundreds += 1
            figures.violate(f"{status}: {operation.label}: {case.as_curl_command()[:300]}")
        kind = answer.headers.get("content-type", [""])[0].partition(";")[0]
        if status >= 400 and operation.label not in FOR_PEOPLE:
            right = kind == "application/problem+json" and answer.json()["status"] == status
            figures.check(right, f"{status} is no problem but {kind}: {operation.label}")
        told = answer.content.decode("utf-8", "replace")
        for one in secret[:1] if operation.label in CITY else secret:
            figures.check(one not in told, f"{who} is told {one[:12]}: {operation.label}")
        for name in DESCRIBED if status < 500 else ():
            try:
                case.validate_response(answer, checks=[CHECKS.get_one(name)])
            except BaseExceptionGroup as group:
                for failure in group.exceptions:
                    if isinstance(failure, UndefinedContentType):
                        undescribed.add(operation.label)
                    else:
                        figures.violate(f"{name}: {operation.label} {status}: {failure}")

    try:
        send()
    except httpx.TransportError as error:
        figures.violate(f"no answer: {operation.label}: {error}")
    except Exception as error:
        if "Unsatisfiable" in type(error).__name__ or "cannot be negated" in str(error):
            return  # nothing invalid can be made of it
        figures.violate(f"{operation.label}: {type(error).__name__}: {str(error)[:250]}")
