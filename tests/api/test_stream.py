"""The stream: the newest situation first, then everything once and in order, and a quick end."""

from __future__ import annotations

import json
import queue
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import Connection, Engine, text

from api.situations import QUEUE_EVENTS, Situations
from data.accounts import NewCredentials, create_account, lock_account, set_password
from data.api_keys import keys_of, revoke_key
from tests.api.conftest import Credentials, assert_problem, served
from tests.api.test_cli import free_port, running
from tests.api.test_credentials import sign_in
from tests.feeds import INSIDE, SHAPINGBA, YUZHONG, ago

Key = Callable[[str], dict[str, str]]
URL = "/v1/situation/stream"
SPECIAL = "special-equipment-2023"


class Stream:
    """An open stream, read by a thread: `next()` is its next event."""

    def __init__(self, server: str, headers: dict[str, str]) -> None:
        self._client = httpx.Client(base_url=server, timeout=30)
        self._headers = headers
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._response = self._client.send(
            self._client.build_request("GET", URL, headers=self._headers), stream=True
        )
        assert self._response.status_code == 200
        assert self._response.headers["content-type"].startswith("text/event-stream")
        assert self._response.headers["cache-control"] == "no-store"
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:  # fmt: skip
        network = self._response.extensions["network_stream"]
        with suppress(OSError):  # the thread still reads from it: only this wakes it
            network.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._client.close()

    def _read(self) -> None:
        event: dict[str, Any] = {}
        try:
            for line in self._response.iter_lines():
                name, _, value = line.partition(": ")
                if line == "" and event:
                    self._events.put(event)
                    event = {}
                elif name in ("id", "event"):
                    event[name] = value
                elif name == "data":
                    event["data"] = json.loads(value)
        except (httpx.HTTPError, httpx.StreamError):
            pass
        self._events.put(None)

    def next(self, within_s: float = 5) -> dict[str, Any] | None:
        """The next event; None at the end of the stream."""
        return self._events.get(timeout=within_s)

    def until(self, sequence: int) -> list[dict[str, Any]]:
        """The events up to the situation that includes a sequence."""
        found: list[dict[str, Any]] = []
        while True:
            event = self.next()
            assert event is not None, "the stream ended"
            found.append(event)
            if event["event"] == "situation" and int(event["id"]) >= sequence:
                return found


def submit(client: httpx.Client, key: Key, adcode: str, **more: Any) -> tuple[str, int]:
    body = {
        "incident_id": str(uuid.uuid4()),
        "plan": SPECIAL,
        "kind": "elevator",
        "occurred_at": ago(minutes=5),
        "position": list(INSIDE[adcode]),
        "crs": "WGS84",
        "facts": {"deaths": 0},
    }
    answer = client.post("/v1/incidents", json=body | more, headers=key("commander"))
    assert answer.status_code == 201, answer.text
    with_it = client.get("/v1/situation?min_sequence=0", headers=key("viewer")).json()
    return str(body["incident_id"]), int(with_it["sequence"])


def newest(client: httpx.Client, key: Key) -> int:
    return int(client.get("/v1/situation", headers=key("viewer")).json()["sequence"])


def sequence_of(owner: Engine, incident_id: str) -> int:
    with owner.connect() as connection:
        return int(
            connection.execute(
                text("SELECT sequence FROM change WHERE detail ->> 'incident_id' = :i"),
                {"i": incident_id},
            ).scalar_one()
        )


# --- order and replay -------------------------------------------------------------------------


def test_the_first_event_is_the_newest_situation_and_the_rest_follow_in_order(
    server: str, client: httpx.Client, key: Key, owner: Engine
) -> None:
    with Stream(server, key("viewer")) as stream:
        first = stream.next()
        assert first is not None
        assert first["event"] == "situation"
        assert int(first["id"]) == first["data"]["sequence"]
        assert set(first["data"]) == {"sequence", "as_of", "levels"}
        ids = [submit(client, key, adcode)[0] for adcode in (YUZHONG, SHAPINGBA, YUZHONG)]
        last = sequence_of(owner, ids[-1])
        found = stream.until(last)
    numbers = [int(e["id"]) for e in found]
    assert numbers == sorted(numbers)
    assert numbers[0] > int(first["id"])
    told = [e["data"]["incident_id"] for e in found if e["event"] == "incident"]
    assert told == ids


def test_what_was_missed_is_replayed_in_order_and_nothing_twice(
    server: str, client: httpx.Client, key: Key, owner: Engine
) -> None:
    first, _ = submit(client, key, YUZHONG)
    after = sequence_of(owner, first)
    missed = [submit(client, key, YUZHONG)[0] for _ in range(3)]
    with Stream(server, key("viewer")) as watching:
        watching.next()
        client.get(f"/v1/situation?min_sequence={sequence_of(owner, missed[-1])}", headers=key("viewer"))  # fmt: skip
    headers = key("viewer") | {"Last-Event-ID": str(after)}
    with Stream(server, headers) as stream:
        found = stream.until(sequence_of(owner, missed[-1]))
        later, _ = submit(client, key, YUZHONG)
        found += stream.until(sequence_of(owner, later))
    told = [e["data"]["incident_id"] for e in found if e["event"] == "incident"]
    assert told == [*missed, later]
    numbers = [int(e["id"]) for e in found]
    assert numbers == sorted(numbers)
    assert all(number > after for number in numbers)


@pytest.mark.parametrize("ahead", [0, 10_000, 10**17])
def test_with_nothing_missed_the_newest_situation_comes_all_the_same(
    server: str, client: httpx.Client, key: Key, ahead: int
) -> None:
    last = newest(client, key)
    headers = key("viewer") | {"Last-Event-ID": str(last + ahead)}
    with Stream(server, headers) as stream:
        event = stream.next()
    assert event is not None
    assert (event["event"], int(event["id"])) == ("situation", last)


@pytest.mark.parametrize("garbage", ["x", "-1", "1.5", "1 2", "9" * 19, "١", "0x10", "1;DROP"])
def test_a_garbage_last_event_id_is_refused(client: httpx.Client, key: Key, garbage: str) -> None:
    answer = client.get(URL, headers=key("viewer"), params={"last_event_id": garbage})
    assert_problem(answer, 422)
    if garbage.isascii():
        assert_problem(client.get(URL, headers=key("viewer") | {"Last-Event-ID": garbage}), 422)


def test_incidents_outside_an_accounts_districts_are_left_out(
    server: str, client: httpx.Client, key: Key, owner: Engine, credentials: Credentials
) -> None:
    own, other = (credentials[name]["districts"][0] for name in ("field", "field-other"))
    assert own in INSIDE
    assert other in INSIDE
    with Stream(server, key("field")) as mine, Stream(server, key("commander")) as every:
        mine.next()
        every.next()
        ids = [submit(client, key, adcode)[0] for adcode in (other, own, other)]
        last = sequence_of(owner, ids[-1])
        seen = [e["data"]["incident_id"] for e in mine.until(last) if e["event"] == "incident"]
        whole = [e["data"]["incident_id"] for e in every.until(last) if e["event"] == "incident"]
    assert seen == [ids[1]]
    assert whole == ids
    replayed = key("field") | {"Last-Event-ID": str(sequence_of(owner, ids[0]) - 1)}
    with Stream(server, replayed) as again:
        told = [e["data"]["incident_id"] for e in again.until(last) if e["event"] == "incident"]
    assert told == [ids[1]]


def test_without_the_handlers_filter_the_database_still_leaves_them_out(
    server: str,
    client: httpx.Client,
    key: Key,
    owner: Engine,
    credentials: Credentials,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.routes.situation._may_see", lambda _account, _event: True)
    own, other = (credentials[name]["districts"][0] for name in ("field", "field-other"))
    with Stream(server, key("field")) as mine, Stream(server, key("commander")) as every:
        ids = [submit(client, key, adcode)[0] for adcode in (other, own, other)]
        last = sequence_of(owner, ids[-1])
        live = [e["data"]["incident_id"] for e in mine.until(last) if e["event"] == "incident"]
        whole = [e["data"]["incident_id"] for e in every.until(last) if e["event"] == "incident"]
    assert live == [ids[1]]
    assert whole == ids


# --- slow, gone and ending ----------------------------------------------------------------------


def test_who_leaves_is_forgotten(app: FastAPI, server: str, key: Key) -> None:
    situations = app.state.services.get(Situations)
    with Stream(server, key("viewer")) as stream:
        stream.next()
        assert len(situations._listeners) == 1
    deadline = time.monotonic() + 5
    while situations._listeners:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def flood(owner: Engine, events: int, bytes_each: int) -> int:
    """Put stream events into the outbox, as a builder would; the last one's id."""
    with owner.begin() as connection:
        last = connection.execute(
            text(
                "WITH made AS (INSERT INTO stream_event (sequence, kind, payload)"
                " SELECT (SELECT max(sequence) FROM change), 'response',"
                " jsonb_build_object('n', n, 'x', repeat('x', :size))"
                " FROM generate_series(1, :n) n RETURNING id) SELECT max(id) FROM made"
            ),
            {"n": events, "size": bytes_each},
        ).scalar_one()
        connection.execute(text("SELECT pg_notify('yutu_shown', '')"))
    return int(last)


def test_who_does_not_read_is_cut_off_and_others_miss_nothing(
    app: FastAPI, server: str, client: httpx.Client, key: Key, owner: Engine
) -> None:
    situations = app.state.services.get(Situations)
    address = urlsplit(server)
    with socket.socket() as lazy, Stream(server, key("viewer")) as eager:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        lazy.connect((address.hostname, address.port))
        head = "".join(f"{k}: {v}\r\n" for k, v in key("viewer").items())
        lazy.sendall(f"GET {URL} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode())
        eager.next()
        deadline = time.monotonic() + 5
        while len(situations._listeners) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        count = 3 * QUEUE_EVENTS
        flood(owner, count, 8_000)
        numbers = []
        while len(numbers) < count:
            event = eager.next(10)
            assert event is not None, f"cut off after {len(numbers)}"
            if event["event"] == "response":
                numbers.append(event["data"]["n"])
        assert numbers == list(range(1, count + 1))
        while len(situations._listeners) > 1:
            assert time.monotonic() < deadline + 10, "the lazy one is still listened for"
            time.sleep(0.05)
        assert client.get("/v1/situation", headers=key("viewer")).status_code == 200


def by_key(client: httpx.Client, made: NewCredentials) -> dict[str, str]:
    return {"X-API-Key": made.api_key}


def by_token(client: httpx.Client, made: NewCredentials) -> dict[str, str]:
    form = {"username": made.username, "password": made.password}
    token = client.post("/v1/token", data=form).json()["access_token"]
    return {"Authorization": f"Bearer {token}"}


def by_session(client: httpx.Client, made: NewCredentials) -> dict[str, str]:
    assert sign_in(client, made.as_json()).status_code == 303
    return {"Cookie": "; ".join(f"{one.name}={one.value}" for one in client.cookies.jar)}


def sign_out(client: httpx.Client, _connection: Connection, _name: str) -> None:
    csrf = client.get("/v1/session").json()["csrf"]
    assert client.post("/logout", data={"csrf": csrf}).status_code == 303


def narrow(_client: httpx.Client, connection: Connection, name: str) -> None:
    connection.execute(
        text("UPDATE account SET districts = ARRAY['500103'] WHERE username = :n"), {"n": name}
    )


ENDS: dict[str, tuple[Any, Any]] = {
    "a revoked key": (by_key, lambda _, c, name: revoke_key(c, name, keys_of(c, name)[-1].id)),
    "a locked account, by key": (by_key, lambda _, c, name: lock_account(c, name)),
    "a locked account, by token": (by_token, lambda _, c, name: lock_account(c, name)),
    "another password": (by_token, lambda _, c, name: set_password(c, name)),
    "a session signed out of": (by_session, sign_out),
    "another scope": (by_key, narrow),
}


@pytest.mark.parametrize("way", ENDS)
def test_a_stream_ends_with_what_let_it_in(
    way: str, server: str, client: httpx.Client, key: Key, owner: Engine
) -> None:
    open_by, end = ENDS[way]
    name = f"listens-{uuid.uuid4().hex[:8]}"
    with owner.begin() as connection:
        made = create_account(connection, name, "viewer")
    with Stream(server, open_by(client, made)) as stream, Stream(server, key("viewer")) as other:
        assert stream.next()
        assert other.next()
        with owner.begin() as connection:
            end(client, connection, name)
        began = time.monotonic()
        while stream.next() is not None:
            pass
        assert time.monotonic() - began < 4, "a second is promised, and held to by make torture"
        client.cookies.clear()
        _, sequence = submit(client, key, YUZHONG)
        assert other.until(sequence), "others go on"


@contextmanager
def both_open(url: str, headers: dict[str, str]) -> Iterator[list[Stream]]:
    with Stream(url, headers) as one, Stream(url, headers) as two:
        assert one.next()
        assert two.next()
        yield [one, two]


def test_ending_the_services_ends_every_stream_at_once(
    configuration: Any, credentials: Credentials, key: Key
) -> None:
    from api.app import create_app

    own = create_app(configuration)
    with served(own) as url, both_open(url, key("viewer")) as streams:
        started = time.monotonic()
        own.state.services.end()
        for stream in streams:
            while stream.next(2) is not None:
                pass
        assert time.monotonic() - started < 4  # a stream says something each 15 s at the latest
        assert_problem(httpx.get(url + URL, headers=key("viewer")), 503)


def test_ctrl_c_ends_the_service_quickly_although_streams_are_open(short_folder: Path) -> None:
    port = free_port()
    with running(short_folder, port, YUTU_WORKERS="2") as process:
        told = json.loads((short_folder / "credentials.json").read_text())
        headers = {"X-API-Key": told["viewer"]["api_key"]}
        url = f"http://127.0.0.1:{port}"
        with both_open(url, headers) as streams:
            answers = {
                (a.content, a.headers["etag"])
                for a in (httpx.get(f"{url}/v1/situation", headers=headers) for _ in range(12))
            }
            assert len(answers) == 1, "every worker answers with the same bytes"
            started = time.monotonic()
            process.send_signal(signal.SIGINT)
            for stream in streams:
                while stream.next(5) is not None:
                    pass
            ended = time.monotonic() - started
            assert process.wait(15) in (0, 130)
            stopped = time.monotonic() - started
    print(f"streams ended after {ended:.2f} s, the service after {stopped:.2f} s")
    assert ended < 4, "the streams end before uvicorn's grace of 5 s is waited for"
    assert stopped < 15, "its PostGIS stops too"
