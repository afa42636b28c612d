"""GitHub's and Kubernetes' documents as tools, called against servers that check every request against the document."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import cache

import orjson
import pytest

from tests.support.apis import TOKEN, Checked, GitHub, Kubernetes, public_document, serving
from tool_adapters.openapi.call import Override, Scheme, Settings
from tool_adapters.openapi.cards import OpenApiTool, tools
from tool_adapters.openapi.document import read
from tool_adapters.openapi.security import schemes_of
from tool_adapters.openapi.source import OpenApiSource
from tool_adapters.openapi.tool import OperationTool
from tool_adapters.tool import CallContext, InvalidArguments, OutcomeUnknown, ToolRefused, ToolUnavailable, validate

CONTEXT = CallContext(tenant="acme", run="202611-1", user="ann", timeout_s=10, write_key="k" * 32)
REPO = {"owner": "acme", "repo": "bus"}
HERE = {"namespace": "default"}


@dataclass
class Imported:
    """A document in use."""

    made: dict[str, OpenApiTool]
    source: OpenApiSource

    def tool(self, name: str) -> OperationTool:
        return self.source.tool(self.made[name])

    async def text(self, name: str, /, **arguments: object) -> str:
        tool = self.tool(name)
        validate(tool.card, arguments)
        return (await tool.call(arguments, CONTEXT)).text


DOCUMENTS = {"github": "github.com/api.github.com.json", "kubernetes": "kubernetes.io.json"}


@cache
def made(name: str) -> tuple[dict[str, OpenApiTool], dict[str, Scheme]]:
    document = read(public_document(DOCUMENTS[name]))
    effects = {"markdown/render-raw": Override(effect="read")}
    return {each.card.name: each for each in tools(document, effects=effects)}, schemes_of(document)


def imported(name: str, server: str, auth: dict[str, str]) -> Imported:
    found, schemes = made(name)
    settings = Settings(server=server, given_server=server, auth=auth, schemes=schemes)
    return Imported(found, OpenApiSource(settings.model_dump(mode="json")))


@pytest.fixture
async def github(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[GitHub, Imported]]:
    monkeypatch.setenv("TEST_TOKEN", TOKEN)
    server = GitHub()
    async with serving(server.app) as place:
        api = imported("github", place, {"bearer": "env:TEST_TOKEN"})
        yield server, api
        await api.source.close()


@pytest.fixture
async def kubernetes(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Kubernetes, Imported]]:
    monkeypatch.setenv("TEST_TOKEN", f"Bearer {TOKEN}")
    server = Kubernetes(count=50)
    async with serving(server.app) as place:
        api = imported("kubernetes", place, {"BearerToken": "env:TEST_TOKEN"})
        yield server, api
        await api.source.close()
        assert all(request.headers["authorization"] == f"Bearer {TOKEN}" for request in server.seen)


def by_the_document(server: Checked) -> None:
    assert server.seen and server.faults == []


# --- GitHub ---------------------------------------------------------------------------------------


async def test_a_list_is_collected_from_its_pages(github: tuple[GitHub, Imported]) -> None:
    server, api = github
    found = orjson.loads(await api.text("issues_list-for-repo", **REPO))
    assert [each["number"] for each in found] == list(range(1, 66)) and len(server.seen) == 3
    by_the_document(server)


async def test_a_page_that_is_named_is_the_only_one_and_says_where_the_next_is(github: tuple[GitHub, Imported]) -> None:
    server, api = github
    said = await api.text("issues_list-for-repo", **REPO, page=2, per_page=20, labels="bug,good first")
    listed, note = said.split("\n")
    assert [each["number"] for each in orjson.loads(listed)] == list(range(21, 41))
    assert note == "[the first 20 in 1 page(s); there are more: page=3]" and len(server.seen) == 1
    by_the_document(server)


async def test_an_issue_is_opened_once_and_what_is_wrong_with_it_is_told(github: tuple[GitHub, Imported]) -> None:
    server, api = github
    tool = api.tool("issues_create")
    assert (tool.card.effect, tool.card.idempotency) == ("write", "none")
    plan = await tool.plan({**REPO, "body": {"title": "Too slow"}}, CONTEXT)
    assert plan.preview.rows == (("call", f"POST {tool._server}/repos/acme/bus/issues"), ("title", "Too slow"))
    assert "title" in (await api.text("issues_create", **REPO, body={"title": "Too slow"})) and len(server.issues) == 66
    with pytest.raises(ToolRefused, match=r"Validation Failed.*title: missing_field") as refusal:
        await api.text("issues_create", **REPO, body={"title": ""})
    assert refusal.value.code == "HTTP422"
    by_the_document(server)


async def test_who_asks_too_much_is_told_when_to_come_again(github: tuple[GitHub, Imported]) -> None:
    server, api = github
    server.limited = True
    with pytest.raises(ToolUnavailable, match="rate limit") as error:
        await api.text("issues_create", **REPO, body={"title": "x"})
    assert error.value.retry_after_s == 7


async def test_without_a_secret_nothing_is_asked_and_a_wrong_one_says_what_to_check(
    github: tuple[GitHub, Imported], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, api = github
    monkeypatch.setenv("TEST_TOKEN", "old")
    with pytest.raises(ToolRefused, match="Bad credentials") as refusal:
        await api.text("issues_list-for-repo", **REPO)
    assert refusal.value.code == "HTTP401" and "--auth" in refusal.value.hint
    monkeypatch.delenv("TEST_TOKEN")
    with pytest.raises(ToolRefused, match="env:TEST_TOKEN is missing") as refusal:
        await api.text("issues_list-for-repo", **REPO)
    assert "TEST_TOKEN=" in refusal.value.hint and len(server.seen) == 1


async def test_a_put_is_planned_on_what_is_there_and_a_change_shows(github: tuple[GitHub, Imported]) -> None:
    server, api = github
    tool, wanted = api.tool("repos_replace-all-topics"), {**REPO, "body": {"names": ["queue"]}}
    assert (tool.card.idempotency, tool.card.dry_run) == ("query", "look")
    plan = await tool.plan(wanted, CONTEXT)
    assert dict(plan.preview.rows)["now"] == '{"names": ["bus"]}'
    assert (await tool.plan(wanted, CONTEXT)).state == plan.state
    planned = replace(CONTEXT, planned_state=plan.state)
    assert (await tool.reconcile(wanted, planned)).outcome == "not_happened"
    await tool.call(wanted, planned)
    assert server.topics == ["queue"]
    found = await tool.reconcile(wanted, planned)
    assert found.outcome == "happened" and found.result and "queue" in found.result.text
    server.topics = ["other"]
    assert (await tool.reconcile(wanted, planned)).outcome == "unknown"
    by_the_document(server)


async def test_a_write_whose_answer_is_lost_is_not_sent_again(github: tuple[GitHub, Imported]) -> None:
    server, api = github
    tool, wanted = api.tool("issues_update"), {**REPO, "issue_number": 7, "body": {"state": "closed"}}
    planned = replace(CONTEXT, planned_state=(await tool.plan(wanted, CONTEXT)).state)
    server.lose_answers = True
    with pytest.raises(OutcomeUnknown):
        await tool.call(wanted, planned)
    assert [request.method for request in server.seen] == ["GET", "PATCH"]
    assert (await tool.reconcile(wanted, planned)).outcome == "happened"


async def test_text_goes_out_and_a_page_comes_back_where_the_document_says_so(github: tuple[GitHub, Imported]) -> None:
    server, api = github
    assert await api.text("markdown_render-raw", body="Hello **杭州**") == "<p>Hello **杭州**</p>"
    by_the_document(server)


async def test_a_path_of_several_segments_is_one_where_the_document_says_so(github: tuple[GitHub, Imported]) -> None:
    server, api = github
    said = orjson.loads(await api.text("repos_get-content", **REPO, path="docs/a b.md"))
    assert said["path"] == "docs/a b.md"
    for value in ("..", "a/../b", ""):
        with pytest.raises(InvalidArguments):
            await api.text("repos_get-content", **REPO, path=value)
    with pytest.raises(InvalidArguments):
        await api.text("issues_list-for-repo", owner="..", repo="bus")
    assert len(server.seen) == 1


async def test_what_is_not_there_is_told_with_what_to_do(github: tuple[GitHub, Imported]) -> None:
    _, api = github
    with pytest.raises(ToolRefused, match="Not Found") as refusal:
        await api.text("issues_get", **REPO, issue_number=999)
    assert refusal.value.code == "HTTP404" and refusal.value.hint


# --- Kubernetes -----------------------------------------------------------------------------------


async def test_a_list_goes_on_with_its_continue_token(kubernetes: tuple[Kubernetes, Imported]) -> None:
    server, api = kubernetes
    said = await api.text("listCoreV1NamespacedConfigMap", **HERE)
    assert len(orjson.loads(said)["items"]) == 50 and len(server.seen) == 3
    one = await api.text("listCoreV1NamespacedConfigMap", **HERE, limit=10, **{"continue": "10"})
    assert one.endswith('[the first 10 in 1 page(s); there are more: continue="20"]')
    by_the_document(server)


async def test_a_write_is_tried_by_the_api_before_and_changes_nothing(kubernetes: tuple[Kubernetes, Imported]) -> None:
    server, api = kubernetes
    tool = api.tool("createCoreV1NamespacedConfigMap")
    assert tool.card.dry_run == "provider" and "dryRun" not in tool.card.parameters["properties"]  # type: ignore[operator]
    fresh = {**HERE, "body": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new"}, "data": {"a": "b"}}}
    validate(tool.card, fresh)
    assert dict((await tool.plan(fresh, CONTEXT)).preview.rows)["dry run"] == "the API would take it"
    assert server.written == 0 and "new" not in server.maps
    await tool.call(fresh, CONTEXT)
    assert server.maps["new"]["data"] == {"a": "b"} and server.written == 1
    with pytest.raises(ToolRefused, match=r"would not take it.*already exists"):
        await tool.plan(fresh, CONTEXT)
    by_the_document(server)


async def test_a_conflict_of_versions_is_told(kubernetes: tuple[Kubernetes, Imported]) -> None:
    server, api = kubernetes
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map-001", "resourceVersion": "0"}, "data": {}}
    with pytest.raises(ToolRefused, match="has been modified") as refusal:
        await api.text("replaceCoreV1NamespacedConfigMap", **HERE, name="map-001", body=body)
    assert refusal.value.code == "HTTP409" and server.written == 0


async def test_a_state_is_what_people_set_not_what_passes(kubernetes: tuple[Kubernetes, Imported]) -> None:
    server, api = kubernetes
    tool = api.tool("deleteCoreV1NamespacedConfigMap")
    assert (tool.card.effect, tool.card.idempotency) == ("destructive", "query")
    gone = {**HERE, "name": "map-003"}
    state = (await tool.plan(gone, CONTEXT)).state
    server.maps["map-003"]["metadata"]["resourceVersion"] = "999"
    assert (await tool.plan(gone, CONTEXT)).state == state
    server.maps["map-003"]["data"] = {"n": "other"}
    assert (await tool.plan(gone, CONTEXT)).state != state


@pytest.mark.parametrize("lost", ["answer", "request"])
async def test_after_a_lost_answer_a_look_tells_whether_it_happened(kubernetes: tuple[Kubernetes, Imported], lost: str) -> None:
    server, api = kubernetes
    tool, patch = (
        api.tool("patchCoreV1NamespacedConfigMap"),
        {**HERE, "name": "map-005", "body": {"data": {"n": "five", "x": None}}},
    )
    planned = replace(CONTEXT, planned_state=(await tool.plan(patch, CONTEXT)).state)
    server.lose_answers, server.lose_requests = lost == "answer", lost == "request"
    with pytest.raises(OutcomeUnknown):
        await tool.call(patch, planned)
    assert (await tool.reconcile(patch, planned)).outcome == ("happened" if lost == "answer" else "not_happened")
    assert server.written == (1 if lost == "answer" else 0)
    by_the_document(server)


async def test_what_was_deleted_while_nobody_listened_is_known_to_be_gone(kubernetes: tuple[Kubernetes, Imported]) -> None:
    server, api = kubernetes
    tool, gone = api.tool("deleteCoreV1NamespacedConfigMap"), {**HERE, "name": "map-004"}
    planned = replace(CONTEXT, planned_state=(await tool.plan(gone, CONTEXT)).state)
    await tool.call(gone, planned)
    assert (await tool.reconcile(gone, planned)).outcome == "happened" and "map-004" not in server.maps
