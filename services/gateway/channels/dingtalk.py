"""DingTalk: a robot in HTTP mode, answers through the address of its session, and a group's signed robot for notices.

Protocol: "Receive message" and "Custom robot access" of open.dingtalk.com. A request bears `timestamp` (milliseconds) and
`sign`, base64 of HMAC-SHA256 over `timestamp\\nappSecret` with the secret as key; it is good for an hour. It does not cover
the body: what keeps others from writing one under a good signature is TLS, and a message's id, which is read once.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

from runtime.errors import Permanent
from schemas.canonical import JsonObject, read_json
from schemas.errors import ProtocolError
from services.gateway.channels.channel import Card, Message, NoChannel, Target
from services.gateway.ports.outside import Outside

WINDOW_S = 3600
LONGEST = 5000  # characters of a Markdown message; a request may have 20,000 bytes
_LARGEST = 256 * 1024
_ROBOT = "https://oapi.dingtalk.com"


class NotSaid(Permanent):
    """The messenger did not take a message."""


def sign(secret: str, timestamp: str) -> str:
    """The signature of a moment, in milliseconds since 1970."""
    said = f"{timestamp}\n{secret}".encode()
    return base64.b64encode(hmac.new(secret.encode(), said, hashlib.sha256).digest()).decode()


class DingTalk:
    """services.gateway.channels.channel.Messenger."""

    def read(
        self, secret: str, headers: Mapping[str, str], query: Mapping[str, str], body: bytes, now: datetime, base: str = ""
    ) -> list[Message]:
        timestamp, given = headers.get("timestamp", ""), headers.get("sign", "")
        shaped = timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16
        same = hmac.compare_digest(given.encode(), sign(secret, timestamp).encode())
        if not same or not shaped or abs(now.timestamp() - int(timestamp) / 1000) > WINDOW_S or not secret:
            raise NoChannel
        said = read_json(body, limit=_LARGEST)
        if not isinstance(said, dict):
            raise ProtocolError("This is no message of DingTalk.", why="it is no JSON object")
        return [_message(said, now, base)]

    async def say(self, target: Target, card: Card, outside: Outside) -> None:
        if not _is_dingtalks(target.address, outside.base):
            raise NotSaid("The chat's address is not DingTalk's.", why=urlsplit(target.address).netloc)
        text = f"{card.text}\n\n@{target.at}" if target.at else card.text
        body: JsonObject = {"msgtype": "markdown", "markdown": {"title": card.title[:100], "text": text}}
        if target.at:
            body = {**body, "at": {"atUserIds": [target.at], "isAtAll": False}}
        _taken(await outside.post(target.address, body))

    async def notify(self, token: str, secret: str, card: Card, now: datetime, outside: Outside) -> None:
        address = f"{outside.base or _ROBOT}/robot/send?access_token={quote(token, safe='')}"
        if secret:
            timestamp = str(int(now.timestamp() * 1000))
            address += f"&timestamp={timestamp}&sign={quote(sign(secret, timestamp), safe='')}"
        body: JsonObject = {"msgtype": "markdown", "markdown": {"title": card.title[:100], "text": card.text}}
        _taken(await outside.post(address, body))


def _message(said: Mapping[str, object], now: datetime, base: str) -> Message:
    """Raises ProtocolError; pydantic's ValidationError is none of a person's."""
    address, expires = _text(said, "sessionWebhook"), said.get("sessionWebhookExpiredTime")
    if not _is_dingtalks(address, base):
        raise ProtocolError("This is no message of DingTalk.", why="its sessionWebhook is not an address of dingtalk.com")
    known = isinstance(expires, int) and 0 < expires < 10**14
    until = datetime.fromtimestamp(expires / 1000, UTC) if known and isinstance(expires, int) else now + timedelta(minutes=20)
    staff = _text(said, "senderStaffId")
    in_group = _text(said, "conversationType") == "2"
    found = {name: _text(said, name) for name in ("msgId", "conversationId")}
    person = staff or _text(said, "senderId")
    if not (person and all(found.values())):
        raise ProtocolError("This is no message of DingTalk.", why="it has no msgId, conversationId or sender")
    target = Target(address=address, until=until, at=staff if in_group else "", nick=_text(said, "senderNick")[:100])
    return Message(
        id=found["msgId"], chat=found["conversationId"], person=person, text=_said(said).strip()[:20_000], at=now, target=target
    )  # fmt: skip


def _said(said: Mapping[str, object]) -> str:
    """The words of a text, of a rich text, or of speech as DingTalk understood it; empty for anything else."""
    content = said.get("content")
    match said.get("msgtype"), said.get("text"), content:
        case "text", {"content": str(words)}, _:
            return words
        case "richText", _, {"richText": list(parts)}:
            return "".join(str(part.get("text", "")) for part in parts if isinstance(part, dict))
        case "audio", _, {"recognition": str(words)}:
            return words
    return ""


def _text(said: Mapping[str, object], name: str) -> str:
    value = said.get(name)
    return value[:2000] if isinstance(value, str) else ""


def _is_dingtalks(address: str, base: str) -> bool:
    if base and address.startswith(f"{base}/"):
        return True
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return False
    inside = host.endswith(".dingtalk.com") and parts.username is None and parts.password is None
    return parts.scheme == "https" and inside and port in (None, 443) and "\\" not in address


def _taken(answer: JsonObject) -> None:
    if answer.get("errcode") not in (0, None):
        raise NotSaid("DingTalk did not take the message.", why=f"{answer.get('errcode')} {answer.get('errmsg', '')}"[:300])
