"""Every router of the API; a new noun adds its module here."""

from __future__ import annotations

from fastapi import APIRouter

from api.routes import facts, health, incidents, openapi, outages, plans, returns, session, static

ROUTERS: tuple[APIRouter, ...] = (
    health.router,
    session.router,
    plans.router,
    outages.router,
    returns.router,
    incidents.router,
    facts.router,
    openapi.router,
    static.router,
)
