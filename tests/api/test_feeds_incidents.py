"""Incidents and declared facts over HTTP: idempotency, ETags, scope, the assessment that follows."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api.routes.incidents import EXAMPLE
from tests.feeds import INSIDE, NANAN, SHAPINGBA, YUZHONG, ago

Key = Callable[[str], dict[str, str]]
COMMS, POWER, SPECIAL = "communications-2024", "power-outage-2021", "special-equipment-2023"
PHONE = "13800007777"


def incident(**more: Any) -> dict[str, Any]:
    fresh = {
        "incident_id": str(uuid4()),
        "occurred_at": ago(minutes=20),
        "facts": {"people_stranded": 6, "stranded_since": ago(minutes=25)},
        "reporter": {"name": "王某", "phone": PHONE},
    }
    return EXAMPLE | fresh | more


def submit(client: httpx.Client, headers: dict[str, str], body: dict[str, Any]) -> httpx.Response:
    return client.post("/v1/incidents", json=body, headers=headers)


def test_an_incident_is_201_then_200_then_409(client: httpx.Client, key: Key) -> None:
    body = incident()
    first = submit(client, key("field"), body)
    assert first.status_code == 201, first.text
    answer = first.json()
    assert first.headers["etag"] == '"1"'
    assert answer["incident_id"] == body["incident_id"]
    assert (answer["adcode"], answer["unit"], answer["version"]) == (YUZHONG, YUZHONG, 1)
    assert set(answer) >= {"probable_duplicates", "warnings", "assessment"}
    assert answer["assessment"]["plan"] == SPECIAL
    assert submit(client, key("field"), body).status_code == 200
    other = submit(client, key("field"), body | {"kind": "boiler"})
    assert other.status_code == 409
    assert other.headers["content-type"] == "application/problem+json"
    hidden = submit(client, key("field-other"), body)
    assert (hidden.status_code, "review" in hidden.text) == (409, False)


def test_fifty_posts_of_one_incident_at_once_are_one_201(server: str, key: Key) -> None:
    body = incident()
    with httpx.Client(base_url=server, timeout=30) as client, ThreadPoolExecutor(10) as pool:
        jobs = [pool.submit(submit, client, key("field"), body) for _ in range(50)]
        found = [job.result().status_code for job in jobs]
    assert (found.count(201), found.count(200)) == (1, 49)


@pytest.mark.parametrize("kind", [None, "kettle", "", 5])
def test_a_kind_that_is_none_is_refused_without_inviting_null(
    client: httpx.Client, key: Key, kind: Any
) -> None:
    sent = submit(client, key("field") | {"Accept-Language": "en"}, incident(kind=kind))
    assert sent.status_code == 422
    reasons = [one["reason"] for one in sent.json()["errors"] if one["field"] == "kind"]
    assert len(reasons) == 1
    assert "null" not in reasons[0]
    if kind == "kettle":
        assert reasons[0].startswith("must be one of boiler, pressure_vessel")


def test_an_edit_needs_the_version_it_is_based_on(client: httpx.Client, key: Key) -> None:
    place = f"/v1/incidents/{submit(client, key('field'), incident()).json()['incident_id']}"
    change = {"state": "verified", "facts": {"deaths": 3}, "reason": "到场核实"}
    commander = key("commander")
    assert client.patch(place, json=change, headers=commander).status_code == 428
    wrong = client.patch(place, json=change, headers=commander | {"If-Match": "latest"})
    assert wrong.status_code == 422
    edited = client.patch(place, json=change, headers=commander | {"If-Match": '"1"'})
    assert edited.status_code == 200, edited.text
    assert (edited.headers["etag"], edited.json()["version"]) == ('"2"', 2)
    assert edited.json()["assessment"]["level"] == 3
    stale = client.patch(place, json=change, headers=commander | {"If-Match": '"1"'})
    assert stale.status_code == 412
    assert "已被他人修改" in stale.text
    for language, said in (
        ("zh", "该事件没有版本 99，最新版本为 2，请先重新读取"),
        ("en", "the incident has no version 99; its newest is 2, read it first"),
    ):
        headers = commander | {"If-Match": '"99"', "Accept-Language": language}
        ahead = client.patch(place, json=change, headers=headers)
        assert (ahead.status_code, ahead.json()["detail"]) == (412, said)
    read = client.get(place, headers=commander)
    assert read.headers["etag"] == '"2"'
    assert read.json()["properties"]["state"] == "verified"
    assert read.json()["properties"]["assessment"]["level"] == 3


def test_who_may_do_what(client: httpx.Client, key: Key) -> None:
    place = f"/v1/incidents/{submit(client, key('field'), incident()).json()['incident_id']}"
    for name in ("viewer", "planner", "utility"):
        assert submit(client, key(name), incident()).status_code == 403
        assert client.patch(place, json={}, headers=key(name)).status_code == 403
    for name in ("viewer", "planner", "field", "commander", "admin"):
        assert client.get(place, headers=key(name)).status_code == 200
    assert client.get(place, headers=key("field-other")).status_code == 404
    assert client.get(place).status_code == 401
    edit = {"headers": key("field-other") | {"If-Match": '"1"'}, "json": {"state": "active"}}
    assert client.patch(place, **edit).status_code == 404


def test_a_reporters_phone_reaches_only_commanders_and_the_submitter(
    client: httpx.Client, key: Key
) -> None:
    place = f"/v1/incidents/{submit(client, key('field'), incident()).json()['incident_id']}"
    for path in (place, "/v1/incidents?limit=10000"):
        for name in ("viewer", "planner"):
            assert PHONE not in client.get(path, headers=key(name)).text
        for name in ("field", "commander", "admin"):
            assert PHONE in client.get(path, headers=key(name)).text


def test_a_field_account_reads_its_own_submission_elsewhere(client: httpx.Client, key: Key) -> None:
    body = incident(position=list(INSIDE[SHAPINGBA]))
    assert submit(client, key("field"), body).json()["adcode"] == SHAPINGBA
    place = f"/v1/incidents/{body['incident_id']}"
    assert client.get(place, headers=key("field")).status_code == 200
    change = {"headers": key("field") | {"If-Match": '"1"'}, "json": {"state": "active"}}
    assert client.patch(place, **change).status_code == 403
    assert (
        client.patch(
            place, **(change | {"headers": key("field-other") | {"If-Match": '"1"'}})
        ).status_code
        == 200
    )


def test_the_list_is_filtered_by_what_is_asked(client: httpx.Client, key: Key) -> None:
    body = incident(position=list(INSIDE[NANAN]), kind="crane", facts={})
    submit(client, key("commander"), body)

    def ids(query: str) -> list[str]:
        found = client.get(f"/v1/incidents?{query}", headers=key("commander"))
        assert found.status_code == 200, found.text
        return [f["id"] for f in found.json()["features"]]

    key_id = body["incident_id"]
    east, north = INSIDE[NANAN]
    assert key_id in ids(f"bbox={east - 0.01},{north - 0.01},{east + 0.01},{north + 0.01}")
    assert key_id in ids(f"adcode={NANAN}&plan={SPECIAL}&state=reported&state=active")
    assert key_id not in ids("state=resolved")
    assert key_id in ids("since=2026-01-01T00:00:00+08:00")  # the + arrives as a space
    bad = client.get("/v1/incidents?since=yesterday", headers=key("commander"))
    assert bad.status_code == 422


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"incident_id": "x"}', b'{"a": 1e999}'])
def test_bad_json_is_a_422(client: httpx.Client, key: Key, body: bytes) -> None:
    assert client.post("/v1/incidents", content=body, headers=key("field")).status_code == 422


def test_exchanged_numbers_are_a_422_with_the_hint(client: httpx.Client, key: Key) -> None:
    lon, lat = INSIDE[YUZHONG]
    answer = submit(client, key("field"), incident(position=[lat, lon]))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "position"
    assert "对调" in answer.json()["errors"][0]["reason"]


def test_texts_follow_the_language(client: httpx.Client, key: Key) -> None:
    far = incident(position=[104.07, 30.67])
    zh = submit(client, key("commander"), far).json()["warnings"]
    en = submit(client, key("commander") | {"Accept-Language": "en"}, far).json()["warnings"]
    assert zh[0]["code"] == en[0]["code"] == "outside"
    assert "重庆" in zh[0]["text"]
    assert "Chongqing" in en[0]["text"]


# --- declared facts ---------------------------------------------------------------------------


def declare(client: httpx.Client, headers: dict[str, str], plan: str, body: Any) -> httpx.Response:
    return client.put(f"/v1/plans/{plan}/facts", json=body, headers=headers)


def test_a_declaration_answers_the_assessment_that_follows(client: httpx.Client, key: Key) -> None:
    said = declare(
        client,
        key("commander"),
        COMMS,
        {"reason": "通知", "facts": {"exceeds_city_capacity": True}},
    )
    assert said.status_code == 200, said.text
    body = said.json()
    assert body["plan"] == COMMS
    assert body["level"] is not None
    assert body["facts"]["exceeds_city_capacity"] is True
    assert (body["revision"], body["declared"]) == (1, {"exceeds_city_capacity": True})
    withdrawn = declare(client, key("commander"), COMMS, {"reason": "更正", "facts": {}})
    assert withdrawn.json()["level"] is None


def test_a_declaration_is_the_commanders_and_needs_a_reason(client: httpx.Client, key: Key) -> None:
    facts = {"facts": {"exceeds_city_capacity": True}}
    for name in ("viewer", "field", "utility", "planner"):
        assert declare(client, key(name), COMMS, {"reason": "x"} | facts).status_code == 403
    assert declare(client, key("commander"), COMMS, facts).status_code == 422
    assert (
        declare(client, key("commander"), "flood-2020", {"reason": "x"} | facts).status_code == 404
    )
    counted = declare(client, key("commander"), POWER, {"reason": "x", "facts": {"city": {}}})
    assert counted.status_code == 422
    assert counted.json()["errors"][0]["field"] == "facts.city"


def test_an_incident_is_in_the_assessment_of_its_plan(client: httpx.Client, key: Key) -> None:
    grave = incident(kind="crane", facts={"deaths": 10}, position=list(INSIDE[NANAN]))
    submit(client, key("commander"), grave)
    closing = declare(client, key("commander"), SPECIAL, {"reason": "x", "facts": {}}).json()
    assert closing["level"] == 2
    assert grave["incident_id"] in {f.get("incident_id") for f in closing["findings"]}
