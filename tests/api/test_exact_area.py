"""Over HTTP: a reported loss is shown at once by samples, soon exactly, and then it is quiet."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from data.cluster import Cluster
from data.database import app_engine
from tests.conftest import drop_database
from tests.feeds import INSIDE, NANAN, YUZHONG, ago, facility, load_facilities

Key = Callable[[str], dict[str, str]]
URL = "/v1/situation"


@pytest.fixture(scope="module")
def database_url(
    cluster: Cluster, make_database: Callable[[str | None], str], divided_template: str
) -> Iterator[str]:
    url = make_database(divided_template)
    engine = app_engine(url)
    lon, lat = INSIDE[NANAN]
    places = {"S-N1": (lon, lat), "S-N2": (lon + 0.06, lat + 0.02), "S-Y": INSIDE[YUZHONG]}
    load_facilities(engine, [facility(name, *at, load_kw=1000) for name, at in places.items()])
    engine.dispose()
    yield url
    drop_database(cluster, url)


def situation(client: httpx.Client, key: Key, **asked: Any) -> dict[str, Any]:
    answer = client.get(URL, params=asked, headers=key("viewer"))
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def of_nanan(document: dict[str, Any]) -> dict[str, Any]:
    """Area share of substations and people affected."""
    row = next(d for d in document["districts"] if d["adcode"] == NANAN)
    return {"people": row["population_affected"], **row["area_share"].get("substation", {})}


def until_method(client: httpx.Client, key: Key, method: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while of_nanan(found := situation(client, key)).get("method") != method:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def test_a_reported_loss_is_sampled_then_exact_then_quiet_and_so_is_its_past(
    client: httpx.Client, key: Key
) -> None:
    calm = until_method(client, key, "exact")
    assert of_nanan(calm) == {"people": 0, "any": 0.0, "all": 0.0, "method": "exact"}
    event = {
        "event_id": str(uuid.uuid4()),
        "facility_id": "S-N1",
        "state": "down",
        "observed_at": ago(seconds=1),
    }
    posted = client.post("/v1/status", json=[event], headers=key("utility"))
    assert posted.status_code == 200, posted.text
    at_once = situation(client, key, min_sequence=posted.json()["sequence"])
    sampled = of_nanan(at_once)
    assert sampled["method"] == "sampled"
    assert sampled["any"] > 0.2
    exact_document = until_method(client, key, "exact")
    exact = of_nanan(exact_document)
    assert exact["any"] == pytest.approx(sampled["any"], abs=0.001)
    assert exact["people"] == pytest.approx(sampled["people"], rel=0.01)
    assert exact["people"] > 0
    assert exact_document["plans"] == at_once["plans"], "no plan grades by area"
    time.sleep(3)
    assert situation(client, key) == exact_document
    for document in (calm, at_once, exact_document):
        past = situation(client, key, at=document["as_of"])
        assert past["sequence"] == document["sequence"]
        assert of_nanan(past) == of_nanan(document)
