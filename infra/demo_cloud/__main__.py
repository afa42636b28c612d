"""`python -m infra.demo_cloud --port 8899 --state demo-cloud.sqlite`: a demo cloud in a process of its own."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
from pathlib import Path

from infra.demo_cloud.server import DEMO_ACCESS_KEY_ID, DEMO_ACCESS_KEY_SECRET, serve


def main() -> None:
    """Read the options and serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m infra.demo_cloud", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--port", type=int, default=8899)
    parser.add_argument("--state", type=Path, default=Path("demo-cloud.sqlite"), help="SQLite file that keeps the world")
    parser.add_argument("--access-key-id", default=DEMO_ACCESS_KEY_ID, help="a demo key, not a secret")
    parser.add_argument("--access-key-secret", default=DEMO_ACCESS_KEY_SECRET, help="a demo key, not a secret")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(given.host, given.port, given.state, {given.access_key_id: given.access_key_secret}))


if __name__ == "__main__":
    main()
