"""The Alibaba Cloud OpenAPI metadata as tools: github.com/aliyun/aliyun-openapi-meta, some 16,000 APIs in zh and en.

Read are its folders `en-US` and `zh-CN`, as they are, as archives of their own (en-US.tar.xz), or in an archive of the whole.
In each, products.json names the products, <product>/version.json has title and summary of every API, and
<product>/<Api>.json its parameters. It does not say what an API changes: that is told from its name and its HTTP methods,
and where neither tells, the API counts as one that writes.
"""

from __future__ import annotations

import difflib
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Literal, TypeAlias

import orjson

from schemas.canonical import Json
from schemas.errors import MilepostError
from schemas.tools import DryRun, Effect, Idempotency, ToolCard
from tool_adapters.described.api import CHANGES, GOES, ApiCall, Pages, Place
from tool_adapters.described.companions import Known, jobs_of, look_of, price_of, words_of
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
ASKED = frozenset({
    "GetSecretValue", "GetParameter", "GetSecretParameter", "GetParametersByPath", "GetSecretParametersByPath",
    "GetAuthorizationToken", "DescribeInstanceVncPasswd", "DescribeClusterUserKubeconfig",
    "DescribeSubaccountK8sClusterUserConfig", "GetClientKey", "GetRandomPassword", "GetPasswordData",
})  # fmt: skip
"""They change nothing and tell secrets: a person is asked."""
UNPACKED_LIMIT = 1 << 29
"""Bytes that may be read of an archive: all there are of both languages have a fifth of it."""

FILLED = frozenset({
    "ClientToken", "clientToken", "OwnerId", "OwnerAccount", "ResourceOwnerId", "ResourceOwnerAccount", "DryRun", "dryRun",
})  # fmt: skip
"""What the caller fills, or what only subaccounts of old times need."""

REGIONS = ("RegionId", "regionId")
"""Filled from the settings where a call does not say it."""

OWN_SIGNATURE = {
    "sls": "its data has a signature and hosts of its own (Simple Log Service), which are not spoken here",
}
"""Products that take no signature of the common kind. OSS has one, too; its data APIs are not part of the metadata."""


_TYPES: Mapping[str, dict[str, object]] = {
    "String": {"type": "string"}, "Integer": {"type": "integer"}, "Long": {"type": "integer"}, "Boolean": {"type": "boolean"},
    "Float": {"type": "number"}, "Double": {"type": "number"}, "RepeatList": {"type": "array"}, "Array": {"type": "array"},
    "Struct": {"type": "object"},
}  # fmt: skip


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
    """The cards of `specs` alone."""
    return (card for card, _ in specs(files, language))


def specs(files: Files, language: Language = "both") -> Iterator[tuple[ToolCard, dict[str, Json]]]:
    """One API each, product by product: its card, named <product>_<Api> as `aliyun <product> <Api>` calls it, and how it
    is called (`ApiCall`)."""
    main = _main(language)
    products = {name: _products(files, folder) for name, folder in FOLDERS.items()}
    for product in _folders(files, main):
        told = {name: _apis(files, f"{folder}/{product}/version.json") for name, folder in FOLDERS.items()}
        names = {name: known.get(product, product) for name, known in products.items()}
        known = _known(files, main, product)
        for api, one in known.items():
            texts = {name: apis[api] for name, apis in told.items() if api in apis}
            call = one.call
            if not one.is_read:
                call = call.model_copy(update={"look": look_of(one, known), "price": price_of(product, one, known)})
            yield _card(call, one, texts, names), call.as_json()


def products(files: Files, language: Language = "both") -> dict[str, Json]:
    """What all APIs of a product share: {"ecs": {"endpoint": "ecs.{}.aliyuncs.com", "other": {region: host}, "jobs": {...}}}.

    endpoint: of most regions, with {} for the region; other: of those that differ; none where a region has no endpoint.
    """
    main = _main(language)
    listed = {str(each.get("code", "")).lower(): each for each in _listed(files, main)}
    found: dict[str, Json] = {}
    for product in _folders(files, main):
        jobs = {
            name: each.model_dump(mode="json", exclude_defaults=True)
            for name, each in jobs_of(_known(files, main, product)).items()
        }
        found[product] = _endpoints(listed.get(product, {})) | ({"jobs": jobs} if jobs else {})
    return found


def _endpoints(product: Mapping[str, object]) -> dict[str, Json]:
    said = product.get("endpoints")
    hosts = {
        str(region): str(each["public"])
        for region, each in (said.items() if isinstance(said, dict) else ())
        if isinstance(each, dict) and each.get("public")
    }
    if not hosts:
        return {}
    ((common, _),) = Counter(host.replace(region, "{}") for region, host in hosts.items()).most_common(1)
    other: dict[str, Json] = {region: host for region, host in hosts.items() if host != common.replace("{}", region)}
    return {"endpoint": common} | ({"other": other} if other else {})


def _known(files: Files, main: str, product: str) -> dict[str, Known]:
    version = str(_object(files.get(f"{main}/{product}/version.json", b"{}")).get("version", ""))
    found: dict[str, Known] = {}
    for api in sorted(_apis(files, f"{main}/{product}/version.json")):
        raw = files.get(f"{main}/{product}/{api}.json")
        if raw is not None:
            said = _object(raw)
            parameters = {str(each["name"]): each for each in _list(said.get("parameters")) if each.get("name")}
            is_read = effect_of(api, str(said.get("method", ""))) == "read"
            found[api] = Known(_call(product, version, api, said, parameters), parameters, is_read)
    return found


def _call(
    product: str, version: str, api: str, said: Mapping[str, object], parameters: Mapping[str, Mapping[str, object]]
) -> ApiCall:  # fmt: skip
    path = str(said.get("pathPattern") or "")
    methods = str(said.get("method") or "POST").split("|")
    places = {name: place for name, each in parameters.items() if (place := _place(name, each, path)) != "query"}
    method = "POST" if "POST" in methods else methods[0]
    return ApiCall(
        product=product, version=version, action=api, method=method, path=path, places=places,
        texts=tuple(name for name, each in parameters.items() if each.get("type") == "Json" and places.get(name) != "body"),
        region=next((name for name in REGIONS if name in parameters), None),
        token=next((name for name in ("ClientToken", "clientToken") if name in parameters), None),
        dry_run=next((name for name in ("DryRun", "dryRun") if name in parameters), None),
        pages=_pages(parameters), unsupported=OWN_SIGNATURE.get(product),
    )  # fmt: skip


def _place(name: str, said: Mapping[str, object], path: str) -> Place:
    """Where a parameter goes. Of a path API, `body` is the whole body, whatever its position is called; other body parameters
    are fields of a form."""
    position = said.get("position") if name != "body" or not path else "Body"
    if position == "Path":
        return "path" if f"[{name}]" in path or f"{{{name}}}" in path else "query"
    if position == "Body":
        return "body" if path and name == "body" else "form"
    return {"Header": "header", "Host": "host"}.get(str(position), "query")  # type: ignore[return-value]


def _pages(parameters: Mapping[str, Mapping[str, object]]) -> Pages | None:
    def known(*names: str) -> str | None:
        return next((name for name in names if name in parameters), None)

    token = known("NextToken", "nextToken")
    number, size = known("PageNumber", "pageNumber", "PageNum"), known("PageSize", "pageSize")
    if token:
        return Pages(token=token)
    if not number or not size:
        return None
    return Pages(number=number, size=size, needed=any(bool(parameters[name].get("required")) for name in (number, size)))


def _card(call: ApiCall, known: Known, texts: Mapping[str, dict[str, object]], products: Mapping[str, str]) -> ToolCard:
    api, product = call.action, call.product
    deprecated = any(text.get("deprecated") for text in texts.values())
    effect = "read" if known.is_read else effect_of(api, call.method)
    pages = (call.pages.number, call.pages.size) if call.pages and known.is_read else ()
    given = [
        {**each, "required": False} if each["name"] in (call.region, *pages) else dict(each)
        for each in known.parameters.values()
        if each["name"] not in FILLED
    ]
    titles = [shortened(str(text.get("title", "")), TEXT) for text in texts.values()]
    return ToolCard(
        name=tool_name(f"{product}_{api}"),
        title=" / ".join(title for title in dict.fromkeys(titles) if title and title != api),
        description="\n".join(
            f"{products[name]}: {_summary(api, text)}{' (deprecated)' if deprecated else ''}" for name, text in texts.items()
        ),
        parameters=_schema([_whole_body(each, call) for each in given], PARAMETERS),
        effect=effect,
        idempotency=_idempotency(call, effect),
        lane=LANE,
        tags=("alibaba cloud", "阿里云", product, *(["deprecated"] if deprecated else [])),
        timeout_s=30 if effect == "read" else 60,
        dry_run=_dry_run(call, effect),
    )


def _idempotency(call: ApiCall, effect: Effect) -> Idempotency:
    """By a client token; or by looking whether what was to go is gone, or whether what was given is there."""
    if effect == "read":
        return "none"
    look = call.look
    seen = look is not None and (call.verb in CHANGES or (look.exact and call.verb in GOES))
    return "key" if call.token else "query" if seen else "none"


def _dry_run(call: ApiCall, effect: Effect) -> DryRun:
    if effect == "read":
        return "none"
    return "provider" if call.dry_run else "look" if call.look or call.price else "none"


def effect_of(api: str, methods: str) -> Effect:
    """What an API may change, from the verb of its name and its HTTP methods ("GET|POST")."""
    words = words_of(api)
    verb = words[1] if words[0] == "Batch" and len(words) > 1 else words[0]
    if verb in DESTROYS or methods == "DELETE" or api == "RunCommand":
        return "destructive"
    return "read" if (verb in READS or methods == "GET") and api not in ASKED else "write"


def _schema(parameters: list[dict[str, object]], most: int) -> dict[str, object]:
    """Needed ones first; of many only so many, and then others may be given as well."""
    ordered = sorted((each for each in parameters if each.get("name")), key=lambda each: not each.get("required"))
    kept = ordered[: max(most, sum(bool(each.get("required")) for each in ordered))]
    properties = {str(each["name"]): _property(each) for each in kept}
    needed = [str(each["name"]) for each in kept if each.get("required")]
    schema: dict[str, object] = {"type": "object", "properties": properties}
    return schema | ({"required": needed} if needed else {}) | ({"additionalProperties": False} if kept == ordered else {})


def _whole_body(said: dict[str, object], call: ApiCall) -> dict[str, object]:
    """The metadata calls many JSON bodies strings: then it may be anything."""
    if call.places.get(str(said["name"])) != "body":
        return said
    kind = "Struct" if said.get("sub_parameters") else "Any"
    return said | {"type": kind, "description": said.get("description") or "The request body, as JSON."}


def _property(said: dict[str, object]) -> dict[str, object]:
    schema = dict(_TYPES.get(str(said.get("type")), {}))
    inner = _list(said.get("sub_parameters"))
    if inner and said.get("type") == "Json":  # one or a list of them: it is not said
        one = _schema(inner, PARAMETERS)
        schema = {"anyOf": [one, {"type": "array", "items": one}]}
    elif inner and schema.get("type") == "array":
        schema["items"] = _schema(inner, PARAMETERS)
    elif inner:
        schema = _schema(inner, PARAMETERS)
    text = shortened(str(said.get("description") or ""), TEXT)
    return schema | ({"description": text} if text else {})


def _summary(api: str, text: dict[str, object]) -> str:
    said = shortened(str(text.get("summary") or ""), SUMMARY)
    title = shortened(str(text.get("title") or ""), TEXT)
    return said or (title if title != api else "") or " ".join(words_of(api))


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


def _folders(files: Files, main: str) -> list[str]:
    """The products that the files have."""
    return sorted(path.split("/")[1] for path in files if path.startswith(f"{main}/") and path.endswith("/version.json"))


def _products(files: Files, folder: str) -> dict[str, str]:
    """The names of the products by their codes as the folders have them."""
    return {str(each.get("code", "")).lower(): str(each.get("name", "")) for each in _listed(files, folder)}


def _listed(files: Files, folder: str) -> list[dict[str, object]]:
    return _list(_object(files.get(f"{folder}/products.json", b"{}")).get("products"))


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
