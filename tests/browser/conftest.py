"""The browser, the scripted server, the demonstration's city and the field page's site, as fixtures."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright
from sqlalchemy import Engine

from api.app import create_app
from api.deps import Configuration
from data.accounts import first_run
from data.cluster import Cluster
from data.database import app_engine, owner_engine
from tests import situations
from tests.api.conftest import Credentials, served
from tests.browser.chromium import CHROMIUM, FLAGS, Watch
from tests.browser.city import City, city_on, furnish
from tests.browser.field_site import LIFT, PHONE, RESCUE_CODE
from tests.browser.map_server import MapServer, now
from tests.browser.planner_desk import WAIT_MS, Quiet, Visit
from tests.conftest import drop_database
from tests.feeds import INSIDE, NANAN, facility, load_facilities

Make = Callable[[str | None], str]


@pytest.fixture(scope="module")
def driver() -> Iterator[Playwright]:
    """Of one module: while it is open, its thread has a running loop that asyncio tests would meet."""
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def browser(driver: Playwright) -> Iterator[Browser]:
    chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
    yield chromium
    chromium.close()


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def page(browser: Browser, watch: Watch) -> Iterator[Page]:
    """An empty page of 1280 × 800, watched."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(10_000)
    made = context.new_page()
    watch.on(made)
    yield made
    context.close()


@pytest.fixture
def server() -> Iterator[MapServer]:
    """The scripted server, calm."""
    made = MapServer(situations.calm(1, now()))
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def furnished_template(make_database: Make, divided_template: str) -> str:
    """The name of a database with the demonstration's inventory and one hostile district name."""
    url = make_database(divided_template)
    furnish(url)
    return url.split("?")[0].rsplit("/", 1)[1]


@pytest.fixture(scope="module")
def city(cluster: Cluster, make_database: Make, furnished_template: str) -> Iterator[City]:
    """The demonstration's inventory, everything in order, served."""
    url = make_database(furnished_template)
    with city_on(url) as made:
        yield made
    drop_database(cluster, url)


@pytest.fixture(scope="module")
def field_site(
    cluster: Cluster, make_database: Make, divided_template: str
) -> Iterator[tuple[str, Engine, Credentials]]:
    url = make_database(divided_template)
    owner = owner_engine(url)
    configuration = Configuration.load(url)
    told = configuration.paths.var / f"{uuid.uuid4().hex}.json"
    assert first_run(owner, told)
    engine = app_engine(url)
    lift = facility(LIFT, *INSIDE[NANAN], kind="special_equipment", rescue_code=RESCUE_CODE)
    load_facilities(engine, [lift])
    engine.dispose()
    with served(create_app(configuration)) as address:
        yield address, owner, json.loads(told.read_text())
    owner.dispose()
    drop_database(cluster, url)


@pytest.fixture
def phone(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(**PHONE)
    yield context
    context.close()


@pytest.fixture
def visit(browser: Browser, city: City) -> Iterator[Visit]:
    """`visit(path, user)`: a page reached through the sign-in form; checked for silence at the end."""
    opened: list[tuple[Any, Quiet]] = []

    def go(path: str = "/planner", user: str = "planner", locale: str = "zh-CN") -> Page:
        context = browser.new_context(viewport={"width": 1280, "height": 800}, locale=locale)
        context.set_default_timeout(WAIT_MS)
        page, watch = context.new_page(), Quiet()
        watch.on(page)
        opened.append((context, watch))
        page.goto(city.url + path)
        city.sign_in(page, user)
        return page

    yield go
    for context, watch in opened:
        context.close()
        watch.check(city.url)
