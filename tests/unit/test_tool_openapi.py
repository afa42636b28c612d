"""OpenAPI and Swagger documents as tool cards."""

from __future__ import annotations

import itertools
import json
import tarfile
from typing import Any

import orjson
import pytest

from schemas.tools import ToolCard
from tests.support.datasets import dataset
from tool_adapters.openapi.cards import cards
from tool_adapters.openapi.document import InvalidDocument, read
from tool_adapters.openapi.schema import LARGEST
from tool_adapters.tool import CARD_LIMIT, checked_card

PET = {
    "type": "object",
    "required": ["name", "id"],
    "properties": {
        "id": {"type": "integer", "readOnly": True},
        "name": {"type": "string", "nullable": True, "example": "Rex", "xml": {"name": "n"}},
        "parent": {"$ref": "#/components/schemas/Pet"},
        "size": {"type": "integer", "minimum": 0, "exclusiveMinimum": True, "maximum": 2**63},
    },
}


def document(paths: dict[str, Any], **fields: object) -> bytes:
    said = {"openapi": "3.0.3", "info": {"title": "The Zoo API", "version": "1"}, "paths": paths}
    return json.dumps({**said, "components": {"schemas": {"Pet": PET}}, **fields}).encode()


def made(raw: bytes, **how: str) -> dict[str, ToolCard]:
    found = [checked_card(card) for card in cards(read(raw), **how)]
    assert len(found) == len({card.name for card in found})
    return {card.name: card for card in found}


PATHS: dict[str, Any] = {
    "/pets/{id}": {
        "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}, "description": "Whose."}],
        "get": {"operationId": "pets/get-one", "summary": "Get a pet", "tags": ["pets"]},
        "delete": {"summary": "Let a pet go", "deprecated": True},
        "put": {
            "operationId": "putPet",
            "description": "Puts a [pet](http://x).",
            "parameters": [
                {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}},
                {"name": "Authorization", "in": "header", "schema": {"type": "string"}},
                {"name": "X-Trace", "in": "header", "schema": {"type": "string"}},
                {"name": "session", "in": "cookie", "schema": {"type": "string"}},
            ],
            "requestBody": {
                "required": True, "content": {
                    "application/xml": {"schema": {"type": "string"}},
                    "application/json": {"schema": {"$ref": "#/components/schemas/Pet"}},
                },
            },
        },
    },
}  # fmt: skip


def test_an_operation_is_a_card_named_by_its_id_with_the_effect_of_its_method() -> None:
    found = made(document(PATHS))
    assert {name: card.effect for name, card in found.items()} == {
        "pets_get-one": "read", "delete_pets_id": "destructive", "putPet": "write"
    }  # fmt: skip
    one = found["pets_get-one"]
    assert (one.lane, one.title, one.tags) == ("the-zoo-api", "Get a pet", ("The Zoo API", "pets"))
    assert one.parameters == {
        "type": "object", "required": ["id"], "additionalProperties": False,
        "properties": {"id": {"type": "string", "description": "Whose."}},
    }  # fmt: skip
    assert "deprecated" in found["delete_pets_id"].tags


def test_a_body_stands_under_its_name_with_references_followed_and_cycles_cut() -> None:
    schema = made(document(PATHS))["putPet"].parameters
    assert schema["required"] == ["id", "body"]
    properties: Any = schema["properties"]
    assert list(properties) == ["id", "X-Trace", "body"]
    assert properties["id"] == {"type": "integer"}
    body = properties["body"]
    assert body["required"] == ["name"]
    assert body["properties"] == {
        "name": {"type": ["string", "null"]}, "parent": {"type": "object"}, "size": {"type": "integer", "minimum": 0}
    }  # fmt: skip


def test_a_lane_and_a_prefix_may_be_given() -> None:
    found = made(document(PATHS), lane="zoo", prefix="zoo_")
    assert {card.lane for card in found.values()} == {"zoo"}
    assert "zoo_putPet" in found


def test_long_and_equal_names_stay_apart() -> None:
    long = "a" * 80
    paths = {
        "/a": {"get": {"operationId": "same"}, "post": {"operationId": "same"}},
        "/b": {"get": {"operationId": long + "b"}, "post": {"operationId": long + "c"}},
        "/ö/{ü}": {"get": {}},
    }
    found = made(document(paths))
    assert len(found) == 5
    assert "same" in found


def test_swagger_2_with_a_body_and_with_a_form() -> None:
    paths = {
        "/pets": {
            "post": {
                "operationId": "add",
                "parameters": [
                    {"name": "dry", "in": "query", "type": "boolean", "description": "Only try."},
                    {"name": "pet", "in": "body", "required": True, "schema": {"$ref": "#/definitions/Pet"}},
                ],
            },
            "patch": {
                "operationId": "upload",
                "parameters": [{"name": "photo", "in": "formData", "type": "file", "required": True}],
            },
        }
    }
    raw = json.dumps({"swagger": "2.0", "info": {"title": "Zoo"}, "paths": paths, "definitions": {"Pet": PET}}).encode()
    found = made(raw)
    added: Any = found["add"].parameters
    assert added["properties"]["dry"] == {"type": "boolean", "description": "Only try."}
    assert added["properties"]["body"]["properties"]["name"]["type"] == ["string", "null"]
    uploaded: Any = found["upload"].parameters
    assert uploaded["properties"]["body"]["properties"] == {"photo": {"type": "string"}}
    assert uploaded["required"] == ["body"]


def test_yaml_is_read_and_a_date_in_it_stays_text() -> None:
    raw = b"""
openapi: 3.1.0
info: {title: Zoo, version: 2024-01-01}
paths:
  /day:
    get:
      operationId: day
      parameters:
        - {name: on, in: query, schema: {type: [string, 'null'], default: 2024-01-01}}
"""
    assert made(raw)["day"].parameters["properties"] == {"on": {"type": ["string", "null"], "default": "2024-01-01"}}


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "no `paths`"), (b"[]", "no `paths`"), (b"\x00\xff", "neither JSON"), (b"{: - }", "neither JSON"),
        (b'{"openapi": "3.0.0"}', "no `paths`"), (b'{"openapi": "4.0", "paths": {"/": {}}}', "4.0"),
        (b'{"openapi": "3.0.0", "paths": {}}', "empty"), (b"!!python/object/apply:os.system ['true']", "neither JSON"),
    ],
)  # fmt: skip
def test_what_is_no_document_is_refused_with_the_reason(raw: bytes, why: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        read(raw)
    assert why in caught.value.why


def test_a_document_of_oddities_makes_sound_cards() -> None:
    paths: dict[str, Any] = {
        "/odd": {
            "get": {"parameters": [{"$ref": "#/nowhere"}, {"$ref": "other.yaml#/x"}, {"in": "query"}], "tags": "none"},
            "post": {"requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Loop"}}}}},
        },
        "/none": None,
    }
    loop = {"$ref": "#/components/schemas/Loop"}
    wide = {"type": "object", "properties": {f"p{number}": {"$ref": "#/components/schemas/Wide"} for number in range(40)}}
    raw = document(paths, components={"schemas": {"Loop": loop, "Wide": wide}})
    assert {card.effect for card in made(raw).values()} == {"read", "write"}


def test_a_schema_that_grows_at_every_level_is_cut_to_what_a_model_can_read() -> None:
    levels: dict[str, Any] = {}
    for level in range(10):
        inner = {f"p{number}": {"$ref": f"#/components/schemas/L{level + 1}"} for number in range(6)}
        levels[f"L{level}"] = {"type": "object", "properties": inner}
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/L0"}}}}
    raw = document({"/deep": {"post": {"operationId": "deep", "requestBody": body}}}, components={"schemas": levels})
    assert 100 < len(json.dumps(made(raw)["deep"].parameters)) <= LARGEST * 1.1


@pytest.mark.parametrize(
    ("file", "title", "count", "known"),
    [
        ("github.com/api.github.com.json", "GitHub v3 REST API", 845, "repos_get"),
        ("kubernetes.io.json", "Kubernetes", 833, "deleteCoreV1NamespacedPod"),
    ],
)
def test_documents_of_the_world_make_sound_cards(file: str, title: str, count: int, known: str) -> None:
    with tarfile.open(dataset("openapi-specs") / "specs.tar.xz") as archive:
        member = next(each for each in archive.getnames() if each.endswith(file))
        raw = archive.extractfile(member).read()  # type: ignore[union-attr]  # it is a file
    found = made(raw)
    assert len(found) >= count
    assert found[known].tags[0] == title
    assert max(len(card.model_dump_json()) for card in found.values()) < CARD_LIMIT / 4


def test_aliases_that_unfold_without_end_are_no_texts() -> None:
    folded = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for before, name in itertools.pairwise("abcdefghi"):
        folded += f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    api = """
openapi: 3.0.0
info: {title: *i}
paths:
  /x:
    get:
      {operationId: *i, summary: *i, description: *i, tags: [*i, kept], parameters: [
        {name: *i, in: query}, {name: given, in: query, description: *i, schema: {type: *i, default: *i, enum: [*i]}}]}
"""
    (card,) = cards(read((folded + api).encode()))
    assert (card.name, card.title, card.tags) == ("get_x", "", ("API", "kept"))
    assert card.parameters["properties"] == {"given": {}}


@pytest.mark.parametrize(
    "operation",
    [
        {"parameters": [{"name": "a", "in": "query", "content": {"application/json": 5}}]},
        {"parameters": [{"name": {"x": 1}, "in": ["query"]}, 7]},
        {"requestBody": {"content": {"application/json": {"schema": {"properties": {"a": {}}, "required": [{"x": 1}]}}}}},
        {"requestBody": {"content": {"application/json": {"schema": {"type": [{"x": 1}, "object"]}}}}},
        {"requestBody": {"content": {"application/json": 7}}, "tags": 7},
    ],
)
def test_what_is_malformed_inside_an_operation_is_left_out(operation: dict[str, object]) -> None:
    document = {"openapi": "3.1.0", "info": {"title": "T"}, "paths": {"/x": {"post": operation}}}
    assert [checked_card(card).name for card in cards(read(orjson.dumps(document)))] == ["post_x"]


def test_a_content_type_that_is_a_number_is_read() -> None:
    raw = b"openapi: '3.0'\npaths: {/x: {post: {requestBody: {content: {1: {schema: {type: object}}}}}}}\n"
    assert [card.name for card in cards(read(raw))] == ["post_x"]
