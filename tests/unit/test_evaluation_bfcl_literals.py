"""Java and JavaScript values as texts, as BFCL's checker reads them; what each case says was checked against it."""

from __future__ import annotations

import pytest

from services.evaluation.bfcl import right_value
from services.evaluation.bfcl_literals import Language, read, write


@pytest.mark.parametrize(
    ("language", "text", "kind", "inner", "value"),
    [
        ("java", "12", "integer", None, 12),
        ("java", "12.0", "integer", None, "12.0"),
        ("java", "12L", "long", None, 12),
        ("java", "12", "long", None, "12"),
        ("java", "1.5e2f", "float", None, 150.0),
        ("java", "1.5", "double", None, 1.5),
        ("java", "true", "boolean", None, True),
        ("java", "True", "boolean", None, "True"),
        ("java", "anything", "any", None, "anything"),
        ("java", 'new ArrayList<>(Arrays.asList("a", "b"))', "ArrayList", "String", ["a", "b"]),
        ("java", "new ArrayList<Integer>() {{ add(1); add(2); }}", "ArrayList", "integer", [1, 2]),
        ("java", "new ArrayList<>()", "ArrayList", "any", []),
        ("java", "new int[]{1, 2}", "Array", "integer", [1, 2]),
        ("java", 'new String[]{"a", "b"}', "Array", "String", ['"a"', '"b"']),
        ("java", "list", "Array", "String", "list"),
        ("java", 'new HashMap<String, Object>() {{ put("a", 1); put("b", "x"); put("c", 2L); }}', "HashMap", None,
         {"a": 1, "b": "x", "c": 2}),
        ("java", "new HashMap<>()", "HashMap", None, {}),
        ("javascript", '"a"', "String", None, "a"),
        ("javascript", "a", "String", None, "a"),
        ("javascript", "3n", "Bigint", None, 3),
        ("javascript", "3", "Bigint", None, "3"),
        ("javascript", "1.5", "float", None, 1.5),
        ("javascript", "false", "Boolean", None, False),
        ("javascript", "['a', 'b']", "array", "String", ["a", "b"]),
        ("javascript", "new Array(1, 2)", "array", "integer", [1, 2]),
        ("javascript", "[]", "array", "String", []),
        ("javascript", "[[1, 2], [3]]", "array", "array", [[1, 2], [3]]),
        ("javascript", "{'a': 1, 'b': [true, 'x']}", "dict", None, {"a": 1, "b": [True, "x"]}),
        ("javascript", "{}", "dict", None, {}),
        ("javascript", "object", "dict", None, "object"),
    ],
)  # fmt: skip
def test_a_text_is_read_as_its_type_or_stays_a_text(
    language: Language, text: str, kind: str, inner: str | None, value: object
) -> None:
    assert read(language, text, kind, inner) == value


@pytest.mark.parametrize(
    ("language", "value", "kind", "inner"),
    [
        ("java", ["a", "b"], "ArrayList", "String"), ("java", [1, 2], "ArrayList", "integer"), ("java", 5, "long", None),
        ("java", 1.5, "float", None), ("java", {"a": 1, "b": "x"}, "HashMap", None), ("java", True, "boolean", None),
        ("java", ["a"], "Array", "String"), ("javascript", ["a", "b"], "array", "String"), ("javascript", 7, "Bigint", None),
        ("javascript", {"a": 1, "b": "x", "c": [1, 2]}, "dict", None), ("javascript", "it", "String", None),
    ],
)  # fmt: skip
def test_what_is_written_is_read_again(language: Language, value: object, kind: str, inner: str | None) -> None:
    assert read(language, write(language, value, kind, inner), kind, inner) == value


def test_only_a_text_can_be_right() -> None:
    assert right_value("5L", {"type": "long"}, [5], "java")
    assert not right_value(5, {"type": "long"}, [5], "java")
    assert right_value("mapper", {"type": "HashMap"}, ["mapper"], "java")  # a variable
