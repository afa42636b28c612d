"""Tools over the door: listed, found, tried, and imported without reaching what strangers may not."""

from __future__ import annotations

import json

import httpx
import pytest

from infra.cli.client import ask
from tests.support.stack import LocalStack
from tests.support.visitors import visitor

PETS = json.dumps({
    "openapi": "3.0.0", "info": {"title": "Pet Shop", "version": "1"}, "servers": [{"url": "https://pets.example.com"}],
    "paths": {"/pets": {
        "get": {"operationId": "listPets", "summary": "List the pets"},
        "delete": {"operationId": "sellAll", "summary": "Sell <script>alert(1)</script> all"},
    }},
})  # fmt: skip


async def ended(http: httpx.AsyncClient, tool: str, arguments: dict[str, object], dry_run: bool = True) -> dict[str, object]:
    """Try a tool, and wait until it is done or waits for a person."""
    begun = await http.post(f"/api/tools/named/{tool}/try", json={"arguments": arguments, "dry_run": dry_run})
    assert begun.status_code == 200, begun.text
    return await told(http, begun.json()["run"])


async def told(http: httpx.AsyncClient, run: str) -> dict[str, object]:
    found: dict[str, object] = {"state": "working"}
    while found["state"] == "working":
        answer = await http.get(f"/api/tools/tries/{run}", params={"wait_s": 20})
        assert answer.status_code == 200, answer.text
        found = answer.json()
    return found


async def test_the_catalogue_is_listed_page_by_page_and_searched_as_agents_do(two_doors: LocalStack) -> None:
    async with visitor(two_doors, "viewer") as http:
        names, after = [], ""
        while after is not None:
            page = (await http.get("/api/tools", params={"after": after, "limit": 30, "lane": "builtin"})).json()
            names += [each["name"] for each in page["tools"]]
            after = page["after"]
        assert len(names) > 30 and len(set(names)) == len(names) and "RenewInstance" in names
        away = (await http.get("/api/tools", params={"presence": "away", "text": "RenewInstance"})).json()
        assert away["tools"] == []
        best = (await http.get("/api/tools/search", params={"text": "renew my server", "k": 3})).json()["tools"]
        assert any("Renew" in each["name"] for each in best) and all("fused" in each["why"] for each in best)
        known = (await http.get("/api/tools/named/RenewInstance")).json()
        assert (known["card"]["effect"], known["presence"], known["versions"][0]["hash"]) == ("write", "here", known["hash"])
        assert (await http.get("/api/tools/named/NoSuchTool")).status_code == 404


async def test_a_read_is_called_and_a_write_is_shown_before_it_is_done(two_doors: LocalStack) -> None:
    instance = "i-bp1h5t9r4y7u1dbm01"
    renewal: dict[str, object] = {"InstanceId": instance, "Period": 1, "PeriodUnit": "Month"}
    async with visitor(two_doors) as http:
        read = await ended(http, "current_time", {"timezone": "Asia/Shanghai"})
        assert read["state"] == "done" and "Asia/Shanghai" in str(read["result"])
        before = await two_doors.effects(instance)
        dry = await ended(http, "RenewInstance", renewal)
        assert dry["state"] == "done" and instance in str(dry["preview"])
        assert await two_doors.effects(instance) == before
        real = await ended(http, "RenewInstance", renewal, dry_run=False)
        assert real["state"] == "waiting" and real["approval"]
        assert await two_doors.effects(instance) == before
        approved = await http.post(f"/api/approvals/{real['run']}/{real['approval']}", json={"decision": "approve"})
        assert approved.status_code < 300, approved.text
        while (done := await told(http, str(real["run"])))["state"] == "waiting":
            pass  # until the approval is folded in
        assert done["state"] == "done" and len(await two_doors.effects(instance)) == len(before) + 1
        wrong = await ended(http, "RenewInstance", {"InstanceId": 5})
        assert wrong["preview"] is None and (wrong["failure"] or wrong["result"])
    async with visitor(two_doors, "viewer") as viewer, visitor(two_doors, "admin", tenant="stranger") as stranger:
        assert (await viewer.post("/api/tools/named/current_time/try", json={})).status_code == 403
        assert (await viewer.get(f"/api/tools/tries/{real['run']}")).status_code == 200
        assert (await stranger.get(f"/api/tools/tries/{real['run']}")).status_code == 404


async def test_a_trial_is_none_where_a_tenants_rules_would_let_it_happen(two_doors: LocalStack) -> None:
    instance = "i-bp1j2s8d6f3g9job01"
    rules = {"rules": [{"name": "all", "when": {"effects": ["write"]}, "then": "allow"}]}
    async with two_doors.session() as (_, world), visitor(two_doors, "operator", tenant="lax") as http:
        await ask(world, "policy", "set_policy", {"tenant": "lax", "by": "me", "policy": rules})
        before = await two_doors.effects(instance)
        dry = await ended(http, "ModifyInstanceAttribute", {"InstanceId": instance, "Description": "tried"})
        assert dry["state"] == "done" and dry["preview"], dry
        assert await two_doors.effects(instance) == before


async def test_a_document_is_shown_then_imported_and_taken_out_by_its_tenant_alone(two_doors: LocalStack) -> None:
    asked = {"kind": "openapi", "document": PETS, "name": "door-pets"}
    async with visitor(two_doors, "builder") as http:
        shown = (await http.post("/api/tools/import/try", json=asked)).json()
        assert (shown["tools"], shown["effects"], shown["new"]) == (2, {"read": 1, "destructive": 1}, 2)
        assert (await http.get("/api/tools/named/listPets")).status_code == 404
        assert (await http.post("/api/tools/import", json=asked | {"seen": "another"})).status_code == 409
        imported = await http.post("/api/tools/import", json=asked | {"seen": shown["digest"]})
        assert imported.status_code == 200 and imported.json()["hosted"], imported.text
        assert (await http.get("/api/tools/named/listPets")).json()["presence"] == "here"
        again = (await http.post("/api/tools/import/try", json=asked)).json()
        assert (again["new"], again["changed"]) == (0, 0)
        lanes = [each["lane"] for each in (await http.get("/api/tools/sources")).json()["sources"]]
        assert "door-pets" in lanes
    async with visitor(two_doors, "builder", tenant="stranger") as stranger:
        assert (await stranger.get("/api/tools/named/listPets")).status_code == 404
        assert (await stranger.get("/api/tools/sources")).json()["sources"] == []
        assert (await stranger.delete("/api/tools/sources/door-pets")).status_code == 404
        assert (await stranger.post("/api/tools/import/try", json={"kind": "aliyun", "products": ["ecs"]})).status_code == 400
    async with visitor(two_doors, "builder") as http:
        assert (await http.delete("/api/tools/sources/door-pets")).json() == {"lane": "door-pets", "tools": 2}
        assert (await http.get("/api/tools/named/listPets")).status_code == 404


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"kind": "openapi", "where": "http://127.0.0.1:80/openapi.json"}, "not a public address"),
        ({"kind": "openapi", "where": "http://169.254.169.254/latest/meta-data"}, "not a public address"),
        ({"kind": "openapi", "where": "http://localhost/openapi.json"}, "not public"),
        ({"kind": "openapi", "where": "/etc/passwd"}, "no http or https"),
        ({"kind": "openapi", "where": "file:///etc/passwd"}, "no http or https"),
        ({"kind": "mcp", "where": "http://[::1]/mcp"}, "not a public address"),
        ({"kind": "mcp", "command": "sh -c id"}, "started on this machine"),
        ({"kind": "mcp", "where": "https://x.example/mcp", "headers": {"Authorization": "env:HOME"}}, "set aside"),
        ({"kind": "openapi", "document": PETS, "auth": {"bearer": "file:/etc/passwd"}}, "set aside"),
        ({"kind": "openapi", "document": PETS, "name": "builtin"}, "its host has tools"),
        ({"kind": "openapi", "document": "{"}, "neither JSON"),
        ({"kind": "openapi"}, "neither a document"),
    ],
)  # fmt: skip
async def test_an_import_reaches_nothing_of_this_machine(two_doors: LocalStack, asked: dict[str, object], why: str) -> None:
    async with visitor(two_doors, "builder") as http:
        path = "/api/tools/import" if asked.get("name") == "builtin" else "/api/tools/import/try"
        answer = await http.post(path, json=asked)
        said = answer.json()["error"]
        assert answer.status_code == 400 and why in f"{said['what']} {said['why']}", answer.text


async def test_only_builders_import(two_doors: LocalStack) -> None:
    async with visitor(two_doors, "operator") as http:
        for path in ("/api/tools/import", "/api/tools/import/try"):
            assert (await http.post(path, json={"kind": "openapi", "document": PETS})).status_code == 403
        assert (await http.delete("/api/tools/sources/any")).status_code == 403
