"""Operations of a document as calls: where each argument goes, how it is spelt, and what the API offers to be careful with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tool_adapters.openapi.arguments import Arguments
from tool_adapters.openapi.call import Body, BodyKind, Call, Look, Override, Paging, Parameter, Place, Style
from tool_adapters.openapi.document import Document, Object, Operation, text_of

PAGING: Mapping[str, tuple[str, ...]] = {
    "continue": ("metadata.continue",),
    "page_token": ("next_page_token",),
    "pageToken": ("nextPageToken",),
    "cursor": ("next_cursor", "response_metadata.next_cursor", "cursor"),
    "next_token": ("next_token",),
    "nextToken": ("nextToken",),
    "marker": ("next_marker", "marker"),
}
"""Query parameters that say where a page begins, and the fields of an answer that tell where the next one does."""

_DEFAULTS: Mapping[str, Style] = {"path": "simple", "query": "form", "header": "simple", "cookie": "form"}
_STYLES: Mapping[str, Style] = {
    "simple": "simple", "label": "label", "matrix": "matrix", "form": "form", "spaceDelimited": "spaceDelimited",
    "pipeDelimited": "pipeDelimited", "deepObject": "deepObject",
}  # fmt: skip
_PLACES: Mapping[str, Place] = {"path": "path", "query": "query", "header": "header", "cookie": "cookie"}
_COLLECTIONS: Mapping[str, Style] = {"ssv": "spaceDelimited", "tsv": "spaceDelimited", "pipes": "pipeDelimited"}


def call_of(document: Document, operation: Operation, given: Arguments, said: Override, server: str | None) -> Call:
    """How the operation is called. server: its own, if it has one."""
    parameters = tuple(_parameter(document, argument, each) for argument, each in given.parameters)
    names = {each.name: each.argument for each in parameters if each.place == "query"}
    paging = next((Paging(argument=names[name], fields=fields) for name, fields in PAGING.items() if name in names), None)
    return Call(
        method=operation.method.upper(), path=operation.path, server=server,
        parameters=parameters, body=_body(document, operation, given.body), security=_security(document, operation),
        paging=paging if operation.method == "get" else None, key_header=given.key_header, match=given.match,
        dry_run=None if said.dry_run == "none" else given.dry_run, look=_look(document, operation, parameters, said),
        expects=tuple(_expects(document, operation)),
    )  # fmt: skip


def _parameter(document: Document, argument: str, each: Object) -> Parameter:
    where = _PLACES.get(text_of(each.get("in")), "query")
    style = _STYLES.get(text_of(each.get("style")), _DEFAULTS[where])
    explode = each.get("explode")
    exploded = explode if isinstance(explode, bool) else style == "form"
    if document.swagger and "collectionFormat" in each:
        exploded = each["collectionFormat"] == "multi"
        style = _COLLECTIONS.get(text_of(each["collectionFormat"]), style)
    elif document.swagger:
        exploded = False
    content = each.get("content")
    return Parameter(
        argument=argument, name=text_of(each.get("name")), place=where, style=style, explode=exploded,
        as_json=isinstance(content, Mapping) and any("json" in str(kind) for kind in content),
        slashes=where == "path" and each.get("x-multi-segment") is True,
    )  # fmt: skip


def _body(document: Document, operation: Operation, argument: str) -> Body | None:
    if operation.body is None:
        return None
    kind = _kind(operation.media_type)
    properties = operation.body.get("properties")
    files: list[str] = []
    for name, each in properties.items() if kind == "multipart" and isinstance(properties, Mapping) else ():
        schema = document.followed(each)
        if _is_file(schema) or _is_file(document.followed(schema.get("items"))):
            files.append(str(name))
    styles = {
        str(name): _STYLES[text_of(each["style"])]
        for name, each in operation.encoding.items()
        if isinstance(each, Mapping) and text_of(each.get("style")) in _STYLES
    }
    media_type = operation.media_type or "application/json"
    return Body(kind=kind, media_type=media_type, argument=argument, files=tuple(files), styles=styles)


def _kind(media_type: str) -> BodyKind:
    kind = media_type.partition(";")[0].strip().lower()
    if not kind or kind == "application/json" or kind.endswith("+json") or kind == "*/*":
        return "json"
    if kind == "application/x-www-form-urlencoded":
        return "form"
    if kind.startswith("multipart/"):
        return "multipart"
    return "text" if kind.startswith("text/") or kind.endswith(("xml", "yaml")) else "bytes"


def _is_file(schema: Object) -> bool:
    return schema.get("type") == "file" or schema.get("format") == "binary" or "contentMediaType" in schema


def _security(document: Document, operation: Operation) -> tuple[tuple[str, ...], ...] | None:
    said = operation.said.get("security", document.root.get("security"))
    if not isinstance(said, list):
        return None
    return tuple(tuple(str(name) for name in each) for each in said if isinstance(each, Mapping))


def _look(document: Document, operation: Operation, parameters: tuple[Parameter, ...], said: Override) -> Look | None:
    """The read that tells the state of what is changed: the one that is named, or GET of the same path."""
    if (
        said.plan == ""
        or operation.method in ("get", "head", "options", "trace")
        or (operation.method == "post" and not said.plan)
    ):
        return None
    path = document.path_of(said.plan) if said.plan else operation.path
    if path is None or not document.has(path, "get"):
        return None
    wanted = tuple(each for each in parameters if each.place == "path" and "{" + each.name + "}" in path)
    return Look(path=path, parameters=wanted) if len(wanted) == path.count("{") else None


def _expects(document: Document, operation: Operation) -> Iterator[str]:
    """Media types of successful answers, without their parameters."""
    if document.swagger:
        produces = operation.said.get("produces", document.root.get("produces"))
        yield from (text_of(each) for each in produces if text_of(each)) if isinstance(produces, list) else ()
        return
    responses = operation.said.get("responses")
    seen: set[str] = set()
    for status, each in responses.items() if isinstance(responses, Mapping) else ():
        content = document.followed(each).get("content") if str(status).startswith(("2", "d")) else None
        for kind in content if isinstance(content, Mapping) else ():
            plain = str(kind).partition(";")[0].strip().lower()
            if plain not in seen and len(seen) < 8:
                seen.add(plain)
                yield plain
