"""What lies in another district than a stranger's, stored through the API."""

from __future__ import annotations

import io
from dataclasses import dataclass
from uuid import uuid4

import httpx
from PIL import Image
from sqlalchemy import Engine

from data.accounts import create_account
from data.database import app_engine
from tests.api.conftest import Credentials
from tests.api.test_feeds_incidents import incident
from tests.feeds import INSIDE, NANAN, YUZHONG, ago, facility, load_facilities

CANARY = "13912345670"
WRITES = 4  # the inventory, two incidents, a conflict or an attachment
HERE, ELSEWHERE = YUZHONG, NANAN
ROLES_HERE = ("viewer", "field", "planner", "commander", "admin")


@dataclass(frozen=True)
class World:
    """What lies in another district than the stranger's, and the stranger's keys by role."""

    incident: str
    own_incident: str
    order: str
    attachment: str
    scenario: str
    key: dict[str, dict[str, str]]


def strangers_world(
    server: str, credentials: Credentials, owner: Engine, database_url: str
) -> World:
    engine = app_engine(database_url, pool_size=2)
    load_facilities(engine, [facility(f"F-{code}", *INSIDE[code]) for code in (HERE, ELSEWHERE)])
    engine.dispose()
    keys = {}
    with owner.begin() as connection:
        for role in ROLES_HERE:
            made = create_account(connection, f"stranger-{role}", role, [HERE])
            keys[role] = {"X-API-Key": made.api_key}
    city = {name: {"X-API-Key": one["api_key"]} for name, one in credentials.items()}
    order = f"CQ{uuid4().hex[:12]}"
    person = {"name": "李某", "phone": CANARY}
    hotline = {"order_number": order, "received_at": ago(minutes=8), "caller": person}
    with httpx.Client(base_url=server, timeout=30) as client:
        there = incident(
            position=list(INSIDE[ELSEWHERE]), source="12345", hotline=hotline, reporter=person
        )
        assert client.post("/v1/incidents", json=there, headers=city["commander"]).is_success
        assert (
            client.post(
                "/v1/incidents", json=there | {"kind": "boiler"}, headers=city["commander"]
            ).status_code
            == 409
        )
        mine = incident(position=list(INSIDE[HERE]), reporter=person)
        assert client.post("/v1/incidents", json=mine, headers=keys["commander"]).is_success
        picture = io.BytesIO()
        Image.new("RGB", (64, 64), "red").save(picture, "JPEG")
        attachment = str(uuid4())
        sent = client.post(
            f"/v1/incidents/{there['incident_id']}/attachments",
            files={"file": ("p.jpg", picture.getvalue(), "image/jpeg")},
            data={"attachment_id": attachment},
            headers=city["commander"],
        )
        assert sent.status_code == 201, sent.text
        supposed = {
            "name": "secret",
            "changes": [{"adcodes": [ELSEWHERE], "kind": "substation", "state": "down"}],
        }
        saved = client.post("/v1/scenarios", json=supposed, headers=city["planner"])
        assert saved.status_code == 201, saved.text
        return World(
            there["incident_id"],
            mine["incident_id"],
            order,
            attachment,
            saved.json()["scenario_id"],
            keys,
        )
