"""Every router of the API; a new noun adds its module here."""

from __future__ import annotations

from fastapi import APIRouter

from api.routes import (
    attachments,
    certificate,
    cot,
    districts,
    export,
    facilities,
    facts,
    field,
    health,
    hotline,
    incident_history,
    incidents,
    ogc,
    openapi,
    outages,
    pages,
    plans,
    returns,
    session,
    situation,
    static,
    status,
    tiles,
)

ROUTERS: tuple[APIRouter, ...] = (
    health.router,
    certificate.router,
    session.router,
    pages.router,
    field.router,
    situation.router,
    districts.router,
    plans.router,
    facilities.router,
    status.router,
    outages.router,
    returns.router,
    incidents.router,
    attachments.router,
    incident_history.router,
    hotline.router,
    cot.router,
    facts.router,
    ogc.router,
    tiles.router,
    export.router,
    openapi.router,
    static.router,
)
