"""Levels and numbers are the city's for everybody; ids of incidents only for who may read them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from api.withheld import bytes_told_to, told_to
from data.accounts import Account
from tests.api.conftest import Credentials
from tests.feeds import SHAPINGBA, YUZHONG, ago, incident

Key = Callable[[str], dict[str, str]]
SPECIAL = "special-equipment-2023"


@pytest.fixture(scope="module")
def posted(server: str, credentials: Credentials) -> str:
    """The id of an incident in 渝中区 that decides the level of its plan in the city."""
    stranded = {"people_stranded": 3, "stranded_since": ago(minutes=180)}
    body = incident(occurred_at=ago(minutes=200), facts=stranded)
    headers = {"X-API-Key": credentials["commander"]["api_key"]}
    answer = httpx.post(f"{server}/v1/incidents", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    deadline = time.monotonic() + 30
    while body["incident_id"] not in httpx.get(f"{server}/v1/situation", headers=headers).text:
        assert time.monotonic() < deadline, "the situation does not show it"
        time.sleep(0.1)
    return str(body["incident_id"])


#: The doors a situation is read by. The page holds it for its first paint.
DOORS = ("/v1/situation", "/v1/situation?lang=en", "/v1/situation?at={at}", "/", f"/maps/{SPECIAL}")


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("name", "sees"),
    [
        ("commander", True), ("viewer", True), ("planner", True), ("field", True),
        ("field-other", False), ("utility", False),
    ],
)  # fmt: skip
def test_an_incident_is_named_to_who_may_read_it(
    client: httpx.Client, key: Key, posted: str, name: str, sees: bool, door: str
) -> None:
    path = door.format(at=ago(seconds=0).replace("+", "%2B"))
    answer = client.get(path, headers=key(name))
    assert answer.status_code == 200, answer.text[:300]
    assert (posted in answer.text) is sees
    listed = client.get("/v1/incidents", headers=key(name))
    assert (posted in listed.text) is sees  # the same line as where incidents are read


def test_the_numbers_are_the_same_for_everybody(
    client: httpx.Client, key: Key, posted: str
) -> None:
    asked = {name: client.get("/v1/situation", headers=key(name)) for name in ("field", "utility")}
    plans = {name: answer.json()["plans"][SPECIAL] for name, answer in asked.items()}
    assert plans["field"]["findings"][0]["incident_id"] == posted
    found = plans["utility"]["findings"][0]
    assert found["incident_id"] is None
    assert found["districts"] == [YUZHONG]
    for name in ("level", "bounds", "incidents", "facts"):
        assert plans["field"][name] == plans["utility"][name]
    assert plans["utility"]["level"] == 4
    assert asked["field"].headers["etag"] != asked["utility"].headers["etag"]
    mine = {**key("utility"), "If-None-Match": asked["utility"].headers["etag"]}
    assert client.get("/v1/situation", headers=mine).status_code == 304
    others = {**key("utility"), "If-None-Match": asked["field"].headers["etag"]}
    assert client.get("/v1/situation", headers=others).status_code == 200


def test_the_stream_names_it_to_nobody_else(client: httpx.Client, key: Key, posted: str) -> None:
    headers = {**key("field-other"), "Last-Event-ID": "0"}
    with client.stream("GET", "/v1/situation/stream", headers=headers, timeout=10) as stream:
        lines = stream.iter_lines()
        replayed = []
        while not any(line.startswith("data:") and '"levels"' in line for line in replayed):
            replayed.append(next(lines))
    assert posted not in "".join(replayed)


def account(role: str, *districts: str) -> Account:
    return Account("a", role, districts or ("*",), ("*",), 1, True)


def finding(incident_id: str, *districts: str) -> dict[str, Any]:
    return {"incident_id": incident_id, "districts": list(districts), "value": 3}


def test_what_is_withheld_is_the_id_alone() -> None:
    document = {
        "incident_id": "there",
        "findings": [finding("here", YUZHONG), finding("there", SHAPINGBA), finding("nowhere")],
        "next": [finding("supposed-1", SHAPINGBA), {"clause": "4.2", "districts": [SHAPINGBA]}],
    }
    told = told_to(document, account("field", YUZHONG))
    assert told == {
        "incident_id": None,
        "findings": [
            finding("here", YUZHONG),
            {**finding("", SHAPINGBA), "incident_id": None},
            {**finding(""), "incident_id": None},
        ],
        "next": [finding("supposed-1", SHAPINGBA), {"clause": "4.2", "districts": [SHAPINGBA]}],
    }
    assert told_to(document, account("commander")) == document
    assert bytes_told_to(b"{}", '"1"', account("viewer")) == (b"{}", '"1"')
    assert bytes_told_to(b'{"x":1}', '"1"', account("utility")) == (b'{"x":1}', '"1"')
