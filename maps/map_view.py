"""What the commander's map and the planner's page have in common: districts drawn by Folium, the
header with the plans, the banners, and the line on where the borders come from.

Of a page's own there are its words, what its script is given, and what stands beside the map.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from maps import legend
from maps.layers import DISTRICTS_VARIABLE, MAP_VARIABLE, FoliumParts, district_map
from maps.page import Page, render
from maps.style import Style
from maps.text import HTML_LANGS, SHORT_PLANS, Lang, say

BEIJING = timezone(timedelta(hours=8), "Beijing")


@dataclass(frozen=True, kw_only=True)
class MapView:
    """Which districts and rules a map shows, of which moment, and to whom.

    `districts` is the FeatureCollection of the divisions in force at `at` (or now), simplified for
    display; its or its features' `source` and `licence` are shown. `packs` are the rule packs as
    `/v1/plans/{plan}` gives them. `at` is an RFC 3339 time of knowledge, already checked.
    `situation` is put into the page for its first paint.
    """

    lang: Lang
    districts: Mapping[str, Any]
    packs: Mapping[str, Mapping[str, Any]]
    at: str | None
    user: Mapping[str, Any] | None
    csrf: str
    situation: Mapping[str, Any] | None = None
    style: Style = field(default_factory=Style)

    def plans(self, *only: str) -> list[dict[str, Any]]:
        """`plan_view` of those packs, or of all."""
        return [
            plan_view(name, self.packs[name], self.lang, self.style) for name in only or self.packs
        ]

    def at_this_time(self, url: str) -> str:
        """Another page of the same moment."""
        return url + ("?" + urlencode({"at": self.at}) if self.at else "")

    def page(
        self,
        template: str,
        *,
        plans: Sequence[Mapping[str, Any]],
        urls: Mapping[str, str],
        words: Mapping[str, str],
        kinds: Mapping[str, str],
        data: Mapping[str, Any],
        **own: object,
    ) -> Page:
        """A template that extends `frame.html`; `data` is what its script needs beside the rest,
        `own` what the template does. Raises InvalidInput for districts that cannot be drawn."""
        parts = _rendered(
            json.dumps(self.districts["features"]), self.style.nothing_down, self.lang
        )
        other: Lang = "en" if self.lang == "zh" else "zh"
        given = {
            "lang": self.lang,
            "plans": plans,
            "at": self.at,
            "map": MAP_VARIABLE,
            "layer": DISTRICTS_VARIABLE,
            "style": self.style.as_json(),
            "urls": dict(urls),
            "words": dict(words),
            "kinds": dict(kinds),
            "situation": self.situation,
            **data,
        }
        return render(
            template,
            html_lang=HTML_LANGS[self.lang],
            head=Markup(parts.head),  # noqa: S704 - Folium's own markup, no stored text in it
            body=Markup(parts.body),  # noqa: S704
            script=Markup(parts.script),  # noqa: S704 - stored text only as JSON, see layers
            page_data=htmlsafe_json_dumps(given),
            level_rules=Markup(self.style.css_variables()),  # noqa: S704 - checked colours only
            words=words,
            kinds=kinds,
            plans=plans,
            at=self.at,
            user=self.user,
            csrf=self.csrf,
            urls=urls,
            other_lang=other,
            other_lang_url="?" + urlencode({"lang": other, **({"at": self.at} if self.at else {})}),
            now_url="?" + urlencode({"lang": self.lang}),
            sources=sources(self.districts, self.lang),
            divisions=divisions_words(self.districts, self.lang),
            **own,
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
    rough = [district_name(p, lang) for p in stored if p.get("approximate")]
    if rough:
        pieces.append(say(lang, "approximate_note", names=say(lang, "comma").join(rough)))
    return " · ".join(pieces)


def divisions_words(districts: Mapping[str, Any], lang: Lang) -> str:
    """How many districts there are, and since and until when (days in Beijing, where known)."""
    since, until = (_day(districts.get(key)) for key in ("valid_from", "valid_to"))
    key = "divisions_between" if until else "divisions_since" if since else "divisions"
    count = len(districts["features"])
    return say(lang, key, n=str(count), since=since or "…", until=until or "")


def _day(instant: object) -> str | None:
    """The day in Beijing of an RFC 3339 time."""
    if not isinstance(instant, str):
        return None
    return datetime.fromisoformat(instant).astimezone(BEIJING).date().isoformat()


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


def district_name(properties: Mapping[str, Any], lang: Lang) -> str:
    english = properties.get("name_en") if lang == "en" else None
    return str(english or properties.get("name") or properties.get("adcode"))


@lru_cache(maxsize=4)
def _rendered(features: str, ground: str, lang: Lang) -> FoliumParts:
    """Rendering takes longer than all the rest of a page, and borders rarely change."""
    collection = {"type": "FeatureCollection", "features": json.loads(features)}
    return district_map(collection, ground, lang)
