"""Cursor on Target over HTTP: who may send and read, scope, receipts, hostile bodies, the page."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from lxml import etree

from api.routes.incidents import EXAMPLE
from tests.api.conftest import assert_problem
from tests.data.test_cot import HOSTILE, SCHEMA, SCRIPT, position, several
from tests.feeds import INSIDE, SHAPINGBA, YUZHONG, ago

Key = Callable[[str], dict[str, str]]
PHONE = "13800006666"


def report(client: httpx.Client, headers: dict[str, str], **more: Any) -> str:
    body = EXAMPLE | {
        "incident_id": str(uuid4()),
        "occurred_at": ago(minutes=20),
        "facts": {"people_stranded": 6, "stranded_since": ago(minutes=25)},
        "reporter": {"name": "王某", "phone": PHONE},
        **more,
    }
    answer = client.post("/v1/incidents", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return str(body["incident_id"])


def feed(client: httpx.Client, headers: dict[str, str], **params: str) -> dict[str, Any]:
    answer = client.get("/v1/cot/incidents.xml", headers=headers, params=params)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/xml; charset=utf-8"
    assert PHONE not in answer.text
    assert "王某" not in answer.text
    events = etree.fromstring(answer.content)
    for event in events:
        SCHEMA.assertValid(event)
    return {event.find("detail/__yutu").get("incident_id"): event for event in events}


def send(client: httpx.Client, headers: dict[str, str], *events: str) -> dict[str, Any]:
    answer = client.post("/v1/cot", content=several(*events), headers=headers)
    assert answer.status_code == 200, answer.text
    receipt: dict[str, Any] = answer.json()
    return receipt


def test_incidents_go_out_within_the_readers_scope(client: httpx.Client, key: Key) -> None:
    mine = report(client, key("field"))
    other = report(client, key("commander"), position=list(INSIDE[SHAPINGBA]))
    assert {mine, other} <= set(feed(client, key("viewer")))
    seen = feed(client, key("field"))
    assert mine in seen
    assert other not in seen
    assert set(feed(client, key("field"), plan="communications-2024")) == set()
    assert set(feed(client, key("viewer"), since=ago(minutes=1))) == set()
    assert "渝中区" in seen[mine].find("detail/contact").get("callsign")
    assert seen[mine].find("detail/link").get("url").endswith(f"/v1/incidents/{mine}")


def test_a_resolved_incident_is_sent_stale(client: httpx.Client, key: Key) -> None:
    done = report(client, key("field"))
    etag = '"1"'
    for state in ("verified", "active", "resolved"):
        answer = client.patch(
            f"/v1/incidents/{done}",
            json={"state": state, "reason": "已处置"},
            headers=key("commander") | {"If-Match": etag},
        )
        assert answer.status_code == 200, answer.text
        etag = answer.headers["etag"]
    event = feed(client, key("viewer"))[done]
    assert event.get("stale") < event.get("time")


def test_text_of_an_incident_and_a_callsign_stays_text(client: httpx.Client, key: Key) -> None:
    said = SCRIPT.replace("\x00", "")
    told = report(client, key("field"), description=said)
    assert said in feed(client, key("viewer"))[told].find("detail/remarks").text
    escaped = said.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    send(client, key("field"), position("XSS", detail=f'<contact callsign="{escaped}"/>'))
    teams = client.get("/v1/teams", headers=key("viewer")).json()["features"]
    assert {f["id"]: f["properties"]["callsign"] for f in teams}["XSS"] == said


def test_a_receipt_lists_rows_and_the_same_again_is_a_duplicate(
    client: httpx.Client, key: Key
) -> None:
    good, bad = position("R-1"), position("R-2", lat="NaN")
    first = send(client, key("field"), good, bad)
    assert (first["accepted"], first["duplicates"]) == (1, 0)
    assert [(r["row"], r["field"]) for r in first["rejected"]] == [(2, "point.lat")]
    assert first["rejected"][0]["reason"] != "must be a number from -90 to 90, WGS-84"  # Chinese
    again = send(client, key("field"), good)
    assert (again["accepted"], again["duplicates"]) == (0, 1)
    answer = client.get("/v1/teams?lang=en", headers=key("viewer")).json()
    team = {f["id"]: f for f in answer["features"]}["R-1"]
    assert team["geometry"]["coordinates"] == list(INSIDE[YUZHONG])
    assert team["properties"]["stale"] is False
    assert "R-1" not in str(client.get("/v1/teams", headers=key("field-other")).json())


def test_a_position_reaches_the_situation_stream(client: httpx.Client, key: Key) -> None:
    sequence = send(client, key("field"), position("S-1"))["sequence"]
    answer = client.get(f"/v1/situation?min_sequence={sequence}", headers=key("viewer"))
    assert answer.json()["sequence"] >= sequence


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_hostile_bodies_are_4xx_quickly(body: bytes, client: httpx.Client, key: Key) -> None:
    began = time.monotonic()
    answer = client.post("/v1/cot", content=body, headers=key("field"))
    assert time.monotonic() - began < 5
    assert answer.status_code in (413, 422)
    assert_problem(answer, answer.status_code)
    assert "passwd" not in answer.text


def test_a_body_beyond_the_limit_is_413(client: httpx.Client, key: Key) -> None:
    answer = client.post("/v1/cot", content=b"<event>" * 300_000, headers=key("field"))
    assert_problem(answer, 413)


@pytest.mark.parametrize("role", ["viewer", "utility", "planner", "admin"])
def test_only_field_and_commanders_send(client: httpx.Client, key: Key, role: str) -> None:
    assert_problem(client.post("/v1/cot", content=b"<event/>", headers=key(role)), 403)


def test_utilities_read_neither(client: httpx.Client, key: Key) -> None:
    assert_problem(client.get("/v1/teams", headers=key("utility")), 403)
    assert_problem(client.get("/v1/cot/incidents.xml", headers=key("utility")), 403)
