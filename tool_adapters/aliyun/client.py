"""The vendor's ECS client behind one function: ask an API, get its answer or a ToolError.

The SDK is imported at the first call (0.7 s), its automatic retries stay off, and its exceptions are translated here.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, cast

from schemas.errors import MilepostError
from tool_adapters.aliyun.sdk import snake
from tool_adapters.tool import OutcomeUnknown, ToolError, ToolRefused, ToolUnavailable

if TYPE_CHECKING:
    from alibabacloud_ecs20140526.client import Client

Answer = dict[str, object]

CONNECT_TIMEOUT_S = 5.0

# Said no for now: the same request may be accepted later, and nothing was done.
BUSY = frozenset(
    {
        "ServiceUnavailable",
        "IdempotentProcessing",
        "InvalidOperation.Conflict",
        "IncorrectInstanceStatus.Initializing",
    }
)
DRY_RUN_PASSED = frozenset({"DryRunOperation", "DRYRUN.SUCCESS"})
_HINTS = {
    "InvalidAccessKeyId.NotFound": "check the access key id",
    "SignatureDoesNotMatch": "check the access key secret",
    "InvalidTimeStamp.Expired": "set the clock of this machine",
    "InvalidInstanceId.NotFound": "list the instances with DescribeInstances; it may be in another region",
    "InvalidSecurityToken.Expired": "the credentials are temporary and have run out: get new ones",
    "LastOrderProcessing": "an earlier order for it is still being processed: wait a minute",
    "ChargeTypeViolation": "only a subscription (PrePaid) instance can be renewed",
    "Forbidden.RAM": "grant the RAM user the right for this API",
}


class Ecs(Protocol):
    """Asks an ECS API. arguments: by wire name. writing: whether a lost answer leaves the world in doubt."""

    region: str

    async def ask(self, action: str, arguments: Mapping[str, object], *, timeout_s: float, writing: bool = False) -> Answer: ...


@dataclass(frozen=True, slots=True)
class EcsConfig:
    """How to reach ECS.

    endpoint: host[:port]; the region's own when None. protocol: http only to a loopback address.
    access_key_id and access_key_secret: None takes the vendor's credentials chain (environment, profile, role).
    """

    region: str = "cn-hangzhou"
    endpoint: str | None = None
    protocol: Literal["https", "http"] = "https"
    access_key_id: str | None = None
    access_key_secret: str | None = field(default=None, repr=False)
    security_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.protocol == "http" and not self.is_loopback:
            raise MilepostError(
                "ECS may be asked over plain http on this machine only.",
                why=f"the endpoint is {self.endpoint or 'the public one'}",
                hint="use protocol https",
            )
        if (self.access_key_id is None) != (self.access_key_secret is None):
            raise MilepostError("An access key is an id and a secret; only one of them was given.")

    @property
    def is_loopback(self) -> bool:
        """Whether the endpoint is on this machine."""
        host = (self.endpoint or "").rsplit(":", 1)[0].strip("[]")
        try:
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False


class EcsClient:
    """ECS through the vendor's SDK. Makes its client at the first call; safe to share."""

    def __init__(self, config: EcsConfig) -> None:
        self.region = config.region
        self._config = config
        self._client: Client | None = None

    async def ask(self, action: str, arguments: Mapping[str, object], *, timeout_s: float, writing: bool = False) -> Answer:
        """Call an API once.

        Raises ToolRefused (the provider's code), ToolUnavailable (nothing happened, try later), or, when
        writing, OutcomeUnknown (sent, and no answer that tells).
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._send(action, arguments, timeout_s)
        except ToolError:
            raise
        except TimeoutError as error:
            raise lost(action, f"no answer in {timeout_s:g} s", writing) from error
        except Exception as error:
            raise translated(action, error, writing=writing) from error

    async def _send(self, action: str, arguments: Mapping[str, object], timeout_s: float) -> Answer:
        from alibabacloud_ecs20140526 import models
        from darabonba.runtime import RuntimeOptions

        if self._client is None:
            self._client = await asyncio.to_thread(_make, self._config)
        request = getattr(models, f"{action}Request")().from_map(dict(arguments))
        runtime = RuntimeOptions(
            autoretry=False,
            connect_timeout=int(min(CONNECT_TIMEOUT_S, timeout_s) * 1000),
            read_timeout=int(timeout_s * 1000),
            # The SDK takes HTTP_PROXY from the environment, even to loopback. To aiohttp this is an empty URL: no proxy.
            http_proxy="#" if self._config.is_loopback else None,
        )
        method = getattr(self._client, f"{snake(action)}_with_options_async")
        response = await cast("Callable[[object, object], Awaitable[_Response]]", method)(request, runtime)
        return response.body.to_map()


class _Body(Protocol):
    def to_map(self) -> Answer: ...


class _Response(Protocol):
    body: _Body


def _make(config: EcsConfig) -> Client:
    from alibabacloud_ecs20140526.client import Client
    from alibabacloud_tea_openapi.models import Config

    given = Config(region_id=config.region, endpoint=config.endpoint, protocol=config.protocol, user_agent="milepost")
    if config.access_key_id is not None:
        given.access_key_id = config.access_key_id
        given.access_key_secret = config.access_key_secret
        given.security_token = config.security_token
    else:
        from alibabacloud_credentials.client import Client as Credentials

        # It logs each provider of the chain that has nothing, with a stack; what it raises in the end says it all.
        logging.getLogger("credentials").setLevel(logging.CRITICAL)
        given.credential = Credentials()
    return Client(given)


def translated(action: str, error: Exception, *, writing: bool) -> ToolError:
    """What an exception of the SDK means: refused, not done, or in doubt."""
    import aiohttp
    from alibabacloud_credentials.exceptions import CredentialException
    from alibabacloud_tea_openapi.exceptions import AlibabaCloudException

    cause = _root(error)
    if isinstance(cause, AlibabaCloudException):
        return _answered(action, cause, writing=writing)
    if isinstance(cause, CredentialException):
        hint = "set MILEPOST_CLOUD_ACCESS_KEY_ID and _SECRET, or ALIBABA_CLOUD_ACCESS_KEY_ID and _SECRET; or use the demo cloud"
        return ToolRefused("There are no credentials for Alibaba Cloud.", code="NoCredentials", why=str(cause)[:300], hint=hint)
    why = f"{type(cause).__name__}: {cause}"[:300]
    if isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return ToolUnavailable(f"{action}: Alibaba Cloud could not be reached.", why=why)
    return lost(action, why, writing)


def _answered(action: str, error: object, *, writing: bool) -> ToolError:
    code = str(getattr(error, "code", "") or "Unknown")
    status = int(getattr(error, "status_code", 0) or 0)
    data = getattr(error, "data", None)
    said = (data.get("Message") or data.get("message")) if isinstance(data, dict) else None
    message = str(said or getattr(error, "message", ""))[:500]
    if request_id := getattr(error, "request_id", None):
        message = f"{message} (request {request_id})"
    if code.startswith("Throttling") or status in (429, 503) or code in BUSY:
        after = getattr(error, "retry_after", None)
        seconds = float(after) / 1000 if isinstance(after, int | float) else None
        return ToolUnavailable(f"{action}: Alibaba Cloud is busy ({code}).", why=message, retry_after_s=seconds)
    if status >= 500:
        return lost(action, f"{code}: {message}", writing)
    hint = _HINTS.get(code, "")
    return ToolRefused(f"Alibaba Cloud refused {action}: {code}.", code=code, why=message, hint=hint)


def lost(action: str, why: str, writing: bool) -> ToolError:
    """What a missing answer means."""
    if writing:
        hint = "nothing is repeated before it is known whether it happened"
        return OutcomeUnknown(f"{action} was sent and Alibaba Cloud did not answer.", why=why, hint=hint)
    return ToolUnavailable(f"{action}: Alibaba Cloud did not answer.", why=why)


def _root(error: BaseException) -> BaseException:
    """The exception that began it: the SDK wraps twice, and keeps the transport's only as the context."""
    from alibabacloud_tea_openapi.exceptions import AlibabaCloudException

    seen: set[int] = set()
    while id(error) not in seen and not isinstance(error, AlibabaCloudException):
        seen.add(id(error))
        inner = getattr(error, "inner_exception", None) or error.__cause__ or error.__context__
        if not isinstance(inner, BaseException) or isinstance(error, OSError):
            break
        error = inner
    return error
