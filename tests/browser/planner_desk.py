"""The planner's page as it is used: drawing, asking, supposing, and what is read off it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser.chromium import Watch
from tests.feeds import NANAN, YUZHONG

COMMS, POWER = "communications-2024", "power-outage-2021"
WAIT_MS = 40_000  # the machine may be busy with other tests
SLOW = {"timeout": WAIT_MS}
Visit = Callable[..., Page]


class Quiet(Watch):
    """A page that asks nobody else for anything and complains of nothing but refusals we provoke."""

    def check(self, url: str) -> None:
        self.errors = [
            one for one in self.errors if "the server responded with a status" not in one
        ]
        self.requests = [one for one in self.requests if not one.startswith(f"blob:{url}/")]
        super().check(url)


def at(page: Page, lon: float, lat: float) -> tuple[float, float]:
    """Where a position is on the screen."""
    box = page.locator("#map_yutu").bounding_box()
    assert box is not None
    x, y = page.evaluate(
        "([lon, lat]) => { const p = window.map_yutu.latLngToContainerPoint([lat, lon]); return [p.x, p.y]; }",
        [lon, lat],
    )
    return box["x"] + x, box["y"] + y


def click(page: Page, lon: float, lat: float) -> None:
    """Set a corner; leaflet-draw takes the next one 50 ms later, as no hand is quicker."""
    page.mouse.click(*at(page, lon, lat))
    page.wait_for_timeout(120)


def drag(page: Page, x: float, y: float, right: float, down: float) -> None:
    """From that pixel so many pixels on, and hold: `page.mouse.up()` lets go."""
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + right, y + down, steps=4)


@contextmanager
def answered(page: Page, path: str = "/v1/regions/query") -> Iterator[dict[str, Any]]:
    """The body the page sends to `path` meanwhile, and what it is answered."""
    found: dict[str, Any] = {}
    with page.expect_response(lambda one: path in one.url, **SLOW) as caught:
        yield found
    found["asked"] = caught.value.request.post_data_json
    found["status"] = caught.value.status
    found["answer"] = caught.value.json()


def number(text_: str | None) -> float:
    return float(re.sub(r"[^0-9.]", "", text_ or ""))


def figure(page: Page, name: str) -> float:
    return number(page.locator(f'[data-figure="{name}"] .value').text_content())


def counts(page: Page) -> dict[str, dict[str, int]]:
    rows = page.locator("#numbers tr[data-kind]").evaluate_all(
        "rows => rows.map(r => [r.dataset.kind, Object.fromEntries("
        "[...r.querySelectorAll('[data-count]')].map(c => [c.dataset.count, c.textContent]))])"
    )
    return {kind: {k: int(number(v)) for k, v in cells.items()} for kind, cells in rows}


def pick(page: Page, *adcodes: str) -> None:
    for code in adcodes:
        page.check(f'input[name="adcode"][value="{code}"]')
    page.wait_for_selector("#numbers[data-sequence]")


def tab(page: Page, name: str) -> None:
    page.click(f"#view-{name}")
    expect(page.locator(f"#{name}")).to_be_visible()


def two_districts_without_base_stations(page: Page) -> None:
    """Suppose it, without evaluating."""
    pick(page, YUZHONG, NANAN)
    tab(page, "suppose")
    page.select_option("#change-kind", "base_station")
    page.click("#add")


def level(page: Page, side: str, plan: str = COMMS, root: str = "#result") -> str | None:
    return page.locator(f'{root} tr[data-plan="{plan}"] [data-side="{side}"]').get_attribute(
        "data-level"
    )


def evaluate(page: Page) -> Any:
    with answered(page, "/v1/scenarios/evaluate") as found:
        page.click("#evaluate")
    page.wait_for_selector("#result .levels")
    return found["answer"]
