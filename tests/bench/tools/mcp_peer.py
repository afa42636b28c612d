"""A plain MCP server with one tool that counts, called over stdio by the SDK's own client: no log, no ledger.

python -m tests.bench.tools.mcp_peer          measures; prints one line of JSON
python -m tests.bench.tools.mcp_peer serve    is the server
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time

CALLS = 200
WARM = 20


def serve() -> None:
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("count")

    @server.tool()
    def count(number: str) -> str:
        """Say which number comes next."""
        return str(int(number) + 1)

    server.run("stdio")


async def measure() -> dict[str, float]:
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    command = StdioServerParameters(command=sys.executable, args=["-m", "tests.bench.tools.mcp_peer", "serve"])
    took = []
    async with stdio_client(command) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        for number in range(CALLS + WARM):
            begun = time.perf_counter()
            await session.call_tool("count", {"number": str(number)})
            took.append((time.perf_counter() - begun) * 1e3)
    took = sorted(took[WARM:])
    return {"mcp_stdio_p50_ms": statistics.median(took), "mcp_stdio_p99_ms": took[int(len(took) * 0.99)]}


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        print(json.dumps(asyncio.run(measure())))
