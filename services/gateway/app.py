"""The web application: routes, the rules that hold for all of them, and the console's files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp

from services.gateway import answers
from services.gateway.api import (
    agents,
    approvals,
    conversations,
    knowledge,
    live,
    runs,
    session,
    system,
    tools,
    triggers,
)
from services.gateway.api import metrics as figures
from services.gateway.gateway import Gateway
from services.gateway.guards import BodyLimit, KnownHosts, SafeHeaders
from services.gateway.openai import chat, embeddings, files, models, responses
from services.gateway.pages import pages
from services.gateway.rate import Rates
from services.gateway.streaming import Streams
from services.gateway.telemetry.observed import Observe, Observed
from services.gateway.ticks import Ticks

Check = Callable[[], Awaitable[None]]


def create_app(gateway: Gateway, mounts: Mapping[str, ASGIApp] | None = None) -> FastAPI:
    """The application of one gateway. mounts: others at their paths, each with a guard of its own."""
    app = FastAPI(
        title="Milepost", version=gateway.version, description="Agents on a message bus, over HTTP.",
        docs_url=None, redoc_url=None,  # both load scripts from elsewhere
    )  # fmt: skip
    app.state.gateway = gateway
    app.state.rates = Rates(gateway.rules.per_minute)
    app.state.streams = Streams(gateway.rules.streams)
    app.state.ticks = Ticks(gateway.bus, gateway.waiting)
    app.state.observed = Observed()
    answers.add_to(app)
    for part in (chat, responses, models, embeddings, files):
        app.include_router(part.router, tags=["openai"])
    for part in (session, live, runs, approvals, conversations, tools, knowledge, agents, triggers, system):
        app.include_router(part.router, tags=["console"])
    app.include_router(figures.router, tags=["health"])

    @app.get("/healthz", tags=["health"])
    async def healthz() -> dict[str, str]:
        """Whether the door answers, and the log behind it. Raises Unreachable."""
        await gateway.machinery.answers()
        return {"status": "ok"}

    for path, other in (mounts or {}).items():
        app.router.routes.append(Route(path, other))  # a Mount does not answer at its own path
    app.mount("/", pages())
    rules = gateway.rules
    app.add_middleware(BodyLimit, rules=rules)
    app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=5)
    app.add_middleware(SafeHeaders)
    if rules.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(rules.origins), allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"], expose_headers=["x-milepost-run", "link"],
        )  # fmt: skip
    app.add_middleware(KnownHosts, rules=rules)
    app.add_middleware(Observe, observed=app.state.observed, spans=gateway.spans)
    return app
