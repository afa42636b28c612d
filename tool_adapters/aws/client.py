"""boto3 behind one function: ask an operation, get its plain answer or a ToolError.

boto3 is imported at the first call, blocks in threads of which there are so many at most, and does not retry: what may be
repeated is for the ledger to know.
"""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from tool_adapters.threads import in_thread
from tool_adapters.tool import (
    InvalidArguments,
    InvalidResult,
    InvalidTool,
    OutcomeUnknown,
    ToolError,
    ToolRefused,
    ToolUnavailable,
)

if TYPE_CHECKING:
    from botocore.client import BaseClient
    from botocore.model import Shape

Answer = dict[str, object]
T = TypeVar("T")

CONNECT_S, READ_S = 5.0, 60.0
STREAM_BYTES = 64 * 1024 * 1024
"""How much of a body is read."""

BUSY = frozenset({
    "BandwidthLimitExceeded", "EC2ThrottledException", "InsufficientInstanceCapacity", "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException", "RequestLimitExceeded", "RequestThrottled", "RequestThrottledException",
    "RequestTimeout", "ServerUnavailable", "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException",
    "ThrottledException", "TooManyRequestsException", "TransactionInProgressException", "Unavailable",
})  # fmt: skip
"""Said no for now: nothing was done, and the same request may be accepted later."""

DRY_RUN_PASSED = frozenset({"DryRunOperation"})
_HINTS = {
    "AuthFailure": "check the access key",
    "InvalidClientTokenId": "check the access key id",
    "SignatureDoesNotMatch": "check the secret of the access key",
    "ExpiredToken": "the credentials are temporary and have run out: get new ones",
    "ExpiredTokenException": "the credentials are temporary and have run out: get new ones",
    "RequestExpired": "set the clock of this machine",
    "UnauthorizedOperation": "grant the IAM user or role the right for this operation",
    "AccessDenied": "grant the IAM user or role the right for this operation",
    "InvalidInstanceID.NotFound": "list the instances with ec2_DescribeInstances; it may be in another region",
    "OptInRequired": "turn this region or service on for the account",
}
KEYS_HINT = "set MILEPOST_AWS_ACCESS_KEY_ID and MILEPOST_AWS_ACCESS_KEY_SECRET, or AWS_PROFILE, for the tools service"


@dataclass(frozen=True, slots=True)
class AwsConfig:
    """How to reach AWS.

    endpoint: in place of every service's own, such as http://127.0.0.1:5000. access_key_id and access_key_secret: None takes
    the vendor's credentials chain (environment, profile, role).
    """

    region: str = "us-east-1"
    endpoint: str | None = None
    access_key_id: str | None = None
    access_key_secret: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)


class Aws(Protocol):
    """Asks an operation of a service. writing: whether a lost answer leaves the world in doubt."""

    region: str

    async def ask(
        self, service: str, operation: str, arguments: Mapping[str, object], *, timeout_s: float, writing: bool = False
    ) -> Answer: ...  # fmt: skip


class AwsClient:
    """AWS through boto3. Makes a client for each service at its first call; safe to share.

    configured: gives the configuration when it is first needed; it may raise a ToolError.
    """

    def __init__(self, region: str, configured: Callable[[], AwsConfig]) -> None:
        self.region = region
        self._configured = configured
        self._clients: dict[str, BaseClient] = {}
        self._making = threading.Lock()

    async def ask(
        self, service: str, operation: str, arguments: Mapping[str, object], *, timeout_s: float, writing: bool = False
    ) -> Answer:  # fmt: skip
        """Call an operation once.

        Raises ToolRefused (the provider's code), InvalidArguments, ToolUnavailable (nothing happened, try later), or, when
        writing, OutcomeUnknown (sent, and no answer that tells).
        """
        return await self._in_time(operation, writing, timeout_s, lambda: self._call(service, operation, arguments))

    async def pages(
        self, service: str, operation: str, arguments: Mapping[str, object], *, timeout_s: float, most: int
    ) -> tuple[Answer, bool]:  # fmt: skip
        """A read with at most so many rows of it: the answer, and whether there are more."""
        return await self._in_time(operation, False, timeout_s, lambda: self._pages(service, operation, arguments, most))

    async def _in_time(self, operation: str, writing: bool, timeout_s: float, work: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(timeout_s):
                return await in_thread(work)
        except ToolError:
            raise
        except TimeoutError as error:
            raise lost(operation, f"no answer in {timeout_s:g} s", writing) from error
        except Exception as error:
            raise translated(operation, error, writing=writing) from error

    def _call(self, service: str, operation: str, arguments: Mapping[str, object]) -> Answer:
        client = self._client(service)
        model = client.meta.service_model.operation_model(operation)
        given = cast("dict[str, object]", _sent(model.input_shape, dict(arguments))) if model.input_shape else {}
        return cast("Answer", plain(getattr(client, method_of(client, operation))(**given)))

    def _pages(self, service: str, operation: str, arguments: Mapping[str, object], most: int) -> tuple[Answer, bool]:
        client = self._client(service)
        method = method_of(client, operation)
        if not client.can_paginate(method) or any(arguments.get(name) for name in _paging(client, method)):
            return self._call(service, operation, arguments), False
        pages = client.get_paginator(method).paginate(**arguments, PaginationConfig={"MaxItems": most})
        answer = cast("Answer", plain(pages.build_full_result()))
        return answer, pages.resume_token is not None

    def _client(self, service: str) -> BaseClient:
        with self._making:
            if service not in self._clients:
                self._clients[service] = _made(service, self._configured())
            return self._clients[service]


def _made(service: str, config: AwsConfig) -> BaseClient:
    try:
        import boto3
        from botocore.config import Config
    except ImportError as error:
        raise InvalidTool("boto3 is not installed.", hint="pip install 'milepost[aws]'") from error
    said = Config(
        retries={"total_max_attempts": 1, "mode": "standard"}, connect_timeout=CONNECT_S, read_timeout=READ_S,
        user_agent_extra="milepost", proxies={} if config.endpoint else None,
    )  # fmt: skip
    session = boto3.session.Session(
        aws_access_key_id=config.access_key_id, aws_secret_access_key=config.access_key_secret,
        aws_session_token=config.session_token, region_name=config.region,
    )  # fmt: skip
    return cast("BaseClient", session.client(service, endpoint_url=config.endpoint, config=said))


def method_of(client: BaseClient, operation: str) -> str:
    """The client's name of an operation. Raises InvalidTool for one that this boto3 does not have."""
    mapping: Mapping[str, str] = client.meta.method_to_api_mapping
    for method, api in mapping.items():
        if api == operation:
            return method
    raise InvalidTool(f"This boto3 has no operation {operation}.", hint="pip install --upgrade boto3")


def _paging(client: BaseClient, method: str) -> list[str]:
    """The parameters by which a caller asks for a page of its own."""
    said: Mapping[str, object] = client.get_paginator(method)._pagination_cfg
    token, limit = said.get("input_token", []), said.get("limit_key")
    return [*(token if isinstance(token, list) else [str(token)]), *([str(limit)] if limit else [])]


def _sent(shape: Shape, value: object) -> object:
    """Arguments as botocore takes them: text for bytes is its UTF-8, or what stands behind `base64:`."""
    if shape.type_name == "blob" and isinstance(value, str):
        return base64.b64decode(value.removeprefix("base64:")) if value.startswith("base64:") else value.encode()
    if shape.type_name == "structure" and isinstance(value, dict):
        members: Mapping[str, Shape] = shape.members
        return {name: _sent(members[name], each) if name in members else each for name, each in value.items()}
    if shape.type_name == "list" and isinstance(value, list):
        return [_sent(shape.member, each) for each in value]
    if shape.type_name == "map" and isinstance(value, dict):
        return {name: _sent(shape.value, each) for name, each in value.items()}
    return value


def plain(value: object) -> object:
    """An answer as JSON has it: moments as text, bytes of a field in base64; a body that streams as its bytes."""
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items() if name != "ResponseMetadata"}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    if hasattr(value, "read"):
        data: bytes = value.read(STREAM_BYTES + 1)
        if len(data) > STREAM_BYTES:
            raise InvalidResult(f"The body has more than {STREAM_BYTES >> 20} MiB.", hint="ask for a range of it")
        return data
    if isinstance(value, Iterator) or hasattr(value, "__iter__"):
        return [plain(each) for each in value]
    return str(value)


def translated(operation: str, error: Exception, *, writing: bool) -> ToolError:
    """What an exception of botocore means: refused, not done, or in doubt."""
    from botocore import exceptions as said

    if isinstance(error, said.ClientError):
        return _answered(operation, error.response, writing=writing)
    why = f"{type(error).__name__}: {error}"[:300]
    if isinstance(error, said.ParamValidationError):
        return InvalidArguments(f"{operation} cannot be called with these arguments.", why=str(error)[:500])
    if isinstance(error, said.NoCredentialsError | said.PartialCredentialsError | said.CredentialRetrievalError
                  | said.ProfileNotFound | said.TokenRetrievalError):  # fmt: skip
        return ToolRefused("There are no credentials for AWS.", code="NoCredentials", why=why, hint=KEYS_HINT)
    if isinstance(error, said.NoRegionError):
        return ToolRefused("It is not said which region of AWS is meant.", code="NoRegion", hint="set MILEPOST_AWS_REGION")
    if isinstance(error, said.EndpointConnectionError | said.ConnectTimeoutError | said.ProxyConnectionError | said.SSLError):
        return ToolUnavailable(f"{operation}: AWS could not be reached.", why=why)
    if isinstance(error, said.BotoCoreError) and not isinstance(error, said.HTTPClientError):
        return ToolRefused(f"{operation} cannot be called.", code=type(error).__name__, why=why)
    return lost(operation, why, writing)


def _answered(operation: str, response: Mapping[str, object], *, writing: bool) -> ToolError:
    error, about = response.get("Error"), response.get("ResponseMetadata")
    error, about = error if isinstance(error, Mapping) else {}, about if isinstance(about, Mapping) else {}
    code, status = str(error.get("Code") or "Unknown"), int(about.get("HTTPStatusCode") or 0)
    message = str(error.get("Message", ""))[:500]
    if request := about.get("RequestId"):
        message = f"{message} (request {request})"
    if code in BUSY or status in (429, 503):
        return ToolUnavailable(f"{operation}: AWS is busy ({code}).", why=message)
    if status >= 500:
        return lost(operation, f"{code}: {message}", writing)
    return ToolRefused(f"AWS refused {operation}: {code}.", code=code, why=message, hint=_HINTS.get(code, ""))


def lost(operation: str, why: str, writing: bool) -> ToolError:
    """What a missing answer means."""
    if writing:
        hint = "nothing is repeated before it is known whether it happened"
        return OutcomeUnknown(f"{operation} was sent and AWS did not answer.", why=why, hint=hint)
    return ToolUnavailable(f"{operation}: AWS did not answer.", why=why)
