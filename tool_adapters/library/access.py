"""Where the library's services are and which keys open them, as the environment of the tools process says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tool_adapters.tool import ToolRefused


@dataclass(frozen=True, slots=True)
class Access:
    """Addresses can be changed for a proxy, or for a server of one's own that speaks the same protocol.

    MODELSCOPE_API_TOKEN, DASHSCOPE_API_KEY, AMAP_TOKEN, BRAVE_SEARCH_API_KEY open the services; MODELSCOPE_API_URL,
    DASHSCOPE_API_URL, AMAP_API_URL, BRAVE_SEARCH_URL say where they are; SEARXNG_URL names a SearXNG to search with.
    """

    modelscope_url: str = "https://api-inference.modelscope.cn/api-inference/v1/models"
    modelscope_token: str = field(default="", repr=False)
    dashscope_url: str = "https://dashscope.aliyuncs.com"
    dashscope_key: str = field(default="", repr=False)
    amap_url: str = "https://restapi.amap.com"
    amap_key: str = field(default="", repr=False)
    brave_url: str = "https://api.search.brave.com"
    brave_key: str = field(default="", repr=False)
    searxng_url: str = ""
    changed: tuple[str, ...] = ()

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Access:
        """As these variables say."""
        names = {
            "modelscope_url": "MODELSCOPE_API_URL", "modelscope_token": "MODELSCOPE_API_TOKEN",
            "dashscope_url": "DASHSCOPE_API_URL", "dashscope_key": "DASHSCOPE_API_KEY",
            "amap_url": "AMAP_API_URL", "amap_key": "AMAP_TOKEN",
            "brave_url": "BRAVE_SEARCH_URL", "brave_key": "BRAVE_SEARCH_API_KEY", "searxng_url": "SEARXNG_URL",
        }  # fmt: skip
        given = {name: environ[variable].strip().rstrip("/") for name, variable in names.items() if environ.get(variable)}
        return cls(**given, changed=tuple(value for name, value in given.items() if name.endswith("_url")))

    @property
    def allow(self) -> frozenset[str]:
        """`host:port` of the addresses that an operator has set: they may be reached though they are not public."""
        places = (urlsplit(address) for address in self.changed)
        return frozenset(f"{each.hostname}:{each.port or (443 if each.scheme == 'https' else 80)}" for each in places)


def missing(tool: str, variable: str, where: str, *, extra: str = "") -> ToolRefused:
    """The error of a tool whose key nobody has set. where: the page that gives one."""
    or_else = f", or {extra}" if extra else ""
    return ToolRefused(
        f"{tool} cannot be used yet: it needs {variable}.", code="NoKey",
        why="its model runs elsewhere, and no key for it is set where the tools run",
        hint=f"set {variable} (see {where}) and restart{or_else}",
    )  # fmt: skip
