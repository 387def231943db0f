"""A database without districts: the process says that, and how to load some."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from sqlalchemy import Engine

from data.cluster import Cluster
from data.default_divisions import ensure_default_divisions
from tests.api.conftest import assert_problem
from tests.conftest import drop_database


@pytest.fixture(scope="module")
def database_url(
    cluster: Cluster, make_database: Callable[..., str], template_database: str
) -> Iterator[str]:
    url = make_database(template_database)
    yield url
    drop_database(cluster, url)


def test_without_districts_ready_says_so_and_how_to_load_them(
    client: httpx.Client, owner: Engine
) -> None:
    body = assert_problem(client.get("/ready"), 503)
    assert body["detail"] == (
        "尚未载入区划，无法研判；运行 `yutu import districts --default` 可载入随附的区划"
    )
    told = client.get("/ready", headers={"Accept-Language": "en"}).json()
    assert told["reasons"] == [
        "no districts are loaded, so nothing can be assessed;"
        " `yutu import districts --default` loads those shipped"
    ]
    assert ensure_default_divisions(owner)
    deadline = time.monotonic() + 30
    while client.get("/ready").status_code != 200:
        assert time.monotonic() < deadline, client.get("/ready").text
        time.sleep(0.2)
