"""Values as OpenAPI spells them: the tables of the specification, and what the documents' operations become."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.tools import ToolCard
from tool_adapters.openapi.answers import fitted, retry_after
from tool_adapters.openapi.call import Call, Override, Parameter
from tool_adapters.openapi.cards import OpenApiTool, tools
from tool_adapters.openapi.document import Document, InvalidDocument, read
from tool_adapters.openapi.pages import next_of
from tool_adapters.openapi.security import UnknownScheme, checked_auth, schemes_of
from tool_adapters.openapi.servers import server
from tool_adapters.openapi.states import etag_of, outcome_of, state_of, text_of
from tool_adapters.openapi.values import in_header, in_path, in_query
from tool_adapters.references import checked_reference, resolve
from tool_adapters.tool import InvalidArguments, InvalidTool, ToolRefused
from tool_adapters.web import Answer

ARRAY: object = ["blue", "black", "brown"]
OBJECT: object = {"R": 100, "G": 200, "B": 150}


def parameter(style: str, explode: bool, place: str = "path") -> Parameter:
    return Parameter.model_validate({"argument": "color", "name": "color", "place": place, "style": style, "explode": explode})


@pytest.mark.parametrize(
    ("style", "explode", "string", "array", "mapping"),
    [
        ("simple", False, "blue", "blue,black,brown", "R,100,G,200,B,150"),
        ("simple", True, "blue", "blue,black,brown", "R=100,G=200,B=150"),
        ("label", False, ".blue", ".blue,black,brown", ".R,100,G,200,B,150"),
        ("label", True, ".blue", ".blue.black.brown", ".R=100.G=200.B=150"),
        ("matrix", False, ";color=blue", ";color=blue,black,brown", ";color=R,100,G,200,B,150"),
        ("matrix", True, ";color=blue", ";color=blue;color=black;color=brown", ";R=100;G=200;B=150"),
    ],
)
def test_paths_are_spelt_as_the_specification_has_them(
    style: str, explode: bool, string: str, array: str, mapping: str
) -> None:
    one = parameter(style, explode)
    assert (in_path(one, "blue"), in_path(one, ARRAY), in_path(one, OBJECT)) == (string, array, mapping)


@pytest.mark.parametrize(
    ("style", "explode", "array", "mapping"),
    [
        ("form", False, "color=blue,black,brown", "color=R,100,G,200,B,150"),
        ("form", True, "color=blue&color=black&color=brown", "R=100&G=200&B=150"),
        ("spaceDelimited", False, "color=blue%20black%20brown", "color=R%20100%20G%20200%20B%20150"),
        ("pipeDelimited", False, "color=blue%7Cblack%7Cbrown", "color=R%7C100%7CG%7C200%7CB%7C150"),
        ("deepObject", True, "color=blue&color=black&color=brown", "color%5BR%5D=100&color%5BG%5D=200&color%5BB%5D=150"),
    ],
)
def test_queries_are_spelt_as_the_specification_has_them(style: str, explode: bool, array: str, mapping: str) -> None:
    one = parameter(style, explode, "query")

    def spelt(value: object) -> str:
        return "&".join(f"{name}={each}" for name, each in in_query(one, value))

    assert (spelt(ARRAY), spelt(OBJECT), spelt("blü e&"), spelt(None)) == (array, mapping, "color=bl%C3%BC%20e%26", "")


def test_scalars_are_spelt_as_json_has_them() -> None:
    one = parameter("form", True, "query")
    assert [next(in_query(one, value))[1] for value in (True, 1.5, 10**12, "x", "")] == [
        "true",
        "1.5",
        "1000000000000",
        "x",
        "",
    ]
    with pytest.raises(InvalidArguments):
        in_header(parameter("simple", False, "header"), "a\nb")


# --- documents ------------------------------------------------------------------------------------


def document(paths: dict[str, Any], **root: object) -> Document:
    said = {"openapi": "3.0.3", "info": {"title": "Zoo", "version": "1"}, "paths": paths, **root}
    return read(json.dumps({key: value for key, value in said.items() if value is not None}).encode())


def only(said: Document, **how: Any) -> OpenApiTool:
    (one,) = tools(said, **how)
    return one


@pytest.mark.parametrize(
    ("root", "how", "address"),
    [
        ({"servers": [{"url": "https://zoo.example/v1/"}]}, {}, "https://zoo.example/v1"),
        ({"servers": [{"url": "/v2"}]}, {"origin": "https://zoo.example/docs/openapi.json"}, "https://zoo.example/v2"),
        ({"servers": [{"url": "//zoo.example"}]}, {}, "https://zoo.example"),
        ({}, {"origin": "https://zoo.example/openapi.json"}, "https://zoo.example"),
        ({"servers": [{"url": "/v2"}]}, {"given": "http://10.0.0.1:8080"}, "http://10.0.0.1:8080"),
        ({"servers": [{"url": "https://{region}.zoo", "variables": {"region": {"default": "eu"}}}]}, {}, "https://eu.zoo"),
        ({"servers": [{"url": "https://{region}.zoo", "variables": {"region": {"default": "eu", "enum": ["eu", "us"]}}}]},
         {"variables": {"region": "us"}}, "https://us.zoo"),
        ({"swagger": "2.0", "openapi": None, "host": "zoo.io", "basePath": "/v1", "schemes": ["http"]}, {}, "http://zoo.io/v1"),
        ({"swagger": "2.0", "openapi": None, "basePath": "/v1"}, {"origin": "https://zoo.example/d"}, "https://zoo.example/v1"),
    ],
)  # fmt: skip
def test_where_an_api_stands(root: dict[str, Any], how: dict[str, Any], address: str) -> None:
    assert server(document({"/x": {"get": {}}}, **root), **how) == address


@pytest.mark.parametrize(
    "root", [{"servers": [{"url": "/v2"}]}, {"servers": [{"url": "https://{x}.example"}]}, {"servers": [{"url": "ftp://x"}]}]
)
def test_an_api_that_stands_nowhere_is_refused_with_what_to_do(root: dict[str, Any]) -> None:
    with pytest.raises(InvalidDocument) as error:
        server(document({"/x": {"get": {}}}, **root))
    assert error.value.hint.startswith(("--server", "--variable"))


def test_swagger_collections_and_forms_have_their_way() -> None:
    parameters = [
        {"name": "a", "in": "query", "type": "array", "items": {"type": "string"}},
        {"name": "b", "in": "query", "type": "array", "items": {"type": "string"}, "collectionFormat": "multi"},
        {"name": "c", "in": "query", "type": "array", "items": {"type": "string"}, "collectionFormat": "pipes"},
        {"name": "f", "in": "formData", "type": "file"},
    ]
    one = only(document({"/x": {"post": {"operationId": "it", "parameters": parameters}}}, swagger="2.0", openapi=None))
    call = Call.model_validate(one.call)
    assert [(each.style, each.explode) for each in call.parameters] == [
        ("form", False),
        ("form", True),
        ("pipeDelimited", False),
    ]
    assert call.body and (call.body.kind, call.body.files) == ("multipart", ("f",))


def test_two_parameters_of_one_name_and_one_called_body_keep_apart() -> None:
    parameters = [
        {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}},
        {"name": "id", "in": "query", "schema": {"type": "integer"}},
        {"name": "body", "in": "query", "schema": {"type": "string"}},
    ]  # fmt: skip
    content = {"content": {"application/json": {"schema": {"type": "object"}}}}
    one = only(document({"/x/{id}": {"post": {"operationId": "it", "parameters": parameters, "requestBody": content}}}))
    assert list(one.card.parameters["properties"]) == ["id", "id_in_query", "body", "request_body"]  # type: ignore[call-overload]


def effect_of(extension: object, given: Override | None = None, method: str = "delete") -> ToolCard:
    said = document({"/x": {method: {"operationId": "it", "x-milepost": extension}}})
    return only(said, effects={"it": given} if given else None).card


def test_a_document_may_make_itself_look_graver_but_not_more_harmless() -> None:
    assert effect_of({"effect": "read"}).effect == "destructive"
    assert effect_of({"effect": "destructive"}, method="get").effect == "destructive"
    assert effect_of({"idempotency": "key"}).idempotency == "none"
    assert effect_of({"effect": "read"}, Override(effect="read")).effect == "read"
    assert effect_of({"effect": 7}).effect == "destructive"
    card = effect_of({"undo": "put_back", "timeout_s": 90})
    assert (card.undo, card.timeout_s) == ("put_back", 90)


def test_a_read_of_another_path_can_be_what_a_write_is_planned_on() -> None:
    path = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
    paths = {
        "/servers/{id}/stop": {"post": {"operationId": "stop", "parameters": [path], "x-milepost": {"plan": "look"}}},
        "/servers/{id}": {"get": {"operationId": "look", "parameters": [path]}},
    }
    made = {each.card.name: each for each in tools(document(paths))}
    look = Call.model_validate(made["stop"].call).look
    assert look and look.path == "/servers/{id}" and made["stop"].card.dry_run == "look"


# --- credentials ----------------------------------------------------------------------------------


def test_a_secret_is_given_by_reference_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    with pytest.raises(InvalidTool) as error:
        checked_reference("ghp_0123456789")
    assert "ghp" not in str(error.value)
    file = tmp_path / "key"
    file.write_text("from a file\n")
    monkeypatch.setenv("A_KEY", "from the environment")
    assert (resolve("env:A_KEY"), resolve(f"file:{file}")) == ("from the environment", "from a file")
    for missing in ("env:NO_SUCH", f"file:{tmp_path}/none"):
        with pytest.raises(ToolRefused) as refusal:
            resolve(missing)
        assert refusal.value.code == "SecretMissing" and "where the tools run" in refusal.value.hint


def test_a_credential_for_a_scheme_that_is_not_there_is_refused() -> None:
    schemes = schemes_of(
        document({"/x": {"get": {}}}, components={"securitySchemes": {"Key": {"type": "apiKey", "in": "header", "name": "K"}}})
    )
    assert checked_auth({"Key": "env:A", "bearer": "env:B", "header:X-Y": "file:/k"}, schemes)
    with pytest.raises(UnknownScheme, match="Keys") as error:
        checked_auth({"Keys": "env:A"}, schemes)
    assert "Key, bearer" in error.value.why


# --- answers --------------------------------------------------------------------------------------


def answer(value: object, status: int = 200, **headers: str) -> Answer:
    named = {name.replace("_", "-"): each for name, each in headers.items()}
    return Answer(status, {"content-type": "application/json", **named}, json.dumps(value).encode(), "https://zoo.example/x")


def test_a_value_is_cut_at_its_longest_list() -> None:
    value, note = fitted({"a": [1], "b": ["x" * 100] * 100}, limit=2000)
    assert isinstance(value, dict) and len(value["b"]) == 19 and value["a"] == [1] and note.startswith("the first 19 of 100 b")
    assert fitted({"a": 1}, limit=2000) == ({"a": 1}, "")
    text, note = fitted({"a": "x" * 5000}, limit=2000)
    assert isinstance(text, str) and len(text) == 500 and "5,00" in note


def test_where_the_next_page_is() -> None:
    call = Call.model_validate(
        {"method": "GET", "path": "/x", "paging": {"argument": "continue", "fields": ["metadata.continue"]}}
    )
    link = '<https://z/x?page=1>; rel="prev", <https://z/x?page=3>; title="a, b"; rel="next last"'
    found = next_of(call, answer([], link=link), [])
    assert found and found.url == "https://z/x?page=3" and found.told() == "page=3"
    found = next_of(call, answer({}), {"metadata": {"continue": "abc"}})
    assert found and found.told() == 'continue="abc"'
    assert next_of(call, answer({}), {"metadata": {"continue": ""}}) is None


def test_when_it_may_be_tried_again() -> None:
    assert retry_after(answer({}, retry_after="12")) == 12
    assert retry_after(answer({}, retry_after="Fri, 31 Dec 1999 23:59:59 GMT")) == 0
    assert retry_after(answer({}, retry_after="soon")) is None and retry_after(answer({})) is None
    assert retry_after(answer({}, x_ratelimit_remaining="0", x_ratelimit_reset="1")) == 0


def test_what_a_look_tells_of_a_write_whose_answer_was_lost() -> None:
    before = text_of(state_of(answer({"color": "red", "size": 1}, etag='"1"')))
    after = answer({"color": "blue", "size": 1}, etag='"2"')
    assert etag_of(before) == '"1"' and etag_of('{"etag":"W/\\"1\\""}') is None and etag_of(None) is None
    assert outcome_of("PUT", {"color": "blue"}, before, after) == "happened"
    assert outcome_of("PUT", {"color": "green"}, before, after) == "unknown"
    assert outcome_of("PUT", {"color": "blue"}, before, answer({"color": "red", "size": 1}, etag='"1"')) == "not_happened"
    assert outcome_of("DELETE", None, before, answer({}, 404)) == "happened"
    assert outcome_of("DELETE", None, before, after) == "unknown"
    assert outcome_of("DELETE", None, before, answer({}, 403)) == "unknown"
    assert outcome_of("POST", {"color": "blue"}, before, after) == "unknown"
