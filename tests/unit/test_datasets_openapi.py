"""Operations of OpenAPI documents as cards; ToolAlpaca and RestBench, whose tools are such operations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.datasets.conversion.files import FileUnreadable
from services.datasets.conversion.openapi import LONGEST, operation_card, operations
from services.datasets.sets import SetMissing, data_set
from services.datasets.sets.restbench import OFFERED
from tests.support.conversations import examples, rows, said, skipped

BEES: dict[str, object] = {
    "paths": {
        "/hives/{hive_id}": {
            "parameters": [{"$ref": "#/components/parameters/hive"}],
            "get": {
                "summary": "Get a hive.", "description": "Get a hive.\nAnd a page about it.",
                "parameters": [
                    {"name": "deep", "in": "query", "description": "x " * LONGEST, "schema": {"type": "boolean"}},
                    {"name": "Authorization", "in": "header", "schema": {"type": "string"}},
                ],
            },
        },
        "/hives": {
            "post": {"description": "Add a hive", "requestBody": {"content": {"application/json": {"schema": {
                "allOf": [{"$ref": "#/components/schemas/named"},
                          {"properties": {"bees": {"type": "integer"}, "queen": {"$ref": "#/components/schemas/queen"}}}],
                "required": ["name"],
            }}}}},
        },
    },
    "components": {
        "parameters": {"hive": {"name": "hive_id", "in": "path", "schema": {"type": "integer", "description": "Which."}}},
        "schemas": {
            "named": {"type": "object", "properties": {"name": {"type": "string"}}},
            "queen": {"type": "object", "properties": {"mother": {"$ref": "#/components/schemas/queen"}}},
        },
    },
}  # fmt: skip


def test_an_operation_takes_what_its_path_query_and_body_take() -> None:
    assert [*operations(BEES)] == [("get", "/hives/{hive_id}"), ("post", "/hives")]
    get, post = (operation_card(BEES, method, path, "it") for method, path in operations(BEES))
    assert (get.description, get.effect, get.parameters["required"]) == ("Get a hive", "read", ["hive_id"])
    taken = get.parameters["properties"]
    assert isinstance(taken, dict)
    assert taken["hive_id"] == {"type": "integer", "description": "Which."}
    assert set(taken) == {"hive_id", "deep"}, "who asks is none of the model's"
    assert len(taken["deep"]["description"]) <= LONGEST + 4
    body = post.parameters["properties"]
    assert isinstance(body, dict)
    assert (post.effect, set(body), post.parameters["required"]) == ("write", {"name", "bees", "queen"}, ["name"])


def test_a_schema_that_holds_itself_ends() -> None:
    post = operation_card(BEES, "post", "/hives", "add")
    assert json.dumps(post.parameters).count("mother") < 10


def test_what_is_no_operation_is_an_error() -> None:
    with pytest.raises(ValueError, match="no operation delete /hives"):
        operation_card(BEES, "delete", "/hives", "it")


# --- ToolAlpaca ---


def step(action: str, given: object) -> dict[str, object]:
    return {"Action": action, "Action_Input": given if isinstance(given, str) else json.dumps(given)}


def api(*asked: list[dict[str, object]]) -> dict[str, object]:
    where = {"getHive": ["/hives/{hive_id}", "get"], "addHive": ["/hives", "post"]}
    return {
        "Name": "Bees", "Documentation": json.dumps(BEES), "Function_Projection": where,
        "Instructions": [f"Request {number}." for number in range(len(asked))], "Golden_Answers": [*asked],
    }  # fmt: skip


def test_a_chain_of_calls_is_one_message(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    chain = [step("addHive", {"name": "A", "bees": ""}), step("getHive", '{"hive_id": ${id from addHive}}')]
    chain.append(step("[Optional]getHive", {"hive_id": 1}))
    asked = [chain, [step("getDetails", {"Question": "Which hive?"}), step("getHive", '{"hive_id": ${it}}')]]
    wrong = [[step("getHive", "{hive")], [step("dropHive", {})], [step("getHive", {})], [step("getHive", {"colour": 1})]]
    (folder / "eval_real.json").write_text(json.dumps([api(*asked, *wrong), {"Name": "none"}]))
    found = rows("toolalpaca", tmp_path, "eval_real")
    assert [said(example)[1] for example in examples(found)] == [
        'assistant: addHive({"name": "A"}) getHive({"hive_id": "${id from addHive}"})', "assistant: Which hive?",
    ]  # fmt: skip
    assert [why for _, why in skipped(found)] == [
        "the gold arguments are not JSON", "a call to a tool that is not offered", "a required argument is missing",
        "an argument that is not in the schema", "an API of another form: 'Documentation'",
    ]  # fmt: skip


# --- RestBench ---


def put(folder: Path, asked: list[object], document: object) -> None:
    for name in ("datasets", "specs"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "datasets" / "tmdb.json").write_text(json.dumps(asked))
    (folder / "specs" / "tmdb_oas.json").write_text(document if isinstance(document, str) else json.dumps(document))


def test_a_path_of_operations_is_called_in_its_order(tmp_path: Path) -> None:
    asked = [
        {"query": "Add a hive, and show it.", "solution": ["POST /hives", " GET /hives/{id} "]},
        {"query": "Burn it.", "solution": ["DELETE /hives"]}, {"query": "Nothing.", "solution": []}, 7,
    ]  # fmt: skip
    put(tmp_path, asked, BEES)
    found = rows("restbench", tmp_path, "tmdb")
    (example,) = examples(found)
    assert said(example)[1] == "assistant: post_hives({}) get_hives_hive_id({})"
    assert {tool.title for tool in example.tools} == {"POST /hives", "GET /hives/{hive_id}"}
    assert skipped(found) == [
        ("tmdb-1", "an operation that the document has not: DELETE /hives"), ("tmdb-2", "no gold operations"),
        ("tmdb-3", "the request is no object"),
    ]  # fmt: skip


def test_of_a_large_service_some_operations_are_offered(tmp_path: Path) -> None:
    paths = {f"/things/{n}": {"get": {"summary": f"Get {n}."}} for n in range(2 * OFFERED)}
    put(tmp_path, [{"query": "Three.", "solution": ["GET /things/3"]}], {"paths": paths})
    (example,) = examples(rows("restbench", tmp_path, "tmdb"))
    assert len(example.tools) == OFFERED
    assert "get_things_3" in {tool.name for tool in example.tools}


def test_a_document_that_is_none_is_named(tmp_path: Path) -> None:
    put(tmp_path, [], "[]")
    with pytest.raises(FileUnreadable, match="tmdb_oas"):
        rows("restbench", tmp_path, "tmdb")
    with pytest.raises(SetMissing, match="spotify"):
        rows("restbench", tmp_path, "spotify")


@pytest.mark.parametrize("name", ["toolalpaca", "restbench"])
def test_neither_is_for_training(name: str) -> None:
    assert set(data_set(name).parts.values()) == {"evaluation"}
