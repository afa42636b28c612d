"""JSON and YAML: queried, converted, checked, encoded."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Literal
from urllib.parse import quote, unquote

from tool_adapters.python import tool
from tool_adapters.tool import InvalidArguments

LONGEST = 200_000
MOST_GROWTH = 256


@tool(
    name="json_query",
    title="Query JSON",
    examples=("Take the names out of this JSON", "JMESPath people[?age > `30`].name", "从这段 JSON 里取出所有的 id"),
    tags=("json", "jmespath"),
    timeout_s=10,
)
def json_query(document: str, expression: str) -> object:
    """Take a part out of a JSON document with a JMESPath expression (https://jmespath.org).

    Args:
        document: The JSON.
        expression: Such as people[?age > `30`].name or items[0].id.
    """
    import jmespath

    try:
        compiled = jmespath.compile(expression)
        if _growth(compiled.parsed) > MOST_GROWTH:
            raise InvalidArguments("The expression multiplies what it selects.", hint="select each thing once")
        result = compiled.search(_json(document))
    except RecursionError as error:
        raise InvalidArguments("The expression is nested too deeply.") from error
    except jmespath.exceptions.JMESPathError as error:
        raise InvalidArguments("The expression cannot be evaluated.", why=str(error)[:300]) from error
    if _large(result):
        raise InvalidArguments(f"The result has more than {LONGEST} values.", hint="ask for less of it")
    return {"result": result}


@tool(
    name="convert_data",
    title="JSON to YAML and back",
    examples=("Convert this YAML to JSON", "Turn the JSON into YAML", "把这段 YAML 转成 JSON"),
    tags=("json", "yaml"),
    timeout_s=10,
)
def convert_data(document: str, to: Literal["json", "yaml"]) -> str:
    """Convert a document between JSON and YAML, and say where it is wrong if it is.

    Args:
        document: JSON or YAML.
        to: json or yaml.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Without aliases: a few lines of them may unfold without end."""

        def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("aliases (*name) are not followed")
            return super().compose_node(parent, index)

    if len(document) > LONGEST:
        raise InvalidArguments(f"A document of {LONGEST} characters can be converted, this one has {len(document)}.")
    try:
        value = yaml.load(document, Loader=Loader)  # JSON is YAML
        if to == "yaml":
            return yaml.safe_dump(value, allow_unicode=True, sort_keys=False)
        return json.dumps(value, ensure_ascii=False, indent=2, default=str)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidArguments("The document cannot be converted.", why=" ".join(str(error).split())[:300]) from error


@tool(
    name="encode_text",
    title="Base64, URL and hex",
    examples=("Base64-encode hello", "Decode aGVsbG8=", "URL-encode this text", "把这段文字转成 base64"),
    tags=("base64", "url", "hex", "encode"),
    timeout_s=5,
)
def encode_text(text: str, form: Literal["base64", "url", "hex"], decode: bool = False) -> str:
    """Encode a text as base64, URL escapes or hexadecimal digits, or decode it.

    Args:
        text: The text, or what it was encoded as.
        form: base64, url or hex.
        decode: Whether to decode.
    """
    try:
        if form == "url":
            return unquote(text, errors="strict") if decode else quote(text, safe="")
        if form == "hex":
            return bytes.fromhex(text).decode() if decode else text.encode().hex()
        return base64.b64decode(text, validate=True).decode() if decode else base64.b64encode(text.encode()).decode()
    except (ValueError, binascii.Error) as error:
        raise InvalidArguments(f"That is no text in {form}.", why=str(error)[:200]) from error


def _growth(node: Mapping[str, object]) -> int:
    """How many times larger than its document the result of an expression can be: [@,@]|[@,@] gives four of it."""
    waiting, times = [node], 1
    while waiting:
        each = waiting.pop()
        inner = [child for child in _list(each.get("children")) if isinstance(child, Mapping)]
        if each.get("type") in ("multi_select_list", "multi_select_dict"):
            times *= max(1, len(inner))
        waiting.extend(inner)
    return times


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _large(value: object) -> bool:
    """Whether it has too many values to be written."""
    waiting, seen = [value], 0
    while waiting:
        each = waiting.pop()
        seen += 1
        inner = each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
        if seen + len(waiting) + len(inner) > LONGEST:
            return True
        waiting.extend(inner)
    return False


def _json(document: str) -> object:
    if len(document) > LONGEST:
        raise InvalidArguments(f"A document of {LONGEST} characters can be queried, this one has {len(document)}.")
    try:
        return json.loads(document)
    except (ValueError, RecursionError) as error:
        raise InvalidArguments("The document is no JSON.", why=str(error)[:200]) from error
