"""The commander's map: one page for all plans, or for one of them, now or at a past time.

The page holds the borders, the plans' criteria and the words. The figures of the moment come from
`/v1/situation` and change with `/v1/situation/stream`; one situation may be put into the page for
its first paint. Stored text is passed as JSON and written with `textContent` only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from geo.errors import NotFound
from maps.assets import MAIN_SCRIPT_URL, MAP_STYLE_URL
from maps.map_view import MapView
from maps.page import Page
from maps.text import KINDS, WORDS

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
    view: MapView,
    plan: str | None = None,
    *,
    planner: bool = False,
    layers: Sequence[str] = tuple(LAYER_URLS),
) -> Page:
    """The page of `plan`, or of all the view's packs with a switch when it is None.

    The account has the planner's page (`planner`) and may read the `layers` of LAYER_URLS. Raises
    NotFound for an unknown plan, InvalidInput for districts that cannot be drawn.
    """
    if plan is not None and plan not in view.packs:
        raise NotFound(f"there is no plan {plan!r}; known are {', '.join(view.packs)}")
    plans = view.plans() if plan is None else view.plans(plan)
    return view.page(
        "page.html",
        plans=plans,
        urls={**URLS, **{layer: LAYER_URLS[layer] for layer in layers}},
        words=WORDS[view.lang],
        kinds=KINDS[view.lang],
        data={"plan": plans[0]["id"]},
        single=plan is not None and len(view.packs) > 1,
        planner_url=view.at_this_time(URLS["planner"]) if planner else "",
        style_urls=(MAP_STYLE_URL,),
        library_urls=(),
        script_url=MAIN_SCRIPT_URL,
    )
