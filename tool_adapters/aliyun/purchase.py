"""RunInstances: buying instances. It depends on the price alone, and is recognised by a tag that carries its write key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.tools import Preview
from tool_adapters.aliyun.client import Answer
from tool_adapters.aliyun.look import Looker, inner
from tool_adapters.aliyun.writes import Arguments
from tool_adapters.cloud import Progress, State, under_way
from tool_adapters.tool import Outcome, ToolRefused

MARK = "milepost-write"
"""The key of the tag; its value is the write key."""


@dataclass(frozen=True, slots=True)
class Purchase:
    """The state it is planned on is what it costs: at another price the person is asked again."""

    async def look(self, looker: Looker, arguments: Arguments) -> State:
        """The price; and what was made under the looker's write key, if it has one."""
        monthly = arguments.get("InstanceChargeType") == "PrePaid"
        unit, period = (str(arguments.get("PeriodUnit", "Month")), arguments.get("Period", 1)) if monthly else ("Hour", 1)
        answer = await looker.ask(
            "DescribePrice", RegionId=looker.region, ResourceType="instance", InstanceType=arguments["InstanceType"],
            Amount=arguments.get("Amount", 1), PriceUnit=unit, Period=period,
        )  # fmt: skip
        info = answer.get("PriceInfo")
        price = info.get("Price") if isinstance(info, Mapping) else None
        state: State = {}
        if isinstance(price, Mapping) and price.get("TradePrice") is not None:
            state = {"price": f"{float(price['TradePrice']):.3f}", "currency": price.get("Currency")}
        return state | ({"made": await self._made(looker)} if looker.write_key else {})

    async def preview(self, looker: Looker, arguments: Arguments, state: State) -> Preview:
        amount, kind = int(str(arguments.get("Amount", 1))), arguments["InstanceType"]
        if amount < 1:
            raise ToolRefused("At least one instance has to be asked for.", code="InvalidAmount")
        name = str(arguments.get("InstanceName", "(named by the provider)"))
        rows = [
            ("instances", f"{amount} x {kind}"),
            ("name", name),
            ("region", looker.region),
            ("image", str(arguments["ImageId"])),
        ]
        price, currency = state.get("price"), str(state.get("currency") or "")
        monthly = arguments.get("InstanceChargeType") == "PrePaid"
        period = (
            f"for {arguments.get('Period', 1)} {str(arguments.get('PeriodUnit', 'Month')).lower()}(s)" if monthly else "an hour"
        )
        rows.append(("price", f"{price} {currency} {period}" if price else "the provider does not quote it"))
        return Preview(
            summary=f"Create {amount} {kind} instance{'' if amount == 1 else 's'}", rows=tuple(rows),
            price=str(price) if price else None, currency=currency or None,
        )  # fmt: skip

    def outcome(self, arguments: Arguments, planned: State, now: State) -> Outcome:
        made = now.get("made")
        if not isinstance(made, list):
            return "unknown"
        return "happened" if made else "not_happened"

    async def progress(self, looker: Looker, arguments: Arguments, planned: State | None, answer: Answer) -> Progress:
        """Until all of them run."""
        sets = answer.get("InstanceIdSets")
        names = sets.get("InstanceIdSet") if isinstance(sets, Mapping) else None
        ids = [str(name) for name in names] if isinstance(names, list) else []
        found = await looker.instances(ids)
        lines = tuple(f"{one['InstanceId']} ({one.get('InstanceName')}) now: status {one['Status']}." for one in found)
        going = [str(one["Status"]) for one in found if under_way(one["Status"]) or one["Status"] == "Stopped"]
        return Progress(lines, going[0] if going else "Creating" if len(found) < len(ids) else None)

    async def _made(self, looker: Looker) -> list[str]:
        tag = [{"Key": MARK, "Value": looker.write_key}]
        answer = await looker.ask("DescribeInstances", RegionId=looker.region, Tag=tag, MaxResults=100)
        return [str(one["InstanceId"]) for one in inner(answer, "Instances", "Instance")]


def marked(wire: dict[str, object], write_key: str | None) -> dict[str, object]:
    """The request with the tag that carries its write key."""
    given = wire.get("Tag")
    tags = given if isinstance(given, list) else []
    return wire | ({"Tag": [*tags, {"Key": MARK, "Value": write_key}]} if write_key else {})
