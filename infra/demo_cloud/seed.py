"""The instances that a new demo world begins with. Their ids are fixed, their expiry is counted from the first start."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from infra.demo_cloud.catalogue import TYPES
from infra.demo_cloud.instances import stamp
from infra.demo_cloud.world import Resource, World


@dataclass(frozen=True, slots=True)
class Seed:
    """expires_days: None for pay-as-you-go. lock: an OperationLocks reason."""

    instance: str
    name: str
    kind: str
    zone: str
    status: str
    expires_days: int | None
    lock: str | None = None
    protected: bool = False


SEEDS = (
    Seed("i-bp1f8k2m9x4q7web01", "web-1", "ecs.g7.large", "cn-hangzhou-h", "Running", 9),
    Seed("i-bp1f8k2m9x4q7web02", "web-2", "ecs.g7.large", "cn-hangzhou-i", "Running", 40),
    Seed("i-bp1c3n6v8z2w5api01", "api-1", "ecs.c7.xlarge", "cn-hangzhou-h", "Running", 23),
    Seed("i-bp1c3n6v8z2w5api02", "api-2", "ecs.c7.xlarge", "cn-hangzhou-i", "Running", None),
    Seed("i-bp1h5t9r4y7u1dbm01", "db-1", "ecs.r7.xlarge", "cn-hangzhou-h", "Running", 180, protected=True),
    Seed("i-bp1j2s8d6f3g9job01", "batch-1", "ecs.c7.large", "cn-hangzhou-k", "Stopped", None),
    Seed("i-bp1e6w4q8a2n5old01", "legacy-1", "ecs.t6-c1m1.large", "cn-hangzhou-h", "Running", 60, lock="security"),
    Seed("i-2ze4k7m1p9q3x6web1", "bj-web-1", "ecs.e-c1m2.large", "cn-beijing-h", "Stopped", 15),
)


def fill(world: World, now: datetime) -> None:
    """Put the seed into a world that has nothing yet."""
    if not world.is_new():
        return
    with world.moment(now), world.transaction():
        for number, seed in enumerate(SEEDS, start=1):
            world.put("instance", seed.instance, _instance(seed, number, now))
            for disk in _disks(seed, number, now):
                world.put("disk", str(disk["DiskId"]), disk)
        for region, prefix in (("cn-hangzhou", "bp1"), ("cn-beijing", "2ze")):
            group = _security_group(region, prefix, now)
            world.put("security_group", str(group["SecurityGroupId"]), group)


def _instance(seed: Seed, number: int, now: datetime) -> Resource:
    kind = TYPES[seed.kind]
    region = seed.zone.rsplit("-", 1)[0]
    midnight = now.replace(hour=16, minute=0, second=0, microsecond=0)  # 00:00 in China, when subscriptions end
    expires = midnight + timedelta(days=seed.expires_days) if seed.expires_days is not None else None
    return {
        "InstanceId": seed.instance,
        "InstanceName": seed.name,
        "HostName": seed.name,
        "Description": "",
        "Status": seed.status,
        "RegionId": region,
        "ZoneId": seed.zone,
        "InstanceType": kind.name,
        "InstanceTypeFamily": kind.family,
        "Cpu": kind.cpu,
        "Memory": int(kind.memory * 1024),
        "InstanceChargeType": "PostPaid" if expires is None else "PrePaid",
        "ExpiredTime": "2099-12-31T15:59Z" if expires is None else stamp(expires),
        "CreationTime": stamp(now - timedelta(days=200 + number)),
        "StartTime": stamp(now - timedelta(days=30 + number)),
        "StoppedMode": "Not-applicable",
        "ImageId": "aliyun_3_x64_20G_alibase_20260101.vhd",
        "OSName": "Alibaba Cloud Linux 3",
        "OSType": "linux",
        "InstanceNetworkType": "vpc",
        "DeletionProtection": seed.protected,
        "PublicIpAddress": {"IpAddress": [f"203.0.113.{number}"]},
        "VpcAttributes": {"VpcId": f"vpc-demo-{region}", "PrivateIpAddress": {"IpAddress": [f"172.16.0.{number}"]}},
        "SecurityGroupIds": {"SecurityGroupId": [_security_group_id(region)]},
        "OperationLocks": {"LockReason": [{"LockReason": seed.lock}] if seed.lock else []},
        "Tags": {"Tag": [{"TagKey": "team", "TagValue": "demo"}]},
        "AutoRenew": {"AutoRenewEnabled": False, "Duration": 0, "PeriodUnit": "Month", "RenewalStatus": "Normal"},
    }


def _disks(seed: Seed, number: int, now: datetime) -> list[Resource]:
    sizes = [("system", 40)] + ([("data", 200)] if seed.name.startswith("db") else [])
    return [
        {
            "DiskId": f"d-{seed.instance[2:5]}disk{number:02d}{role}",
            "DiskName": f"{seed.name}-{role}",
            "InstanceId": seed.instance,
            "RegionId": seed.zone.rsplit("-", 1)[0],
            "ZoneId": seed.zone,
            "Type": role,
            "Category": "cloud_essd",
            "Size": size,
            "Status": "In_use",
            "Device": f"/dev/xvd{'a' if role == 'system' else 'b'}",
            "DiskChargeType": "PostPaid" if seed.expires_days is None else "PrePaid",
            "CreationTime": stamp(now - timedelta(days=200 + number)),
        }
        for role, size in sizes
    ]


def _security_group_id(region: str) -> str:
    return "sg-2zedemodefault01" if region == "cn-beijing" else "sg-bp1demodefault01"


def _security_group(region: str, prefix: str, now: datetime) -> Resource:
    return {
        "SecurityGroupId": f"sg-{prefix}demodefault01",
        "SecurityGroupName": "default",
        "SecurityGroupType": "normal",
        "Description": "System created security group.",
        "RegionId": region,
        "VpcId": f"vpc-demo-{region}",
        "CreationTime": stamp(now - timedelta(days=400)),
    }
