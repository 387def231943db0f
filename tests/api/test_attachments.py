"""Attachments over HTTP: once, within scope, never as something a browser runs."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest
from PIL import Image

from api.routes.incidents import EXAMPLE
from tests.api.conftest import assert_problem
from tests.feeds import ago

Key = Callable[[str], dict[str, str]]
SCRIPT = b"<script>alert(1)</script>"


@pytest.fixture
def place(client: httpx.Client, key: Key) -> str:
    made = str(uuid4())
    body = EXAMPLE | {"incident_id": made, "occurred_at": ago(minutes=20), "facts": {}}
    assert client.post("/v1/incidents", json=body, headers=key("field")).status_code == 201
    return f"/v1/incidents/{made}/attachments"


def photo(colour: str = "red") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (320, 240), colour).save(out, "JPEG")
    return out.getvalue() + SCRIPT


def send(
    client: httpx.Client,
    place: str,
    headers: dict[str, str],
    body: bytes,
    attachment_id: str | None = None,
    name: str = "p.html",
) -> httpx.Response:
    return client.post(
        place,
        files={"file": (name, body, "text/html")},
        data={"attachment_id": attachment_id or str(uuid4())},
        headers=headers,
    )


def test_a_photo_is_201_then_200_then_409(client: httpx.Client, key: Key, place: str) -> None:
    made, body = str(uuid4()), photo()
    first = send(client, place, key("field"), body, made)
    assert first.status_code == 201, first.text
    again = send(client, place, key("field"), body, made)
    assert (again.status_code, again.json()) == (200, first.json())
    assert_problem(send(client, place, key("field"), photo("blue"), made), 409)
    assert_problem(send(client, place, key("field-other"), body, made), 404)
    found = client.get(place, headers=key("viewer")).json()["attachments"]
    assert [one["attachment_id"] for one in found] == [made]


def test_twenty_sendings_at_once_are_one_201(server: str, key: Key, place: str) -> None:
    made, body = str(uuid4()), photo()
    with httpx.Client(base_url=server, timeout=60) as client, ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(send, client, place, key("field"), body, made) for _ in range(20)]
        codes = [job.result().status_code for job in jobs]
    assert (codes.count(201), codes.count(200)) == (1, 19)


@pytest.mark.parametrize("way", ["", "/original"])
def test_no_answer_can_run_script(client: httpx.Client, key: Key, place: str, way: str) -> None:
    made = send(client, place, key("field"), photo()).json()["attachment_id"]
    answer = client.get(f"{place}/{made}{way}", headers=key("commander"))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "html" not in answer.headers["content-disposition"]
    assert answer.headers["content-disposition"].startswith("attachment" if way else "inline")
    assert (SCRIPT in answer.content) == bool(way)


def test_originals_are_not_for_viewers(client: httpx.Client, key: Key, place: str) -> None:
    made = send(client, place, key("field"), photo()).json()["attachment_id"]
    assert client.get(f"{place}/{made}", headers=key("viewer")).status_code == 200
    assert_problem(client.get(f"{place}/{made}/original", headers=key("viewer")), 403)
    for way in ("", f"/{made}", f"/{made}/original"):
        assert_problem(client.get(place + way, headers=key("field-other")), 404)
    elsewhere = f"/v1/incidents/{uuid4()}/attachments"
    assert_problem(client.get(f"{elsewhere}/{made}", headers=key("commander")), 404)


@pytest.mark.parametrize(
    "body", [b"", b"<svg onload=alert(1)>", b"\xff\xd8\xff" + SCRIPT, photo()[:400]], ids=len
)
def test_a_disguised_or_cut_file_is_refused(
    client: httpx.Client, key: Key, place: str, body: bytes
) -> None:
    told = assert_problem(send(client, place, key("field"), body, name="p.jpg"), 422)
    assert told["errors"][0]["field"] == "file"


def test_a_form_without_file_or_id_is_refused(client: httpx.Client, key: Key, place: str) -> None:
    assert_problem(client.post(place, headers=key("field")), 422)
    assert_problem(client.post(place, json={}, headers=key("field")), 422)
    assert_problem(send(client, place, key("field"), photo(), "not-a-uuid"), 422)
    assert_problem(client.post(place, files={"file": photo()}, headers=key("field")), 422)


def test_a_file_over_the_limit_is_refused_before_it_is_read(
    client: httpx.Client, key: Key, place: str
) -> None:
    answer = send(client, place, key("field"), b"\xff\xd8\xff" + bytes(32 * 2**20))
    assert_problem(answer, 413)
