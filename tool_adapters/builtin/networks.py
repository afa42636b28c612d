"""IP networks and addresses of the web, taken apart; nothing is asked of a network."""

from __future__ import annotations

import ipaddress
from urllib.parse import parse_qsl, urlsplit

from tool_adapters.python import tool
from tool_adapters.tool import InvalidArguments


@tool(
    name="ip_network",
    title="IP network calculator",
    examples=("How many hosts are in 10.0.4.0/22?", "Is 192.168.3.7 in 192.168.0.0/16?", "这个网段有多少个可用地址？"),
    tags=("ip", "cidr", "subnet"),
    timeout_s=5,
)
def ip_network(network: str, address: str | None = None) -> dict[str, object]:
    """Tell first and last address, netmask and size of an IP network, and whether an address is in it.

    Args:
        network: Such as 10.0.4.0/22 or 2001:db8::/48.
        address: An address to look for in it.
    """
    try:
        found = ipaddress.ip_network(network.strip(), strict=False)
        told: dict[str, object] = {
            "network": str(found), "version": found.version, "netmask": str(found.netmask),
            "first": str(found[0]), "last": str(found[-1]), "addresses": str(found.num_addresses),
            "usable_hosts": str(_hosts(found)), "private": found.is_private,
        }  # fmt: skip
        if address is not None:
            told["contains"] = ipaddress.ip_address(address.strip()) in found
    except ValueError as error:
        raise InvalidArguments("That is no IP network or address.", why=str(error)) from error
    return told


@tool(
    name="parse_url",
    title="Take a URL apart",
    examples=("What are the parameters of this URL?", "Which host does this link go to?", "解析这个链接的参数"),
    tags=("url",),
    timeout_s=5,
)
def parse_url(url: str) -> dict[str, object]:
    """Take a URL apart: scheme, host, port, path, parameters, fragment.

    Args:
        url: The URL.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        raise InvalidArguments("That is no URL.", why=str(error)) from error
    if not parts.scheme or not parts.netloc:
        raise InvalidArguments("That is no full URL.", hint="it begins with a scheme, such as https://")
    return {
        "scheme": parts.scheme, "host": parts.hostname or "", "port": port, "path": parts.path,
        "parameters": [list(pair) for pair in parse_qsl(parts.query, keep_blank_values=True)], "fragment": parts.fragment,
    }  # fmt: skip


def _hosts(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> int:
    """Addresses that a host may have: of IPv4 not the network's own nor the broadcast's, unless it is tiny (RFC 3021)."""
    if network.version == 4 and network.prefixlen < 31:
        return network.num_addresses - 2
    return network.num_addresses
