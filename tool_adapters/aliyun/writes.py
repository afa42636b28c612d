"""What each write of ECS depends on, what it would change, and how to see afterwards whether it happened.

Each kind of write has four answers: `look` reads the state it depends on, `preview` shows the change to the person
who approves it, `progress` tells how it goes once it was sent, and `outcome` compares the state it was planned on with the
present one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from schemas.tools import Preview
from tool_adapters.aliyun.answers import decoded
from tool_adapters.aliyun.calendar import moment_of, renewed_until
from tool_adapters.aliyun.client import Answer
from tool_adapters.aliyun.look import Looker, facts, inner
from tool_adapters.cloud import Progress, State, ids_of, under_way
from tool_adapters.tool import Outcome, ToolRefused, ToolUnavailable

Arguments = Mapping[str, object]

# How far the real new expiry may lie from ours and still be that renewal: the provider's calendar is its own.
_EXPIRY_SLACK = timedelta(days=3)


class Write(Protocol):
    """How one write is planned and recognised. States are plain JSON and hold only what the write depends on."""

    async def look(self, looker: Looker, arguments: Arguments) -> State:
        """The state now. Things that do not exist are left out."""
        ...

    async def preview(self, looker: Looker, arguments: Arguments, state: State) -> Preview:
        """What would change. Raises ToolRefused for what the provider would refuse."""
        ...

    def outcome(self, arguments: Arguments, planned: State, now: State) -> Outcome:
        """Whether the write planned on `planned` has happened, judging by `now`."""
        ...

    async def progress(self, looker: Looker, arguments: Arguments, planned: State | None, answer: Answer) -> Progress:
        """How it goes, after `answer` has told that it was accepted."""
        ...


@dataclass(frozen=True, slots=True)
class OnInstances:
    """The common part: a write on instances that depends on some of their facts."""

    watched: tuple[str, ...]
    named_by: str = "InstanceId"
    unseen: str | None = None
    """What goes on with an instance that is not there: the provider may show late what it has accepted."""

    async def look(self, looker: Looker, arguments: Arguments) -> State:
        found = await looker.instances(ids_of(arguments, self.named_by))
        names = ("InstanceId", "InstanceName", *self.watched)
        return {"instances": [facts(one, names) for one in found]}

    async def progress(self, looker: Looker, arguments: Arguments, planned: State | None, answer: Answer) -> Progress:
        now = await self.look(looker, arguments)
        refused = {row.get("InstanceId") for row in inner(answer, "InstanceResponses", "InstanceResponse") if _refused(row)}
        before, after = ({one["InstanceId"]: one for one in instances_of(state)} for state in (planned or {}, now))
        waited = [name for name in ids_of(arguments, self.named_by) if name not in refused]
        going = (self.unfinished(before.get(name), after[name]) if name in after else self.unseen for name in waited)
        return Progress(tuple(described(now)), next((word for word in going if word), None))

    def unfinished(self, before: State | None, now: State) -> str | None:
        """What an instance is still doing. before: as it was planned on, if that is known."""
        return under_way(now.get("Status"))

    def existing(self, arguments: Arguments, state: State) -> list[State]:
        """The instances of the state. Raises ToolRefused if one of those asked for does not exist."""
        instances = instances_of(state)
        known = {one["InstanceId"] for one in instances}
        if missing := [name for name in ids_of(arguments, self.named_by) if name not in known]:
            raise ToolRefused(
                f"There is no instance {', '.join(missing)}.",
                code="InvalidInstanceId.NotFound",
                hint="list the instances with DescribeInstances; it may be in another region",
            )
        return instances


@dataclass(frozen=True, slots=True)
class Renewal(OnInstances):
    """RenewInstance: the expiry moves by the period."""

    watched: tuple[str, ...] = ("InstanceChargeType", "ExpiredTime", "OperationLocks")

    async def preview(self, looker: Looker, arguments: Arguments, state: State) -> Preview:
        (instance,) = self.existing(arguments, state)
        if instance["InstanceChargeType"] != "PrePaid":
            raise ToolRefused(
                f"{_title(instance)} cannot be renewed.",
                code="ChargeTypeViolation",
                why=f"it is billed {instance['InstanceChargeType']} (pay-as-you-go) and never expires",
            )
        old, (period, unit) = str(instance["ExpiredTime"]), _period(arguments)
        price = await self._price(looker, str(instance["InstanceId"]), period, unit)
        rows = (
            ("instance", _title(instance)),
            ("expires", f"{old} -> {renewed_until(old, period, unit)}"),
            ("period", f"{period} {unit.lower()}{'' if period == 1 else 's'}"),
        )
        return Preview(
            summary=f"Renew {_title(instance)} for {rows[2][1]}",
            rows=(*rows, ("price", " ".join(price)) if price else ("price", "the provider does not quote this period")),
            price=price[0] if price else None,
            currency=price[1] if price else None,
        )

    def outcome(self, arguments: Arguments, planned: State, now: State) -> Outcome:
        before, after = instances_of(planned), instances_of(now)
        if len(before) != 1 or len(after) != 1:
            return "unknown"
        old, new = str(before[0]["ExpiredTime"]), str(after[0]["ExpiredTime"])
        if new == old:
            return "not_happened"
        expected = renewed_until(old, *_period(arguments))
        return "happened" if abs(moment_of(new) - moment_of(expected)) <= _EXPIRY_SLACK else "unknown"

    async def _price(self, looker: Looker, name: str, period: int, unit: str) -> tuple[str, str] | None:
        """Amount and currency. DescribeRenewalPrice quotes 1 to 9 months or whole years, and no weeks."""
        if unit == "Week" or (period > 9 and period % 12):
            return None
        quoted = (period // 12, "Year") if period > 9 else (period, "Month")
        answer = await looker.ask(
            "DescribeRenewalPrice", RegionId=looker.region, ResourceId=name, Period=quoted[0], PriceUnit=quoted[1]
        )
        info = answer.get("PriceInfo")
        price = info.get("Price") if isinstance(info, Mapping) else None
        if not isinstance(price, Mapping) or price.get("TradePrice") is None:
            return None
        return f"{float(price['TradePrice']):.2f}", str(price.get("Currency", ""))


@dataclass(frozen=True, slots=True)
class Power(OnInstances):
    """Start, stop and reboot. The start time is part of the state, so that each round of them is a new write."""

    watched: tuple[str, ...] = ("Status", "StartTime", "OperationLocks")
    unseen: str | None = "Not seen"
    verb: str = "Start"
    through: tuple[str, ...] = ("Starting", "Running")

    async def preview(self, looker: Looker, arguments: Arguments, state: State) -> Preview:
        instances = self.existing(arguments, state)
        forced = any(arguments.get(name) for name in ("ForceStop", "ForceReboot"))
        names = ", ".join(_title(one) for one in instances)
        rows = tuple((_title(one), f"status {one['Status']} -> {self.through[-1]}") for one in instances)
        warning = (("warning", "forced: data not yet written to disk is lost"),) if forced else ()
        return Preview(summary=f"{self.verb} {names}", rows=(*rows, *warning))

    def outcome(self, arguments: Arguments, planned: State, now: State) -> Outcome:
        before, after = instances_of(planned), instances_of(now)
        if len(before) != len(after):
            return "unknown"
        if all(self._done(old, new) for old, new in zip(before, after, strict=True)):
            return "happened"
        if self.verb == "Reboot" or before != after:
            return "unknown"  # a reboot that has only just been accepted still looks like none
        return "not_happened"

    def unfinished(self, before: State | None, now: State) -> str | None:
        """Until it has the status it is to end in."""
        return None if now["Status"] == self.through[-1] else str(now["Status"])

    def _done(self, old: State, new: State) -> bool:
        if self.verb == "Reboot":
            return old["StartTime"] != new["StartTime"] or new["Status"] in ("Stopping", "Starting")
        return old["Status"] not in self.through and new["Status"] in self.through


@dataclass(frozen=True, slots=True)
class Deletion(OnInstances):
    """DeleteInstance: the instance is gone."""

    watched: tuple[str, ...] = ("Status", "InstanceChargeType", "DeletionProtection")

    async def preview(self, looker: Looker, arguments: Arguments, state: State) -> Preview:
        instances = self.existing(arguments, state)
        rows = tuple((_title(one), f"{one['Status']} -> deleted") for one in instances)
        warning = ("warning", "what is deleted is gone for good, with its data")
        return Preview(summary=f"Delete {', '.join(_title(one) for one in instances)} for good", rows=(*rows, warning))

    def outcome(self, arguments: Arguments, planned: State, now: State) -> Outcome:
        return "not_happened" if instances_of(now) else "happened"

    def unfinished(self, before: State | None, now: State) -> str | None:
        """Until it is gone."""
        return "Deleting"


@dataclass(frozen=True, slots=True)
class Attributes(OnInstances):
    """ModifyInstanceAttribute: each given attribute has its new value."""

    watched: tuple[str, ...] = ("Description", "HostName", "DeletionProtection")

    async def preview(self, looker: Looker, arguments: Arguments, state: State) -> Preview:
        (instance,) = self.existing(arguments, state)
        changes = self._changes(arguments)
        if not changes:
            raise ToolRefused("Nothing to change was given.", code="MissingParameter")
        rows = tuple((name, f"{instance.get(name) or '(none)'} -> {value}") for name, value in changes.items())
        return Preview(summary=f"Change {', '.join(changes)} of {_title(instance)}", rows=rows)

    def outcome(self, arguments: Arguments, planned: State, now: State) -> Outcome:
        after = instances_of(now)
        if len(after) == 1 and all(after[0].get(name) == value for name, value in self._changes(arguments).items()):
            return "happened"
        return "not_happened" if planned == now else "unknown"

    def _changes(self, arguments: Arguments) -> dict[str, object]:
        return {name: arguments[name] for name in ("InstanceName", *self.watched) if name in arguments}


@dataclass(frozen=True, slots=True)
class Tagging(OnInstances):
    """TagResources: each instance has the tags."""

    watched: tuple[str, ...] = ("Tags",)
    named_by: str = "ResourceId"

    async def preview(self, looker: Looker, arguments: Arguments, state: State) -> Preview:
        instances, tags = self.existing(arguments, state), _tags(arguments)
        rows = tuple((_title(one), _tag_changes(one, tags)) for one in instances)
        return Preview(summary=f"Tag {', '.join(_title(one) for one in instances)}", rows=rows)

    def outcome(self, arguments: Arguments, planned: State, now: State) -> Outcome:
        wanted = _tags(arguments).items()
        tags = [one.get("Tags") for one in instances_of(now)]
        if tags and all(isinstance(have, dict) and wanted <= have.items() for have in tags):
            return "happened"
        return "not_happened" if planned == now else "unknown"


@dataclass(frozen=True, slots=True)
class Untagging(OnInstances):
    """UntagResources: no instance has a tag of these keys."""

    watched: tuple[str, ...] = ("Tags",)
    named_by: str = "ResourceId"

    async def preview(self, looker: Looker, arguments: Arguments, state: State) -> Preview:
        instances, keys = self.existing(arguments, state), ids_of(arguments, "TagKey")
        rows = tuple(
            (_title(one), ", ".join(f"{key}: {_tags_now(one).get(key, '(none)')} -> (none)" for key in keys))
            for one in instances
        )
        return Preview(summary=f"Remove tags of {', '.join(_title(one) for one in instances)}", rows=rows)

    def outcome(self, arguments: Arguments, planned: State, now: State) -> Outcome:
        keys, after = set(ids_of(arguments, "TagKey")), instances_of(now)
        if after and not any(keys & set(_tags_now(one)) for one in after):
            return "happened"
        return "not_happened" if planned == now else "unknown"


@dataclass(frozen=True, slots=True)
class AutoRenewal(OnInstances):
    """ModifyInstanceAutoRenewAttribute: automatic renewal is as wanted."""

    watched: tuple[str, ...] = ("InstanceChargeType",)

    async def look(self, looker: Looker, arguments: Arguments) -> State:
        names = ids_of(arguments, "InstanceId")
        found = await looker.instances(names)
        rows: dict[object, State] = {}
        for region in dict.fromkeys(str(one["RegionId"]) for one in found):
            answer = await looker.ask("DescribeInstanceAutoRenewAttribute", RegionId=region, InstanceId=",".join(names))
            rows |= {row["InstanceId"]: row for row in inner(answer, "InstanceRenewAttributes", "InstanceRenewAttribute")}
        return {
            "instances": [
                facts(one, ("InstanceId", "InstanceName", *self.watched)) | _auto_renewal(rows.get(one["InstanceId"], {}))
                for one in found
            ]
        }

    async def preview(self, looker: Looker, arguments: Arguments, state: State) -> Preview:
        instances, wanted = self.existing(arguments, state), self._wanted(arguments)
        rows = tuple((_title(one), f"automatic renewal {one['AutoRenew']} -> {wanted}") for one in instances)
        return Preview(summary=f"Turn automatic renewal {wanted} for {', '.join(_title(one) for one in instances)}", rows=rows)

    def outcome(self, arguments: Arguments, planned: State, now: State) -> Outcome:
        wanted, after = self._wanted(arguments), instances_of(now)
        if planned == now:
            return "not_happened"
        return "happened" if after and all(one.get("AutoRenew") == wanted for one in after) else "unknown"

    def _wanted(self, arguments: Arguments) -> str:
        if not arguments.get("AutoRenew", False):
            return "off"
        return f"every {arguments.get('Duration', 1)} {str(arguments.get('PeriodUnit', 'Month')).lower()}"


@dataclass(frozen=True, slots=True)
class Command(OnInstances):
    """RunCommand: a new invocation with our content is the newest one."""

    watched: tuple[str, ...] = ("Status",)

    async def look(self, looker: Looker, arguments: Arguments) -> State:
        found = await looker.instances(ids_of(arguments, "InstanceId"))
        seen: list[State] = []
        for one in found:
            answer = await looker.ask(
                "DescribeInvocations", RegionId=one["RegionId"], InstanceId=one["InstanceId"], MaxResults=10
            )
            newest = next(iter(inner(answer, "Invocations", "Invocation")), {})
            last = {"InvokeId": newest.get("InvokeId"), "CommandContent": newest.get("CommandContent")}
            seen.append(facts(one, ("InstanceId", "InstanceName", *self.watched)) | {"last": last})
        return {"instances": seen}

    async def preview(self, looker: Looker, arguments: Arguments, state: State) -> Preview:
        instances = self.existing(arguments, state)
        if stopped := [_title(one) for one in instances if one["Status"] != "Running"]:
            raise ToolRefused(f"{', '.join(stopped)} is not running.", code="InvalidInstance.NotRunning")
        names = ", ".join(_title(one) for one in instances)
        rows = (("instances", names), ("type", str(arguments["Type"])), ("command", str(arguments["CommandContent"])))
        return Preview(summary=f"Run a command on {names}", rows=rows)

    def outcome(self, arguments: Arguments, planned: State, now: State) -> Outcome:
        ours = base64.b64encode(str(arguments["CommandContent"]).encode()).decode()
        before = [one["last"] for one in instances_of(planned)]
        after = [one["last"] for one in instances_of(now)]
        if before == after:
            return "not_happened"
        new = [one for one in after if isinstance(one, Mapping) and one not in before]
        done = len(new) == len(after) and all(one.get("CommandContent") == ours for one in new)
        return "happened" if done else "unknown"

    async def progress(self, looker: Looker, arguments: Arguments, planned: State | None, answer: Answer) -> Progress:
        """Until it has ended on each instance; then what it printed."""
        (found, *_) = await self._invocations(looker, str(answer["InvokeId"]), str(arguments.get("RegionId") or looker.region))
        rows = inner(found, "InvokeInstances", "InvokeInstance")
        going = next((word for row in rows if (word := _running(row.get("InvocationStatus")))), None)
        lines = (f"{row.get('InstanceId')}: {row.get('InvocationStatus')}, exit code {row.get('ExitCode')}: "
                 f"{decoded(row.get('Output')) or '(no output)'}" for row in rows)  # fmt: skip
        return Progress(tuple(lines), going)

    async def _invocations(self, looker: Looker, invocation: str, region: str) -> list[Answer]:
        answer = await looker.ask("DescribeInvocations", RegionId=region, InvokeId=invocation, IncludeOutput=True)
        found = inner(answer, "Invocations", "Invocation")
        if not found:
            raise ToolUnavailable(f"The invocation {invocation} is not seen yet.")
        return found


@dataclass(frozen=True, slots=True)
class Snapshotting:
    """CreateSnapshot: the disk has a newer snapshot, of our name if one was given."""

    async def look(self, looker: Looker, arguments: Arguments) -> State:
        disk = str(arguments["DiskId"])
        disks = inner(await looker.ask("DescribeDisks", RegionId=looker.region, DiskIds=f'["{disk}"]'), "Disks", "Disk")
        answer = await looker.ask("DescribeSnapshots", RegionId=looker.region, DiskId=disk, MaxResults=10)
        rows = inner(answer, "Snapshots", "Snapshot")
        newest = max(rows, key=lambda row: (str(row.get("CreationTime")), str(row.get("SnapshotId"))), default={})
        return {
            "disk": facts(disks[0], ("DiskId", "DiskName", "Size", "InstanceId")) if disks else None,
            "last": {"SnapshotId": newest.get("SnapshotId"), "SnapshotName": newest.get("SnapshotName")},
        }

    async def preview(self, looker: Looker, arguments: Arguments, state: State) -> Preview:
        disk = state["disk"]
        if not isinstance(disk, Mapping):
            raise ToolRefused(f"There is no disk {arguments['DiskId']}.", code="InvalidDiskId.NotFound")
        name, days = str(arguments.get("SnapshotName", "(named by the provider)")), arguments.get("RetentionDays")
        rows = (
            ("disk", f"{disk['DiskId']} ({disk['DiskName']}, {disk['Size']} GiB)"),
            ("snapshot", name),
            ("kept", f"{days} days" if days else "until it is deleted"),
        )
        return Preview(summary=f"Create a snapshot of {disk['DiskId']}", rows=rows)

    def outcome(self, arguments: Arguments, planned: State, now: State) -> Outcome:
        before, after = planned["last"], now["last"]
        if before == after:
            return "not_happened"
        name = arguments.get("SnapshotName")
        return "happened" if name and isinstance(after, Mapping) and after.get("SnapshotName") == name else "unknown"

    async def progress(self, looker: Looker, arguments: Arguments, planned: State | None, answer: Answer) -> Progress:
        """Until the snapshot is complete."""
        name = str(answer["SnapshotId"])
        found = await looker.ask("DescribeSnapshots", RegionId=looker.region, SnapshotIds=json.dumps([name]))
        (row, *_) = inner(found, "Snapshots", "Snapshot") or [{"Status": "progressing"}]
        line = f"{name} now: {row.get('Status')} {row.get('Progress', '')}".rstrip()
        return Progress((f"{line}.",), under_way(row.get("Status")))


WRITE_KINDS: dict[str, Write] = {
    "RenewInstance": Renewal(),
    "ModifyInstanceAutoRenewAttribute": AutoRenewal(),
    "StartInstance": Power(),
    "StartInstances": Power(),
    "StopInstance": Power(verb="Stop", through=("Stopping", "Stopped")),
    "StopInstances": Power(verb="Stop", through=("Stopping", "Stopped")),
    "RebootInstance": Power(verb="Reboot", through=("Running",)),
    "RebootInstances": Power(verb="Reboot", through=("Running",)),
    "DeleteInstance": Deletion(),
    "DeleteInstances": Deletion(),
    "RunCommand": Command(),
    "CreateSnapshot": Snapshotting(),
    "ModifyInstanceAttribute": Attributes(),
    "TagResources": Tagging(),
    "UntagResources": Untagging(),
}


def instances_of(state: State) -> list[State]:
    """The instances that a state describes."""
    found = state.get("instances")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _refused(row: Answer) -> bool:
    return str(row.get("Code") or "200") != "200"


def _running(status: object) -> str | None:
    """Of a command, Running is a status on the way."""
    return str(status) if status == "Running" else under_way(status)


def described(state: State) -> list[str]:
    """A line for each instance of a state on how it is now."""
    words = {"Status": "status", "ExpiredTime": "expires", "AutoRenew": "automatic renewal"}
    lines = []
    for one in instances_of(state):
        known = [f"{word} {one[name]}" for name, word in words.items() if one.get(name) is not None]
        if known:
            lines.append(f"{_title(one)} now: {', '.join(known)}.")
    return lines


def _title(instance: Mapping[str, object]) -> str:
    name = instance.get("InstanceName")
    return f"{instance['InstanceId']} ({name})" if name else str(instance["InstanceId"])


def _period(arguments: Arguments) -> tuple[int, str]:
    return int(str(arguments.get("Period", 1))), str(arguments.get("PeriodUnit", "Month"))


def _tags(arguments: Arguments) -> dict[str, object]:
    tags = arguments.get("Tag")
    return {str(tag["Key"]): tag.get("Value", "") for tag in tags} if isinstance(tags, list) else {}


def _tags_now(instance: State) -> Mapping[str, object]:
    have = instance.get("Tags")
    return have if isinstance(have, Mapping) else {}


def _tag_changes(instance: State, tags: Mapping[str, object]) -> str:
    old = _tags_now(instance)
    return ", ".join(f"{key}: {old.get(key, '(none)')} -> {value}" for key, value in tags.items())


def _auto_renewal(row: State) -> State:
    if not row.get("AutoRenewEnabled"):
        return {"AutoRenew": "off"}
    return {"AutoRenew": f"every {row.get('Duration')} {str(row.get('PeriodUnit', 'Month')).lower()}"}
