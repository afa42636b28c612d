"""The figures of the stack for Prometheus: infra/deploy/prometheus/scrape.yml reads them with a key from a file."""

from __future__ import annotations

from fastapi import APIRouter, Response
from starlette.requests import Request

from schemas.errors import MilepostError
from services.gateway.door import Here, Reader
from services.gateway.principal import NotPermitted
from services.gateway.telemetry.metrics import CONTENT_TYPE, exposition

router = APIRouter()


class NotYourStack(NotPermitted):
    """The figures are of all tenants together, and whoever runs the stack reads them."""

    def __init__(self, tenant: str) -> None:
        MilepostError.__init__(
            self, "The figures of the stack are not yours to read.",
            why=f"they are of all tenants, and your key is of {tenant}",
            hint="a key of the stack's own tenant: milepost door keys add --role viewer",
        )  # fmt: skip


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request, gateway: Here, who: Reader) -> Response:
    """In Prometheus's text format. Raises NotYourStack."""
    if who.tenant != gateway.local.tenant:
        raise NotYourStack(who.tenant)
    found = exposition(await gateway.readings.read(), request.app.state.observed, gateway.version)
    return Response(found, media_type=CONTENT_TYPE)
