"""Around every request: one log line, its metrics, the headers all answers carry, no bare 500.

The line holds method, route template, status, milliseconds and account; never the path or query as
sent, which may hold a token or a name.
"""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from typing import Any

import structlog
from prometheus_client import Counter, Gauge, Histogram
from starlette.datastructures import MutableHeaders

from api.audit_notes import note_answer
from api.credentials import Application, Receive, Scope, Send
from api.language import language_of
from api.problems import answer_error

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
#: A week: long enough for one incident, short enough for a machine that goes back to plain HTTP.
HSTS = "max-age=604800"
#: Here other programs listen too, on other ports and without TLS, which the header would close.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[", ""})

REQUESTS = Counter(
    "yutu_requests_total", "Requests by route template.", ["method", "route", "status"]
)
SECONDS = Histogram(
    "yutu_request_seconds",
    "Time to the end of the answer, streams left out.",
    ["method", "route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
IN_PROGRESS = Gauge(
    "yutu_requests_in_progress", "Requests being answered.", multiprocess_mode="livesum"
)

log = structlog.get_logger("yutu.request")


class RequestLog:
    """ASGI middleware, the outermost of ours."""

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # Starlette shares the lifespan's state dict; ours is of this request alone
        state = scope["state"] = dict(scope.get("state") or {})
        state["arrived_at"] = time.monotonic()
        started_at = time.perf_counter()
        status = 0
        streams = False

        async def sending(message: MutableMapping[str, Any]) -> None:
            nonlocal status, streams
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope.get("scheme") == "https" and _host(scope) not in LOOPBACK:
                    headers.setdefault("Strict-Transport-Security", HSTS)
                streams = headers.get("content-type", "").startswith("text/event-stream")
            await send(message)

        IN_PROGRESS.inc()
        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            answer = answer_error(error, language_of(scope))
            if status:  # the answer has begun: break it off, so that nobody takes it for whole
                raise
            await answer(scope, receive, sending)
        finally:
            IN_PROGRESS.dec()
            seconds = time.perf_counter() - started_at
            rule, account = state.get("rule"), state.get("account")
            route = rule.path if rule else "unmatched"
            method = scope["method"] if scope["method"] in METHODS else "other"
            REQUESTS.labels(method, route, str(status)).inc()
            if not streams:
                SECONDS.labels(method, route).observe(seconds)
            note_answer(scope, status)
            log.info(
                "request",
                method=method,
                route=route,
                status=status,
                ms=round(seconds * 1000, 1),
                account=account.username if account else None,
            )


def _host(scope: Scope) -> str:
    """The host asked for, without its port; `[` stands for any IPv6 address."""
    for name, value in scope["headers"]:
        if name == b"host":
            return str(value.decode("latin-1")).partition(":")[0].lower()
    return ""
