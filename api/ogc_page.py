"""The OGC API's answers as pages: one template of ours, no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from api.answers import page_answer
from maps.page import render

CELL_CHARACTERS_MAX = 200


class OgcPages:
    """Stands where tipg expects its templates, whose pages load from other servers."""

    def TemplateResponse(  # noqa: N802 (the name tipg calls)
        self, request: Request, *, name: str, context: Mapping[str, Any]
    ) -> Response:
        """The page of an answer; `name` does not matter, since one template shows them all."""
        data = dict(context["response"])
        links = data.pop("links", [])
        collections = data.pop("collections", [])
        features = data.pop("features", None)
        if features is None and data.get("type") == "Feature":
            features = [data]
        rows = [_row(one) for one in features or []]
        matched, returned = data.pop("numberMatched", None), data.pop("numberReturned", None)
        rest = {} if features is not None else data
        page = render(
            "ogc.html",
            title=context["template"]["title"],
            description=data.get("description"),
            crumbs=context["crumbs"],
            root=context["template"]["api_root"],
            links=[{"title": None, "type": None, "templated": False, **one} for one in links],
            collections=[{"description": None, **one} for one in collections],
            matched=matched,
            returned=returned,
            columns=list(rows[0]) if rows else [],
            rows=rows,
            rest=orjson.dumps(rest, default=_plain, option=orjson.OPT_INDENT_2).decode()
            if rest
            else "",
        )
        return page_answer(page)


def _row(feature: Mapping[str, Any]) -> dict[str, str]:
    geometry = feature.get("geometry") or {}
    shape = str(geometry.get("type") or "")
    if shape == "Point":
        shape = ", ".join(f"{number:.6f}" for number in geometry["coordinates"])
    cells = {**(feature.get("properties") or {}), "geometry": shape}
    return {name: _cell(value) for name, value in cells.items()}


def _cell(value: Any) -> str:
    text = (
        "" if value is None else value if isinstance(value, str) else orjson.dumps(value).decode()
    )
    return text if len(text) <= CELL_CHARACTERS_MAX else f"{text[:CELL_CHARACTERS_MAX]}…"


def _plain(value: Any) -> Any:
    """A model of tipg's or morecantile's as JSON."""
    return value.model_dump(exclude_none=True) if hasattr(value, "model_dump") else str(value)
