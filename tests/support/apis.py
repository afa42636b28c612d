"""Servers that answer a part of a public API as its OpenAPI document says, and check every request against that document.

The check is openapi-core's, not ours: what we send has to be right by somebody else's reading of the document.
"""

from __future__ import annotations

import copy
import json
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from aiohttp import web
from openapi_core import Config, OpenAPI
from openapi_core.contrib.aiohttp import AIOHTTPOpenAPIWebRequest

from tests.support.datasets import dataset

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
TOKEN = "s3cret-t0ken"
JSON_TOO = {"application/merge-patch+json": json.loads, "*/*": json.loads}


@cache
def public_document(name: str) -> bytes:
    """A document of the data set openapi-specs."""
    with tarfile.open(dataset("openapi-specs") / "specs.tar.xz") as archive:
        file = archive.extractfile(f"./{name}")
        assert file
        return file.read()


@cache
def checker(name: str) -> OpenAPI:
    """What checks requests against a document, wherever it says that the API stands."""
    said = json.loads(public_document(name))
    said["servers"] = [{"url": "/"}]
    for item in said["paths"].values():
        for each in (item, *(each for each in item.values() if isinstance(each, dict))):
            each.pop("servers", None)
    return OpenAPI.from_dict(said, config=Config(spec_validator_cls=None, extra_media_type_deserializers=JSON_TOO))


class Checked:
    """An application that answers some operations of a document. faults: requests that the document does not allow."""

    def __init__(self, name: str) -> None:
        self._check = checker(name)
        self.app = web.Application(middlewares=[self._checking], client_max_size=64 * 1024 * 1024)
        self.seen: list[web.Request] = []
        self.faults: list[str] = []

    @web.middleware
    async def _checking(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.seen.append(request)
        try:
            self._check.validate_request(AIOHTTPOpenAPIWebRequest(request, body=await request.read() or None))
        except Exception as error:
            self.faults.append(f"{request.method} {request.path_qs}: {error}")
        return await handler(request)


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """The application on loopback; gives `http://127.0.0.1:PORT`."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class GitHub(Checked):
    """Issues, labels and topics of one repository: Link headers, ETags, its way to refuse and to limit."""

    def __init__(self) -> None:
        super().__init__("github.com/api.github.com.json")
        self.issues: list[dict[str, Any]] = [self._issue(number) for number in range(1, 66)]
        self.topics = ["bus"]
        self.limited = False
        self.lose_answers = False
        add = self.app.router.add_route
        add("GET", "/repos/{owner}/{repo}/issues", self._list)
        add("POST", "/repos/{owner}/{repo}/issues", self._create)
        add("GET", "/repos/{owner}/{repo}/issues/{number}", self._get)
        add("PATCH", "/repos/{owner}/{repo}/issues/{number}", self._update)
        add("GET", "/repos/{owner}/{repo}/topics", self._topics)
        add("PUT", "/repos/{owner}/{repo}/topics", self._put_topics)
        add("GET", "/repos/{owner}/{repo}/contents/{path:.+}", self._contents)
        add("POST", "/markdown/raw", self._markdown)

    @staticmethod
    def _issue(number: int, title: str = "") -> dict[str, Any]:
        return {"number": number, "title": title or f"issue {number}", "state": "open"}

    def _refused(self, request: web.Request) -> web.Response | None:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return web.json_response({"message": "Bad credentials", "documentation_url": "https://docs"}, status=401)
        if self.limited:
            headers = {"x-ratelimit-remaining": "0", "retry-after": "7"}
            return web.json_response({"message": "API rate limit exceeded"}, status=403, headers=headers)
        return None

    async def _list(self, request: web.Request) -> web.Response:
        if refusal := self._refused(request):
            return refusal
        page, size = int(request.query.get("page", 1)), int(request.query.get("per_page", 30))
        found = [each for each in self.issues if request.query.get("labels") in (None, "bug,good first")]
        some = found[(page - 1) * size : page * size]
        headers = {}
        if page * size < len(found):
            onward = request.url.update_query(page=page + 1, per_page=size)
            headers["link"] = f'<{request.url}>; rel="first", <{onward}>; rel="next"'
        return web.json_response(some, headers=headers)

    async def _create(self, request: web.Request) -> web.Response:
        if refusal := self._refused(request):
            return refusal
        said = await request.json()
        if not said["title"]:
            errors = [{"resource": "Issue", "field": "title", "code": "missing_field"}]
            return web.json_response({"message": "Validation Failed", "errors": errors}, status=422)
        self.issues.append(self._issue(len(self.issues) + 1, said["title"]))
        return web.json_response(self.issues[-1], status=201)

    async def _get(self, request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        if number > len(self.issues):
            return web.json_response({"message": "Not Found"}, status=404)
        return web.json_response(self.issues[number - 1])

    async def _update(self, request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        self.issues[number - 1] |= await request.json()
        if self.lose_answers:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(self.issues[number - 1])

    async def _topics(self, request: web.Request) -> web.Response:
        return web.json_response({"names": self.topics}, headers={"etag": f'"{"-".join(self.topics)}"'})

    async def _put_topics(self, request: web.Request) -> web.Response:
        self.topics = (await request.json())["names"]
        return await self._topics(request)

    async def _contents(self, request: web.Request) -> web.Response:
        return web.json_response({"path": request.match_info["path"], "raw": request.raw_path})

    async def _markdown(self, request: web.Request) -> web.Response:
        return web.Response(text=f"<p>{await request.text()}</p>", content_type="text/html")


class Kubernetes(Checked):
    """Config maps of one namespace: continue tokens, resource versions that conflict, dryRun=All, Status for refusals."""

    BASE = "/api/v1/namespaces/{namespace}/configmaps"

    def __init__(self, count: int = 0) -> None:
        super().__init__("kubernetes.io.json")
        self.maps: dict[str, dict[str, Any]] = {}
        self.version = 0
        self.written = 0
        self.lose_answers = self.lose_requests = False
        for number in range(count):
            self._store(f"map-{number:03}", {"data": {"n": str(number)}})
        add = self.app.router.add_route
        add("GET", self.BASE, self._list)
        add("POST", self.BASE, self._create)
        for method, handler in {"GET": self._get, "PUT": self._replace, "PATCH": self._patch, "DELETE": self._delete}.items():
            add(method, self.BASE + "/{name}", handler)

    def _store(self, name: str, said: Mapping[str, Any]) -> dict[str, Any]:
        self.version += 1
        made = {"apiVersion": "v1", "kind": "ConfigMap", **copy.deepcopy(dict(said))}
        made["metadata"] = {**made.get("metadata", {}), "name": name, "resourceVersion": str(self.version)}
        self.maps[name] = made
        return made

    async def _list(self, request: web.Request) -> web.Response:
        names, limit = sorted(self.maps), int(request.query.get("limit", 20))
        at = int(request.query.get("continue", 0))
        more = str(at + limit) if at + limit < len(names) else ""
        items = [self.maps[name] for name in names[at : at + limit]]
        return web.json_response({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"continue": more}, "items": items})

    async def _create(self, request: web.Request) -> web.Response:
        said = await request.json()
        name = said["metadata"]["name"]
        if name in self.maps:
            return self._status(409, "AlreadyExists", f'configmaps "{name}" already exists')
        return self._kept(request, name, said, 201)

    async def _get(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return web.json_response(self.maps[name]) if name in self.maps else self._status(404, "NotFound", f"{name} not found")

    async def _replace(self, request: web.Request) -> web.Response:
        said, name = await request.json(), request.match_info["name"]
        given = said["metadata"].get("resourceVersion")
        if given not in (None, self.maps[name]["metadata"]["resourceVersion"]):
            return self._status(
                409, "Conflict", "the object has been modified; please apply your changes to the latest version"
            )
        return self._kept(request, name, said, 200)

    async def _patch(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/merge-patch+json", request.content_type
        name = request.match_info["name"]
        now = self.maps[name]
        data = {**now.get("data", {}), **(await request.json()).get("data", {})}
        return self._kept(request, name, {**now, "data": {key: value for key, value in data.items() if value is not None}}, 200)

    async def _delete(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.maps:
            return self._status(404, "NotFound", f"{name} not found")
        if request.query.get("dryRun") != "All":
            self.written += 1
            del self.maps[name]
        return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Success"})

    def _kept(self, request: web.Request, name: str, said: Mapping[str, Any], status: int) -> web.Response:
        if request.query.get("dryRun") == "All":
            return web.json_response({**said, "metadata": {**said["metadata"], "name": name}}, status=status)
        assert request.transport is not None
        if self.lose_requests:
            request.transport.abort()
            return web.Response()
        self.written += 1
        made = self._store(name, said)
        if self.lose_answers:
            request.transport.abort()
        return web.json_response(made, status=status)

    def _status(self, code: int, reason: str, message: str) -> web.Response:
        said = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code}
        return web.json_response(said, status=code)
