"""Dead letters: messages that nobody could read, looked at, sent again, or thrown away."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass

import nats.errors
import nats.js.errors

from infra.jetstream import streams
from infra.jetstream.connection import Connection, unreachable
from infra.jetstream.deliveries import FIRST, KEPT, TAKEN, WHERE, WHY
from runtime.errors import Permanent
from schemas import subjects
from schemas.errors import ProtocolError

_GONE = (10037, 10043, 10059)  # no such message, no such sequence, no such stream
_ACK_S = 5.0


class NotSentAgain(Permanent):
    """A dead letter that cannot be sent where it came from."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One of them. role: who could not read it; subject: where it had been sent; at: when it was buried (RFC 3339)."""

    sequence: int
    role: str
    subject: str
    why: str
    at: str
    data: bytes

    def trouble(self) -> str:
        """Why it cannot be sent again; empty if it can."""
        if not self.subject:
            return "it does not say where it had been sent"
        if len(self.data) >= KEPT:
            return "it is so long that its end was not kept"
        if self.subject.startswith(f"{subjects.ROOT}.ev."):
            return "the log holds it still, and a fact is written once"
        if not self.subject.startswith((f"{subjects.ROOT}.cmd.", f"{subjects.ROOT}.card.")):
            return "only commands and cards of tools are sent again"
        return ""

    def tenant(self) -> str:
        """Whose it was, as far as its subject tells."""
        place = {"cmd": 4, "card": 2, "ev": 5}.get(".".join(self.subject.split(".")[1:2]), -1)
        parts = self.subject.split(".")
        return subjects.card_owner(parts[place]) if 0 < place < len(parts) else ""


async def count(connection: Connection) -> int:
    """How many there are. Raises Unreachable."""
    said = await streams.api(connection, f"STREAM.INFO.{subjects.DEAD_STREAM}", absent=_GONE)
    state = said.get("state") if said else None
    return int(str(state["messages"])) if isinstance(state, dict) else 0


async def newest(connection: Connection, limit: int) -> list[Letter]:
    """The last ones, newest first. Raises Unreachable."""
    said = await streams.api(connection, f"STREAM.INFO.{subjects.DEAD_STREAM}", absent=_GONE)
    state = said.get("state") if said else None
    if not isinstance(state, dict):
        return []
    found: list[Letter] = []
    for sequence in _backwards(int(str(state["first_seq"])), int(str(state["last_seq"])), 2 * limit):
        letter = await one(connection, sequence)
        if letter is not None:
            found.append(letter)
        if len(found) == limit:
            break
    return found


async def one(connection: Connection, sequence: int) -> Letter | None:
    """A letter; None if it is gone. Raises Unreachable."""
    said = await streams.api(connection, f"STREAM.MSG.GET.{subjects.DEAD_STREAM}", absent=_GONE, asked={"seq": sequence})
    message = said.get("message") if said else None
    if not isinstance(message, dict):
        return None
    headers = dict(_headers(base64.b64decode(str(message.get("hdrs", "")))))
    return Letter(
        sequence, str(message["subject"]).rsplit(".", 1)[-1], headers.get(WHERE, ""), headers.get(WHY, ""),
        str(message["time"]), base64.b64decode(str(message.get("data", ""))),
    )  # fmt: skip


async def send_again(connection: Connection, letter: Letter) -> None:
    """Put it where it was sent first, and out of the dead ones. Raises NotSentAgain, Unreachable."""
    if trouble := letter.trouble():
        raise NotSentAgain("This message cannot be sent again.", why=trouble, hint="discard it")
    command = letter.subject.startswith(f"{subjects.ROOT}.cmd.")
    if command:
        try:
            subjects.parse_command(letter.subject)
        except ProtocolError as error:
            raise NotSentAgain(
                "This message cannot be sent again.", why=f"{error.what} {error.why}", hint="discard it"
            ) from error
    try:
        await connection.jetstream.publish(letter.subject, letter.data, timeout=_ACK_S, headers=FIRST if command else None)
    except (nats.errors.Error, OSError, TimeoutError) as error:
        if isinstance(error, nats.js.errors.APIError) and error.err_code in TAKEN:
            raise NotSentAgain(
                "It waits in the queue already.", why="its subject holds a message", hint="discard it"
            ) from error
        raise unreachable(error) from error
    await discard(connection, letter.sequence)


async def discard(connection: Connection, sequence: int) -> bool:
    """Forget one; False if it is gone. Raises Unreachable."""
    asked: dict[str, object] = {"seq": sequence}
    return await streams.api(connection, f"STREAM.MSG.DELETE.{subjects.DEAD_STREAM}", absent=_GONE, asked=asked) is not None


def _backwards(first: int, last: int, most: int) -> Iterator[int]:
    yield from range(last, max(first, last - most + 1, 1) - 1, -1)


def _headers(raw: bytes) -> Iterator[tuple[str, str]]:
    for line in raw.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            yield name.decode("ascii", "replace").strip(), value.decode("utf-8", "replace").strip()
