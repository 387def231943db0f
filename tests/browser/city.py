"""The demonstration's city behind the real application, and a way in through the sign-in form."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from playwright.sync_api import Browser, Page
from sqlalchemy import Engine, text

from api.app import create_app
from api.deps import Configuration
from data.accounts import first_run
from data.database import app_engine, owner_engine
from data.demo import load_demo
from tests.api.conftest import Credentials, served
from tests.browser.chromium import Watch
from tests.feeds import ago

CHENGKOU = "500229"
EVIL = "<img src=x onerror=\"window.__owned='img'\"><script>window.__owned=1</script>${window.__owned=2}"


@dataclass
class City:
    """A served application on its own database."""

    url: str
    engine: Engine
    owner: Engine
    credentials: Credentials

    def key(self, name: str) -> dict[str, str]:
        return {"X-API-Key": self.credentials[name]["api_key"]}

    def sign_in(self, page: Page, user: str) -> None:
        """Fill the form the page shows, and wait for the map behind it."""
        page.fill("input[name=username]", user)
        page.fill("input[name=password]", self.credentials[user]["password"])
        page.click("button[type=submit]")
        page.wait_for_selector("body[data-sequence]")

    def send(self, path: str, body: Any, account: str = "utility", method: str = "POST") -> Any:
        answer = httpx.request(
            method, self.url + path, json=body, headers=self.key(account), timeout=20
        )
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def situation(self) -> Any:
        return httpx.get(f"{self.url}/v1/situation", headers=self.key("viewer")).json()

    def facilities(self, adcode: str, *kinds: str) -> list[str]:
        with self.owner.connect() as connection:
            return list(
                connection.execute(
                    text(
                        "SELECT facility_id FROM facility WHERE adcode = :a AND kind = ANY (:k)"
                        " ORDER BY facility_id"
                    ),
                    {"a": adcode, "k": list(kinds)},
                ).scalars()
            )

    def report(self, facility_ids: list[str], state: str) -> int:
        events = [
            {"event_id": str(uuid.uuid4()), "facility_id": one, "state": state, "observed_at": ago(seconds=0)}
            for one in facility_ids
        ]  # fmt: skip
        receipt = self.send("/v1/status", events)
        assert receipt["accepted"] == len(events)
        return int(receipt["sequence"])


def furnish(url: str) -> None:
    """The demonstration's inventory of 10,000 facilities; one district has a hostile name."""
    owner, engine = owner_engine(url), app_engine(url)
    with owner.begin() as connection:
        connection.execute(
            text("UPDATE district SET name = :e, name_en = :e WHERE adcode = :a"),
            {"e": EVIL, "a": CHENGKOU},
        )
    load_demo(engine, 10_000, 7)
    engine.dispose()
    owner.dispose()


@contextmanager
def city_on(url: str) -> Iterator[City]:
    """Serve a furnished database, with accounts of its own."""
    owner, engine = owner_engine(url), app_engine(url, pool_size=4)
    configuration = Configuration.load(url)
    told = configuration.paths.var / f"{uuid.uuid4().hex}.json"
    assert first_run(owner, told)
    with served(create_app(configuration)) as address:
        yield City(address, engine, owner, json.loads(told.read_text()))
    engine.dispose()
    owner.dispose()


@contextmanager
def signed_in(
    browser: Browser, city: City, watch: Watch, path: str = "/", user: str = "commander", **more: Any
) -> Iterator[Page]:  # fmt: skip
    """A page reached through the sign-in form."""
    context = browser.new_context(
        **({"viewport": {"width": 1440, "height": 900}, "locale": "zh-CN"} | more)
    )
    context.set_default_timeout(10_000)
    page = context.new_page()
    watch.on(page)
    page.goto(city.url + path)
    assert "/login" in page.url
    city.sign_in(page, user)
    try:
        yield page
    finally:
        context.close()  # its stream ends with it
