"""The whole API as one ASGI app, and how it stands beside the page."""

import logging
import sys
import time
from typing import Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from .. import __version__
from ..errors import GOING_DOWN, Loading
from ..serving.service import Service
from . import detect, inspect, models
from . import openai_chat as chat
from . import openai_responses as responses
from .auth import Keys
from .dispatch import Dispatcher
from .errors import Refusal, documented, handle_errors
from .gradio_routes import GradioMiddleware
from .hosts import root_path
from .limits import BodyBudget
from .login import LoginMiddleware
from .middleware import GatewayMiddleware
from .uploads import Uploads
from .visitors import VisitorMiddleware

_WITHOUT_VERSION = ("/chat/completions", "/responses", "/models", "/completions", "/embeddings")
"""Where clients look whose base URL lacks the /v1."""

_API_PATHS = ("/healthz", "/readyz", "/metrics", "/docs", "/docs-static", "/openapi.json")

_ABOUT = """
RT-DETR as a service. The decoder can be cut after any layer (`decoder_layers`), which trades
accuracy for speed. Clients of OpenAI's API work unchanged: the content of an answer is JSON of the
schema *Pictures*.
"""

log = logging.getLogger(__name__)


class Health(BaseModel):
    status: Literal["ok"]


class Readiness(BaseModel):
    status: Literal["ready"]


class Api:
    """One service's API; `app` serves it, in front of the page by `ApiMiddleware`."""

    def __init__(self, service: Service):
        self.service = service
        self.keys = Keys(service.settings)
        self._bodies = BodyBudget(service.settings.patience)
        self._dispatcher = Dispatcher(service)
        self._gateway = GatewayMiddleware(
            _app(service, self._dispatcher, self.keys, self._readiness),
            self.keys,
            self._bodies,
            2 * service.settings.api_share,
        )
        self.app: ASGIApp = self._gateway

    def middleware(self, max_upload: int, *page: Middleware) -> list[Middleware]:
        """What stands before Gradio in its app, outermost first.

        `max_upload`: bytes of one upload; `page`: what the page serves beside Gradio.
        """
        settings = self.service.settings
        uploads = Uploads(
            self.service.scratch, max_upload, settings.patience, self.service.store_bytes
        )
        return [
            Middleware(LoginMiddleware, settings=settings, keys=self.keys),
            Middleware(ApiMiddleware, api=self.app),
            Middleware(VisitorMiddleware),
            *page,
            Middleware(GradioMiddleware, bodies=self._bodies, uploads=uploads),
        ]

    def open(self) -> None:
        """Begin the log of requests, and say in the other one who may use the API."""
        lines = logging.StreamHandler(sys.stdout)
        lines.setFormatter(logging.Formatter("%(message)s"))
        requests = logging.getLogger("rtdetr_demo.requests")
        requests.propagate = False  # each line is JSON, whole
        requests.handlers = [lines]
        log.info(self.keys.describe())

    def drain(self, deadline: float) -> None:
        """Refuse new requests (503), and wait for those under way.

        Args:
            deadline: Until when to wait at most, on the clock of `time.monotonic`.
        """
        self._gateway.closing = True
        while self._gateway.inside and time.monotonic() < deadline:
            time.sleep(0.05)
        if self._gateway.inside:
            log.warning("%d requests were not finished in time", self._gateway.inside)

    def _readiness(self) -> None:
        """Raises DemoError while pictures cannot be taken."""
        if self._gateway.closing:
            raise Refusal(503, GOING_DOWN, "shutting_down")
        checkpoints = self.service.checkpoints
        if checkpoints.active not in checkpoints.store.loaded():
            raise Loading(f"{checkpoints.active} is being loaded.")


class ApiMiddleware:
    """ASGI middleware that gives the API its paths, and leaves all else to the page."""

    def __init__(self, app: ASGIApp, api: ASGIApp):
        self._page = app
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_ours(scope["path"]):
            await self._api({**scope, "root_path": root_path()}, receive, send)
        else:
            await self._page(scope, receive, send)


def _is_ours(path: str) -> bool:
    return path.startswith("/v1/") or any(
        path == own or path.startswith(own + "/") for own in (*_API_PATHS, *_WITHOUT_VERSION, "/v1")
    )


def _app(service: Service, dispatcher: Dispatcher, keys: Keys, readiness: Any) -> FastAPI:
    app = FastAPIOffline(
        title="RT-DETR demo",
        version=__version__,
        description=_ABOUT,
        redoc_url=None,
        static_url="/docs-static",
        swagger_ui_oauth2_redirect_url="/docs/oauth2-redirect",
        generate_unique_id_function=lambda route: route.name,  # what generated clients call them
    )
    handle_errors(app)
    # The gateway checks the key, before a body is read; this only tells the schema of it.
    key = [
        Depends(HTTPBearer(auto_error=False)),
        Depends(APIKeyHeader(name="X-API-Key", auto_error=False)),
    ]
    key = [] if keys.is_open else key
    for router in (
        chat.routes(dispatcher),
        responses.routes(dispatcher),
        detect.routes(dispatcher),
        inspect.routes(dispatcher),
    ):
        app.include_router(router, dependencies=key)
    app.include_router(models.routes(service), dependencies=key)
    app.include_router(_operation(readiness))
    for path in _WITHOUT_VERSION:
        for address in (path, path + "/{rest:path}"):
            app.add_route(address, _hint, list(_METHODS), include_in_schema=False)
    return app


_METHODS = ("GET", "POST", "DELETE")


def _hint(request: Request) -> Response:
    raise Refusal(
        404,
        f"There is nothing at {request.url.path[:60]}. Add /v1 to the base URL of your client: use "
        f"{str(request.base_url)[:200].rstrip('/')}/v1 there.",
        "unknown_url",
    )


def _operation(readiness: Any) -> APIRouter:
    router = APIRouter(tags=["Operation"])

    @router.get("/healthz", response_model=Health, summary="Whether the process answers")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @router.get(
        "/readyz",
        response_model=Readiness,
        responses=documented(503),
        summary="Whether pictures are taken",
    )
    async def ready() -> dict[str, str]:
        readiness()
        return {"status": "ready"}

    @router.get("/metrics", response_class=PlainTextResponse, summary="For Prometheus")
    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router
