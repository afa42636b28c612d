"""The ECS APIs offered as tools: what we say about each. Types, required flags and parameter texts come from the SDK.

parameters: the wire names shown to the model; the rest of an API's parameters (up to 45) would only make cards long.
items and fields: where an answer keeps its rows, and which of their columns the model reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.tools import Effect, Idempotency

_INSTANCE_FIELDS = (
    "InstanceId", "InstanceName", "Status", "InstanceType", "InstanceChargeType", "ExpiredTime", "ZoneId",
    "PublicIpAddress.IpAddress", "VpcAttributes.PrivateIpAddress.IpAddress",
)  # fmt: skip
_PRICE_FIELDS = ("TradePrice", "OriginalPrice", "DiscountPrice", "Currency")
_BATCH_FIELDS = ("InstanceId", "PreviousStatus", "CurrentStatus", "Code", "Message")
_MONTH_WEEK = {"PeriodUnit": ("Week", "Month")}


@dataclass(frozen=True, slots=True)
class Api:
    """One API of ECS (version 2014-05-26).

    choices: the values of a parameter that the SDK's text lists. required: beyond what the SDK says, because
    the alternative (a unified expiry day, tags) is not offered here. undo: the API that takes it back with the same arguments.
    """

    action: str
    description: str
    parameters: tuple[str, ...]
    examples: tuple[str, ...]
    effect: Effect = "read"
    idempotency: Idempotency = "none"
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    items: str = ""
    fields: tuple[str, ...] = ()
    undo: str | None = None


READS = (
    Api(
        "DescribeInstances",
        "List ECS instances (cloud servers) with their status, type, billing, expiry and IP addresses.",
        ("RegionId", "InstanceIds", "InstanceName", "Status", "InstanceChargeType", "NextToken"),
        (
            "List my ECS instances",
            "Which servers are stopped?",
            "查询杭州的云服务器列表",
            "我有哪些 ECS 实例快到期了？",
        ),
        choices={
            "Status": ("Pending", "Running", "Starting", "Stopping", "Stopped"),
            "InstanceChargeType": ("PostPaid", "PrePaid"),
        },
        items="Instances.Instance",
        fields=_INSTANCE_FIELDS,
    ),
    Api(
        "DescribeInstanceStatus",
        "Get only the running status of ECS instances.",
        ("InstanceId", "RegionId"),
        (
            "Is instance i-bp1abc running?",
            "Check the status of my servers",
            "查看实例 i-bp1abc 的状态",
            "这台服务器在运行吗？",
        ),
        items="InstanceStatuses.InstanceStatus",
        fields=("InstanceId", "Status"),
    ),
    Api(
        "DescribeInstanceAttribute",
        "Show the details of one ECS instance: CPU, memory, image, network, billing and expiry.",
        ("InstanceId",),
        (
            "Show me the details of instance i-bp1abc",
            "When does i-bp1abc expire?",
            "查看实例 i-bp1abc 的详细信息",
            "这台云服务器什么时候到期？",
        ),
        fields=(*_INSTANCE_FIELDS, "Cpu", "Memory", "ImageId", "HostName", "CreationTime", "RegionId"),
    ),
    Api(
        "DescribeInstanceAutoRenewAttribute",
        "Show whether automatic renewal is turned on for subscription ECS instances.",
        ("InstanceId", "RegionId", "RenewalStatus"),
        ("Is auto-renewal on for i-bp1abc?", "查询实例的自动续费设置", "哪些服务器开启了自动续费？"),
        choices={"RenewalStatus": ("AutoRenewal", "Normal", "NotRenewal")},
        items="InstanceRenewAttributes.InstanceRenewAttribute",
        fields=("InstanceId", "RenewalStatus", "AutoRenewEnabled", "Duration", "PeriodUnit"),
    ),
    Api(
        "DescribeRenewalPrice",
        "Get the price of renewing an ECS instance, without renewing it.",
        ("ResourceId", "Period", "PriceUnit", "RegionId"),
        (
            "How much does it cost to renew i-bp1abc for 6 months?",
            "查询实例 i-bp1abc 续费一年的价格",
            "续费三个月要多少钱？",
        ),
        choices={"PriceUnit": ("Month", "Year")},
        items="PriceInfo.Price",
        fields=_PRICE_FIELDS,
    ),
    Api(
        "DescribePrice",
        "Get the price of buying a new ECS instance of a type.",
        ("InstanceType", "PriceUnit", "Period", "Amount", "RegionId"),
        ("How much is a new ecs.g7.large per month?", "查询购买 ecs.c7.xlarge 的价格", "新买一台服务器一年多少钱？"),
        choices={"PriceUnit": ("Hour", "Month", "Year")},
        required=("InstanceType",),
        items="PriceInfo.Price",
        fields=_PRICE_FIELDS,
    ),
    Api(
        "DescribeInvocations",
        "Show the commands run on ECS instances, with their results and output.",
        ("InstanceId", "InvokeId", "IncludeOutput", "RegionId"),
        ("What did the last command on i-bp1abc print?", "查看云助手命令的执行结果", "命令 t-hz01 执行成功了吗？"),
        items="Invocations.Invocation",
        fields=("InvokeId", "CommandContent", "InvocationStatus", "CreationTime", "InvokeInstances.InvokeInstance"),
    ),
    Api(
        "DescribeRegions",
        "List the regions in which ECS is offered.",
        ("AcceptLanguage",),
        ("Which Alibaba Cloud regions are there?", "列出所有可用的地域"),
        choices={"AcceptLanguage": ("zh-CN", "en-US", "ja")},
        items="Regions.Region",
        fields=("RegionId", "LocalName"),
    ),
    Api(
        "DescribeZones",
        "List the zones of a region.",
        ("RegionId",),
        ("Which zones does cn-beijing have?", "北京地域有哪些可用区？"),
        items="Zones.Zone",
        fields=("ZoneId", "LocalName"),
    ),
    Api(
        "DescribeInstanceTypes",
        "List ECS instance types with their CPU cores and memory.",
        ("InstanceTypes", "InstanceTypeFamily", "MinimumCpuCoreCount", "MinimumMemorySize"),
        ("Which instance types have 4 cores and 16 GB?", "ecs.g7.large 是几核几 G 的？", "查询实例规格"),
        items="InstanceTypes.InstanceType",
        fields=("InstanceTypeId", "CpuCoreCount", "MemorySize", "InstanceTypeFamily"),
    ),
    Api(
        "DescribeDisks",
        "List cloud disks with their size, type and the instance they are attached to.",
        ("InstanceId", "DiskIds", "DiskType", "RegionId", "NextToken"),
        ("Which disks does i-bp1abc have?", "查询实例的云盘", "数据盘有多大？"),
        choices={"DiskType": ("all", "system", "data")},
        items="Disks.Disk",
        fields=("DiskId", "DiskName", "Type", "Category", "Size", "Status", "InstanceId"),
    ),
    Api(
        "DescribeSnapshots",
        "List snapshots of cloud disks.",
        ("InstanceId", "DiskId", "SnapshotIds", "RegionId", "NextToken"),
        ("List the snapshots of disk d-bp1abc", "查询云盘快照", "最近一次快照是什么时候？"),
        items="Snapshots.Snapshot",
        fields=("SnapshotId", "SnapshotName", "SourceDiskId", "Status", "Progress", "CreationTime"),
    ),
    Api(
        "DescribeSecurityGroups",
        "List security groups (firewall rule sets).",
        ("RegionId", "SecurityGroupId", "SecurityGroupName", "VpcId"),
        ("Which security groups do I have?", "查询安全组列表"),
        items="SecurityGroups.SecurityGroup",
        fields=("SecurityGroupId", "SecurityGroupName", "SecurityGroupType", "VpcId", "Description"),
    ),
    Api(
        "DescribeImages",
        "List images (operating systems) that instances can be created from.",
        ("ImageOwnerAlias", "ImageName", "OSType", "InstanceType", "RegionId", "PageSize", "PageNumber"),
        ("Which Ubuntu images are there?", "查询可用的镜像", "有哪些操作系统镜像？"),
        choices={"ImageOwnerAlias": ("system", "self", "others", "marketplace"), "OSType": ("windows", "linux")},
        items="Images.Image",
        fields=("ImageId", "ImageName", "OSName", "OSType", "ImageOwnerAlias", "Status"),
    ),
    Api(
        "DescribeVpcs",
        "List virtual private clouds (VPCs).",
        ("VpcId", "RegionId", "PageSize", "PageNumber"),
        ("Which VPCs do I have?", "查询专有网络列表"),
        items="Vpcs.Vpc",
        fields=("VpcId", "VpcName", "CidrBlock", "Status", "RegionId"),
    ),
    Api(
        "DescribeVSwitches",
        "List vSwitches (subnets) of a VPC.",
        ("VpcId", "VSwitchId", "ZoneId", "RegionId", "PageSize", "PageNumber"),
        ("Which vSwitches are in zone cn-hangzhou-h?", "查询交换机列表"),
        items="VSwitches.VSwitch",
        fields=("VSwitchId", "VSwitchName", "CidrBlock", "ZoneId", "VpcId", "Status", "AvailableIpAddressCount"),
    ),
    Api(
        "DescribeInvocationResults",
        "Show what a command printed on each ECS instance, with its exit code.",
        ("InvokeId", "InstanceId", "RegionId"),
        ("What is the output of command t-hz01?", "查询命令 t-hz01 在各实例上的输出"),
        items="Invocation.InvocationResults.InvocationResult",
        fields=("InvokeId", "InstanceId", "InvocationStatus", "ExitCode", "Output", "FinishedTime"),
    ),
    Api(
        "ListTagResources",
        "List the tags of ECS instances, or the instances that have a tag.",
        ("ResourceId", "Tag", "ResourceType", "RegionId", "NextToken"),
        ("Which tags does i-bp1abc have?", "查询实例 i-bp1abc 的标签"),
        choices={"ResourceType": ("instance",)},
        items="TagResources.TagResource",
        fields=("ResourceId", "TagKey", "TagValue"),
    ),
)

WRITES = (
    Api(
        "RunInstances",
        "Create (buy) one or more new ECS instances. Costs money.",
        (
            "InstanceType",
            "ImageId",
            "SecurityGroupId",
            "VSwitchId",
            "Amount",
            "InstanceName",
            "InstanceChargeType",
            "Period",
            "PeriodUnit",
            "RegionId",
        ),
        (
            "Create a new ecs.g7.large instance from image aliyun_3_x64",
            "Buy two servers of type ecs.c7.large",
            "创建一台 ecs.g7.large 实例",
            "新买两台云服务器",
        ),
        effect="write",
        idempotency="key",
        choices={**_MONTH_WEEK, "InstanceChargeType": ("PostPaid", "PrePaid")},
        required=("InstanceType", "ImageId", "SecurityGroupId", "VSwitchId"),
        items="InstanceIdSets",
        fields=("InstanceIdSet",),
    ),
    Api(
        "RenewInstance",
        "Renew a subscription ECS instance: extend its expiry by weeks or months. Costs money.",
        ("InstanceId", "Period", "PeriodUnit"),
        (
            "Please help me renew ECS instance i-bp1abc for 3 months",
            "Extend my server's subscription by a year",
            "请帮我给实例 i-bp1abc 续费 10 个月",
            "ECS 服务器续费三个月",
        ),
        effect="write",
        idempotency="key",
        choices=_MONTH_WEEK,
        required=("Period",),
    ),
    Api(
        "ModifyInstanceAutoRenewAttribute",
        "Turn automatic renewal of a subscription ECS instance on or off.",
        ("InstanceId", "AutoRenew", "Duration", "PeriodUnit", "RegionId"),
        (
            "Turn on auto-renewal for i-bp1abc",
            "Stop renewing i-bp1abc automatically",
            "给实例 i-bp1abc 开启自动续费",
            "关闭自动续费",
        ),
        effect="write",
        idempotency="query",
        choices=_MONTH_WEEK,
    ),
    Api(
        "StartInstance",
        "Start a stopped ECS instance.",
        ("InstanceId",),
        ("Start instance i-bp1abc", "Boot up the server i-bp1abc", "启动实例 i-bp1abc", "把这台云服务器开机"),
        effect="write",
        idempotency="query",
        undo="StopInstance",
    ),
    Api(
        "StopInstance",
        "Stop (shut down) a running ECS instance.",
        ("InstanceId", "ForceStop", "StoppedMode"),
        ("Stop instance i-bp1abc", "Shut down the server i-bp1abc", "停止实例 i-bp1abc", "把这台云服务器关机"),
        effect="write",
        idempotency="query",
        choices={"StoppedMode": ("StopCharging", "KeepCharging")},
    ),
    Api(
        "RebootInstance",
        "Restart a running ECS instance.",
        ("InstanceId", "ForceStop"),
        ("Reboot instance i-bp1abc", "Restart the server i-bp1abc", "重启实例 i-bp1abc", "重启这台云服务器"),
        effect="write",
        idempotency="query",
    ),
    Api(
        "StartInstances",
        "Start several stopped ECS instances at once.",
        ("InstanceId", "BatchOptimization", "RegionId"),
        ("Start instances i-bp1abc and i-bp1def", "批量启动实例 i-bp1abc 和 i-bp1def"),
        effect="write",
        idempotency="query",
        undo="StopInstances",
        choices={"BatchOptimization": ("AllTogether", "SuccessFirst")},
        items="InstanceResponses.InstanceResponse",
        fields=_BATCH_FIELDS,
    ),
    Api(
        "StopInstances",
        "Stop several running ECS instances at once.",
        ("InstanceId", "ForceStop", "StoppedMode", "BatchOptimization", "RegionId"),
        ("Stop instances i-bp1abc and i-bp1def", "批量停止实例 i-bp1abc 和 i-bp1def"),
        effect="write",
        idempotency="query",
        choices={"StoppedMode": ("StopCharging", "KeepCharging"), "BatchOptimization": ("AllTogether", "SuccessFirst")},
        items="InstanceResponses.InstanceResponse",
        fields=_BATCH_FIELDS,
    ),
    Api(
        "RebootInstances",
        "Restart several running ECS instances at once.",
        ("InstanceId", "ForceReboot", "BatchOptimization", "RegionId"),
        ("Reboot instances i-bp1abc and i-bp1def", "批量重启实例 i-bp1abc 和 i-bp1def"),
        effect="write",
        idempotency="query",
        choices={"BatchOptimization": ("AllTogether", "SuccessFirst")},
        items="InstanceResponses.InstanceResponse",
        fields=_BATCH_FIELDS,
    ),
    Api(
        "DeleteInstance",
        "Release (delete) an ECS instance for good, with its data. Cannot be undone.",
        ("InstanceId", "Force"),
        ("Delete instance i-bp1abc", "Release the server i-bp1abc", "释放实例 i-bp1abc", "删除这台云服务器"),
        effect="destructive",
        idempotency="query",
    ),
    Api(
        "DeleteInstances",
        "Release (delete) several ECS instances for good, with their data. Cannot be undone.",
        ("InstanceId", "Force", "RegionId"),
        ("Delete instances i-bp1abc and i-bp1def", "批量释放实例 i-bp1abc 和 i-bp1def"),
        effect="destructive",
        idempotency="key",
    ),
    Api(
        "RunCommand",
        "Run a shell command on ECS instances through Cloud Assistant.",
        ("InstanceId", "Type", "CommandContent", "Timeout", "RegionId"),
        (
            "Run 'df -h' on i-bp1abc",
            "Execute a shell script on my server",
            "在实例 i-bp1abc 上执行命令 uptime",
            "用云助手运行脚本",
        ),
        effect="destructive",
        idempotency="key",
        choices={"Type": ("RunShellScript", "RunPowerShellScript", "RunBatScript")},
        required=("InstanceId",),
    ),
    Api(
        "CreateSnapshot",
        "Create a snapshot (backup) of a cloud disk.",
        ("DiskId", "SnapshotName", "Description", "RetentionDays"),
        ("Back up disk d-bp1abc", "Create a snapshot of d-bp1abc", "给云盘 d-bp1abc 创建快照", "备份磁盘"),
        effect="write",
        idempotency="key",
    ),
    Api(
        "ModifyInstanceAttribute",
        "Change an ECS instance's name, description, host name or deletion protection.",
        ("InstanceId", "InstanceName", "Description", "HostName", "DeletionProtection"),
        (
            "Rename instance i-bp1abc to web-prod",
            "Protect i-bp1abc from deletion",
            "把实例 i-bp1abc 改名为 web-prod",
            "修改实例描述",
        ),
        effect="write",
        idempotency="query",
    ),
    Api(
        "TagResources",
        "Add tags (key and value labels) to ECS instances.",
        ("ResourceId", "Tag", "ResourceType", "RegionId"),
        ("Tag i-bp1abc with env=prod", "给实例 i-bp1abc 打标签 env:prod"),
        effect="write",
        idempotency="query",
        choices={"ResourceType": ("instance",)},
    ),
    Api(
        "UntagResources",
        "Remove tags from ECS instances.",
        ("ResourceId", "TagKey", "ResourceType", "RegionId"),
        ("Remove the tag env from i-bp1abc", "删除实例 i-bp1abc 的标签 env"),
        effect="write",
        idempotency="query",
        choices={"ResourceType": ("instance",)},
        required=("TagKey",),
    ),
)

APIS = READS + WRITES
