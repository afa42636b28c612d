"""RunInstances: new instances, which come into being one after the other."""

from __future__ import annotations

from datetime import timedelta

from infra.demo_cloud.catalogue import IMAGES, REGIONS, TYPES, check_period, later, price
from infra.demo_cloud.errors import CloudError, missing
from infra.demo_cloud.instances import stamp
from infra.demo_cloud.networks import vpc_of, zone_of
from infra.demo_cloud.request import Request
from infra.demo_cloud.tags import as_tags
from infra.demo_cloud.world import Resource, World

MOST = 100


def run_instances(world: World, request: Request) -> Resource:
    """RunInstances: Pending -> Starting -> Running, each a part of the transition time."""
    region, amount = request.text("RegionId"), request.number("Amount", 1)
    kind = TYPES.get(request.text("InstanceType"))
    if kind is None:
        raise CloudError(404, "InvalidInstanceType.ValueNotSupported", "The specified InstanceType is not supported.")
    if request.text("ImageId") not in IMAGES:
        raise CloudError(404, "InvalidImageId.NotFound", "The specified ImageId does not exist.")
    zone = zone_of(request.text("VSwitchId"))
    if zone is None or zone not in REGIONS.get(region, ("", ()))[1]:
        raise CloudError(404, "InvalidVSwitchId.NotFound", "The specified VSwitchId does not exist.")
    _check_group(world, request, region)
    if not 1 <= amount <= MOST:
        raise CloudError(400, "InvalidAmount", f"The specified Amount is not valid: it must be 1 to {MOST}.")
    monthly = (request.optional("InstanceChargeType") or "PostPaid") == "PrePaid"
    period, unit = request.number("Period", 1), request.optional("PeriodUnit") or "Month"
    if monthly:
        check_period(period, unit)
    request.pass_dry_run()
    expires = stamp(later(request.now.replace(hour=16, minute=0), period, unit)) if monthly else "2099-12-31T15:59Z"
    cost = price(kind, period, unit)["TradePrice"] if monthly else kind.hour
    order = str(2_100_000_000_001 + world.recorded())
    base = request.optional("InstanceName") or f"{kind.family.replace('.', '-')}-new"
    names: list[str] = []
    for number in range(amount):
        serial = world.recorded() * MOST + number + 1
        name = f"i-bp1new{serial:013d}"
        title = base if amount == 1 else f"{base}-{number + 1:03d}"
        made = _instance(request, name, title, kind.name, zone, expires, serial)
        world.put("instance", name, made)
        world.put("disk", f"d-bp1new{serial:013d}", _disk(request, name, title, zone, serial))
        names.append(name)
    request.record(world, ",".join(names), order)
    return {"InstanceIdSets": {"InstanceIdSet": names}, "OrderId": order, "TradePrice": round(float(str(cost)) * amount, 3)}


def _check_group(world: World, request: Request, region: str) -> None:
    name = request.optional("SecurityGroupId") or next(iter(request.listed("SecurityGroupIds")), None)
    if name is None:
        raise missing("SecurityGroupId")
    group = world.get("security_group", name)
    if group is None or group["RegionId"] != region:
        raise CloudError(404, "InvalidSecurityGroupId.NotFound", "The specified SecurityGroupId does not exist.")


def _instance(
    request: Request, name: str, title: str, kind: str, zone: str, expires: str, serial: int
) -> Resource:  # fmt: skip
    of_type, region = TYPES[kind], request.text("RegionId")
    half = request.transition_s / 2
    starting, running = (request.now + timedelta(seconds=half * share) for share in (1, 2))
    group = request.optional("SecurityGroupId") or request.listed("SecurityGroupIds")[0]
    bandwidth = request.number("InternetMaxBandwidthOut", 0)
    return {
        "InstanceId": name, "InstanceName": title, "HostName": title, "Description": request.optional("Description") or "",
        "Status": "Pending", "Next": {
            "Status": "Starting", "at": starting.isoformat(), "Next": {"Status": "Running", "at": running.isoformat()},
        },
        "RegionId": region, "ZoneId": zone, "InstanceType": kind, "InstanceTypeFamily": of_type.family, "Cpu": of_type.cpu,
        "Memory": int(of_type.memory * 1024), "InstanceChargeType": request.optional("InstanceChargeType") or "PostPaid",
        "ExpiredTime": expires, "CreationTime": stamp(request.now), "StartTime": stamp(running),
        "StoppedMode": "Not-applicable",
        "ImageId": request.text("ImageId"), "OSName": IMAGES[request.text("ImageId")][1], "OSType": "linux",
        "InstanceNetworkType": "vpc", "DeletionProtection": request.flag("DeletionProtection"),
        "PublicIpAddress": {"IpAddress": [f"203.0.113.{100 + serial % 100}"] if bandwidth else []},
        "VpcAttributes": {
            "VpcId": vpc_of(region), "VSwitchId": request.text("VSwitchId"),
            "PrivateIpAddress": {"IpAddress": [f"172.16.1.{serial % 250 + 1}"]},
        },
        "SecurityGroupIds": {"SecurityGroupId": [group]}, "OperationLocks": {"LockReason": []}, "Tags": as_tags(request.tags()),
        "AutoRenew": {"AutoRenewEnabled": False, "Duration": 0, "PeriodUnit": "Month", "RenewalStatus": "Normal"},
    }  # fmt: skip


def _disk(request: Request, instance: str, title: str, zone: str, serial: int) -> Resource:
    return {
        "DiskId": f"d-bp1new{serial:013d}", "DiskName": f"{title}-system", "InstanceId": instance,
        "RegionId": request.text("RegionId"), "ZoneId": zone, "Type": "system",
        "Category": request.optional("SystemDisk.Category") or "cloud_essd", "Size": request.number("SystemDisk.Size", 40),
        "Status": "In_use", "Device": "/dev/xvda", "DiskChargeType": request.optional("InstanceChargeType") or "PostPaid",
        "CreationTime": stamp(request.now),
    }  # fmt: skip
