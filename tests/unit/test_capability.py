"""Capabilities: good for exactly one call, for a time, and from nobody but the conductor."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta

import pytest

from runtime.capability import (
    MATERIAL,
    CapabilityExpired,
    CapabilityForged,
    CapabilityMismatch,
    UnknownKey,
    check,
    public_keys,
    read_capability,
)
from schemas.commands import CallTool, PlanCall
from schemas.envelope import Order, decode_order, encode
from schemas.events import Parent, RunRequested
from tests.support.builders import NOW, RENEW, call, order_for, requested, run_of
from tests.support.rights import KEYS, ROGUE, KeysInMemory, signed

WRITE = CallTool(
    call=call("renew", months=1), card_hash=RENEW.hash(), host="cloud", plan="p" * 32, approval="a" * 32, write_key="k" * 32
)
TRUSTED = public_keys(KEYS.trusted())


def order(command: CallTool | PlanCall = WRITE, **material: object) -> Order:
    return replace(order_for(command), material={"user": "ann", "state": "until May", **material})


def right_of(given: Order) -> str:
    text = given.material[MATERIAL]
    assert isinstance(text, str)
    return text


def test_what_the_conductor_signs_is_verified_after_its_way_over_the_bus() -> None:
    parent = Parent(run=run_of("parent"), command="c" * 32, root=run_of("root"), depth=2)
    request = RunRequested.model_validate(requested().model_dump() | {"parent": parent.model_dump()})
    sent = decode_order(encode(signed(order(), request=request)))

    right = read_capability(sent.material[MATERIAL], TRUSTED)
    check(right, sent, NOW)

    assert (right.tool, right.want, right.user, right.agent) == ("renew", "call", "ann", request.agent.name)
    assert right.parents == (parent.run, parent.root)
    assert right.write_key == WRITE.write_key and right.approval == WRITE.approval


def test_its_form_is_two_parts_of_base64url_over_canonical_json() -> None:
    payload, signature = right_of(signed(order())).split(".")
    said = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert list(said) == sorted(said) and said["tenant"] == "acme" and said["issuer"] == KEYS.signing().id
    assert len(base64.urlsafe_b64decode(signature + "==")) == 64
    assert len(payload) + len(signature) < 1200


OTHERS: dict[str, Order] = {
    "arguments": order(WRITE.model_copy(update={"call": call("renew", months=2)})),
    "tool": order(WRITE.model_copy(update={"call": call("destroy", months=1)})),
    "run": replace(order(), header=order().header.model_copy(update={"run": run_of("other")})),
    "tenant": replace(order(), header=order().header.model_copy(update={"tenant": "umbrella"})),
    "command": replace(order(), header=order().header.model_copy(update={"id": "d" * 32})),
    "lane": order(WRITE.model_copy(update={"host": "elsewhere"})),
    "write_key": order(WRITE.model_copy(update={"write_key": "x" * 32})),
    "write_key, approval": order(WRITE.model_copy(update={"write_key": None, "approval": None})),
    "approval": order(WRITE.model_copy(update={"approval": "b" * 32})),
    "want, write_key, approval": order(PlanCall(call=WRITE.call, card_hash=WRITE.card_hash, host="cloud")),
    "material": order(state="until June"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_it_is_for_no_other_call(what: str) -> None:
    right = read_capability(right_of(signed(order())), TRUSTED)
    with pytest.raises(CapabilityMismatch) as refused:
        check(right, OTHERS[what], NOW)
    assert refused.value.why == f"it has another {what}"


@pytest.mark.parametrize(("later_s", "good"), [(0, True), (-59, True), (-61, False), (900 + 59, True), (900 + 61, False)])
def test_it_lasts_a_quarter_of_an_hour_and_clocks_may_be_a_minute_apart(later_s: float, good: bool) -> None:
    given = signed(order())
    right = read_capability(right_of(given), TRUSTED)
    if good:
        check(right, given, NOW + timedelta(seconds=later_s))
    else:
        with pytest.raises(CapabilityExpired):
            check(right, given, NOW + timedelta(seconds=later_s))


def test_no_bit_of_it_can_be_changed() -> None:
    text = right_of(signed(order()))
    for at in range(0, len(text), 7):
        changed = text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]
        with pytest.raises(CapabilityForged):
            read_capability(changed, TRUSTED)


@pytest.mark.parametrize("text", [None, 7, "", ".", "a.b", "a.b.c", "é.é", "=.=", "A" * 5000, b"a.b"])
def test_what_is_no_capability_is_refused(text: object) -> None:
    with pytest.raises(CapabilityForged):
        read_capability(text, TRUSTED)


def test_what_another_key_has_signed_is_refused_under_either_name() -> None:
    with pytest.raises(UnknownKey, match="not trusted"):
        read_capability(right_of(signed(order(), ROGUE)), TRUSTED)

    class Liar(KeysInMemory):
        """It signs with its own key in the name of ours."""

        def signing(self):  # type: ignore[no-untyped-def]
            key = self.pairs[0]
            key.id = KEYS.signing().id
            return key

    with pytest.raises(CapabilityForged, match="signature is false"):
        read_capability(right_of(signed(order(), Liar(66))), TRUSTED)


def test_a_public_key_under_another_keys_name_is_not_taken() -> None:
    with pytest.raises(CapabilityForged, match="not what its name says"):
        public_keys({KEYS.signing().id: ROGUE.signing().public})
