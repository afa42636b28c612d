"""Java and JavaScript values written as text, as BFCL reads them: what cannot be read as its type stays the text it is.

What is accepted, quirks included, is what the type converters of bfcl-eval 2026.3.23 accept: elements are cut at every
comma, a Java array keeps the quotes of its strings, and a JavaScript object ends at its first closing brace.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, TypeAlias

Language: TypeAlias = Literal["python", "java", "javascript"]

JAVA: dict[str, type] = {
    "byte": int, "short": int, "integer": int, "long": int, "float": float, "double": float, "boolean": bool, "char": str,
    "String": str, "any": str, "Array": list, "ArrayList": list, "HashMap": dict,
}  # fmt: skip
JAVASCRIPT: dict[str, type] = {
    "String": str, "integer": int, "float": float, "Bigint": int, "Boolean": bool, "dict": dict, "array": list, "any": str,
}  # fmt: skip

_WHOLE = re.compile(r"-?\d+$")
_DECIMAL = r"-?\d+(?:\.\d+)?"
_JAVA_NUMBER = re.compile(_DECIMAL + r"(?:[eE][+-]?\d+)?$")
_JAVA_FLOAT = re.compile(_DECIMAL + r"(?:[eE][+-]?\d+)?[fF]$")
_JAVA_LONG = re.compile(r"-?\d+[lL]$")
_SCRIPT_NUMBER = re.compile(_DECIMAL + r"$")
_SCRIPT_BIG = re.compile(r"-?\d+n$")

_AS_LIST = re.compile(r"new\s+ArrayList<\w*>\(Arrays\.asList\((.+?)\)\)")
_ADDED = re.compile(r"new\s+ArrayList<\w*>\(\)\s*\{\{\s*(.+?)\s*\}\}", re.DOTALL)
_ADD = re.compile(r"add\((.+?)\)")
_EMPTY_LIST = re.compile(r"new\s+ArrayList<\w*>\(\)")
_ARRAY = re.compile(r"new\s+\w+\[\]\s*\{(.*?)\}")
_MAP = re.compile(r"new\s+HashMap<.*?>\s*\(\)\s*\{\s*\{?\s*(.*?)\s*\}?\s*\}", re.DOTALL)
_PUT = re.compile(r'put\("(.*?)",\s*(.*?)\)')
_EMPTY_MAP = re.compile(r"new\s+HashMap<.*?>\s*\(\)")

_ROWS = r"\[.*?\]\s*(?:,\s*\[.*?\]\s*)*"
_TABLE = re.compile(rf"\[\s*{_ROWS}\]|\bnew\s+Array\(\s*{_ROWS}\)")
_ROW = re.compile(r"\[(.*?)\]")
_LIST = re.compile(r"\[(.*?)\]|\bnew\s+Array\((.*?)\)")
_OBJECT = re.compile(r"\{(.*?)\}")
_PAIR = re.compile(r"([^:]+):\s*(.*?)(?:,\s*(?=[^,]+:)|$)")


def read(language: Language, text: str, kind: str, inner: str | None) -> object:
    """The value that a text of a declared type stands for. inner: the type of a list's elements."""
    return _java(text, kind, inner) if language == "java" else _script(text, kind, inner)


# --- Java ------------------------------------------------------------------------------------------


def _java(text: str, kind: str, inner: str | None = None) -> object:
    match kind:
        case "byte" | "short" | "integer":
            return int(text) if _WHOLE.match(text) else text
        case "long":
            return int(re.sub(r"[lL]$", "", text)) if _JAVA_LONG.match(text) else text
        case "float":
            return float(re.sub(r"[fF]$", "", text)) if _JAVA_FLOAT.match(text) else text
        case "double":
            return float(text) if _JAVA_NUMBER.match(text) else text
        case "boolean":
            return text == "true" if text in ("true", "false") else text
        case "ArrayList":
            return _array_list(text, inner)
        case "Array":
            found = _ARRAY.search(text)
            return [_java_of(inner)(each) for each in _cut(found[1]) if each] if found else text
        case "HashMap":
            return _hash_map(text)
        case _:
            return text


def _java_of(inner: str | None) -> Callable[[str], object]:
    return (lambda text: _java(text, inner)) if inner else _java_value


def _array_list(text: str, inner: str | None) -> object:
    # Within lists, and there alone, characters and strings lose whatever stands at their ends.
    element: Callable[[str], object] = (lambda each: each[1:-1]) if inner in ("char", "String") else _java_of(inner)
    if found := _AS_LIST.search(text):
        return [element(each) for each in _cut(found[1])]
    if found := _ADDED.search(text):
        return [element(each.strip()) for each in _ADD.findall(found[1])]
    return [] if _EMPTY_LIST.search(text) else text


def _hash_map(text: str) -> object:
    if found := _MAP.search(text):
        return {key: _java_value(value.strip()) for key, value in _PUT.findall(found[1])}
    return {} if _EMPTY_MAP.search(text) else text


def _java_value(text: str) -> object:
    """A value whose type is not declared."""
    if text in ("true", "false"):
        return text == "true"
    if text.startswith('"') and text.endswith('"'):
        return text[1:-1]
    if _JAVA_LONG.match(text):
        return int(text[:-1])
    return float(re.sub(r"[fF]$", "", text)) if _JAVA_FLOAT.match(text) else _number(text)


# --- JavaScript ------------------------------------------------------------------------------------


def _script(text: str, kind: str, inner: str | None = None) -> object:
    match kind:
        case "String":
            return text[1:-1] if _quoted(text) else text
        case "integer":
            return int(text) if _WHOLE.match(text) else text
        case "float":
            return float(text) if _SCRIPT_NUMBER.match(text) else text
        case "Bigint":
            return int(text[:-1]) if _SCRIPT_BIG.match(text) else text
        case "Boolean":
            return text == "true" if text in ("true", "false") else text
        case "array":
            return _script_list(text.strip(), inner)
        case "dict":
            return _script_object(text.strip())
        case _:
            return text


def _script_list(text: str, inner: str | None) -> object:
    if table := _TABLE.match(text):
        rows = [row.strip() for row in _ROW.findall(table[0])]
        rows[0] = rows[0].removeprefix("[")
        return [[_script_value(each) for each in _cut(row)] for row in rows]
    found = _LIST.match(text)
    if not found:
        return text
    elements = _cut(found[1] if found[1] is not None else found[2])
    if elements == [""]:
        return []
    try:
        return [_script(each, inner) if inner else _script_value(each) for each in elements]
    except ValueError:
        return text


def _script_object(text: str) -> object:
    if text == "{}":
        return {}
    found = _OBJECT.match(text)
    if not found:
        return text
    return {key.strip().strip("'\""): _script_member(value.strip()) for key, value in _PAIR.findall(found[1])}


def _script_member(text: str) -> object:
    if text.startswith("[") and text.endswith("]"):
        return _script_list(text, None)
    if text.startswith("{") and text.endswith("}"):
        return _script_object(text)
    return _script_value(text.strip("'\""))


def _script_value(text: str) -> object:
    """A value whose type is not declared."""
    text = text.strip()
    if text in ("true", "false"):
        return text == "true"
    return text[1:-1] if _quoted(text) else _number(text)


def _quoted(text: str) -> bool:
    return any(text.startswith(quote) and text.endswith(quote) for quote in "\"'")


def _number(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _cut(text: str) -> list[str]:
    return [each.strip() for each in text.split(",")]


# --- and back --------------------------------------------------------------------------------------


def write(language: Language, value: object, kind: str, inner: str | None = None) -> str:
    """A value as a text of its type; one of another type than that is a variable, written as it is."""
    if isinstance(value, list):
        bare = "any" if kind == "Array" else inner  # within an array the checker takes quotes for letters
        elements = ", ".join(_element(language, each, bare) for each in value)
        if language == "javascript":
            return f"[{elements}]"
        return f"new Object[]{{{elements}}}" if kind == "Array" else f"new ArrayList<>(Arrays.asList({elements}))"
    if isinstance(value, dict):
        pairs = {key: _element(language, each, None) for key, each in value.items()}
        if language == "javascript":
            return "{" + ", ".join(f'"{key}": {each}' for key, each in pairs.items()) + "}"
        puts = " ".join(f'put("{key}", {each});' for key, each in pairs.items())
        return f"new HashMap<String, Object>() {{{{ {puts} }}}}"
    if isinstance(value, bool):
        return "true" if value else "false"
    suffix = {"long": "L", "float": "f", "Bigint": "n"}.get(kind, "") if not isinstance(value, str) else ""
    return f"{value}{suffix if language == 'java' or kind == 'Bigint' else ''}"


def _element(language: Language, value: object, inner: str | None) -> str:
    text = write(language, value, inner or "any")
    return f'"{text}"' if isinstance(value, str) and (language, inner) != ("java", "any") else text
