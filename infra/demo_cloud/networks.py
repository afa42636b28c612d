"""The networks that instances are in; read-only."""

from __future__ import annotations

from infra.demo_cloud.catalogue import REGIONS
from infra.demo_cloud.errors import CloudError
from infra.demo_cloud.request import Request, page
from infra.demo_cloud.world import Resource, World


def vpc_of(region: str) -> str:
    """The one VPC of a region."""
    return f"vpc-demo-{region}"


def vswitch_of(zone: str) -> str:
    """The one vSwitch of a zone."""
    return f"vsw-demo-{zone}"


def zone_of(vswitch: str) -> str | None:
    """The zone that a vSwitch is in."""
    return next((zone for _, zones in REGIONS.values() for zone in zones if vswitch_of(zone) == vswitch), None)


def describe_vpcs(world: World, request: Request) -> Resource:
    """DescribeVpcs of a region."""
    region = _region(request)
    rows: list[Resource] = [
        {"VpcId": vpc_of(region), "VpcName": "default", "CidrBlock": "172.16.0.0/12", "Status": "Available", "RegionId": region}
    ]
    wanted = request.optional("VpcId")
    return page(request, [row for row in rows if wanted in (None, row["VpcId"])], "Vpcs", "Vpc")


def describe_vswitches(world: World, request: Request) -> Resource:
    """DescribeVSwitches of a region, by VPC, id or zone."""
    region = _region(request)
    rows: list[Resource] = [
        {
            "VSwitchId": vswitch_of(zone), "VSwitchName": f"default-{zone[-1]}", "CidrBlock": f"172.16.{number}.0/24",
            "ZoneId": zone, "VpcId": vpc_of(region), "Status": "Available", "AvailableIpAddressCount": 200,
        }
        for number, zone in enumerate(REGIONS[region][1])
    ]  # fmt: skip
    for name in ("VpcId", "VSwitchId", "ZoneId"):
        if (wanted := request.optional(name)) is not None:
            rows = [row for row in rows if row[name] == wanted]
    return page(request, rows, "VSwitches", "VSwitch")


def _region(request: Request) -> str:
    region = request.text("RegionId")
    if region not in REGIONS:
        raise CloudError(404, "InvalidRegionId.NotFound", "The specified RegionId does not exist.")
    return region
