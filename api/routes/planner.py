"""The planner's page: regions, what-if and files, now or at a past time."""

from __future__ import annotations

from fastapi import Response

from api.answers import page_answer
from api.routes.pages import VisitDep, map_view
from api.routing import make_router
from maps.planner_page import render_planner

router = make_router("pages")


@router.get("/planner", include_in_schema=False)
def planner(visit: VisitDep) -> Response:
    return page_answer(render_planner(map_view(visit)), request=visit.request)
