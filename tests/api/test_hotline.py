"""Work orders of the hotline over HTTP, against a real PostGIS; callers are told to nobody else."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import Engine, text

from tests.api.conftest import assert_problem
from tests.api.test_feeds_incidents import incident
from tests.feeds import INSIDE, NANAN, ago

Key = Callable[[str], dict[str, str]]
CALLER = "13711112222"


def number() -> str:
    return f"CQ{uuid4().hex[:12]}"


def relayed(number_given: str, *, incident_more: Any = None, **more: Any) -> dict[str, Any]:
    order = {
        "order_number": number_given,
        "category": "电梯困人",
        "address_text": "解放碑某大厦 2 号梯",
        "received_at": ago(minutes=8),
        "caller": {"name": "李某", "phone": CALLER},
        "life_safety": True,
    }
    return incident(source="12345", hotline=order | more, **(incident_more or {}))


def post(client: httpx.Client, headers: dict[str, str], body: Any) -> httpx.Response:
    return client.post("/v1/incidents", json=body, headers=headers)


def state_of(client: httpx.Client, key: Key, order: str, name: str = "commander") -> Any:
    answer = client.get(f"/v1/hotline/{order}", headers=key(name))
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_order_is_read_back_with_its_incident_and_what_is_missing(
    client: httpx.Client, key: Key
) -> None:
    order = number()
    made = post(client, key("field"), relayed(order)).json()
    shown = state_of(client, key, order)
    assert (shown["state"], shown["life_safety"]) == ("reported", True)
    assert [one["incident_id"] for one in shown["incidents"]] == [made["incident_id"]]
    assert shown["missing"] == ["emergency_line", "city_office_informed_at"]
    edit = {"state": "verified", "reason": "到场核实"}
    place = f"/v1/incidents/{made['incident_id']}"
    client.patch(place, json=edit, headers=key("commander") | {"If-Match": '"1"'})
    assert state_of(client, key, order)["state"] == "verified"
    quiet = number()
    post(client, key("field"), relayed(quiet, life_safety=False))
    assert state_of(client, key, quiet)["missing"] == []


def test_who_was_told_is_recorded_with_the_incident_or_after_it_and_once(
    client: httpx.Client, key: Key
) -> None:
    at_once = number()
    call = {"emergency_line": "119", "unit": "渝中区消防救援支队", "told_at": ago(minutes=6)}
    post(client, key("field"), relayed(at_once, **call))
    assert state_of(client, key, at_once)["missing"] == ["city_office_informed_at"]
    later = number()
    post(client, key("field"), relayed(later))
    office = {"city_office_informed_at": ago(minutes=5)}
    for _ in range(2):
        told = client.post(f"/v1/hotline/{later}/told", json=call | office, headers=key("field"))
        assert told.status_code == 200, told.text
    shown = told.json()
    assert shown["missing"] == []
    assert [(one["emergency_line"], one["unit"]) for one in shown["told"]] == [
        ("119", "渝中区消防救援支队")
    ]
    assert shown["told"][0]["account"] == "field"
    second = {"emergency_line": "120", "unit": "急救中心", "told_at": ago(minutes=4)}
    client.post(f"/v1/hotline/{later}/told", json=second, headers=key("commander"))
    assert len(state_of(client, key, later)["told"]) == 2


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"order_number": None}, "hotline.order_number"),
        ({"order_number": "a/b"}, "hotline.order_number"),
        ({"order_number": 5}, "hotline.order_number"),
        ({"emergency_line": "911"}, "hotline.emergency_line"),
        ({"emergency_line": "119"}, "hotline.emergency_line"),
        ({"caller": "13700000000"}, "hotline.caller"),
        ({"caller": {"phone": "1", "id_card": "5"}}, "hotline.caller"),
        ({"received_at": "yesterday"}, "hotline.received_at"),
        ({"life_safety": "yes"}, "hotline.life_safety"),
        (
            {"city_office_informed_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()},
            "hotline.city_office_informed_at",
        ),
    ],
)
def test_a_wrong_order_is_refused_by_field_and_never_repeated(
    client: httpx.Client, key: Key, more: dict[str, Any], field: str
) -> None:
    answer = post(client, key("field"), relayed(number(), **more))
    assert field in {one["field"] for one in assert_problem(answer, 422)["errors"]}
    assert CALLER not in answer.text


def test_the_same_number_again_links_and_overwrites_nothing(client: httpx.Client, key: Key) -> None:
    order = number()
    first = post(client, key("field"), relayed(order)).json()["incident_id"]
    far = {"position": list(INSIDE[NANAN])}
    again = post(
        client, key("commander"), relayed(order, category="另一类", incident_more=far)
    ).json()
    assert first in again["probable_duplicates"], "linked by the number, however far apart"
    shown = state_of(client, key, order)
    assert [one["incident_id"] for one in shown["incidents"]] == [first, again["incident_id"]]
    assert shown["category"] == "电梯困人"
    merge = {"into": again["incident_id"], "reason": "同一起"}
    client.post(f"/v1/incidents/{first}/merge", json=merge, headers=key("commander"))
    edit = {"headers": key("commander") | {"If-Match": '"1"'}, "json": {"state": "active"}}
    client.patch(f"/v1/incidents/{again['incident_id']}", **edit)  # type: ignore[arg-type]
    assert state_of(client, key, order)["state"] == "active", "the state of what it is merged into"


def test_many_at_once_with_one_number_have_one_first(server: str, key: Key, owner: Engine) -> None:
    order = number()
    with httpx.Client(base_url=server, timeout=30) as client, ThreadPoolExecutor(8) as pool:
        bodies = [relayed(order) for _ in range(8)]
        answers = list(pool.map(lambda body: post(client, key("field"), body), bodies))
    assert {one.status_code for one in answers} == {201}
    with owner.connect() as connection:
        counted = connection.execute(
            text(
                "SELECT count(*), count(*) FILTER (WHERE first) FROM hotline_order"
                " WHERE order_number = :n"
            ),
            {"n": order},
        ).one()
    assert tuple(counted) == (8, 1)


def test_orders_are_seen_within_the_districts_only(client: httpx.Client, key: Key) -> None:
    order = number()
    post(client, key("field"), relayed(order))
    call = {"emergency_line": "119", "unit": "x", "told_at": ago(minutes=1)}
    for name, status in (("field-other", 404), ("viewer", 403), ("utility", 403)):
        assert_problem(client.get(f"/v1/hotline/{order}", headers=key(name)), status)
        told = client.post(f"/v1/hotline/{order}/told", json=call, headers=key(name))
        assert_problem(told, status)
    assert_problem(client.get(f"/v1/hotline/{number()}", headers=key("commander")), 404)
    assert state_of(client, key, order, "planner")["told"] == []


def test_a_caller_is_shown_to_those_who_may_and_is_nowhere_else(
    client: httpx.Client, key: Key, capfd: pytest.CaptureFixture[str]
) -> None:
    order, canary = number(), "13677778888"
    body = relayed(order, caller={"name": "赵某", "phone": canary})
    place = f"/v1/incidents/{body['incident_id']}"
    seen = [post(client, key("commander"), body).text]
    seen.append(post(client, key("field"), body | {"kind": "boiler"}).text)
    for name in ("planner", "field"):
        seen += [
            client.get(path, headers=key(name)).text
            for path in (place, "/v1/incidents", f"{place}/history", f"/v1/hotline/{order}")
        ]
    seen.append(client.get(place, headers=key("viewer")).text)
    told = client.post(f"/v1/hotline/{order}/told", json={"unit": canary}, headers=key("commander"))
    seen.append(json.dumps(assert_problem(told, 422)))
    assert not [one for one in seen if canary in one]
    written = capfd.readouterr()
    assert canary not in written.out + written.err
    for name in ("commander", "admin"):
        assert state_of(client, key, order, name)["caller"]["phone"] == canary
        feature = client.get(place, headers=key(name)).json()["properties"]
        assert feature["hotline"]["caller"]["phone"] == canary
