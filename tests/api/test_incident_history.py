"""History and merging over HTTP: who may, what is answered, what is never told."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from tests.api.conftest import assert_problem
from tests.api.test_feeds_incidents import PHONE, incident, submit

Key = Callable[[str], dict[str, str]]


def posted(client: httpx.Client, headers: dict[str, str]) -> str:
    answer = submit(client, headers, incident())
    assert answer.status_code == 201, answer.text
    return str(answer.json()["incident_id"])


def test_a_commander_merges_and_takes_it_back(client: httpx.Client, key: Key) -> None:
    first, second = posted(client, key("field")), posted(client, key("commander"))
    place = f"/v1/incidents/{second}"
    body = {"into": first, "reason": "同一起"}
    assert_problem(client.post(f"{place}/merge", json=body, headers=key("field")), 403)
    merged = client.post(f"{place}/merge", json=body, headers=key("commander"))
    assert merged.status_code == 200, merged.text
    assert (merged.headers["etag"], merged.json()["duplicate_of"]) == ('"2"', first)
    listed = client.get("/v1/incidents?state=duplicate", headers=key("viewer")).json()
    assert second in {one["id"] for one in listed["features"]}
    again = client.post(f"{place}/merge", json=body, headers=key("commander"))
    assert (again.status_code, again.headers["etag"]) == (200, '"2"')
    patch = key("commander") | {"If-Match": '"2"'}
    assert_problem(client.patch(place, json={"state": "active"}, headers=patch), 422)
    back = client.post(f"{place}/unmerge", json={"reason": "两起"}, headers=key("commander"))
    assert (back.json()["state"], back.json()["version"]) == ("reported", 3)
    twice = client.post(f"{place}/unmerge", json={"reason": "两起"}, headers=key("commander"))
    assert_problem(twice, 409)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"reason": "x"}, "into"),
        ({"into": "x", "reason": "x"}, "into"),
        ({"into": 5, "reason": "x"}, "into"),
        ({"into": "0190b7a2-3c4d-7e5f-8a6b-1c2d3e4f5a6b"}, "reason"),
        ({"into": "0190b7a2-3c4d-7e5f-8a6b-1c2d3e4f5a6b", "reason": " "}, "reason"),
    ],
)
def test_a_merge_says_into_what_and_why(
    client: httpx.Client, key: Key, body: dict[str, object], field: str
) -> None:
    place = f"/v1/incidents/{posted(client, key('field'))}/merge"
    answer = assert_problem(client.post(place, json=body, headers=key("commander")), 422)
    assert [one["field"] for one in answer["errors"]] == [field]


def test_history_is_read_by_those_who_work_on_it_and_names_no_reporter(
    client: httpx.Client, key: Key
) -> None:
    place = f"/v1/incidents/{posted(client, key('field'))}"
    edit = {"headers": key("field") | {"If-Match": '"1"'}, "json": {"facts": {"deaths": 1}}}
    edited = client.patch(place, **edit)  # type: ignore[arg-type]
    assert edited.json()["notice"]["clause"] == "4.1.3"
    for name in ("field", "planner", "commander", "admin"):
        answer = client.get(f"{place}/history", headers=key(name))
        assert [one["version"] for one in answer.json()["versions"]] == [1, 2]
        assert PHONE not in answer.text
    assert_problem(client.get(f"{place}/history", headers=key("viewer")), 403)
    assert_problem(client.get(f"{place}/history", headers=key("field-other")), 404)
