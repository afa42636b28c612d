"""The Alibaba Cloud OpenAPI metadata as tool cards: github.com/aliyun/aliyun-openapi-meta, some 16,000 APIs in zh and en.

Read are its folders `en-US` and `zh-CN`, as they are, as archives of their own (en-US.tar.xz), or in an archive of the whole.
In each, products.json names the products, <product>/version.json has title and summary of every API, and
<product>/<Api>.json its parameters. It does not say what an API changes: that is told from its name and its HTTP methods,
and where neither tells, the API counts as one that writes.
"""

from __future__ import annotations

import difflib
import re
import tarfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import orjson

from schemas.errors import MilepostError
from schemas.tools import Effect, ToolCard
from tool_adapters.names import tool_name

LANE = "aliyun-openapi"
SOURCE = "https://codeload.github.com/aliyun/aliyun-openapi-meta/tar.gz/2563691c22229a0b493606e11166b95896707095"

Language: TypeAlias = Literal["zh", "en", "both"]
Files: TypeAlias = Mapping[str, bytes]

FOLDERS = {"en": "en-US", "zh": "zh-CN"}
SUMMARY, TEXT, PARAMETERS = 500, 160, 40
"""Characters of a summary and of a parameter's text, and how many parameters, a card has at most."""

READS = frozenset({
    "Describe", "List", "Get", "Query", "Check", "Search", "Lookup", "Find", "Count", "Inquire", "Inquiry", "Estimate",
    "Preview", "Show", "View", "Select", "Desc", "Read",
})  # fmt: skip
DESTROYS = frozenset({
    "Delete", "Remove", "Release", "Destroy", "Drop", "Purge", "Terminate", "Clear", "Empty", "Flush", "Kill", "Revoke",
    "Reset", "Reinit", "Uninstall", "Deregister", "Unregister", "Refund", "Rollback", "Deprovision", "Withdraw", "Erase",
    "Truncate", "Format", "Execute", "Exec", "Invoke",
})  # fmt: skip
UNPACKED_LIMIT = 1 << 29
"""Bytes that may be read of an archive: all there are of both languages have a fifth of it."""

FILLED = frozenset({"ClientToken", "OwnerId", "OwnerAccount", "ResourceOwnerId", "ResourceOwnerAccount", "DryRun"})
"""What the caller fills, or what only subaccounts of old times need."""

_TYPES: Mapping[str, dict[str, object]] = {
    "String": {"type": "string"}, "Integer": {"type": "integer"}, "Long": {"type": "integer"}, "Boolean": {"type": "boolean"},
    "Float": {"type": "number"}, "Double": {"type": "number"}, "RepeatList": {"type": "array"}, "Array": {"type": "array"},
    "Struct": {"type": "object"},
}  # fmt: skip
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


class NoMetadata(MilepostError):
    """There is no Alibaba Cloud OpenAPI metadata in that place."""


class UnknownProduct(MilepostError):
    """The metadata has no such product."""


def read(place: Path, products: Collection[str] = (), language: Language = "both") -> Files:
    """The files of these products (of all, if none is named), by their path from the language's folder on.

    place: a folder, or an archive. Of a second language only titles and summaries are read. Raises NoMetadata and
    UnknownProduct.
    """
    main, wanted = _main(language), frozenset(products)

    def is_wanted(name: str) -> bool:
        folder, _, rest = name.partition("/")
        product, _, file = rest.partition("/")
        if file and wanted and product not in wanted:
            return False
        return folder == main or (language == "both" and folder == FOLDERS["zh"] and file in ("", "version.json"))

    try:
        files = dict(_files(place, is_wanted))
    except (OSError, tarfile.TarError) as error:
        raise NoMetadata(f"{place} cannot be read.", why=str(error), hint="give the folder of a checkout") from error
    if not any(name.startswith(main) for name in files):
        raise NoMetadata(
            f"There is no Alibaba Cloud OpenAPI metadata in {place}.", why=f"it has no {main}/<product>/version.json",
            hint="give a checkout of github.com/aliyun/aliyun-openapi-meta",
        )  # fmt: skip
    if unknown := sorted(product for product in wanted if f"{main}/{product}/version.json" not in files):
        known = sorted(_products(files, main))
        near = difflib.get_close_matches(unknown[0], known, n=3, cutoff=0.4) or known[:10]
        raise UnknownProduct(
            f"The metadata has no product {', '.join(unknown)}.", why=f"it has {len(known)} others",
            hint=f"such as {', '.join(near)}",
        )  # fmt: skip
    return files


def cards(files: Files, language: Language = "both") -> Iterator[ToolCard]:
    """One card an API, product by product; named <product>_<Api>, as `aliyun <product> <Api>` calls it."""
    main = _main(language)
    products = {name: _products(files, folder) for name, folder in FOLDERS.items()}
    for path in sorted(path for path in files if path.startswith(f"{main}/") and path.endswith("/version.json")):
        product = path.split("/")[1]
        told = {name: _apis(files, f"{folder}/{product}/version.json") for name, folder in FOLDERS.items()}
        names = {name: known.get(product, product) for name, known in products.items()}
        for api in sorted(told["en" if main == FOLDERS["en"] else "zh"]):
            raw = files.get(f"{main}/{product}/{api}.json")
            if raw is not None:
                texts = {name: apis[api] for name, apis in told.items() if api in apis}
                yield _card(product, api, _object(raw), texts, names)


def _card(
    product: str, api: str, said: dict[str, object], texts: Mapping[str, dict[str, object]], products: Mapping[str, str]
) -> ToolCard:
    deprecated = any(text.get("deprecated") for text in texts.values())
    effect = effect_of(api, str(said.get("method", "")))
    given = [each for each in _list(said.get("parameters")) if each.get("name") not in FILLED]
    keys = any(each.get("name") == "ClientToken" for each in _list(said.get("parameters")))
    titles = [shortened(str(text.get("title", "")), TEXT) for text in texts.values()]
    return ToolCard(
        name=tool_name(f"{product}_{api}"),
        title=" / ".join(title for title in dict.fromkeys(titles) if title and title != api),
        description="\n".join(
            f"{products[name]}: {_summary(api, text)}{' (deprecated)' if deprecated else ''}" for name, text in texts.items()
        ),
        parameters=_schema(given, PARAMETERS),
        effect=effect,
        idempotency="key" if keys and effect != "read" else "none",
        lane=LANE,
        tags=("alibaba cloud", "阿里云", product, *(["deprecated"] if deprecated else [])),
        timeout_s=30 if effect == "read" else 60,
    )


def effect_of(api: str, methods: str) -> Effect:
    """What an API may change, from the verb of its name and its HTTP methods ("GET|POST")."""
    words = _WORD.findall(api[:1].upper() + api[1:]) or [api]
    verb = words[1] if words[0] == "Batch" and len(words) > 1 else words[0]
    if verb in DESTROYS or methods == "DELETE" or api == "RunCommand":
        return "destructive"
    return "read" if verb in READS or methods == "GET" else "write"


def _schema(parameters: list[dict[str, object]], most: int) -> dict[str, object]:
    """Needed ones first; of many only so many, and then others may be given as well."""
    ordered = sorted((each for each in parameters if each.get("name")), key=lambda each: not each.get("required"))
    kept = ordered[: max(most, sum(bool(each.get("required")) for each in ordered))]
    properties = {str(each["name"]): _property(each) for each in kept}
    needed = [str(each["name"]) for each in kept if each.get("required")]
    schema: dict[str, object] = {"type": "object", "properties": properties}
    return schema | ({"required": needed} if needed else {}) | ({"additionalProperties": False} if kept == ordered else {})


def _property(said: dict[str, object]) -> dict[str, object]:
    schema = dict(_TYPES.get(str(said.get("type")), {}))
    inner = _list(said.get("sub_parameters"))
    if inner and schema.get("type") == "array":
        schema["items"] = _schema(inner, PARAMETERS)
    elif inner:
        schema = _schema(inner, PARAMETERS)
    text = shortened(str(said.get("description") or ""), TEXT)
    return schema | ({"description": text} if text else {})


def _summary(api: str, text: dict[str, object]) -> str:
    said = shortened(str(text.get("summary") or ""), SUMMARY)
    title = shortened(str(text.get("title") or ""), TEXT)
    return said or (title if title != api else "") or " ".join(_WORD.findall(api)) or api


def shortened(text: str, most: int) -> str:
    """Plain text of a piece of its markdown, cut at the end of a sentence or a word."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"</?[A-Za-z][^>]*>|\*\*|`|~~\d+[^~]*~~", "", text)
    text = re.sub(r"[\s\x00-\x1f\x7f]+", " ", text).strip()
    if len(text) <= most:
        return text
    cut = text[:most]
    end = max(cut.rfind(mark) + len(mark) for mark in (". ", "。", "；", "; "))
    return (cut[:end] if end > most // 3 else cut.rsplit(" ", 1)[0]).strip()


# --- files ----------------------------------------------------------------------------------------


def _main(language: Language) -> str:
    return FOLDERS["zh" if language == "zh" else "en"]


def _files(place: Path, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    if place.is_file():
        yield from _archived(place, is_wanted)
        return
    for folder in FOLDERS.values():
        archive = place / f"{folder}.tar.xz"
        if (place / folder).is_dir():
            for path in sorted((place / folder).rglob("*.json")):
                name = path.relative_to(place).as_posix()
                if is_wanted(name):
                    yield name, path.read_bytes()
        elif archive.is_file() and is_wanted(f"{folder}/"):
            yield from _archived(archive, is_wanted)


def _archived(archive: Path, is_wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    size = 0
    with tarfile.open(archive, "r|*") as members:
        for member in members:
            parts = member.name.split("/")
            at = next((index for index, part in enumerate(parts) if part in FOLDERS.values()), None)
            if at is None or not member.isfile() or not is_wanted(name := "/".join(parts[at:])):
                continue
            size += member.size
            if size > UNPACKED_LIMIT:
                raise NoMetadata(f"{archive} cannot be read.", why=f"it unpacks to more than {UNPACKED_LIMIT >> 20} MiB")
            if (opened := members.extractfile(member)) is not None:
                yield name, opened.read()


def _products(files: Files, folder: str) -> dict[str, str]:
    """The names of the products by their codes as the folders have them."""
    listed = _list(_object(files.get(f"{folder}/products.json", b"{}")).get("products"))
    return {str(each.get("code", "")).lower(): str(each.get("name", "")) for each in listed}


def _apis(files: Files, path: str) -> dict[str, dict[str, object]]:
    apis = _object(files.get(path, b"{}")).get("apis")
    return {name: text for name, text in apis.items() if isinstance(text, dict)} if isinstance(apis, dict) else {}


def _object(raw: bytes) -> dict[str, object]:
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise NoMetadata("A file of the metadata is no JSON.", why=str(error)) from error
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[dict[str, object]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
