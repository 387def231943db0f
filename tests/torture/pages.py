"""Every page in Chromium over stored text made to run: nothing runs, nothing leaves the machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit
from uuid import uuid4

from playwright.sync_api import Browser, Error, Page, sync_playwright

from tests.api.test_feeds_incidents import incident
from tests.feeds import INSIDE, YUZHONG, ago
from tests.torture.site import Site
from tests.torture.torture import Torture, row

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
OFF = "http://evil.example"
SCRIPTS = [
    "<script>window.__owned=1</script>",
    '<img src=x onerror="window.__owned=1">',
    "${window.__owned=1}",
    "`${window.__owned=1}`",
    "{{constructor.constructor('window.__owned=1')()}}",
    '"><svg/onload=window.__owned=1>',
    "'-(window.__owned=1)-'",
    "</script><script>window.__owned=1</script>",
    "<iframe srcdoc='<script>parent.__owned=1</script>'></iframe>",
    '<a href="javascript:window.__owned=1" id=evil>x</a>',
    f'<link rel=stylesheet href="{OFF}/x.css"><img src="{OFF}/x.png">',
    f"<style>@import '{OFF}/y.css';*{{background:url({OFF}/z)}}</style>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=window.__owned=1>",
    "<!--<img src=--><img src=x onerror=window.__owned=1>",
    "\u2028window.__owned=1//",
    "&lt;img src=x onerror=window.__owned=1&gt;",
    "<details open ontoggle=window.__owned=1>",
    "javascript:window.__owned=1",
]
PAGES = {
    "commander": ["/", "/?lang=en", "/maps/communications-2024", "/maps/power-outage-2021"]
    + ["/maps/special-equipment-2023", "/planner", "/planner?lang=en", "/field", "/docs"]
    + [f"/ogc{one}?f=html" for one in ("/", "/conformance", "/collections")]
    + ["/ogc/collections/incidents/items?f=html", "/ogc/collections/facilities/items?f=html"]
    + ["/ogc/collections/outages/items?f=html", "/ogc/tileMatrixSets?f=html"],
    "viewer": ["/", "/?lang=en"],
}
#: Hover and click everything that may be shown of what is stored: paths, markers, tabs, rows, buttons.
TOUCH = """async () => {
  const seen = 'path.leaflet-interactive, .leaflet-marker-icon, [role=tab], [id^=plan-], [id^=view-], '
    + 'summary, tbody tr, .leaflet-control-layers input, input[type=checkbox], #search, a#evil';
  let touched = 0;
  for (const one of [...document.querySelectorAll(seen)].slice(0, 400)) {
    for (const kind of ['mouseover', 'mousemove', 'click', 'mouseout']) {
      one.dispatchEvent(new MouseEvent(kind, { bubbles: true, cancelable: true }));
    }
    touched += 1;
    if (touched % 40 === 0) await new Promise((done) => setTimeout(done, 20));
  }
  return touched;
}"""


@row(
    "scripts", "script in the map: XSS strings × every stored field, in a real browser: 0 executed"
)
def scripts(torture: Torture) -> None:
    site, figures = torture.site(), torture.figures
    stored = _store(torture, site)
    names = set(site.sql("SELECT string_agg(DISTINCT name, '|') FROM district").split("|"))
    site.sql("UPDATE district SET name = :e, name_en = :e WHERE adcode = '500229'", e=SCRIPTS[1])
    try:
        visits = touched = 0
        with _browser() as browser:
            for user, paths in PAGES.items():
                with _signed_in(browser, site, user) as (page, requests):
                    for path in paths if torture.scale >= 0.5 else paths[:3]:
                        touched += _visit(torture, site, page, path)
                        visits += 1
                    figures.check(
                        not _off(requests, site), f"off the host: {_off(requests, site)[:3]}"
                    )
    finally:
        site.sql(
            "UPDATE district SET name = '城口县', name_en = 'Chengkou' WHERE adcode = '500229'"
        )
    assert "城口县" in names
    figures.count(visits)
    figures.own |= {"stored": stored, "pages": visits, "things touched": f"{touched:,}"}
    figures.own["executed"] = 0 if figures.ok else "see the violations"


@row("outside", "CDN, telemetry: the browser's request log holds loopback only")
def outside(torture: Torture) -> None:
    site, figures = torture.site(), torture.figures
    asked: list[str] = []
    with _browser() as browser:
        for user in ("commander", "planner", "viewer", "field", "admin", "utility"):
            with _signed_in(browser, site, user) as (page, requests):
                for path in PAGES["commander"] if torture.scale >= 0.5 else ["/", "/docs"]:
                    answer = _go(page, site, path)
                    figures.count()
                    figures.check(answer < 500, f"{answer}: {path} as {user}")
                asked += requests
                figures.check(not _off(requests, site), f"off the host: {_off(requests, site)[:3]}")
    hosts = {urlsplit(one).hostname for one in asked if not one.startswith(("data:", "blob:"))}
    figures.own |= {"requests": f"{len(asked):,}", "hosts": ", ".join(sorted(map(str, hosts)))}


def _visit(torture: Torture, site: Site, page: Page, path: str) -> int:
    """Open it and touch what there is; how much there was."""
    answer = _go(page, site, path)
    torture.figures.check(answer < 500, f"{answer}: {path}")
    touched = 0
    with contextlib.suppress(Error):  # a click may have led elsewhere
        page.wait_for_load_state("networkidle", timeout=8_000)
    with contextlib.suppress(Error):
        touched = int(page.evaluate(TOUCH))
        page.wait_for_timeout(400)
    with contextlib.suppress(Error):
        owned = page.evaluate("window.__owned")
        torture.figures.check(owned is None, f"a script ran: {path}")
        frames = page.locator("iframe[srcdoc]").count()
        torture.figures.check(frames == 0, f"a stored frame is in the page: {path}")
    return touched


def _go(page: Page, site: Site, path: str) -> int:
    try:
        answer = page.goto(site.server.url + path, wait_until="domcontentloaded", timeout=60_000)
    except Error as error:
        site.figures.violate(f"{path}: {error.message[:150]}")
        return 599
    return answer.status if answer else 200


def _off(requests: list[str], site: Site) -> list[str]:
    ours = (f"{site.server.url}/", "data:", "blob:")
    return [one for one in requests if not one.startswith(ours)]


@contextlib.contextmanager
def _browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def _signed_in(browser: Browser, site: Site, user: str) -> Iterator[tuple[Page, list[str]]]:
    """A page behind the sign-in form, and every address it asks for."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="zh-CN")
    requests: list[str] = []
    try:
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("dialog", lambda dialog: dialog.dismiss())
        page.goto(f"{site.server.url}/login")
        page.fill("[name=username]", site.credentials[user]["username"])
        page.fill("[name=password]", site.credentials[user]["password"])
        page.click("[type=submit]")
        page.wait_for_url(lambda url: "/login" not in url)
        yield page, requests
    finally:
        context.close()


def _store(torture: Torture, site: Site) -> int:
    """Each string in each field that takes it; how many were taken."""
    taken = 0
    lon, lat = INSIDE[YUZHONG]
    for number, evil in enumerate(SCRIPTS):
        place = [lon + number / 2_000, lat]
        body = incident(position=place, address=evil, description=evil, source=evil[:40])
        body["reporter"] = {"name": evil[:100], "phone": "13800000000"}
        asked = [("POST", "/v1/incidents", "commander", body)]
        for field in ("address", "description", "source", "facility_id", "kind"):
            asked.append(
                (
                    "POST",
                    "/v1/incidents",
                    "commander",
                    incident(position=place) | {field: evil[:100]},
                )
            )
        said = {"outage_id": f"{evil[:60]}{uuid4().hex[:4]}", "revision": 1, "cause": evil[:190]}
        said |= {"load_shed_kw": 10, "customers_out": 1, "started_at": ago(minutes=9)}
        said |= {"facility_ids": [], "event": evil[:100]}
        shape = {"type": "Polygon", "coordinates": [[[x, y] for x, y in ((106.4, 29.4), (106.5, 29.4), (106.5, 29.5), (106.4, 29.4))]]}  # fmt: skip
        asked.append(
            (
                "POST",
                "/v1/outages",
                "utility",
                {"type": "Feature", "geometry": shape, "properties": said},
            )
        )
        event = {"event_id": f"{evil[:60]}{uuid4().hex[:4]}", "facility_id": f"F{number}"}
        event |= {"state": "down", "observed_at": ago(minutes=1), "cause": evil[:190]}
        asked.append(("POST", "/v1/status", "utility", [event]))
        change = {"adcodes": [YUZHONG], "kind": "substation", "state": "down"}
        asked.append(
            (
                "POST",
                "/v1/scenarios",
                "commander",
                {"name": evil[:90], "changes": [change], "shared": True},
            )
        )
        asked.append(
            (
                "PUT",
                "/v1/plans/communications-2024/facts",
                "commander",
                {"reason": evil, "facts": {}},
            )
        )
        for method, path, who, sent in asked:
            taken += site.ask(method, path, who, json=sent).is_success
        table = f'facility_id,name,kind,operator,lon,lat,crs\nX{number},"{evil.replace(chr(34), chr(34) * 2)}",substation,"{evil.replace(chr(34), chr(34) * 2)[:60]}",{place[0]},{lat},WGS84\n'
        imported = site.ask(
            "POST", "/v1/facilities/import", "planner", files={"file": ("r.csv", table.encode())}
        )
        taken += imported.is_success
        quoted = evil.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
        team = f'<event version="2.0" uid="t{number}" type="a-f-G-U-C" how="m-g" time="{ago(minutes=1)}" start="{ago(minutes=1)}" stale="{ago(minutes=-30)}"><point lat="{lat}" lon="{place[0]}" hae="1" ce="1" le="1"/><detail><contact callsign="{quoted}"/><remarks>{quoted}</remarks></detail></event>'
        sent_team = site.ask(
            "POST",
            "/v1/cot",
            "field",
            content=team.encode(),
            headers={"Content-Type": "application/xml"},
        )
        taken += sent_team.is_success
    torture.figures.check(taken > 5 * len(SCRIPTS), f"only {taken} were stored: nothing is tried")
    return taken
