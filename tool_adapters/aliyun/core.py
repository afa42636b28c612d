"""Any API of Alibaba Cloud through the core of the vendor's SDK: signature V3, credentials chain, one request, no retries."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tool_adapters.aliyun.calls import Request
from tool_adapters.aliyun.client import CONNECT_TIMEOUT_S, lost, translated
from tool_adapters.described.api import ApiCall
from tool_adapters.tool import InvalidTool, ToolError, ToolRefused

if TYPE_CHECKING:
    from alibabacloud_tea_openapi.client import Client
    from alibabacloud_tea_openapi.utils_models import OpenApiRequest, Params
    from darabonba.runtime import RuntimeOptions

REGION = "cn-hangzhou"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the products are. region: where no call says another. products: of the metadata. given: overrides, by product."""

    region: str = REGION
    products: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)

    def of(self, product: str, region: str) -> str:
        """The host of a product in a region. Raises ToolRefused where it has none there."""
        if (host := self.given.get(product) or self.given.get("*")) is not None:
            return host
        known = self.products.get(product, {})
        other, common = known.get("other"), str(known.get("endpoint") or "")
        if isinstance(other, Mapping) and region in other:
            return str(other[region])
        if not common:
            raise ToolRefused(
                f"It is not known where {product} is to be reached.", code="NoEndpoint",
                why="the metadata names no host for it",
                hint=f"import it again with --endpoint {product}=HOST",
            )  # fmt: skip
        return common.replace("{}", region)


@dataclass(frozen=True, slots=True)
class Keys:
    """An access key by reference (`env:NAME`, `file:PATH`); without an id, the vendor's own chain."""

    id: str | None = None
    secret: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)


class Core(Protocol):
    """Sends a request and gives the answer: JSON where it is that, else text, else bytes."""

    async def send(
        self, call: ApiCall, request: Request, *, region: str, timeout_s: float, writing: bool = False
    ) -> object: ...


class SdkCore:
    """`Core` over `alibabacloud_tea_openapi`. One client a host, made at its first call; safe to share.

    resolve: finds the value that a reference names; it may raise a MilepostError.
    """

    def __init__(self, endpoints: Endpoints, keys: Keys, resolve: Callable[[str], str]) -> None:
        self._endpoints, self._keys, self._resolve = endpoints, keys, resolve
        self._clients: dict[str, Client] = {}

    async def send(self, call: ApiCall, request: Request, *, region: str, timeout_s: float, writing: bool = False) -> object:
        """Call an API once.

        Raises ToolRefused (the provider's code), ToolUnavailable (nothing happened, try later), or, when
        writing, OutcomeUnknown (sent, and no answer that tells).
        """
        if call.unsupported:
            raise ToolRefused(f"{call.product} {call.action} cannot be called.", code="NotSupported", why=call.unsupported)
        host = request.host + self._endpoints.of(call.product, region)
        client = await self._client(host)
        try:
            async with asyncio.timeout(timeout_s):
                return await _sent(client, call, request, _runtime(timeout_s, loopback=is_loopback(host)))
        except ToolError:
            raise
        except TimeoutError as error:
            raise lost(call.action, f"no answer in {timeout_s:g} s", writing) from error
        except Exception as error:
            raise translated(call.action, error, writing=writing) from error

    async def _client(self, host: str) -> Client:
        if host not in self._clients:
            self._clients[host] = await asyncio.to_thread(_made, host, self._keys, self._resolve)
        return self._clients[host]


async def _sent(client: Client, call: ApiCall, request: Request, runtime: RuntimeOptions) -> object:
    answer = await client.call_api_async(_params(call, request), _openapi(request), runtime)
    return _read(answer.get("body"))


def _params(call: ApiCall, request: Request) -> Params:
    from alibabacloud_tea_openapi.utils_models import Params

    return Params(
        action=call.action, version=call.version, protocol="HTTPS", pathname=request.path, method=call.method, auth_type="AK",
        style="ROA" if call.path else "RPC", req_body_type="json" if request.body is not None else "formData", body_type="byte",
    )  # fmt: skip


def _openapi(request: Request) -> OpenApiRequest:
    from alibabacloud_tea_openapi.utils_models import OpenApiRequest

    body = request.body if request.body is not None else request.form or None
    return OpenApiRequest(query=request.query, headers=request.headers, body=body)


def _runtime(timeout_s: float, *, loopback: bool) -> RuntimeOptions:
    from darabonba.runtime import RuntimeOptions

    return RuntimeOptions(
        autoretry=False, connect_timeout=int(min(CONNECT_TIMEOUT_S, timeout_s) * 1000), read_timeout=int(timeout_s * 1000),
        http_proxy="#" if loopback else None,  # as in client.py: an empty URL, so no proxy of the environment
    )  # fmt: skip


def _made(host: str, keys: Keys, resolve: Callable[[str], str]) -> Client:
    try:
        from alibabacloud_tea_openapi.client import Client
        from alibabacloud_tea_openapi.utils_models import Config
    except ImportError as error:
        raise InvalidTool("The Alibaba Cloud SDK is not installed.", hint="pip install 'milepost[aliyun]'") from error
    config = Config(endpoint=host, protocol="http" if is_loopback(host) else "https", user_agent="milepost")
    if keys.id is not None:
        config.access_key_id, config.access_key_secret = resolve(keys.id), resolve(keys.secret or "")
        config.security_token = resolve(keys.token) if keys.token else None
    else:
        from alibabacloud_credentials.client import Client as Credentials

        logging.getLogger("credentials").setLevel(logging.CRITICAL)  # what it raises in the end says it all
        try:
            config.credential = Credentials()
        except Exception as error:
            raise translated("credentials", error, writing=False) from error
    return Client(config)


def is_loopback(host: str) -> bool:
    """Whether a host[:port] is on this machine; only there plain http is spoken."""
    name = host.rsplit(":", 1)[0].strip("[]") if host.count(":") == 1 or host.startswith("[") else host
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _read(body: object) -> object:
    """JSON, else text, else bytes."""
    if not isinstance(body, bytes):
        return body
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return body
    if "\0" in text:
        return body
    try:
        value: object = json.loads(text) if text.strip() else {}
    except ValueError:
        return text
    return value
