"""The commander's map: one page for all plans, or for one of them, now or at a past time.

The page holds the borders, the plans' criteria and the words. The figures of the moment come from
`/v1/situation` and change with `/v1/situation/stream`; one situation may be put into the page for
its first paint. Stored text is passed as JSON and written with `textContent` only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from geo.errors import NotFound
from maps import assets, legend
from maps.layers import DISTRICTS_VARIABLE, MAP_VARIABLE, FoliumParts, district_map
from maps.page import Page, render
from maps.style import Style
from maps.text import HTML_LANGS, KINDS, SHORT_PLANS, WORDS, Lang, say

URLS: Mapping[str, str] = {
    "home": "/",
    "planner": "/planner",
    "login": "/login",
    "logout": "/logout",
    "situation": "/v1/situation",
    "stream": "/v1/situation/stream",
}
# Layers over the districts: FeatureCollections, left out silently where the account may not read.
LAYER_URLS: Mapping[str, str] = {
    "incidents": "/v1/incidents",
    "outages": "/v1/outages",
    "teams": "/v1/teams",
}


def render_page(
    *,
    plan: str | None,
    lang: Lang,
    districts: Mapping[str, Any],
    packs: Mapping[str, Mapping[str, Any]],
    at: str | None,
    user: Mapping[str, Any] | None,
    csrf: str,
    situation: Mapping[str, Any] | None = None,
    style: Style | None = None,
    planner: bool = False,
    layers: Sequence[str] = tuple(LAYER_URLS),
) -> Page:
    """The page of `plan`, or of all `packs` with a switch when it is None.

    `districts` is the FeatureCollection of the divisions in force at `at` (or now), simplified for
    display; its or its features' `source` and `licence` are shown. `packs` are the rule packs as
    `/v1/plans/{plan}` gives them. `at` is an RFC 3339 time of knowledge, already checked. The
    account has the planner's page (`planner`) and may read the `layers` of LAYER_URLS. Raises
    NotFound for an unknown plan, InvalidInput for districts that cannot be drawn.
    """
    if plan is not None and plan not in packs:
        raise NotFound(f"there is no plan {plan!r}; known are {', '.join(packs)}")
    style = style or Style()
    shown = packs if plan is None else {plan: packs[plan]}
    parts = _folium_parts(districts, style, lang)
    plans = [plan_view(name, pack, lang, style) for name, pack in shown.items()]
    data = {
        "lang": lang,
        "plan": plan or plans[0]["id"],
        "plans": plans,
        "at": at,
        "map": MAP_VARIABLE,
        "layer": DISTRICTS_VARIABLE,
        "style": style.as_json(),
        "urls": {**URLS, **{layer: LAYER_URLS[layer] for layer in layers}},
        "words": dict(WORDS[lang]),
        "kinds": dict(KINDS[lang]),
        "situation": situation,
    }
    other: Lang = "en" if lang == "zh" else "zh"
    return render(
        "page.html",
        html_lang=HTML_LANGS[lang],
        head=Markup(parts.head),  # noqa: S704 - Folium's own markup, no stored text in it
        body=Markup(parts.body),  # noqa: S704
        script=Markup(parts.script),  # noqa: S704 - stored text only as JSON, see layers
        page_data=htmlsafe_json_dumps(data),
        level_rules=Markup(style.css_variables()),  # noqa: S704 - checked colours only
        words=WORDS[lang],
        plans=plans,
        single=plan is not None and len(packs) > 1,
        user=user,
        csrf=csrf,
        urls=URLS,
        planner_url=URLS["planner"] + ("?" + urlencode({"at": at}) if at else "")
        if planner
        else "",
        other_lang=other,
        other_lang_url="?" + urlencode({"lang": other, **({"at": at} if at else {})}),
        now_url="?" + urlencode({"lang": lang}),
        sources=sources(districts, lang),
        style_url=assets.MAP_STYLE_URL,
        script_url=assets.MAIN_SCRIPT_URL,
    )


def plan_view(name: str, pack: Mapping[str, Any], lang: Lang, style: Style) -> dict[str, Any]:
    """What the page's script needs of a rule pack: criteria, names of metrics and facts, bins;
    whether it grades `facilities`, and whether these supply `power`."""
    found = legend.measures(pack, lang)
    return {
        "id": name,
        "name": str(pack.get("title") or name),
        "short": SHORT_PLANS[lang].get(name, name),
        "criteria": [
            {
                "clause": rule.get("clause"),
                "level": rule.get("level"),
                "metric": rule.get("metric"),
                "unit": rule.get("unit"),
                "count": rule.get("count"),
                "text": rule.get("text"),
            }
            for rule in legend.criteria(pack)
        ],
        "scale": [
            {"level": grade["level"], "severity": grade.get("severity")} for grade in pack["scale"]
        ],
        "metrics": legend.metric_names(pack, lang),
        "facilities": bool(pack.get("facility_kinds")),
        "power": any(measure.source == "load" for measure in found),
        "measures": [measure.as_json(style) for measure in found],
    }


def sources(districts: Mapping[str, Any], lang: Lang) -> str:
    """The line on where the borders come from, under which licence, and which are approximate.

    Every name once: `A: x` and `A: y` are `A (x; y)`, and a licence's `(A)` is left out.
    """
    stored = [feature.get("properties") or {} for feature in districts["features"]]

    def given(key: str) -> list[str]:
        texts = (districts.get(key), *(properties.get(key) for properties in stored))
        return list(dict.fromkeys(str(text) for text in texts if text))

    origins = _grouped(given("source"))
    licences = dict.fromkeys(_without_named(text, origins) for text in given("licence"))
    pieces = [
        f"{say(lang, word)}: {'; '.join(texts)}"
        for word, texts in (("borders", origins), ("licence", licences))
        if texts
    ]
    rough = [_name(p, lang) for p in stored if p.get("approximate")]
    if rough:
        pieces.append(say(lang, "approximate_note", names=say(lang, "comma").join(rough)))
    return " · ".join(pieces)


def _grouped(texts: Iterable[str]) -> list[str]:
    """What stands before a colon once, with what stands behind it in brackets."""
    details: dict[str, dict[str, None]] = {}
    for text in texts:
        head, _, detail = text.partition(": ")
        found = details.setdefault(head, {})
        if detail:
            found[detail] = None
    return [f"{head} ({'; '.join(found)})" if found else head for head, found in details.items()]


def _without_named(licence: str, origins: Iterable[str]) -> str:
    """The licence without a closing bracket that only names an origin."""
    text, bracket, named = licence.removesuffix(")").rpartition(" (")
    return text if bracket and any(named in origin for origin in origins) else licence


def _name(properties: Mapping[str, Any], lang: Lang) -> str:
    english = properties.get("name_en") if lang == "en" else None
    return str(english or properties.get("name") or properties.get("adcode"))


def _folium_parts(districts: Mapping[str, Any], style: Style, lang: Lang) -> FoliumParts:
    features: Sequence[Mapping[str, Any]] = districts["features"]
    text = json.dumps({"type": "FeatureCollection", "features": features})
    return _rendered(text, style.nothing_down, lang)


@lru_cache(maxsize=4)
def _rendered(districts_text: str, ground: str, lang: Lang) -> FoliumParts:
    """Rendering takes longer than all the rest of a page, and borders rarely change."""
    return district_map(json.loads(districts_text), ground, lang)
