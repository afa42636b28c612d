"""A host with two tools that do nothing but count, in a process of its own: python -m tests.bench.tools.host HOME

What a call of them takes is what the bus, the log and the ledger take.
"""

from __future__ import annotations

import signal
import sys
from threading import Event

from infra.agent import Stack
from tool_adapters.python import tool


@tool(name="count_read")
def count_read(number: str) -> str:
    """Say which number comes next."""
    return str(int(number) + 1)


@tool(name="count_write", effect="write", idempotency="key")
def count_write(number: str) -> str:
    """Note a number, and say which comes next."""
    return str(int(number) + 1)


def main() -> None:
    stopping = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    stack = Stack(home=sys.argv[1])
    stack.call(stack.host_tools([count_read, count_write]))
    print("ready", flush=True)
    stopping.wait()
    stack.close()


if __name__ == "__main__":
    main()
