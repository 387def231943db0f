"""The field teams' page and the worker that keeps it on the phone.

The page holds no one's data: it is the same for every account, in both languages, so that a phone
may keep it. Names of facts come from the rule packs; which of them a kind of incident asks for, and
in what order, is said here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
from markupsafe import Markup

from maps.assets import ASSET_URLS, ASSETS_DIR, STATIC_PREFIX, static_files
from maps.field_words import KINDS, WORDS
from maps.page import Page, render

PAGE_URL = "/field"
DISTRICTS_URL = "/field/districts.json"
WORKER_URL = "/field/worker.js"
LOGOUT_URL = "/logout"
_OWN = f"{STATIC_PREFIX}/yutu"
SCRIPT_URL = f"{_OWN}/field.js"
STYLE_URL = f"{_OWN}/field.css"
MANIFEST_URL = f"{_OWN}/field.webmanifest"
ICON_URL = f"{_OWN}/field-192.png"

#: What the phone keeps beside the page and the districts.
FILES: tuple[str, ...] = (
    *(ASSET_URLS[name] for name in ("leaflet", "leaflet_css")),
    *(SCRIPT_URL, STYLE_URL, MANIFEST_URL, ICON_URL),
    *(f"{_OWN}/{name}.js" for name in ("field_store", "field_sender", "field_map", "field_form")),
    *(f"{_OWN}/{name}.js" for name in ("field_place", "field_position", "field_queue", "dom")),
)
WORKER_CSP = "default-src 'none'; connect-src 'self'"

_STRANDED = ("people_stranded", "stranded_since")
_HURT = ("deaths", "serious_injuries")
_LEAK = ("exploded", "toxic_leak", "people_relocated")
#: Plan → kind of incident → the facts asked for, the telling ones first.
ASKED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "special-equipment-2023": {
        "elevator": (*_STRANDED, *_HURT),
        "crane": ("overturned", "structure_broken", "hoist_fell", *_HURT, "people_stranded"),
        "boiler": (
            "exploded",
            "people_relocated",
            *_HURT,
            "safety_fault",
            "shutdown_hours",
            "boiler_mw",
        ),
        "pressure_vessel": (*_LEAK, *_HURT),
        "gas_cylinder": (*_LEAK, *_HURT),
        "pressure_pipeline": (*_LEAK, *_HURT),
        "passenger_ropeway": (*_STRANDED, *_HURT),
        "large_amusement_ride": (*_STRANDED, *_HURT),
        "in_plant_vehicle": ("overturned", *_HURT),
    },
    "communications-2024": dict.fromkeys(
        ("base_station", "exchange", "optical_cable", "other"), ()
    ),
    "power-outage-2021": dict.fromkeys(("substation", "power_line", "customers", "other"), ()),
}
#: Asked of every kind whose plan has it.
ASKED_ALWAYS = ("possible",)


def render_field(packs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Page:
    """The page. `packs`: language → the rule packs in force, as they describe themselves."""
    data = {
        "words": WORDS,
        "plans": {lang: [_plan(pack, lang) for pack in packs[lang]] for lang in ("zh", "en")},
        "districts_url": DISTRICTS_URL,
        "worker_url": WORKER_URL,
        "page_url": PAGE_URL,
        "logout_url": LOGOUT_URL,
    }
    page = render(
        "field.html",
        data=Markup(orjson.dumps(data).decode().replace("<", "\\u003c")),  # noqa: S704
        words=WORDS["zh"],
        style_urls=(ASSET_URLS["leaflet_css"], STYLE_URL),
        leaflet_url=ASSET_URLS["leaflet"],
        script_url=SCRIPT_URL,
        manifest_url=MANIFEST_URL,
        icon_url=ICON_URL,
    )
    more = "; manifest-src 'self'; worker-src 'self'"
    return replace(
        page, csp=page.csp.replace("img-src 'self' data:", "img-src 'self' data: blob:") + more
    )


def _plan(pack: Mapping[str, Any], lang: str) -> dict[str, Any]:
    schema = {fact["name"]: fact for fact in pack["facts"] if fact["group"] is None}
    kinds = [
        {
            "kind": kind,
            "name": KINDS[kind][lang == "en"],
            "facts": [
                {"name": name, "type": schema[name]["type"], "title": schema[name]["title"]}
                for name in (*names, *ASKED_ALWAYS)
                if name in schema
            ],
        }
        for kind, names in ASKED.get(pack["plan"], {}).items()
    ]
    # where a kind of equipment is a fact, each incident has a level of its own
    return {"plan": pack["plan"], "kinds": kinds, "graded": "equipment" in schema}


def render_worker(page: Page, districts: bytes) -> bytes:
    """The worker's script, its version made of everything it keeps."""
    files = static_files()
    digest = hashlib.sha256(page.html + page.csp.encode() + districts)
    for url in FILES:
        digest.update(files[url].read_bytes())
    kept = orjson.dumps([PAGE_URL, DISTRICTS_URL, *FILES]).decode()
    head = f'const VERSION = "{digest.hexdigest()[:16]}";\nconst FILES = {kept};\n'
    return head.encode() + (ASSETS_DIR / "yutu" / "field_worker.js").read_bytes()
