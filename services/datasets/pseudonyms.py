"""What tells of a person in training data is replaced, the same by the same, so that a conversation still makes sense.

E-mail addresses (RFC 5322's usual form), telephone numbers with a country code or of the Chinese mobile plan, Chinese identity
numbers (GB 11643) and payment cards that pass their check digits, addresses of IPv4 hosts that are not private. Names are not
recognised: what only a reader can tell stays. `clean` takes out secrets first.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from schemas.messages import Message
from schemas.tools import ToolCall
from services.datasets.example import Example

_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*\.[A-Za-z]{2,24}")
_IDENTITY = re.compile(r"(?<![0-9A-Za-z])[1-9]\d{16}[0-9Xx](?![0-9A-Za-z])")
_CARD = re.compile(r"(?<![0-9A-Za-z-])\d(?:[ -]?\d){12,18}(?![0-9A-Za-z-])")
_PHONE = re.compile(r"(?<![0-9A-Za-z+.-])(?:\+\d{1,3}[ -]?\d(?:[ -]?\d){6,12}|1[3-9]\d[ -]?\d{4}[ -]?\d{4})(?![0-9A-Za-z])")
_HOST = re.compile(r"(?<![0-9A-Za-z.])(?:\d{1,3}\.){3}\d{1,3}(?![0-9A-Za-z.])")
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


@dataclass
class Pseudonyms:
    """Replaces, and remembers by what. clean: takes secrets out of a text; personal: whether what tells of persons goes, too.

    replaced: how many of each kind there were.
    """

    clean: Callable[[str], str] = str
    personal: bool = True
    replaced: dict[str, int] = field(default_factory=dict)
    _known: dict[str, dict[str, str]] = field(default_factory=dict)

    def example(self, example: Example) -> Example:
        """The same conversation with nobody in it."""
        return replace(
            example, system=self.text(example.system), messages=tuple(self._message(each) for each in example.messages)
        )

    def text(self, text: str) -> str:
        """A text with every such value replaced."""
        text = self.clean(text)
        if not self.personal:
            return text
        text = _EMAIL.sub(lambda found: self._for("email", found[0].lower(), "person{n}@example.com"), text)
        text = _IDENTITY.sub(lambda found: self._checked("identity", found[0], _is_identity, "[identity number {n}]"), text)
        text = _CARD.sub(lambda found: self._checked("card", found[0], _is_card, "[card number {n}]"), text)
        text = _PHONE.sub(lambda found: self._for("phone", found[0], "+1-555-01{n:02}"), text)
        return _HOST.sub(lambda found: self._checked("host", found[0], _is_public, "192.0.2.{n}"), text)

    def _message(self, message: Message) -> Message:
        calls = tuple(self._call(call) for call in message.calls)
        return message.model_copy(update={"content": self.text(message.content), "calls": calls})

    def _call(self, call: ToolCall) -> ToolCall:
        return call.model_copy(update={"arguments": {name: self._value(value) for name, value in call.arguments.items()}})

    def _value(self, value: object) -> object:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {name: self._value(inner) for name, inner in value.items()}
        return [self._value(inner) for inner in value] if isinstance(value, list) else value

    def _checked(self, kind: str, value: str, really: Callable[[str], bool], form: str) -> str:
        return self._for(kind, value, form) if really(value) else value

    def _for(self, kind: str, value: str, form: str) -> str:
        self.replaced[kind] = self.replaced.get(kind, 0) + 1
        known = self._known.setdefault(kind, {})
        return known.setdefault(value, form.format(n=len(known) + 1))


def _is_identity(value: str) -> bool:
    total = sum(int(digit) * weight for digit, weight in zip(value[:17], _WEIGHTS, strict=True))
    return "10X98765432"[total % 11] == value[17].upper()


def _is_card(value: str) -> bool:
    digits = [int(each) for each in value if each.isdigit()][::-1]
    doubled = (sum(divmod(2 * digit, 10)) if place % 2 else digit for place, digit in enumerate(digits))
    return sum(doubled) % 10 == 0


def _is_public(value: str) -> bool:
    try:
        return ipaddress.IPv4Address(value).is_global
    except ValueError:
        return False
