"""Tags of instances: adding, removing, listing."""

from __future__ import annotations

from infra.demo_cloud.errors import CloudError, missing
from infra.demo_cloud.instances import find, listed
from infra.demo_cloud.request import Request, page, tags_of
from infra.demo_cloud.world import Resource, World


def tag_resources(world: World, request: Request) -> Resource:
    """TagResources: add or overwrite tags of instances."""
    tags = request.tags()
    if not tags:
        raise missing("Tag")
    for name in _names(request):
        instance = find(world, name, request.now)
        _put(world, request, instance, tags_of(instance) | tags)
    return {}


def untag_resources(world: World, request: Request) -> Resource:
    """UntagResources: remove tags of these keys, or all."""
    keys = set(request.listed("TagKey"))
    if not keys and not request.flag("All"):
        raise missing("TagKey")
    for name in _names(request):
        instance = find(world, name, request.now)
        _put(world, request, instance, {key: value for key, value in tags_of(instance).items() if keys and key not in keys})
    return {}


def list_tag_resources(world: World, request: Request) -> Resource:
    """ListTagResources: by instances, tags, or both."""
    _check_type(request)
    ids, wanted = request.listed("ResourceId"), request.tags()
    rows: list[Resource] = []
    for one in listed(world, request):
        tags = tags_of(one)
        if (ids and one["InstanceId"] not in ids) or not wanted.items() <= tags.items():
            continue
        rows += [
            {"ResourceId": one["InstanceId"], "ResourceType": "instance", "TagKey": key, "TagValue": value}
            for key, value in tags.items()
        ]
    return page(request, rows, "TagResources", "TagResource")


def as_tags(tags: dict[str, str]) -> Resource:
    """Tags as an instance keeps them."""
    return {"Tag": [{"TagKey": key, "TagValue": value} for key, value in tags.items()]}


def _put(world: World, request: Request, instance: Resource, tags: dict[str, str]) -> None:
    name = str(instance["InstanceId"])
    world.put("instance", name, instance | {"Tags": as_tags(tags)})
    request.record(world, name)


def _names(request: Request) -> list[str]:
    _check_type(request)
    names = request.listed("ResourceId")
    if not names:
        raise missing("ResourceId")
    return names


def _check_type(request: Request) -> None:
    request.text("RegionId")
    if request.text("ResourceType") != "instance":
        raise CloudError(400, "InvalidResourceType.NotFound", "The ResourceType provided does not exist.")
