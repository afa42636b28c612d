"""What each write on EC2 depends on, what it would change, how it is sent, and how to see whether it happened.

As tool_adapters.aliyun.writes, with AWS's own shapes: a terminated instance counts as gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.tools import Preview
from tool_adapters.aws.client import Answer, Aws
from tool_adapters.aws.price import hourly
from tool_adapters.cloud import Progress, State, at, changes, ids_of, rows_at, under_way
from tool_adapters.tool import Outcome, ToolRefused

Arguments = Mapping[str, object]
MARK = "milepost-write"
"""The key of the tag that carries a purchase's write key."""

GONE = frozenset({"terminated", "shutting-down"})


@dataclass(frozen=True, slots=True)
class Looker:
    """Reads through one client with one time limit per question. write_key: of a write that may have been sent."""

    aws: Aws
    timeout_s: float
    write_key: str | None = None

    async def ask(self, operation: str, service: str = "ec2", **arguments: object) -> Answer:
        """Ask an operation that only reads."""
        return await self.aws.ask(service, operation, arguments, timeout_s=self.timeout_s)

    async def instances(self, ids: list[str]) -> list[Answer]:
        """The instances of these ids that exist, in this order."""
        filters = [{"Name": "instance-id", "Values": ids}]
        found = {str(one["InstanceId"]): one for one in await self.instances_with(filters)}
        return [found[name] for name in ids if name in found]

    async def instances_with(self, filters: Sequence[Mapping[str, object]]) -> list[Answer]:
        """The instances that pass filters."""
        answer = await self.ask("DescribeInstances", Filters=filters)
        return [one for reservation in rows_at(answer, "Reservations") for one in rows_at(reservation, "Instances")]


class Write(Protocol):
    """How one write is planned, sent and recognised. States are plain JSON and hold only what the write depends on."""

    def wire(self, arguments: Arguments, write_key: str | None) -> dict[str, object]: ...

    async def look(self, looker: Looker, arguments: Arguments) -> State: ...

    async def preview(self, looker: Looker, arguments: Arguments, state: State) -> Preview: ...

    def outcome(self, arguments: Arguments, planned: State, now: State) -> Outcome: ...

    async def progress(self, looker: Looker, arguments: Arguments, planned: State | None, answer: Answer) -> Progress: ...


@dataclass(frozen=True, slots=True)
class OnInstances:
    """The common part: a write on instances that depends on some of their facts."""

    watched: tuple[str, ...]
    named_by: str = "InstanceIds"

    def wire(self, arguments: Arguments, write_key: str | None) -> dict[str, object]:
        return dict(arguments)

    async def look(self, looker: Looker, arguments: Arguments) -> State:
        return {"instances": [facts(one, self.watched) for one in await looker.instances(ids_of(arguments, self.named_by))]}

    async def progress(self, looker: Looker, arguments: Arguments, planned: State | None, answer: Answer) -> Progress:
        after = {str(one["InstanceId"]): one for one in instances_of(await self.look(looker, arguments))}
        before = {one["InstanceId"]: one for one in instances_of(planned or {})}
        ids = ids_of(arguments, self.named_by)
        going = (self.unfinished(before.get(name), after[name]) if name in after else "not seen" for name in ids)
        lines = tuple(f"{title(one)} now: {one['State']}." for one in after.values() if "State" in one)
        return Progress(lines, next((word for word in going if word), None))

    def unfinished(self, before: State | None, now: State) -> str | None:
        """What an instance is still doing. before: as it was planned on, if that is known."""
        return under_way(now.get("State"))

    def existing(self, arguments: Arguments, state: State) -> list[State]:
        """The instances of the state. Raises ToolRefused if one of those asked for does not exist, or does no more."""
        instances = [one for one in instances_of(state) if one.get("State") not in GONE]
        known = {one["InstanceId"] for one in instances}
        if missing := [name for name in ids_of(arguments, self.named_by) if name not in known]:
            raise ToolRefused(
                f"There is no instance {', '.join(missing)}.", code="InvalidInstanceID.NotFound",
                hint="list the instances with ec2_DescribeInstances; it may be in another region",
            )  # fmt: skip
        return instances


@dataclass(frozen=True, slots=True)
class Power(OnInstances):
    """Start, stop and reboot. The launch time is part of the state, so that each round of them is a new write."""

    watched: tuple[str, ...] = ("State", "LaunchTime", "StateTransitionReason")
    verb: str = "Start"
    allowed: tuple[str, ...] = ("stopped",)
    through: tuple[str, ...] = ("pending", "running")

    async def preview(self, looker: Looker, arguments: Arguments, state: State) -> Preview:
        instances = self.existing(arguments, state)
        if wrong := [one for one in instances if one["State"] not in self.allowed]:
            raise ToolRefused(
                f"{title(wrong[0])} is {wrong[0]['State']}.", code="IncorrectInstanceState",
                why=f"{self.verb.lower()} needs it {' or '.join(self.allowed)}",
            )  # fmt: skip
        rows = tuple((title(one), f"{one['State']} -> {self.through[-1]}") for one in instances)
        warning = (("warning", "forced: data not yet written to disk is lost"),) if arguments.get("Force") else ()
        return Preview(summary=f"{self.verb} {', '.join(title(one) for one in instances)}", rows=(*rows, *warning))

    def outcome(self, arguments: Arguments, planned: State, now: State) -> Outcome:
        before, after = instances_of(planned), instances_of(now)
        if self.verb == "Reboot" or len(before) != len(after):
            return "unknown"  # a reboot cannot be seen from outside
        if all(
            old["State"] not in self.through and new["State"] in self.through for old, new in zip(before, after, strict=True)
        ):
            return "happened"
        return "not_happened" if before == after else "unknown"

    def unfinished(self, before: State | None, now: State) -> str | None:
        return None if now["State"] == self.through[-1] else str(now["State"])


@dataclass(frozen=True, slots=True)
class Termination(OnInstances):
    """TerminateInstances: the instances are gone, or going."""

    watched: tuple[str, ...] = ("State",)

    async def preview(self, looker: Looker, arguments: Arguments, state: State) -> Preview:
        instances = self.existing(arguments, state)
        rows = tuple((title(one), f"{one['State']} -> terminated") for one in instances)
        warning = ("warning", "what is terminated is gone for good, with the volumes that are deleted on termination")
        return Preview(summary=f"Terminate {', '.join(title(one) for one in instances)} for good", rows=(*rows, warning))

    def outcome(self, arguments: Arguments, planned: State, now: State) -> Outcome:
        states = [one["State"] for one in instances_of(now)]
        if all(state in GONE for state in states):
            return "happened"
        return "not_happened" if planned == now else "unknown"

    async def progress(self, looker: Looker, arguments: Arguments, planned: State | None, answer: Answer) -> Progress:
        now = instances_of(await self.look(looker, arguments))
        going = [str(one["State"]) for one in now if one["State"] != "terminated"]
        return Progress(tuple(f"{title(one)} now: {one['State']}." for one in now), going[0] if going else None)


@dataclass(frozen=True, slots=True)
class Attribute(OnInstances):
    """ModifyInstanceAttribute: EC2 changes one at a time."""

    watched: tuple[str, ...] = ("State", "InstanceType")
    named_by: str = "InstanceId"
    known: tuple[str, ...] = ("InstanceType", "DisableApiTermination")

    def wire(self, arguments: Arguments, write_key: str | None) -> dict[str, object]:
        changed = {name: {"Value": value} for name, value in self._changes(arguments).items()}
        return {"InstanceId": arguments["InstanceId"], **changed}

    async def look(self, looker: Looker, arguments: Arguments) -> State:
        state = await OnInstances.look(self, looker, arguments)
        for one in instances_of(state):
            if "DisableApiTermination" in arguments:
                name = one["InstanceId"]
                answer = await looker.ask("DescribeInstanceAttribute", InstanceId=name, Attribute="disableApiTermination")
                one["DisableApiTermination"] = at(answer, "DisableApiTermination.Value")
        return state

    async def preview(self, looker: Looker, arguments: Arguments, state: State) -> Preview:
        (instance,) = self.existing(arguments, state)
        wanted = self._changes(arguments)
        if len(wanted) != 1:
            raise ToolRefused(
                "EC2 changes one attribute at a time.", code="InvalidParameterCombination", why=f"{len(wanted)} were given"
            )
        rows = changes([(name, instance.get(name), value) for name, value in wanted.items()])
        return Preview(summary=f"Change {', '.join(wanted)} of {title(instance)}", rows=rows)

    def outcome(self, arguments: Arguments, planned: State, now: State) -> Outcome:
        after = instances_of(now)
        if len(after) == 1 and all(after[0].get(name) == value for name, value in self._changes(arguments).items()):
            return "happened"
        return "not_happened" if planned == now else "unknown"

    def _changes(self, arguments: Arguments) -> dict[str, object]:
        return {name: arguments[name] for name in self.known if name in arguments}


@dataclass(frozen=True, slots=True)
class Tagging(OnInstances):
    """CreateTags and DeleteTags: each instance has the tags, or has none of them."""

    watched: tuple[str, ...] = ("Tags",)
    named_by: str = "Resources"
    adding: bool = True

    async def preview(self, looker: Looker, arguments: Arguments, state: State) -> Preview:
        instances, tags = self.existing(arguments, state), tags_of(arguments)
        rows = tuple((title(one), self._row(one, tags)) for one in instances)
        verb = "Tag" if self.adding else "Remove tags of"
        return Preview(summary=f"{verb} {', '.join(title(one) for one in instances)}", rows=rows)

    def outcome(self, arguments: Arguments, planned: State, now: State) -> Outcome:
        wanted, have = tags_of(arguments), [tags_of(one) for one in instances_of(now)]
        if have and all(wanted.items() <= one.items() if self.adding else not wanted.keys() & one.keys() for one in have):
            return "happened"
        return "not_happened" if planned == now else "unknown"

    async def progress(self, looker: Looker, arguments: Arguments, planned: State | None, answer: Answer) -> Progress:
        return Progress()

    def _row(self, one: State, tags: Mapping[str, object]) -> str:
        old = tags_of(one)
        return ", ".join(
            f"{key}: {old.get(key, '(none)')} -> {value if self.adding else '(none)'}" for key, value in tags.items()
        )


@dataclass(frozen=True, slots=True)
class Snapshotting:
    """CreateSnapshot: the volume has a newer snapshot, of our description if one was given."""

    def wire(self, arguments: Arguments, write_key: str | None) -> dict[str, object]:
        return dict(arguments)

    async def look(self, looker: Looker, arguments: Arguments) -> State:
        only = [{"Name": "volume-id", "Values": [str(arguments["VolumeId"])]}]
        volumes = rows_at(await looker.ask("DescribeVolumes", Filters=only), "Volumes")
        snapshots = rows_at(await looker.ask("DescribeSnapshots", Filters=only, OwnerIds=["self"]), "Snapshots")
        newest = max(snapshots, key=lambda row: (str(row.get("StartTime")), str(row.get("SnapshotId"))), default={})
        seen = {name: volumes[0].get(name) for name in ("VolumeId", "Size")} if volumes else None
        return {"volume": seen, "last": {"SnapshotId": newest.get("SnapshotId"), "Description": newest.get("Description")}}

    async def preview(self, looker: Looker, arguments: Arguments, state: State) -> Preview:
        volume = state["volume"]
        if not isinstance(volume, Mapping):
            raise ToolRefused(f"There is no volume {arguments['VolumeId']}.", code="InvalidVolume.NotFound")
        rows = (
            ("volume", f"{volume['VolumeId']} ({volume['Size']} GiB)"),
            ("description", str(arguments.get("Description", "(none)"))),
        )
        return Preview(summary=f"Create a snapshot of {volume['VolumeId']}", rows=rows)

    def outcome(self, arguments: Arguments, planned: State, now: State) -> Outcome:
        before, after = planned["last"], now["last"]
        if before == after:
            return "not_happened"
        text = arguments.get("Description")
        return "happened" if text and isinstance(after, Mapping) and after.get("Description") == text else "unknown"

    async def progress(self, looker: Looker, arguments: Arguments, planned: State | None, answer: Answer) -> Progress:
        name = str(answer["SnapshotId"])
        found = rows_at(await looker.ask("DescribeSnapshots", SnapshotIds=[name]), "Snapshots")
        status = found[0].get("State") if found else "pending"
        return Progress((f"{name} now: {status}.",), under_way(status))


@dataclass(frozen=True, slots=True)
class Purchase:
    """RunInstances: depends on the price alone; recognised by a tag that carries its write key."""

    def wire(self, arguments: Arguments, write_key: str | None) -> dict[str, object]:
        count = arguments.get("Count", 1)
        sent: dict[str, object] = {name: value for name, value in arguments.items() if name not in ("Count", "Name")}
        sent |= {"MinCount": count, "MaxCount": count}
        tags = [{"Key": "Name", "Value": arguments["Name"]}] if arguments.get("Name") else []
        if write_key:
            sent["ClientToken"] = write_key
            tags.append({"Key": MARK, "Value": write_key})
        return sent | ({"TagSpecifications": [{"ResourceType": "instance", "Tags": tags}]} if tags else {})

    async def look(self, looker: Looker, arguments: Arguments) -> State:
        price = await hourly(looker.aws, str(arguments["InstanceType"]), looker.timeout_s)
        state: State = {"price": price, "currency": "USD"} if price else {}
        if looker.write_key:
            found = await looker.instances_with([{"Name": f"tag:{MARK}", "Values": [looker.write_key]}])
            state["made"] = [one["InstanceId"] for one in found]
        return state

    async def preview(self, looker: Looker, arguments: Arguments, state: State) -> Preview:
        count, kind, price = int(str(arguments.get("Count", 1))), arguments["InstanceType"], state.get("price")
        total = f"{float(str(price)) * count:.4f}" if price else None
        rows = (
            ("instances", f"{count} x {kind}"), ("name", str(arguments.get("Name", "(none)"))), ("region", looker.aws.region),
            ("image", str(arguments["ImageId"])), ("price", f"{total} USD an hour" if total else "AWS does not quote it"),
        )  # fmt: skip
        summary = f"Launch {count} {kind} instance{'' if count == 1 else 's'}"
        return Preview(summary=summary, rows=rows, price=total, currency="USD" if total else None)

    def outcome(self, arguments: Arguments, planned: State, now: State) -> Outcome:
        made = now.get("made")
        return "unknown" if not isinstance(made, list) else "happened" if made else "not_happened"

    async def progress(self, looker: Looker, arguments: Arguments, planned: State | None, answer: Answer) -> Progress:
        ids = [str(one["InstanceId"]) for one in rows_at(answer, "Instances")]
        found = [facts(one, ("State",)) for one in await looker.instances(ids)]
        going = [str(one["State"]) for one in found if one["State"] == "pending"]
        lines = tuple(f"{title(one)} now: {one['State']}." for one in found)
        return Progress(lines, going[0] if going else "pending" if len(found) < len(ids) else None)


@dataclass(frozen=True, slots=True)
class Command(OnInstances):
    """SendCommand: AWS takes no key for it, and two equal commands cannot be told apart."""

    watched: tuple[str, ...] = ("State",)

    def wire(self, arguments: Arguments, write_key: str | None) -> dict[str, object]:
        text = {"commands": str(arguments["Command"]).splitlines()}
        return {"InstanceIds": arguments["InstanceIds"], "DocumentName": "AWS-RunShellScript", "Parameters": text}

    async def preview(self, looker: Looker, arguments: Arguments, state: State) -> Preview:
        instances = self.existing(arguments, state)
        if stopped := [title(one) for one in instances if one["State"] != "running"]:
            raise ToolRefused(f"{', '.join(stopped)} is not running.", code="InvalidInstanceId")
        names = ", ".join(title(one) for one in instances)
        return Preview(summary=f"Run a command on {names}", rows=(("instances", names), ("command", str(arguments["Command"]))))

    def outcome(self, arguments: Arguments, planned: State, now: State) -> Outcome:
        return "unknown"

    async def progress(self, looker: Looker, arguments: Arguments, planned: State | None, answer: Answer) -> Progress:
        command = str(at(answer, "Command.CommandId"))
        rows = [
            await looker.ask("GetCommandInvocation", "ssm", CommandId=command, InstanceId=name)
            for name in ids_of(arguments, self.named_by)
        ]
        going = [str(row["Status"]) for row in rows if row.get("Status") in ("Pending", "InProgress", "Delayed")]
        lines = (
            f"{row.get('InstanceId')}: {row.get('Status')}, exit code {row.get('ResponseCode')}: "
            f"{str(row.get('StandardOutputContent') or '').strip() or '(no output)'}"
            for row in rows
        )
        return Progress((f"Command {command}.", *lines), going[0] if going else None)


WRITE_KINDS: dict[str, Write] = {
    "RunInstances": Purchase(),
    "StartInstances": Power(),
    "StopInstances": Power(verb="Stop", allowed=("running", "pending"), through=("stopping", "stopped")),
    "RebootInstances": Power(verb="Reboot", allowed=("running",), through=("running",)),
    "TerminateInstances": Termination(),
    "ModifyInstanceAttribute": Attribute(),
    "CreateTags": Tagging(),
    "DeleteTags": Tagging(adding=False),
    "CreateSnapshot": Snapshotting(),
    "SendCommand": Command(),
}


def facts(instance: Mapping[str, object], names: tuple[str, ...]) -> State:
    """The named facts of an instance, with its id, name and state; the state and tags in their short form."""
    short: dict[str, object] = {"State": at(instance, "State.Name"), "Tags": tags_of(instance)}
    found = {name: short.get(name, instance.get(name)) for name in ("InstanceId", *names)}
    return found | {"Name": tags_of(instance).get("Name")}


def tags_of(given: Mapping[str, object]) -> dict[str, object]:
    """Tags as a dictionary, of an instance or of arguments."""
    tags = given.get("Tags")
    if isinstance(tags, Mapping):
        return dict(tags)
    return {str(tag["Key"]): tag.get("Value", "") for tag in tags if isinstance(tag, Mapping)} if isinstance(tags, list) else {}


def instances_of(state: State) -> list[State]:
    """The instances that a state describes."""
    found = state.get("instances")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def title(instance: Mapping[str, object]) -> str:
    """Its id, and its name if it has one."""
    name = instance.get("Name")
    return f"{instance['InstanceId']} ({name})" if name else str(instance["InstanceId"])
