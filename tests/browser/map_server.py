"""A small server for the map's browser tests: scripted situations, a stream, a log of requests.

It speaks as Yutu's API does where the page asks, and runs on a thread of the test process.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse

from maps.assets import static_files
from maps.login import render_login
from maps.page import Page
from maps.situation_map import render_page
from maps.text import as_lang
from tests import situations


class MapServer:
    """`situation` is what the page gets; `publish` changes it and tells the stream."""

    def __init__(self, situation: dict[str, Any], districts: dict[str, Any] | None = None) -> None:
        self.situation = situation
        self.districts = districts or situations.districts()
        self.incidents: list[dict[str, Any]] | None = None
        self.outages: list[dict[str, Any]] | None = None
        self.asked: list[str] = []
        self.embed = False
        self.port = _free_port()
        self._listeners: list[asyncio.Queue[str | None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        config = uvicorn.Config(
            self._app(),
            port=self.port,
            log_level="error",
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started:
            if time.monotonic() > deadline:
                raise TimeoutError("the test server did not start")
            time.sleep(0.02)

    def stop(self) -> None:
        if self._server is None or self._thread is None:
            return
        self._tell(None)
        self._server.should_exit = True
        self._thread.join(timeout=10)
        self._server = self._thread = None

    def publish(self, situation: dict[str, Any], kind: str = "situation") -> None:
        self.situation = situation
        levels = {plan: found["level"] for plan, found in situation["plans"].items()}
        news = {"sequence": situation["sequence"], "as_of": situation["as_of"], "levels": levels}
        self._tell(f"id: {situation['sequence']}\nevent: {kind}\ndata: {json.dumps(news)}\n\n")

    def _tell(self, text: str | None) -> None:
        if self._loop is not None:
            for queue in list(self._listeners):
                self._loop.call_soon_threadsafe(queue.put_nowait, text)

    async def _events(self) -> AsyncIterator[str]:
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._listeners.append(queue)
        try:
            yield ": open\n\n"
            while (text := await queue.get()) is not None:
                yield text
        finally:
            self._listeners.remove(queue)

    def _page(self, request: Request, plan: str | None) -> Response:
        lang = as_lang(request.query_params.get("lang"))
        view = situations.view(
            lang,
            districts=self.districts,
            at=request.query_params.get("at"),
            situation=self.situation if self.embed else None,
        )
        layers = [] if self.incidents is None else ["incidents", "outages"]
        return _answer(render_page(view, plan, layers=layers))

    def _app(self) -> FastAPI:
        app = FastAPI(openapi_url=None)

        @app.middleware("http")
        async def note(request: Request, call_next: Any) -> Any:
            self._loop = asyncio.get_running_loop()
            self.asked.append(str(request.url.path))
            return await call_next(request)

        @app.get("/")
        def home(request: Request) -> Response:
            return self._page(request, None)

        @app.get("/maps/{plan}")
        def one(request: Request, plan: str) -> Response:
            return self._page(request, plan)

        @app.get("/login")
        def login(request: Request) -> Response:
            lang = as_lang(request.query_params.get("lang"))
            target = request.query_params.get("next")
            return _answer(render_login(lang, request.query_params.get("error"), target, "token"))

        @app.get("/v1/situation")
        def situation() -> Response:
            return JSONResponse(self.situation, headers={"ETag": f'"{self.situation["sequence"]}"'})

        @app.get("/v1/situation/stream")
        async def stream() -> Response:
            return StreamingResponse(self._events(), media_type="text/event-stream")

        @app.get("/v1/incidents")
        def incidents() -> Response:
            return _collection(self.incidents)

        @app.get("/v1/outages")
        def outages() -> Response:
            return _collection(self.outages)

        for path, file in static_files().items():
            app.get(path)(lambda file=file: FileResponse(file))
        return app


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _answer(page: Page) -> Response:
    headers = {"Content-Security-Policy": page.csp, "ETag": page.etag}
    return Response(page.html, media_type="text/html; charset=utf-8", headers=headers)


def _collection(features: list[dict[str, Any]] | None) -> Response:
    if features is None:
        return JSONResponse({"title": "not here"}, status_code=404)
    return JSONResponse({"type": "FeatureCollection", "features": features})


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
