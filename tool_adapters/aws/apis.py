"""The operations of AWS that are shipped as tools: what we say about each; a test compares it with botocore's models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.tools import Effect, Idempotency, ToolCard
from tool_adapters.tool import checked_card

LANE = "aws"

Schema = dict[str, object]

_TEXT: Schema = {"type": "string"}
_TEXTS: Schema = {"type": "array", "items": {"type": "string"}}
_INSTANCES: Schema = {**_TEXTS, "minItems": 1, "description": "Ids of instances, such as i-0abc."}
_NEXT: Schema = {**_TEXT, "description": "Of the answer before, for the next page."}
_FILTERS: Schema = {
    "type": "array",
    "description": "Such as [{Name: instance-state-name, Values: [running]}] or [{Name: tag:env, Values: [prod]}].",
    "items": {
        "type": "object", "properties": {"Name": _TEXT, "Values": _TEXTS}, "required": ["Name", "Values"],
        "additionalProperties": False,
    },
}  # fmt: skip
_TAGS: Schema = {
    "type": "array", "minItems": 1,
    "items": {
        "type": "object", "properties": {"Key": _TEXT, "Value": _TEXT}, "required": ["Key"], "additionalProperties": False,
    },
}  # fmt: skip
_INSTANCE_FIELDS = (
    "InstanceId", "Tags", "State.Name", "InstanceType", "Placement.AvailabilityZone", "PublicIpAddress", "PrivateIpAddress",
    "LaunchTime",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Api:
    """One operation. items, inner and fields: where an answer keeps its rows, their own rows, and which columns are read.

    ours: parameters that the operation itself does not have; the write makes of them what it has.
    """

    service: str
    operation: str
    description: str
    parameters: Mapping[str, Schema]
    examples: tuple[str, ...]
    required: tuple[str, ...] = ()
    effect: Effect = "read"
    idempotency: Idempotency = "none"
    dry_run: bool = False
    items: str = ""
    inner: str = ""
    fields: tuple[str, ...] = ()
    ours: frozenset[str] = field(default_factory=frozenset)
    fixed: Mapping[str, object] = field(default_factory=dict)
    undo: str | None = None

    @property
    def name(self) -> str:
        """The tool's name."""
        return f"{self.service}_{self.operation}"

    def wire(self, arguments: Mapping[str, object]) -> dict[str, object]:
        """A read's arguments as they are sent."""
        return {**self.fixed, **arguments}


READS = (
    Api(
        "ec2", "DescribeInstances", "List EC2 instances (AWS servers) with their state, type, tags and IP addresses.",
        {"InstanceIds": _TEXTS, "Filters": _FILTERS, "NextToken": _NEXT},
        ("List my EC2 instances", "Which AWS servers are stopped?", "查询我的 EC2 实例"),
        items="Reservations", inner="Instances", fields=_INSTANCE_FIELDS,
    ),
    Api(
        "ec2", "DescribeInstanceStatus", "Get the running state and health checks of EC2 instances.",
        {"InstanceIds": _TEXTS, "NextToken": _NEXT}, ("Is EC2 instance i-0abc healthy?", "查看 EC2 实例 i-0abc 的状态"),
        items="InstanceStatuses", fixed={"IncludeAllInstances": True},
        fields=("InstanceId", "InstanceState.Name", "InstanceStatus.Status", "SystemStatus.Status"),
    ),
    Api(
        "ec2", "DescribeInstanceTypes", "Show CPU cores and memory of EC2 instance types.", {"InstanceTypes": _TEXTS},
        ("How much memory has a t3.large?", "t3.large 是几核几 G 的？"), required=("InstanceTypes",), items="InstanceTypes",
        fields=("InstanceType", "VCpuInfo.DefaultVCpus", "MemoryInfo.SizeInMiB"),
    ),
    Api(
        "ec2", "DescribeImages", "List AMIs (images) that EC2 instances can be launched from.",
        {"ImageIds": _TEXTS, "Owners": {**_TEXTS, "description": "Such as amazon or self."}, "Filters": _FILTERS},
        ("Which AMIs do I have?", "查询可用的 AMI 镜像"), items="Images", fields=("ImageId", "Name", "State", "CreationDate"),
    ),
    Api(
        "ec2", "DescribeRegions", "List the regions of AWS.", {}, ("Which AWS regions are there?", "列出 AWS 的地域"),
        items="Regions", fields=("RegionName", "OptInStatus"),
    ),
    Api(
        "ec2", "DescribeVolumes", "List EBS volumes (AWS disks) with their size and the instance they are attached to.",
        {"VolumeIds": _TEXTS, "Filters": _FILTERS, "NextToken": _NEXT},
        ("Which EBS volumes has i-0abc?", "查询 EC2 实例的云盘"), items="Volumes",
        fields=("VolumeId", "State", "Size", "VolumeType", "AvailabilityZone"),
    ),
    Api(
        "ec2", "DescribeSnapshots", "List snapshots of your EBS volumes.",
        {"SnapshotIds": _TEXTS, "Filters": _FILTERS, "NextToken": _NEXT},
        ("List my EBS snapshots", "查询 EBS 快照"), items="Snapshots", fixed={"OwnerIds": ["self"]},
        fields=("SnapshotId", "VolumeId", "State", "Progress", "StartTime", "Description"),
    ),
    Api(
        "ec2", "DescribeSecurityGroups", "List EC2 security groups (firewall rule sets).",
        {"GroupIds": _TEXTS, "Filters": _FILTERS, "NextToken": _NEXT},
        ("Which security groups do I have on AWS?", "查询 EC2 安全组"), items="SecurityGroups",
        fields=("GroupId", "GroupName", "VpcId", "Description"),
    ),
    Api(
        "ec2", "DescribeSubnets", "List subnets of AWS VPCs.", {"SubnetIds": _TEXTS, "Filters": _FILTERS, "NextToken": _NEXT},
        ("Which subnets do I have on AWS?", "查询 AWS 子网"), items="Subnets",
        fields=("SubnetId", "VpcId", "CidrBlock", "AvailabilityZone", "AvailableIpAddressCount"),
    ),
    Api(
        "ssm", "GetCommandInvocation", "Show what a command printed on an EC2 instance, with its status.",
        {"CommandId": _TEXT, "InstanceId": _TEXT}, ("What did the command on i-0abc print?", "查看 EC2 上命令的执行结果"),
        required=("CommandId", "InstanceId"),
        fields=("CommandId", "InstanceId", "Status", "ResponseCode", "StandardOutputContent", "StandardErrorContent"),
    ),
)  # fmt: skip

WRITES = (
    Api(
        "ec2", "RunInstances", "Launch (create) one or more new EC2 instances. Costs money.",
        {
            "ImageId": {**_TEXT, "description": "An AMI, such as ami-0abc."}, "InstanceType": _TEXT,
            "Count": {"type": "integer", "minimum": 1, "maximum": 100, "default": 1}, "SubnetId": _TEXT,
            "SecurityGroupIds": _TEXTS, "KeyName": _TEXT, "Name": {**_TEXT, "description": "Their Name tag."},
        },
        ("Launch a t3.micro from ami-0abc", "在 AWS 上启动两台新的 EC2 实例"), required=("ImageId", "InstanceType"),
        effect="write", idempotency="key", dry_run=True, ours=frozenset({"Count", "Name"}),
    ),
    Api(
        "ec2", "StartInstances", "Start stopped EC2 instances.", {"InstanceIds": _INSTANCES},
        ("Start EC2 instance i-0abc", "启动 EC2 实例 i-0abc"), required=("InstanceIds",), effect="write", idempotency="query",
        dry_run=True, undo="ec2_StopInstances",
    ),
    Api(
        "ec2", "StopInstances", "Stop (shut down) running EC2 instances.",
        {"InstanceIds": _INSTANCES, "Force": {"type": "boolean"}},
        ("Stop EC2 instance i-0abc", "停止 EC2 实例 i-0abc"), required=("InstanceIds",), effect="write", idempotency="query",
        dry_run=True,
    ),
    Api(
        "ec2", "RebootInstances", "Restart running EC2 instances.", {"InstanceIds": _INSTANCES},
        ("Reboot EC2 instance i-0abc", "重启 EC2 实例 i-0abc"), required=("InstanceIds",), effect="write", dry_run=True,
    ),
    Api(
        "ec2", "TerminateInstances", "Terminate (delete) EC2 instances for good. Cannot be undone.",
        {"InstanceIds": _INSTANCES},
        ("Terminate EC2 instance i-0abc", "终止 EC2 实例 i-0abc"), required=("InstanceIds",), effect="destructive",
        idempotency="query", dry_run=True,
    ),
    Api(
        "ec2", "ModifyInstanceAttribute", "Change an EC2 instance's type (while it is stopped) or its termination protection.",
        {"InstanceId": _TEXT, "InstanceType": _TEXT, "DisableApiTermination": {"type": "boolean"}},
        ("Protect EC2 instance i-0abc from termination", "修改 EC2 实例 i-0abc 的规格"), required=("InstanceId",),
        effect="write", idempotency="query", dry_run=True,
    ),
    Api(
        "ec2", "CreateTags", "Add tags to EC2 instances.", {"Resources": _INSTANCES, "Tags": _TAGS},
        ("Tag EC2 instance i-0abc with env=prod", "给 EC2 实例 i-0abc 打标签"), required=("Resources", "Tags"), effect="write",
        idempotency="query", dry_run=True,
    ),
    Api(
        "ec2", "DeleteTags", "Remove tags from EC2 instances.", {"Resources": _INSTANCES, "Tags": _TAGS},
        ("Remove the tag env from EC2 instance i-0abc", "删除 EC2 实例 i-0abc 的标签"), required=("Resources", "Tags"),
        effect="write", idempotency="query", dry_run=True,
    ),
    Api(
        "ec2", "CreateSnapshot", "Create a snapshot (backup) of an EBS volume.", {"VolumeId": _TEXT, "Description": _TEXT},
        ("Back up EBS volume vol-0abc", "给 EBS 卷 vol-0abc 创建快照"), required=("VolumeId",), effect="write",
        idempotency="query", dry_run=True,
    ),
    Api(
        "ssm", "SendCommand", "Run a shell command on EC2 instances through Systems Manager.",
        {"InstanceIds": _INSTANCES, "Command": {**_TEXT, "description": "A line or a script of sh."}},
        ("Run 'df -h' on EC2 instance i-0abc", "在 EC2 实例 i-0abc 上执行命令 uptime"), required=("InstanceIds", "Command"),
        effect="destructive", ours=frozenset({"Command"}),
    ),
)  # fmt: skip

APIS = READS + WRITES


def card_of(api: Api) -> ToolCard:
    """The card of an operation."""
    return checked_card(
        ToolCard(
            name=api.name,
            title=api.operation,
            description=api.description,
            parameters={
                "type": "object", "properties": dict(api.parameters), "required": list(api.required),
                "additionalProperties": False,
            },
            effect=api.effect,
            idempotency=api.idempotency,
            lane=LANE,
            examples=api.examples,
            tags=("aws", api.service),
            timeout_s=60 if api.effect != "read" else 30,
            owner="AWS",
            dry_run="none" if api.effect == "read" else "provider" if api.dry_run else "look",
            undo=api.undo,
        )
    )  # fmt: skip
