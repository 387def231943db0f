"""Every router of the API; a new noun adds its module here."""

from __future__ import annotations

from fastapi import APIRouter

from api.routes import health, openapi, session, static

ROUTERS: tuple[APIRouter, ...] = (
    health.router,
    session.router,
    openapi.router,
    static.router,
)
