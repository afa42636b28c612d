"""Instances and what may be done to them: looking, starting, stopping, renewing, changing."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from infra.demo_cloud.catalogue import LONGEST, TYPES, check_period, later, price
from infra.demo_cloud.errors import CloudError, missing, no_instance, wrong_status
from infra.demo_cloud.request import Request, page, tags_of
from infra.demo_cloud.world import Resource, World

_INTERNAL = frozenset({"AutoRenew", "Next"})


def stamp(moment: datetime) -> str:
    """The service's minute-wise time form, such as 2026-12-01T16:00Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%MZ")


def moment(text: str) -> datetime:
    """The moment a stamp names."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC)


def find(world: World, name: str, now: datetime) -> Resource:
    """An instance as it is now: a transition whose time has come is over."""
    instance = world.get("instance", name)
    if instance is None:
        raise no_instance(name)
    return _settled(instance, now)


def listed(world: World, request: Request) -> list[Resource]:
    """The instances of the request's region, as they are now."""
    region = request.text("RegionId")
    return [_settled(one, request.now) for one in world.all("instance") if one["RegionId"] == region]


def describe_instances(world: World, request: Request) -> Resource:
    """DescribeInstances: by ids, name pattern, status, charge type, zone, type or tag."""
    found = listed(world, request)
    if (ids := request.json_list("InstanceIds")) is not None:
        found = [one for one in found if one["InstanceId"] in ids]
    for name in ("Status", "InstanceChargeType", "ZoneId", "InstanceType", "InstanceTypeFamily"):
        if (wanted := request.optional(name)) is not None:
            found = [one for one in found if one[name] == wanted]
    if (pattern := request.optional("InstanceName")) is not None:
        found = [one for one in found if fnmatch.fnmatchcase(str(one["InstanceName"]), pattern)]
    for key, value in request.tags().items():
        found = [one for one in found if tags_of(one).get(key) == value]
    return page(request, [_shown(one) for one in found], "Instances", "Instance")


def describe_instance_status(world: World, request: Request) -> Resource:
    """DescribeInstanceStatus: id and status of each instance asked for, or of all."""
    ids = request.listed("InstanceId")
    rows: list[Resource] = [
        {"InstanceId": one["InstanceId"], "Status": one["Status"]}
        for one in listed(world, request)
        if not ids or one["InstanceId"] in ids
    ]
    return page(request, rows, "InstanceStatuses", "InstanceStatus")


def describe_instance_attribute(world: World, request: Request) -> Resource:
    """DescribeInstanceAttribute: everything about one instance."""
    instance = _shown(find(world, request.text("InstanceId"), request.now))
    return {name: value for name, value in instance.items() if name not in ("Tags", "StartTime", "OSName", "OSType")}


def start(world: World, request: Request, instance: Resource) -> None:
    """Stopped -> Starting -> Running."""
    _check_locks(instance)
    if instance["Status"] != "Stopped":
        raise wrong_status()
    instance["StartTime"] = stamp(request.now)
    _move(world, request, instance, "Starting", "Running")


def stop(world: World, request: Request, instance: Resource) -> None:
    """Running -> Stopping -> Stopped."""
    _check_locks(instance)
    if instance["Status"] != "Running":
        raise wrong_status()
    instance["StoppedMode"] = request.optional("StoppedMode") or "KeepCharging"
    _move(world, request, instance, "Stopping", "Stopped")


def reboot(world: World, request: Request, instance: Resource) -> None:
    """Running -> Starting -> Running, with a new start time."""
    _check_locks(instance)
    if instance["Status"] != "Running":
        raise wrong_status()
    instance["StartTime"] = stamp(request.now)
    _move(world, request, instance, "Starting", "Running")


def one(change: Callable[[World, Request, Resource], None]) -> Callable[[World, Request], Resource]:
    """The action for a single InstanceId."""

    def action(world: World, request: Request) -> Resource:
        instance = find(world, request.text("InstanceId"), request.now)
        change(world, request, instance)
        request.pass_dry_run()
        return {}

    return action


def several(change: Callable[[World, Request, Resource], None]) -> Callable[[World, Request], Resource]:
    """The action for InstanceId.N: all together (an error undoes all), or as many as go (SuccessFirst)."""

    def action(world: World, request: Request) -> Resource:
        request.text("RegionId")
        names = request.listed("InstanceId")
        if not 1 <= len(names) <= 100:
            raise missing("InstanceId")
        together = (request.optional("BatchOptimization") or "AllTogether") == "AllTogether"
        answers: list[Resource] = [_attempt(world, request, name, change, together) for name in dict.fromkeys(names)]
        request.pass_dry_run()
        return {"InstanceResponses": {"InstanceResponse": answers}}

    return action


def delete_instance(world: World, request: Request) -> Resource:
    """DeleteInstance: pay-as-you-go only (or TerminateSubscription), stopped or forced, never a protected one."""
    _delete(world, request, request.text("InstanceId"))
    request.pass_dry_run()
    return {}


def delete_instances(world: World, request: Request) -> Resource:
    """DeleteInstances: all of them or none."""
    request.text("RegionId")
    names = request.listed("InstanceId")
    if not 1 <= len(names) <= 100:
        raise missing("InstanceId")
    for name in dict.fromkeys(names):
        _delete(world, request, name)
    request.pass_dry_run()
    return {}


def _delete(world: World, request: Request, name: str) -> None:
    instance = find(world, name, request.now)
    if instance["DeletionProtection"]:
        raise CloudError(403, "InvalidOperation.DeletionProtection", "The instance is protected from deletion.")
    if instance["InstanceChargeType"] == "PrePaid" and not request.flag("TerminateSubscription"):
        raise CloudError(403, "ChargeTypeViolation", "The operation is not permitted due to charge type of the instance.")
    if instance["Status"] != "Stopped" and not request.flag("Force"):
        raise wrong_status()
    world.remove("instance", name)
    request.record(world, name)


def renew_instance(world: World, request: Request) -> Resource:
    """RenewInstance: lengthen a subscription by months or weeks."""
    instance = find(world, request.text("InstanceId"), request.now)
    period, unit = request.number("Period", 1), request.optional("PeriodUnit") or "Month"
    _check_subscription(instance)
    _check_locks(instance)
    check_period(period, unit)
    expires = later(moment(str(instance["ExpiredTime"])), period, unit)
    if expires > request.now + LONGEST:
        text = "The specified renewal period cannot exceed the maximum expiration date."
        raise CloudError(400, "InvalidPeriod.ExceededMaximumExpirationDate", text)
    instance["ExpiredTime"] = stamp(expires)
    world.put("instance", str(instance["InstanceId"]), instance)
    order = str(2_100_000_000_001 + world.recorded())
    request.record(world, str(instance["InstanceId"]), order)
    return {"OrderId": order}


def describe_renewal_price(world: World, request: Request) -> Resource:
    """DescribeRenewalPrice: what RenewInstance would cost."""
    request.text("RegionId")
    instance = find(world, request.text("ResourceId"), request.now)
    period, unit = request.number("Period", 1), request.optional("PriceUnit") or "Month"
    _check_subscription(instance)
    allowed = {"Week": range(1, 5), "Month": range(1, 10), "Year": range(1, 6)}
    if unit not in allowed:
        raise CloudError(400, "InvalidPriceUnit.ValueNotSupported", "The specified parameter PriceUnit is not supported.")
    if period not in allowed[unit]:
        raise CloudError(400, "InvalidPeriod", "The specified period is not valid.")
    return {"PriceInfo": {"Price": price(TYPES[str(instance["InstanceType"])], period, unit), "Rules": {"Rule": []}}}


def modify_auto_renew(world: World, request: Request) -> Resource:
    """ModifyInstanceAutoRenewAttribute: turn automatic renewal on or off for one or more subscriptions."""
    request.text("RegionId")
    wanted = request.optional("RenewalStatus") or ("AutoRenewal" if request.flag("AutoRenew") else "Normal")
    if wanted not in ("AutoRenewal", "Normal", "NotRenewal"):
        raise CloudError(400, "InvalidRenewalStatus.ValueNotSupported", "The specified RenewalStatus is not supported.")
    for name in request.text("InstanceId").split(","):
        instance = find(world, name, request.now)
        _check_subscription(instance)
        instance["AutoRenew"] = {
            "AutoRenewEnabled": wanted == "AutoRenewal",
            "Duration": request.number("Duration", 1) if wanted == "AutoRenewal" else 0,
            "PeriodUnit": request.optional("PeriodUnit") or "Month",
            "RenewalStatus": wanted,
        }
        world.put("instance", name, instance)
        request.record(world, name)
    return {}


def describe_auto_renew(world: World, request: Request) -> Resource:
    """DescribeInstanceAutoRenewAttribute: the automatic renewal of subscriptions."""
    ids = (request.optional("InstanceId") or "").split(",")
    rows: list[Resource] = []
    for one in listed(world, request):
        renewal = one["AutoRenew"]
        if one["InstanceChargeType"] != "PrePaid" or not (ids == [""] or one["InstanceId"] in ids):
            continue
        if isinstance(renewal, dict):
            rows.append({"InstanceId": one["InstanceId"], **renewal})
    if (wanted := request.optional("RenewalStatus")) is not None:
        rows = [row for row in rows if row["RenewalStatus"] == wanted]
    return page(request, rows, "InstanceRenewAttributes", "InstanceRenewAttribute")


def modify_attribute(world: World, request: Request) -> Resource:
    """ModifyInstanceAttribute: name, description, host name or deletion protection."""
    instance = find(world, request.text("InstanceId"), request.now)
    for name in ("InstanceName", "Description", "HostName"):
        if (value := request.optional(name)) is not None:
            instance[name] = value
    if "DeletionProtection" in request.params:
        instance["DeletionProtection"] = request.flag("DeletionProtection")
    world.put("instance", str(instance["InstanceId"]), instance)
    request.record(world, str(instance["InstanceId"]))
    return {}


def _attempt(
    world: World, request: Request, name: str, change: Callable[[World, Request, Resource], None], together: bool
) -> Resource:
    instance = find(world, name, request.now)
    before = instance["Status"]
    try:
        change(world, request, instance)
    except CloudError as error:
        if together:
            raise
        return {
            "InstanceId": name,
            "Code": error.code,
            "Message": error.message,
            "PreviousStatus": before,
            "CurrentStatus": before,
        }
    return {
        "InstanceId": name,
        "Code": "200",
        "Message": "success",
        "PreviousStatus": before,
        "CurrentStatus": instance["Status"],
    }


def _settled(instance: Resource, now: datetime) -> Resource:
    while isinstance(coming := instance.get("Next"), dict) and datetime.fromisoformat(coming["at"]) <= now:
        instance = {name: value for name, value in instance.items() if name != "Next"} | {"Status": coming["Status"]}
        if coming.get("Next"):
            instance["Next"] = coming["Next"]
    return instance


def _move(world: World, request: Request, instance: Resource, through: str, to: str) -> None:
    over = request.now + timedelta(seconds=request.transition_s)
    instance |= {"Status": through, "Next": {"Status": to, "at": over.isoformat()}}
    world.put("instance", str(instance["InstanceId"]), instance)
    request.record(world, str(instance["InstanceId"]))


def _shown(instance: Resource) -> Resource:
    return {name: value for name, value in instance.items() if name not in _INTERNAL}


def _check_locks(instance: Resource) -> None:
    locks = instance["OperationLocks"]
    if isinstance(locks, dict) and any(lock["LockReason"] == "security" for lock in locks["LockReason"]):
        raise CloudError(403, "InstanceLockedForSecurity", "The instance is locked due to security.")


def _check_subscription(instance: Resource) -> None:
    if instance["InstanceChargeType"] != "PrePaid":
        raise CloudError(403, "ChargeTypeViolation", "The operation is not permitted due to charge type of the instance.")
