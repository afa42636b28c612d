"""What is around instances: regions, types, prices, disks, snapshots, security groups and commands."""

from __future__ import annotations

import base64
import binascii
import fnmatch
from datetime import datetime, timedelta

from infra.demo_cloud.catalogue import IMAGES, REGIONS, TYPES, price
from infra.demo_cloud.errors import CloudError, missing
from infra.demo_cloud.instances import find
from infra.demo_cloud.request import Request, page
from infra.demo_cloud.world import Kind, Resource, World

COMMAND_TAKES = timedelta(seconds=1)


def describe_regions(world: World, request: Request) -> Resource:
    """DescribeRegions."""
    rows = [
        {"RegionId": region, "LocalName": name, "RegionEndpoint": f"ecs.{region}.aliyuncs.com", "Status": "available"}
        for region, (name, _) in REGIONS.items()
    ]
    return {"Regions": {"Region": rows}}


def describe_zones(world: World, request: Request) -> Resource:
    """DescribeZones of a region."""
    name, zones = _region(request)
    rows = [
        {
            "ZoneId": zone,
            "LocalName": f"{name} 可用区 {zone[-1].upper()}",
            "ZoneType": "AvailabilityZone",
            "AvailableInstanceTypes": {"InstanceTypes": sorted(TYPES)},
            "AvailableDiskCategories": {"DiskCategories": ["cloud_essd", "cloud_auto"]},
        }
        for zone in zones
    ]
    return {"Zones": {"Zone": rows}}


def describe_instance_types(world: World, request: Request) -> Resource:
    """DescribeInstanceTypes, by name, family, cores or memory."""
    names, family = request.listed("InstanceTypes"), request.optional("InstanceTypeFamily")
    cores = range(request.number("MinimumCpuCoreCount", 1), request.number("MaximumCpuCoreCount", 1024) + 1)
    least, most = float(request.optional("MinimumMemorySize") or 0), float(request.optional("MaximumMemorySize") or 1e6)
    rows: list[Resource] = [
        {
            "InstanceTypeId": kind.name,
            "InstanceTypeFamily": kind.family,
            "CpuCoreCount": kind.cpu,
            "MemorySize": kind.memory,
            "CpuArchitecture": "X86",
        }
        for kind in TYPES.values()
        if (not names or kind.name in names)
        and family in (None, kind.family)
        and kind.cpu in cores
        and least <= kind.memory <= most
    ]
    return page(request, rows, "InstanceTypes", "InstanceType")


def describe_price(world: World, request: Request) -> Resource:
    """DescribePrice of a new instance, by the hour or by the month or year."""
    _region(request)
    kind = TYPES.get(request.text("InstanceType"))
    if kind is None:
        raise CloudError(400, "InvalidInstanceType.NotFound", "The specified InstanceType does not exist.")
    unit, period = request.optional("PriceUnit") or "Hour", request.number("Period", 1)
    amount = request.number("Amount", 1)
    if unit == "Hour":
        cost = round(kind.hour * amount, 3)
        found: Resource = {"OriginalPrice": cost, "DiscountPrice": 0.0, "TradePrice": cost, "Currency": "CNY"}
    elif unit in ("Week", "Month", "Year"):
        found = {name: round(value * amount, 2) if isinstance(value, float) else value
                 for name, value in price(kind, period, unit).items()}  # fmt: skip
    else:
        raise CloudError(400, "InvalidPriceUnit.ValueNotSupported", "The specified parameter PriceUnit is not supported.")
    return {"PriceInfo": {"Price": found, "Rules": {"Rule": []}}}


def describe_disks(world: World, request: Request) -> Resource:
    """DescribeDisks of a region, by instance, ids or type."""
    rows = _matching(world, "disk", request, InstanceId="InstanceId", DiskType="Type", Status="Status", Category="Category")
    if (ids := request.json_list("DiskIds")) is not None:
        rows = [row for row in rows if row["DiskId"] in ids]
    return page(request, rows, "Disks", "Disk")


def describe_snapshots(world: World, request: Request) -> Resource:
    """DescribeSnapshots of a region, newest first, by instance, disk or ids."""
    rows = _matching(world, "snapshot", request, InstanceId="InstanceId", DiskId="SourceDiskId", SnapshotName="SnapshotName")
    if (ids := request.json_list("SnapshotIds")) is not None:
        rows = [row for row in rows if row["SnapshotId"] in ids]
    rows.reverse()
    shown = [{name: value for name, value in row.items() if name != "InstanceId"} for row in rows]
    return page(request, shown, "Snapshots", "Snapshot")


def create_snapshot(world: World, request: Request) -> Resource:
    """CreateSnapshot of a disk."""
    disk = world.get("disk", request.text("DiskId"))
    if disk is None:
        raise CloudError(404, "InvalidDiskId.NotFound", "The specified disk does not exist.")
    name = f"s-bp1snap{len(world.all('snapshot')) + 1:011d}"
    days = request.number("RetentionDays", 0)
    body: Resource = {
        "SnapshotId": name,
        "SnapshotName": request.optional("SnapshotName") or name,
        "Description": request.optional("Description") or "",
        "SourceDiskId": disk["DiskId"],
        "SourceDiskSize": str(disk["Size"]),
        "SourceDiskType": disk["Type"],
        "InstanceId": disk["InstanceId"],
        "RegionId": disk["RegionId"],
        "Status": "accomplished",
        "Progress": "100%",
        "CreationTime": request.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    } | ({"RetentionDays": days} if days else {})
    world.put("snapshot", name, body)
    request.record(world, name)
    return {"SnapshotId": name}


def describe_security_groups(world: World, request: Request) -> Resource:
    """DescribeSecurityGroups of a region."""
    rows = _matching(
        world,
        "security_group",
        request,
        SecurityGroupId="SecurityGroupId",
        SecurityGroupName="SecurityGroupName",
        VpcId="VpcId",
    )
    return {"RegionId": request.text("RegionId")} | page(request, rows, "SecurityGroups", "SecurityGroup")


def describe_images(world: World, request: Request) -> Resource:
    """DescribeImages: of the system, by id or name."""
    _region(request)
    wanted, pattern = request.optional("ImageId"), request.optional("ImageName")
    owner, kind = request.optional("ImageOwnerAlias"), request.optional("OSType")
    rows: list[Resource] = [
        {"ImageId": image, "ImageName": name, "OSName": system, "OSType": "linux", "ImageOwnerAlias": "system",
         "Architecture": "x86_64", "Size": 20, "Status": "Available"}
        for image, (name, system) in IMAGES.items()
        if wanted in (None, image) and (pattern is None or fnmatch.fnmatchcase(name, pattern))
        and owner in (None, "system") and kind in (None, "linux")
    ]  # fmt: skip
    return page(request, rows, "Images", "Image")


def describe_invocation_results(world: World, request: Request) -> Resource:
    """DescribeInvocationResults: what a command printed, by invocation and instance."""
    wanted, instance = request.optional("InvokeId"), request.optional("InstanceId")
    rows: list[Resource] = []
    for one in reversed(world.all("invocation")):
        if one["RegionId"] == request.text("RegionId") and wanted in (None, one["InvokeId"]):
            for row in _results(one, request, with_output=True):
                if instance in (None, row["InstanceId"]):
                    rows.append({"InvokeId": one["InvokeId"], "CommandId": one["CommandId"], **row})
    return {"Invocation": page(request, rows, "InvocationResults", "InvocationResult")}


def run_command(world: World, request: Request) -> Resource:
    """RunCommand on running instances. The demo runs nothing: it records the command and answers what it was."""
    request.text("RegionId")
    kind, content = request.text("Type"), _decoded(request)
    if kind not in ("RunShellScript", "RunPowerShellScript", "RunBatScript"):
        raise CloudError(400, "InvalidParameter.Type", "The specified parameter Type is not valid.")
    names = request.listed("InstanceId")
    if not names:
        raise missing("InstanceId")
    for name in names:
        if find(world, name, request.now)["Status"] != "Running":
            raise CloudError(403, "InvalidInstance.NotRunning", f"The instance {name} is not running.")
    number = len(world.all("invocation")) + 1
    invocation: Resource = {
        "InvokeId": f"t-hz0demo{number:07d}",
        "CommandId": f"c-hz0demo{number:07d}",
        "CommandName": request.optional("Name") or "",
        "CommandType": kind,
        "CommandContent": base64.b64encode(content.encode()).decode(),
        "CreationTime": request.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "RepeatMode": request.optional("RepeatMode") or "Once",
        "RegionId": request.text("RegionId"),
        "Instances": names,
        "At": request.now.isoformat(),
    }
    if request.optional("RepeatMode") == "DryRun":
        raise CloudError(400, "DryRunOperation", "Request validation has been passed with DryRun flag set.")
    world.put("invocation", str(invocation["InvokeId"]), invocation)
    request.record(world, ",".join(names))
    return {"InvokeId": invocation["InvokeId"], "CommandId": invocation["CommandId"]}


def describe_invocations(world: World, request: Request) -> Resource:
    """DescribeInvocations of a region, newest first, by instance or id, with output if asked."""
    region, instance, wanted = request.text("RegionId"), request.optional("InstanceId"), request.optional("InvokeId")
    rows = [
        _invocation(one, request)
        for one in reversed(world.all("invocation"))
        if one["RegionId"] == region and wanted in (None, one["InvokeId"]) and (instance is None or instance in _names(one))
    ]
    if (status := request.optional("InvokeStatus")) is not None:
        rows = [row for row in rows if row["InvokeStatus"] == status]
    return page(request, rows, "Invocations", "Invocation")


def _region(request: Request) -> tuple[str, tuple[str, ...]]:
    region = REGIONS.get(request.text("RegionId"))
    if region is None:
        raise CloudError(404, "InvalidRegionId.NotFound", "The specified RegionId does not exist.")
    return region


def _matching(world: World, kind: Kind, request: Request, **fields: str) -> list[Resource]:
    region = request.text("RegionId")
    wanted = {field: value for name, field in fields.items() if (value := request.optional(name)) not in (None, "all")}
    return [one for one in world.all(kind) if one["RegionId"] == region and all(one[f] == value for f, value in wanted.items())]


def _decoded(request: Request) -> str:
    content = request.text("CommandContent")
    if request.optional("ContentEncoding") != "Base64":
        return content
    try:
        return base64.b64decode(content, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise CloudError(400, "CommandContent.DecodeError", "The CommandContent can not be base64 decoded.") from error


def _names(invocation: Resource) -> list[str]:
    names = invocation["Instances"]
    return [str(name) for name in names] if isinstance(names, list) else []


def _is_done(one: Resource, request: Request) -> bool:
    return request.now - datetime.fromisoformat(str(one["At"])) >= COMMAND_TAKES


def _results(one: Resource, request: Request, *, with_output: bool) -> list[Resource]:
    done = _is_done(one, request)
    output = base64.b64encode(f"[demo cloud] {base64.b64decode(str(one['CommandContent'])).decode()}".encode()).decode()
    return [
        {
            "InstanceId": name,
            "InvocationStatus": "Success" if done else "Running",
            "InstanceInvokeStatus": "Finished" if done else "Running",
            "ExitCode": 0,
            "CreationTime": one["CreationTime"],
            "Output": output if done and with_output else "",
        }
        for name in _names(one)
    ]


def _invocation(one: Resource, request: Request) -> Resource:
    done, instances = _is_done(one, request), _results(one, request, with_output=request.flag("IncludeOutput"))
    shown = {name: value for name, value in one.items() if name not in ("Instances", "At", "RegionId")}
    return shown | {
        "InvokeStatus": "Finished" if done else "Running",
        "InvocationStatus": "Success" if done else "Running",
        "InvokeInstances": {"InvokeInstance": instances},
    }
