"""An instance's life, from the wish to its end, with one effect each: on the demo cloud, and on AWS as moto plays it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from moto.server import ThreadedMotoServer

from infra.cli.client import ask_list
from infra.wiring import World
from runtime.client import Client, Update
from runtime.replay import replay
from schemas.agent import AgentSpec
from schemas.events import ToolReturned
from services.tools.ledger import Effect
from tests.support.stack import LocalStack, local_stack, open_folder, reached, see_through

INSTANCE = r"(?P<id>i-[a-z0-9]+)"


@dataclass(frozen=True)
class Cloud:
    """A cloud as the story sees it: which tools, with which arguments, and what it calls the states of an instance."""

    tools: dict[str, str]
    existing: str
    creation: str
    create: dict[str, object]
    running: str
    stopped: str
    one: dict[str, object]
    tagged: dict[str, object]
    listed: dict[str, object]

    def rules(self) -> list[dict[str, object]]:
        """What the scripted model makes of the person's wishes."""
        calls: list[tuple[str, str, dict[str, object]]] = [
            ("list", "^list the servers", {}),
            ("list", f"^describe {INSTANCE}", self.listed),
            ("create", "^create one", self.create),
            ("tag", f"^tag {INSTANCE} with env=prod", self.tagged),
            *((verb, f"^{verb} {INSTANCE}", self.one) for verb in ("stop", "start", "reboot", "delete")),
        ]
        return [
            *(
                {"role": "user", "match": match, "call": [{"name": self.tools[verb], "arguments": arguments}]}
                for verb, match, arguments in calls
            ),
            {"role": "tool", "match": ".*", "say": "Done: {0}"},
            {"role": "user", "match": ".*", "say": "You said: {0}"},
        ]

    def agent(self) -> AgentSpec:
        return AgentSpec(name="ops", tools=tuple(dict.fromkeys(self.tools.values())), tool_k=0)


DEMO = Cloud(
    tools={
        "list": "DescribeInstances", "create": "RunInstances", "stop": "StopInstance", "start": "StartInstance",
        "reboot": "RebootInstance", "tag": "TagResources", "delete": "DeleteInstance",
    },
    existing="web-1",
    creation=(
        "create one ecs.e-c1m2.large called story of image aliyun_3_x64_20G_alibase_20260101.vhd "
        "in sg-bp1demodefault01 and vsw-demo-cn-hangzhou-h"
    ),
    create={
        "InstanceType": "ecs.e-c1m2.large", "ImageId": "aliyun_3_x64_20G_alibase_20260101.vhd", "InstanceName": "story",
        "SecurityGroupId": "sg-bp1demodefault01", "VSwitchId": "vsw-demo-cn-hangzhou-h",
    },
    running="Running", stopped="Stopped", one={"InstanceId": "{id}"}, listed={"InstanceIds": ["{id}"]},
    tagged={"ResourceId": ["{id}"], "Tag": [{"Key": "env", "Value": "prod"}]},
)  # fmt: skip
AWS = Cloud(
    tools={
        "list": "ec2_DescribeInstances", "create": "ec2_RunInstances", "stop": "ec2_StopInstances",
        "start": "ec2_StartInstances", "reboot": "ec2_RebootInstances", "tag": "ec2_CreateTags",
        "delete": "ec2_TerminateInstances",
    },
    existing="0 found",
    creation="create one t3.micro called story of image ami-12c6146b",
    create={"InstanceType": "t3.micro", "ImageId": "ami-12c6146b", "Name": "story"},
    running="running", stopped="stopped", one={"InstanceIds": ["{id}"]}, listed={"InstanceIds": ["{id}"]},
    tagged={"Resources": ["{id}"], "Tags": [{"Key": "env", "Value": "prod"}]},
)  # fmt: skip


@asynccontextmanager
async def clouded(cloud: Cloud) -> AsyncIterator[LocalStack]:
    """A stack whose agent works on that cloud."""
    with open_folder() as home:
        if cloud is DEMO:
            async with local_stack(home, cloud.rules(), cloud__demo_pace_s=0.5) as stack:
                yield stack
            return
        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        keys = {"aws__access_key_id": "an-id", "aws__access_key_secret": "a-secret", "aws__region": "eu-west-1"}
        try:
            async with local_stack(home, cloud.rules(), aws__endpoint=f"http://{host}:{port}", **keys) as stack:
                yield stack
        finally:
            server.stop()


@dataclass
class Story:
    """A person who asks and approves."""

    client: Client
    world: World
    cloud: Cloud

    async def asked(self, wish: str) -> Update:
        """The end of a run that was approved where it asked."""
        run = (await self.client.ask(wish, agent=self.cloud.agent())).run
        ended = await see_through(self.client, run)
        facts = await self.world.log.read(run)
        assert replay(run, facts).same
        return ended

    async def waiting(self, wish: str) -> Update:
        """A run that waits for its approval."""
        run = (await self.client.ask(wish, agent=self.cloud.agent())).run
        return await reached(self.client, run, lambda update: bool(update.state.approvals()))

    async def effects(self) -> list[Effect]:
        """What the ledger says was done, the first first."""
        asked = {"tenant": self.client.tenant, "which": {"states": ["done"]}, "limit": 100}
        return [Effect.model_validate(each) for each in reversed(await ask_list(self.world, "tools", "effects", asked))]


@pytest.mark.parametrize("cloud", [DEMO, AWS], ids=["demo", "aws"])
async def test_an_instances_life_has_one_effect_a_step_and_a_receipt_for_each(cloud: Cloud) -> None:
    async with clouded(cloud) as stack, stack.session(user="ada") as (client, world):
        story = Story(client, world, cloud)
        listed = await story.asked("list the servers")
        assert cloud.existing in (listed.state.answer or "")
        assert await story.effects() == [], "reads are no effects"

        preview = await story.waiting(cloud.creation)
        (approval,) = preview.state.approvals().values()
        plan = preview.state.plan_of(approval)
        assert plan is not None and ("name", "story") in plan.planned.preview.rows
        assert await story.effects() == [], "nothing before it is approved"
        made = await see_through(client, preview.state.run)
        (instance,) = set(re.findall(r"i-[a-z0-9]+", made.state.answer or ""))
        assert f"{instance} (story) now: " in (made.state.answer or "")
        assert cloud.running in (await story.asked(f"describe {instance}")).state.answer  # type: ignore[operator]

        await stopped_twice_at_once(story, instance)
        for verb, state in (("start", cloud.running), ("reboot", cloud.running)):
            done = await story.asked(f"{verb} {instance}")
            assert f"{instance} (story) now: " in (done.state.answer or "") and state in (done.state.answer or "")
        await story.asked(f"tag {instance} with env=prod")
        await story.asked(f"stop {instance}")
        gone = await story.asked(f"delete {instance}")
        assert "succeeded." in (gone.state.answer or "")
        still_stopped = await story.asked(f"stop {instance}")
        assert "no instance" in (still_stopped.state.answer or "")

        again = await story.waiting(cloud.creation)
        (approval,) = again.state.approvals().values()
        plan = again.state.plan_of(approval)
        assert plan is not None and plan.planned.before is not None, "the card says that it was done before"
        assert plan.planned.before.run == made.state.run
        (command,) = again.state.approvals()
        await client.refuse(again.state.run, command, reason="one is enough")

        tools = [effect.tool for effect in await story.effects()]
        steps = ("create", "stop", "start", "reboot", "tag", "stop", "delete")
        assert tools == [cloud.tools[step] for step in steps]


async def stopped_twice_at_once(story: Story, instance: str) -> None:
    """Two runs that were planned on the same state stop it once; the second has the first one's receipt."""
    first, second = await asyncio.gather(*(story.waiting(f"stop {instance}") for _ in range(2)))
    done = await see_through(story.client, first.state.run)
    repeated = await see_through(story.client, second.state.run)
    assert f"{instance} (story) now: " in (done.state.answer or "") and story.cloud.stopped in (done.state.answer or "")
    assert repeated.state.answer == done.state.answer
    receipts = [stored.fact.body for stored in await story.world.log.read(second.state.run)]
    assert [body.repeated for body in receipts if isinstance(body, ToolReturned)] == [True]
