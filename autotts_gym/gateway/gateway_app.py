"""The web application of a gateway."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import multiprocess
from starlette.exceptions import HTTPException
from starlette.responses import Response

import autotts_gym
from autotts_gym.gateway import request_log
from autotts_gym.gateway.admission import Admission
from autotts_gym.gateway.answering import AnsweringService
from autotts_gym.gateway.api_errors import ApiError, ErrorBody, JsonResponse
from autotts_gym.gateway.controller_list import ControllerList
from autotts_gym.gateway.episode_plan import PASS_THROUGH, Planner
from autotts_gym.gateway.gateway_metrics import CONTENT_TYPE, SHARED_FOLDER, GatewayMetrics
from autotts_gym.gateway.gateway_responses import EpisodeResponse, EpisodeStream
from autotts_gym.gateway.gateway_settings import SETTINGS_VARIABLE, GatewaySettings
from autotts_gym.gateway.pass_through import Forwarder, PassedThroughResponse, forwarded_body
from autotts_gym.gateway.replies import ChatCompletion, ModelCard, ModelCards, TextCompletion
from autotts_gym.gateway.request_guard import RequestGuard
from autotts_gym.gateway.request_log import log
from autotts_gym.gateway.request_models import ChatRequest, CompletionRequest
from autotts_gym.gateway.upstream_pool import UpstreamPool
from autotts_gym.gym_envs.live_config import compile_episodes
from autotts_gym.inference.http_engine import ServerEngine
from autotts_gym.inference.protocol import find_protocol
from autotts_gym.live.connection import connect
from autotts_gym.live.live_model import LiveModel

#: Seconds after which a thread that computes lets others go on: the event loops, while controllers
#: compute. Longer, and requests wait for controllers; shorter, and threads switch in vain.
_SWITCH_INTERVAL: Final = 0.001
#: Objects that are made, and not freed, before a garbage collection. Requests leave next to nothing
#: that only a collection frees; those in progress have thousands of objects.
_GARBAGE: Final = 50_000
#: Most connections to an upstream.
_MOST_CONNECTIONS: Final = 8192


@dataclass
class _Parts:
    """What a running gateway consists of.

    Attributes:
        live: the model with the default protocol.
        max_model_len: the model's context, tokens; None if unknown.
        upstream_model: the model's name on the upstreams.
        planner, service, forwarder, pool: see their classes.
    """

    live: LiveModel
    max_model_len: int | None
    upstream_model: str
    planner: Planner
    service: AnsweringService
    forwarder: Forwarder
    pool: UpstreamPool


_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    400: {"model": ErrorBody, "description": "The request is invalid or cannot be honoured."},
    401: {"model": ErrorBody, "description": "The API key is missing or wrong."},
    404: {"model": ErrorBody, "description": "The model does not exist."},
    408: {"model": ErrorBody, "description": "The request did not arrive in time."},
    413: {"model": ErrorBody, "description": "The request is too large."},
    429: {"model": ErrorBody, "description": "Too many requests; see Retry-After."},
    500: {"model": ErrorBody, "description": "The controller failed."},
    502: {"model": ErrorBody, "description": "The model server failed."},
    504: {"model": ErrorBody, "description": "There is no answer within the timeout."},
}


def create_app(settings: GatewaySettings) -> FastAPI:
    """Create the application. It loads the controllers here, and connects when it starts.

    Args:
        settings: the gateway's settings.

    Raises:
        AgentError: a controller cannot be loaded, or fails on recorded traces.
        ValueError, OSError: a key is missing.
    """
    keys = settings.client_keys()
    controllers = ControllerList(settings.allowed_controllers)
    controllers.rehearse(settings.reference, whole_branches=settings.reads_whole_branches)
    metrics = GatewayMetrics()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        made = await _connect(settings, controllers, metrics)
        app.state.parts = made
        watching = asyncio.create_task(made.pool.watch(made.live, settings.health_interval))
        log(
            "ready",
            model=made.planner.served,
            controllers=list(controllers),
            protocols=made.planner.protocols,
            upstreams=len(settings.upstreams),
            worker=os.getpid(),
        )
        yield
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await made.pool.close()
        made.service.close()
        await asyncio.to_thread(made.live.close)
        if os.environ.get(SHARED_FOLDER):
            multiprocess.mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]
        log("stopped", worker=os.getpid())

    app = FastAPI(
        title="autotts gateway",
        version=autotts_gym.__version__,
        description="OpenAI's API, answered by controllers that sample, probe, prune and vote.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    _add_routes(app, metrics)
    _add_error_handlers(app, metrics)
    app.add_middleware(RequestGuard, keys=keys, max_body=settings.max_body)
    return app


def create_worker_app() -> FastAPI:
    """Create the application of a worker process, with the settings in the environment."""
    request_log.set_up()
    app = create_app(msgspec.json.decode(os.environ[SETTINGS_VARIABLE], type=GatewaySettings))
    sys.setswitchinterval(_SWITCH_INTERVAL)
    # A garbage collection stops all requests: for 0.2 s, if it visits what was loaded so far, which
    # stays; for 10 ms and more, if it visits the streams of 32 questions.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE)
    return app


def open_model(settings: GatewaySettings) -> LiveModel:
    """Connect to the upstreams.

    Raises:
        EngineError, ValueError: they cannot be used; see
            :func:`autotts_gym.live.connection.connect`.
    """
    names = [name for name in settings.protocols if name != PASS_THROUGH]
    protocol = names[0] if names else None
    if settings.protocols and not names:
        protocol = "chat"  # is not used
    return connect(
        settings.upstreams,
        settings.model,
        protocol=protocol,
        reference=settings.reference,
        interval=settings.interval,
        max_tokens=settings.max_tokens,
        sampling={} if settings.temperature is None else {"temperature": settings.temperature},
        api=settings.api,
        patience=settings.patience,
        engine={
            "server_headers": settings.upstream_headers(),
            "stall": min(settings.stall, settings.patience),
            "concurrency": min(settings.concurrency * settings.max_branches, _MOST_CONNECTIONS),
        },
        generation_confidence=settings.generation_confidence,
        new_event_loop=_new_event_loop,
    )


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """An event loop of uvloop, as uvicorn's, where it is installed: streams cost a fifth less."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _connect(
    settings: GatewaySettings, controllers: ControllerList, metrics: GatewayMetrics
) -> _Parts:
    headers = settings.upstream_headers()
    names = [name for name in settings.protocols if name != PASS_THROUGH]
    await asyncio.to_thread(compile_episodes)
    live = await asyncio.to_thread(open_model, settings)
    try:
        models = {live.protocol.name: live}
        for name in names[1:]:
            other = live.derive(protocol=find_protocol(name, ""))
            models[other.protocol.name] = other
        if settings.protocols and not names:
            models = {}
        for each in models.values():  # encode the texts of the protocols once
            await asyncio.to_thread(each.run, each.prober())
        assert isinstance(live.engine, ServerEngine)
        facts = await asyncio.to_thread(live.run, live.engine.describe())
        upstream_model = await asyncio.to_thread(live.run, live.engine.model_name())
    except BaseException:
        await asyncio.to_thread(live.close)
        raise
    default = settings.protocols[0] if settings.protocols else live.protocol.name
    default = PASS_THROUGH if default == PASS_THROUGH else next(iter(models), PASS_THROUGH)
    served = settings.served_model or upstream_model
    admission = Admission(settings.concurrency, settings.queue)
    pool = UpstreamPool(settings.upstreams, headers, metrics)
    return _Parts(
        live,
        facts.get("max_model_len"),
        upstream_model,
        Planner(settings, served, controllers, models, default),
        AnsweringService(admission, metrics, settings.max_branches),
        Forwarder(pool, admission, metrics),
        pool,
    )


def _parts_of(app: FastAPI) -> _Parts:
    parts: _Parts = app.state.parts
    return parts


def _add_routes(app: FastAPI, metrics: GatewayMetrics) -> None:
    async def complete(
        request: Request, body: ChatRequest | CompletionRequest, path: str
    ) -> Response:
        made = _parts_of(app)
        request_id = request.state.request_id
        if made.planner.passes_through(body):
            return PassedThroughResponse(
                made.forwarder,
                path,
                forwarded_body(await request.json(), made.upstream_model),
                request_id,
                made.planner.timeout(body),
            )
        plan = made.planner.plan(body, request_id)
        is_chat = isinstance(body, ChatRequest)
        if not body.stream:
            return EpisodeResponse(made.service, plan, is_chat)
        include_usage = bool(body.stream_options and body.stream_options.include_usage)
        return EpisodeStream(made.service, plan, is_chat, include_usage)

    @app.post(
        "/v1/chat/completions",
        responses={200: {"model": ChatCompletion}, **_ERRORS},
        summary="Answer a conversation",
    )
    async def chat_completions(request: Request, body: ChatRequest) -> Response:
        return await complete(request, body, "/chat/completions")

    @app.post(
        "/v1/completions",
        responses={200: {"model": TextCompletion}, **_ERRORS},
        summary="Answer a question given as a prompt",
    )
    async def completions(request: Request, body: CompletionRequest) -> Response:
        return await complete(request, body, "/completions")

    def card(name: str) -> ModelCard:
        made = _parts_of(app)
        return ModelCard(
            id=name, created=started, root=made.planner.served, max_model_len=made.max_model_len
        )

    started = int(time.time())

    @app.get("/v1/models", response_model=ModelCards, summary="List the models")
    async def models() -> ModelCards:
        return ModelCards(data=[card(name) for name in _parts_of(app).planner.model_names])

    @app.get(
        "/v1/models/{model:path}",
        response_model=ModelCard,
        responses={404: {"model": ErrorBody}},
        summary="Describe a model",
    )
    async def model(model: str) -> ModelCard:
        _parts_of(app).planner.read_model(model)
        return card(model)

    @app.get(
        "/health",
        responses={503: {"description": "No upstream answers."}},
        summary="Whether an upstream answers",
    )
    async def health() -> Response:
        up = _parts_of(app).pool.up
        content = {
            "status": "ok" if any(up) else "unavailable",
            "upstreams": len(up),
            "upstreams_up": sum(up),
        }
        return JsonResponse(content, 200 if any(up) else 503)

    @app.get("/metrics", summary="Metrics for Prometheus")
    def show_metrics() -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE)


def _add_error_handlers(app: FastAPI, metrics: GatewayMetrics) -> None:
    def refused(request: Request, error: ApiError) -> Response:
        metrics.requests.labels("", error.outcome).inc()
        level = logging.ERROR if error.status >= 500 else logging.INFO
        log(
            "refused",
            level,
            request_id=request.state.request_id,
            path=request.url.path[:100],
            status=error.status,
            code=error.code,
        )
        return error.response()

    @app.exception_handler(ApiError)
    async def on_api_error(request: Request, error: ApiError) -> Response:
        return refused(request, error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid_request(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(part)[:80] for part in first["loc"] if part != "body")
        message = f"{where}: {first['msg']}" if where else str(first["msg"])
        return refused(
            request, ApiError(400, message, param=where or None, code=str(first["type"]))
        )

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> Response:
        return refused(request, ApiError(error.status_code, str(error.detail)))

    @app.exception_handler(Exception)
    async def on_failure(request: Request, error: Exception) -> Response:
        return refused(request, ApiError(500, "the gateway failed", code="internal_error"))
