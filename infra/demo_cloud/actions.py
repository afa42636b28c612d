"""Which action does what: the demo cloud's table of contents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from infra.demo_cloud import instances, networks, purchases, resources, tags
from infra.demo_cloud.errors import CloudError
from infra.demo_cloud.request import Request
from infra.demo_cloud.world import Resource, World

Action = Callable[[World, Request], Resource]

ACTIONS: dict[str, Action] = {
    "CreateSnapshot": resources.create_snapshot,
    "DeleteInstance": instances.delete_instance,
    "DeleteInstances": instances.delete_instances,
    "DescribeDisks": resources.describe_disks,
    "DescribeImages": resources.describe_images,
    "DescribeInstanceAttribute": instances.describe_instance_attribute,
    "DescribeInstanceAutoRenewAttribute": instances.describe_auto_renew,
    "DescribeInstanceStatus": instances.describe_instance_status,
    "DescribeInstanceTypes": resources.describe_instance_types,
    "DescribeInstances": instances.describe_instances,
    "DescribeInvocationResults": resources.describe_invocation_results,
    "DescribeInvocations": resources.describe_invocations,
    "DescribePrice": resources.describe_price,
    "DescribeRegions": resources.describe_regions,
    "DescribeRenewalPrice": instances.describe_renewal_price,
    "DescribeSecurityGroups": resources.describe_security_groups,
    "DescribeSnapshots": resources.describe_snapshots,
    "DescribeVSwitches": networks.describe_vswitches,
    "DescribeVpcs": networks.describe_vpcs,
    "DescribeZones": resources.describe_zones,
    "ListTagResources": tags.list_tag_resources,
    "ModifyInstanceAttribute": instances.modify_attribute,
    "ModifyInstanceAutoRenewAttribute": instances.modify_auto_renew,
    "RebootInstance": instances.one(instances.reboot),
    "RebootInstances": instances.several(instances.reboot),
    "RenewInstance": instances.renew_instance,
    "RunCommand": resources.run_command,
    "RunInstances": purchases.run_instances,
    "StartInstance": instances.one(instances.start),
    "StartInstances": instances.several(instances.start),
    "StopInstance": instances.one(instances.stop),
    "StopInstances": instances.several(instances.stop),
    "TagResources": tags.tag_resources,
    "UntagResources": tags.untag_resources,
}

TOKEN_LIMIT = 64


def is_read(action: str) -> bool:
    """Whether an action changes nothing."""
    return action.startswith(("Describe", "List"))


def act(world: World, request: Request, *, lag_s: float = 0.0) -> Resource:
    """Do what the request asks, in one transaction with its client token. lag_s: how old the world is that it sees.

    The same token with the same parameters gets the first answer again and has no second effect.
    Raises CloudError; then nothing has changed.
    """
    action = ACTIONS.get(request.action)
    if action is None:
        raise CloudError(404, "InvalidAction.NotFound", "Specified api is not found, please check your url and method.")
    with world.moment(request.now, lag_s), world.transaction():
        request = replace(request, now=request.now - timedelta(seconds=lag_s)) if lag_s else request
        token = request.token
        if token is None:
            return action(world, request)
        if len(token) > TOKEN_LIMIT or not token.isascii():
            raise CloudError(400, "InvalidClientToken.Malformed", "The specified ClientToken is not valid.")
        earlier = world.answered(request.action, token)
        if earlier is not None:
            if earlier[0] != request.fingerprint():
                text = "The request uses the same client token as a previous request, but is not identical to it."
                raise CloudError(400, "IdempotentParameterMismatch", text)
            return earlier[1]
        answer = action(world, request)
        world.remember(request.action, token, request.fingerprint(), answer)
        return answer
