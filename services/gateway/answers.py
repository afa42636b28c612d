"""Errors as HTTP says them: a status, and what happened, why, and the next step; in OpenAI's shape under /v1."""

from __future__ import annotations

import secrets

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from runtime.client import NotAllowed, TooLate, UnknownRun
from runtime.errors import Busy, Unreachable
from runtime.payloads import UnknownPayload
from runtime.sealing import Erased
from schemas.errors import MilepostError, PayloadTooLarge
from services.gateway.principal import NotPermitted, NotSignedIn
from services.gateway.rate import TooMany

log = structlog.get_logger("services.gateway")


class NotThere(MilepostError):
    """Nothing of this name is there, or it is another tenant's."""


class Conflict(MilepostError):
    """Somebody else changed it first."""


STATUS: dict[type[Exception], int] = {
    NotSignedIn: 401, NotPermitted: 403, NotAllowed: 403, UnknownRun: 404, NotThere: 404, UnknownPayload: 404,
    TooLate: 409, Conflict: 409, Erased: 410, PayloadTooLarge: 413, TooMany: 429, Busy: 429, Unreachable: 503,
}  # fmt: skip


def status_of(error: MilepostError) -> int:
    """The HTTP status of an error: that of the nearest class in its line, else 400."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 400)


def add_to(app: FastAPI) -> None:
    """Let the app answer errors in this form."""

    @app.exception_handler(MilepostError)
    async def ours(request: Request, error: MilepostError) -> JSONResponse:
        return answer(request, status_of(error), type(error).__name__, error.what, error.why, error.hint, error)

    @app.exception_handler(RequestValidationError)
    async def unfit(request: Request, error: RequestValidationError) -> JSONResponse:
        fault = error.errors()[0] if error.errors() else {"loc": (), "msg": "it cannot be read"}
        where = ".".join(str(part) for part in fault["loc"])
        return answer(request, 422, "Unfit", "The request does not fit.", f"{where}: {fault['msg']}", "see /openapi.json")

    @app.exception_handler(ValidationError)
    async def invalid(request: Request, error: ValidationError) -> JSONResponse:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        return answer(request, 422, "Unfit", "The request does not fit.", f"{where}: {fault['msg']}", "see /openapi.json")

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        path, method = request.scope["path"][:200], request.method
        known = {404: f"There is nothing at {path}.", 405: f"{path} does not take {method}."}
        what = known.get(error.status_code, str(error.detail))
        found = answer(request, error.status_code, "Http", what, "", "see /openapi.json")
        found.headers.update(error.headers or {})
        return found

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        id = secrets.token_hex(6)
        log.exception("request failed", id=id, path=request.scope["path"], exc_info=error)
        return answer(request, 500, "Unexpected", "The gateway failed.", f"its log says why under {id}", "report it")


def answer(
    request: Request, status: int, kind: str, what: str, why: str, hint: str, error: MilepostError | None = None
) -> JSONResponse:
    """An error for a person or a program."""
    headers = {}
    if isinstance(error, TooMany):
        headers["retry-after"] = str(round(error.after_s))
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if request.scope["path"].startswith("/v1/"):
        return JSONResponse(openai_error(status, kind, what, why, hint), status, headers)
    return JSONResponse({"error": {"type": kind, "what": what, "why": why, "hint": hint}}, status, headers)


def openai_error(status: int, kind: str, what: str, why: str, hint: str) -> dict[str, object]:
    """An error as OpenAI's clients read it."""
    kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    general = "server_error" if status >= 500 else "invalid_request_error"
    said = f"{what.rstrip('.')}: {why.rstrip('.')}." if what and why else what or why
    text = f"{said} Next: {hint}" if hint else said
    return {"error": {"message": text, "type": kinds.get(status, general), "param": None, "code": kind}}
