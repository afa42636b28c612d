"""A message of a chat: a run is begun, or an approval that the chat was shown is answered."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import structlog

from runtime.client import Client, UnknownRun
from runtime.errors import Retryable
from runtime.sealing import Erased
from schemas.commands import RequestApproval
from schemas.errors import MilepostError, ProtocolError
from schemas.ids import CommandId, RunId, checked_run, checked_token
from services.gateway.agents.agent import spec_named
from services.gateway.channels import words
from services.gateway.channels.channel import (
    Card,
    Channel,
    KeptChannel,
    Message,
    Messenger,
    NoChannel,
    conversation_of,
    principal_of,
)
from services.gateway.channels.dingtalk import DingTalk
from services.gateway.channels.store import Owed
from services.gateway.gateway import Gateway
from services.gateway.ports.outside import tenants_own
from services.gateway.principal import Principal

log = structlog.get_logger("services.gateway.channels")

MESSENGERS: Mapping[str, Messenger] = {"dingtalk": DingTalk()}
_CODE = r"\s*[#：:]?\s*(?P<code>[0-9a-f]{4,32})?"
_APPROVE = re.compile(rf"(?:同意|批准|approve|yes){_CODE}\s*[.。!！]?", re.IGNORECASE)
_REFUSE = re.compile(rf"(?:拒绝|不同意|refuse|reject|no)(?![a-z]){_CODE}(?:[\s,，:：]+(?P<reason>.{{0,500}}))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Waiting:
    """An approval that a chat was shown, and that nobody has answered."""

    run: RunId
    id: CommandId
    asked: RequestApproval


def secret(gateway: Gateway, tenant: str, name: str | None) -> str:
    """A channel's secret, by the name of its variable; empty if there is none, or it is not this tenant's to name."""
    return (gateway.outside.secret(name) or "") if name is not None and tenants_own(tenant, name) else ""


async def receive(
    gateway: Gateway, tenant: str, name: str, headers: Mapping[str, str], query: Mapping[str, str], body: bytes
) -> None:
    """Read what a messenger brings. Raises NoChannel, ProtocolError, and Unreachable: then it may be brought again."""
    kept = None
    with suppress(ProtocolError):
        kept = await gateway.channels.get(checked_token(tenant), checked_token(name))
    if kept is None or not kept.channel.enabled:
        raise NoChannel
    channel = kept.channel
    known = secret(gateway, kept.tenant, channel.secret_env)
    for message in MESSENGERS[channel.kind].read(known, headers, query, body, gateway.clock.now(), gateway.outside.base):
        await _heard(gateway, kept, message)


async def _heard(gateway: Gateway, kept: KeptChannel, message: Message) -> None:
    """A message that was read before does nothing."""
    channel, store = kept.channel, gateway.channels
    if await store.seen(kept.tenant, channel.name, message.id):
        return
    who = principal_of(kept.tenant, channel, message.person)
    approve, refuse = _APPROVE.fullmatch(message.text), _REFUSE.fullmatch(message.text)
    waiting = await shown(gateway, kept, message.chat) if approve or refuse else []
    try:
        if waiting and (found := approve or refuse):
            if not await store.see(kept.tenant, channel.name, message.id, gateway.clock.now()):
                return  # an answer is given once, or not at all: it could meet another question
            reason = "" if approve else found["reason"] or ""
            card = await _decide(gateway, channel, who, waiting, found["code"] or "", refuses=approve is None, reason=reason)
            await say(gateway, kept, message, card)
        elif not message.text:
            await say(gateway, kept, message, Card(title="Milepost", text=words.say(channel, "text only")))
        else:
            await _begin(gateway, kept, message, who)
    except Retryable:
        raise
    except MilepostError as error:
        await say(gateway, kept, message, words.trouble(channel, error))
    await store.see(kept.tenant, channel.name, message.id, gateway.clock.now())


async def _begin(gateway: Gateway, kept: KeptChannel, message: Message, who: Principal) -> None:
    """The same message is the same run, however often it comes. Raises NotPermitted, NotThere."""
    who.must("ask")
    channel = kept.channel
    asked = await gateway.client(who).ask(
        message.text, agent=await spec_named(gateway.agents, kept.tenant, channel.agent, gateway.models),
        conversation=conversation_of(channel, message), key=f"{channel.kind}:{channel.name}:{message.id}",
    )  # fmt: skip
    await gateway.channels.owe(Owed(
        tenant=kept.tenant, channel=channel.name, run=asked.run, chat=message.chat, user=who.user, target=message.target,
        at=message.at,
    ))  # fmt: skip


async def shown(gateway: Gateway, kept: KeptChannel, chat: str) -> list[Waiting]:
    """The approvals that a chat was shown, and that still wait."""
    found = []
    for owed in await gateway.channels.owed(kept.tenant, kept.channel.name, chat):
        with suppress(UnknownRun, Erased):
            run = checked_run(owed.run)
            state = await gateway.client(Principal(kept.tenant, owed.user, (), "channel")).state(run)
            found += [Waiting(run, id, asked) for id, asked in state.approvals().items() if id in owed.told]
    return found


async def _decide(
    gateway: Gateway, channel: Channel, who: Principal, waiting: list[Waiting], code: str, *, refuses: bool, reason: str
) -> Card:
    """Raises NotPermitted, NotAllowed, TooLate."""
    who.must("approve")
    meant = [each for each in waiting if each.id.startswith(code)]
    if len(meant) != 1:
        codes = ", ".join(each.id[: words.CODE] for each in waiting)
        return Card(title="Milepost", text=words.say(channel, "which", codes=codes))
    client: Client = gateway.client(who)
    if refuses:
        await client.refuse(meant[0].run, meant[0].id, reason=reason)
    else:
        await client.approve(meant[0].run, meant[0].id)
    text = words.say(channel, "refused" if refuses else "approved", tool=words.plain(meant[0].asked.call.name))
    return Card(title=text, text=text)


async def say(gateway: Gateway, kept: KeptChannel, message: Message, card: Card) -> None:
    """Say something at once; what cannot be said is written into the process's log."""
    try:
        await MESSENGERS[kept.channel.kind].say(message.target, card, gateway.outside)
    except MilepostError as error:
        log.warning("not said", channel=kept.channel.name, why=str(error))
