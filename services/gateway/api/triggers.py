"""What begins runs by itself: kept, tried, fired and looked back at; the hooks that fire it; and chats of messengers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Response
from pydantic import ConfigDict, Field
from starlette.requests import Request

from schemas.canonical import JsonObject
from schemas.ids import Token
from schemas.tools import Value
from services.gateway.answers import NotThere
from services.gateway.channels import talk
from services.gateway.channels.channel import Channel, KeptChannel
from services.gateway.door import Builder, Here, Manager, Reader, Responses
from services.gateway.gateway import Gateway
from services.gateway.ports.outside import EnvironmentNotOwn, tenants_own
from services.gateway.principal import NotSignedIn
from services.gateway.rate import Rates
from services.gateway.triggers import hooks, trying
from services.gateway.triggers.file import LIMIT, read_trigger, write_trigger
from services.gateway.triggers.firing import spec_of
from services.gateway.triggers.signatures import SIGNATURE, TIMESTAMP, TOKEN, secret_of
from services.gateway.triggers.store import FIRINGS_KEPT
from services.gateway.triggers.trigger import Alarm, Firing, Kept, Trigger, TriggerName, Webhook
from services.gateway.triggers.trying import Trial

router = APIRouter()

Name = Annotated[TriggerName, Path(description="A trigger's name.")]
_VERSION = Field(default=None, ge=0, le=2**31 - 2)
_SIGNED: Responses = {
    202: {"description": "What was begun is in the log."},
    401: {"description": "No hook of this name knows this signature."},
}


class ShownTrigger(Value):
    """A trigger, how it stands, and as text. next: times of its clock; last: what came of it last; url: where to post to."""

    trigger: Trigger
    version: int
    by: str
    at: datetime
    next: tuple[datetime, ...] = ()
    last: Firing | None = None
    url: str = ""
    yaml: str = ""


class SaveTrigger(Value):
    """A trigger to keep, written out or as text. based_on: the version it was made from, 0: it is new; None: the newest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trigger: Trigger | None = None
    yaml: str = Field(default="", max_length=LIMIT)
    based_on: int | None = _VERSION


class TryTrigger(Value):
    """A trigger to try, written out or as text, and what would come; without one, the kept trigger of the name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trigger: Trigger | None = None
    yaml: str = Field(default="", max_length=LIMIT)
    name: TriggerName | None = None
    payload: JsonObject = Field(default_factory=dict)


class FireTrigger(Value):
    """What is to be taken for what came."""

    payload: JsonObject = Field(default_factory=dict)


class Enable(Value):
    """Whether it fires."""

    enabled: bool


class HookSecret(Value):
    """How to post to a hook. secret: empty where it stands in the environment, as `env`; known: whether there is one."""

    url: str
    scheme: str
    secret: str = ""
    env: str = ""
    known: bool = True
    headers: tuple[str, ...] = ()


class Begun(Value):
    """What a request to a hook has begun. run: of the first firing that has one."""

    run: str | None = None
    firings: tuple[Firing, ...] = ()


class SaveChannel(Value):
    """A channel to keep. based_on: the version it was made from, 0: it is new; None: the newest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channel: Channel
    based_on: int | None = _VERSION


class ShownChannel(Value):
    """A channel, how it stands, and where its messenger is to post to. ready: its secret is in the gateway's environment."""

    channel: Channel
    version: int
    by: str
    at: datetime
    url: str
    ready: bool


@router.get("/api/triggers")
async def triggers(gateway: Here, who: Reader) -> list[ShownTrigger]:
    """Those of the tenant, by name."""
    kept = await gateway.triggers.triggers(who.tenant)
    return [await _shown(gateway, each) for each in kept]


@router.post("/api/triggers/test")
async def test(said: TryTrigger, gateway: Here, who: Builder) -> list[Trial]:
    """What a trigger would do with a payload; nothing is begun. Raises BadTrigger, BadTemplate, NotThere."""
    now = gateway.clock.now()
    if said.trigger is None and not said.yaml and said.name is not None:
        kept = await _kept(gateway, who.tenant, said.name)
    else:
        kept = Kept(tenant=who.tenant, version=1, by=who.user, at=now, trigger=_said(said.trigger, said.yaml))
    return await trying.trial(gateway, kept, said.payload, now)


@router.post("/api/triggers/read")
async def read(said: SaveTrigger, who: Reader) -> ShownTrigger:
    """A trigger's text as fields, or its fields as text; nothing is kept. Raises BadTrigger."""
    trigger = _said(said.trigger, said.yaml)
    now = datetime.fromtimestamp(0).astimezone()
    return ShownTrigger(trigger=trigger, version=0, by=who.user, at=now, yaml=write_trigger(trigger))


@router.get("/api/triggers/{name}")
async def trigger(name: Name, gateway: Here, who: Reader) -> ShownTrigger:
    """One of them. Raises NotThere."""
    return await _shown(gateway, await _kept(gateway, who.tenant, name))


@router.put("/api/triggers/{name}")
async def save(name: Name, said: SaveTrigger, gateway: Here, who: Builder) -> ShownTrigger:
    """Keep a trigger, new or changed; whether it fires stays as it was. Raises BadTrigger, Conflict, NotThere."""
    before = await gateway.triggers.get(who.tenant, name)
    enabled = before.trigger.enabled if before and said.trigger is None else None
    found = _said(said.trigger, said.yaml).model_copy(update={"name": name})
    found = found if enabled is None else found.model_copy(update={"enabled": enabled})
    _check_env(who.tenant, found.source.secret_env if isinstance(found.source, Webhook | Alarm) else None)
    based_on = said.based_on if said.based_on is not None else before.version if before else 0
    kept = Kept(tenant=who.tenant, version=based_on + 1, by=who.user, at=gateway.clock.now(), trigger=found)
    await spec_of(gateway, kept)
    await gateway.triggers.put(kept)
    return await _shown(gateway, kept)


@router.delete("/api/triggers/{name}", status_code=204)
async def remove(name: Name, gateway: Here, who: Builder) -> None:
    """Forget a trigger and its history; its runs stay. Raises NotThere."""
    if not await gateway.triggers.remove(who.tenant, name):
        raise _not_there(name)


@router.post("/api/triggers/{name}/enabled")
async def enable(name: Name, said: Enable, gateway: Here, who: Builder) -> ShownTrigger:
    """Let it fire, or not. What a clock's times were while it did not is not made up for. Raises NotThere, Conflict."""
    before = await _kept(gateway, who.tenant, name)
    if before.trigger.enabled == said.enabled:
        return await _shown(gateway, before)
    found = before.trigger.model_copy(update={"enabled": said.enabled})
    kept = Kept(tenant=who.tenant, version=before.version + 1, by=who.user, at=gateway.clock.now(), trigger=found)
    await gateway.triggers.put(kept)
    return await _shown(gateway, kept)


@router.post("/api/triggers/{name}/fire")
async def fire(name: Name, said: FireTrigger, gateway: Here, who: Builder) -> Begun:
    """Fire it by hand, whether it is enabled or not. Raises NotThere, ProtocolError for a payload that it cannot read."""
    kept = await _kept(gateway, who.tenant, name)
    return _begun(await trying.fire_by_hand(gateway, kept, said.payload, who.user))


@router.get("/api/triggers/{name}/firings")
async def firings(
    name: Name, gateway: Here, who: Reader, limit: Annotated[int, Query(ge=1, le=FIRINGS_KEPT)] = 100
) -> list[Firing]:
    """What came of what fired it, newest first. Raises NotThere."""
    await _kept(gateway, who.tenant, name)
    return await gateway.triggers.firings(who.tenant, name, limit)


@router.get("/api/triggers/{name}/secret")
async def secret(name: Name, gateway: Here, who: Builder) -> HookSecret:
    """How to post to its hook, and what to sign with. Raises NotThere for a trigger that has no hook."""
    kept = await _kept(gateway, who.tenant, name)
    source = kept.trigger.source
    if not isinstance(source, Webhook | Alarm):
        raise NotThere(f"Trigger {name} has no hook.", why=f"it is fired by a {source.kind}")
    scheme: Literal["milepost", "github", "token"] = source.scheme if isinstance(source, Webhook) else "token"
    headers = {"milepost": (TIMESTAMP, SIGNATURE), "github": (), "token": (TOKEN,)}[scheme]
    known = secret_of(kept, gateway.seed, gateway.outside)
    shown = "" if source.secret_env else known
    return HookSecret(
        url=_url(gateway, kept), scheme=scheme, secret=shown, env=source.secret_env or "", known=bool(known), headers=headers
    )


# --- the hooks themselves: nobody is signed in, a signature is -------------------------------------


@router.post("/hooks/{tenant}/{name}", status_code=202, responses=_SIGNED)
async def hook(tenant: Token, name: Token, request: Request, gateway: Here) -> Begun:
    """Fire a trigger by a signed request; the answer comes once the run's request is in the log. Raises NoHook, TooMany."""
    rates = _let_in(request, f"hook {tenant} {name}")
    try:
        found = await hooks.receive(
            gateway, tenant, name, request.headers, request.query_params, await request.body()
        )  # fmt: skip
    except NotSignedIn:
        rates.let_in(_unknown(request))
        raise
    return _begun(found)


@router.post("/channels/{tenant}/{name}", responses=_SIGNED)
async def channel_message(tenant: Token, name: Token, request: Request, gateway: Here) -> dict[str, object]:
    """What a messenger brings; it is answered in the chat. Raises NoChannel, ProtocolError, TooMany."""
    rates = _let_in(request, f"channel {tenant} {name}")
    try:
        await talk.receive(gateway, tenant, name, request.headers, request.query_params, await request.body())
    except NotSignedIn:
        rates.let_in(_unknown(request))
        raise
    return {}


# --- channels ------------------------------------------------------------------------------------


@router.get("/api/channels")
async def channels(gateway: Here, who: Reader) -> list[ShownChannel]:
    """Those of the tenant, by name."""
    return [_channel(gateway, each) for each in await gateway.channels.channels(who.tenant)]


@router.put("/api/channels/{name}")
async def save_channel(name: Token, said: SaveChannel, gateway: Here, who: Manager) -> ShownChannel:
    """Keep a channel: it says who of a messenger may do what here. Raises Conflict."""
    if said.channel.name != name:
        raise NotThere(f"The channel is called {said.channel.name}, not {name}.", hint="put it under its own name")
    for env in (said.channel.secret_env, said.channel.notify_token_env, said.channel.notify_secret_env):
        _check_env(who.tenant, env)
    before = await gateway.channels.get(who.tenant, name)
    based_on = said.based_on if said.based_on is not None else before.version if before else 0
    kept = KeptChannel(tenant=who.tenant, version=based_on + 1, by=who.user, at=gateway.clock.now(), channel=said.channel)
    await gateway.channels.put(kept)
    return _channel(gateway, kept)


@router.delete("/api/channels/{name}", status_code=204)
async def remove_channel(name: Token, gateway: Here, who: Manager) -> Response:
    """Forget a channel; its runs stay. Raises NotThere."""
    if not await gateway.channels.remove(who.tenant, name):
        raise NotThere(f"There is no channel {name}.", hint="milepost channels ls")
    return Response(status_code=204)


def _said(trigger: Trigger | None, text: str) -> Trigger:
    return trigger if trigger is not None else read_trigger(text.encode())


async def _kept(gateway: Gateway, tenant: str, name: str) -> Kept:
    kept = await gateway.triggers.get(tenant, name)
    if kept is None:
        raise _not_there(name)
    return kept


def _not_there(name: str) -> NotThere:
    return NotThere(f"There is no trigger {name}.", hint="milepost triggers ls")


def _check_env(tenant: str, name: str | None) -> None:
    """Raises EnvironmentNotOwn."""
    if name is not None and not tenants_own(tenant, name):
        raise EnvironmentNotOwn(tenant, name)


async def _shown(gateway: Gateway, kept: Kept) -> ShownTrigger:
    last = await gateway.triggers.firings(kept.tenant, kept.trigger.name, 1)
    upcoming = trying.upcoming(kept.trigger, gateway.clock.now()) if kept.trigger.enabled else []
    return ShownTrigger(
        trigger=kept.trigger, version=kept.version, by=kept.by, at=kept.at, next=tuple(upcoming), last=next(iter(last), None),
        url=_url(gateway, kept), yaml=write_trigger(kept.trigger),
    )  # fmt: skip


def _url(gateway: Gateway, kept: Kept) -> str:
    if not isinstance(kept.trigger.source, Webhook | Alarm):
        return ""
    return f"{gateway.rules.public_url}/hooks/{kept.tenant}/{kept.trigger.name}"


def _channel(gateway: Gateway, kept: KeptChannel) -> ShownChannel:
    ready = bool(talk.secret(gateway, kept.tenant, kept.channel.secret_env))
    url = f"{gateway.rules.public_url}/channels/{kept.tenant}/{kept.channel.name}"
    return ShownChannel(channel=kept.channel, version=kept.version, by=kept.by, at=kept.at, url=url, ready=ready)


def _begun(found: list[Firing]) -> Begun:
    return Begun(run=next((each.run for each in found if each.run), None), firings=tuple(found))


def _let_in(request: Request, name: str) -> Rates:
    """Raises TooMany for an address that guesses, and for a hook that is called too often."""
    rates: Rates = request.app.state.rates
    rates.let_in(_unknown(request), look=True)
    rates.let_in(f"{name} {request.client.host if request.client else ''}")
    return rates


def _unknown(request: Request) -> str:
    return f"unknown {request.client.host if request.client else ''}"
