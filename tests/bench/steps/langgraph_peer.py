"""LangGraph's side: a graph of two no-op nodes that call each other, checkpointed to Postgres.

    python langgraph_peer.py POSTGRES_URL STEPS sync|async   prints one line of JSON

`sync` waits for the checkpoint before the next step, as ours waits for its fact; `async`, LangGraph's default, writes it
while the next step runs. A step is one node; its time is from its beginning to that of the next one.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import uuid
from itertools import pairwise
from typing import Literal, TypedDict

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.graph import END, START, StateGraph


class State(TypedDict):
    done: int


def main(url: str, steps: int, durability: Literal["sync", "async"]) -> None:
    begun: list[float] = []

    def noop(state: State) -> State:
        begun.append(time.perf_counter())
        return {"done": state["done"] + 1}

    graph = StateGraph(State)
    graph.add_node("model", noop)
    graph.add_node("tool", noop)
    graph.add_edge(START, "model")
    graph.add_edge("model", "tool")
    graph.add_conditional_edges("tool", lambda state: END if state["done"] >= steps else "model")
    with PostgresSaver.from_conn_string(url) as saver:
        saver.setup()
        compiled = graph.compile(checkpointer=saver)
        for count in (20, steps):  # the first is to warm up
            begun.clear()
            config = {"configurable": {"thread_id": uuid.uuid4().hex}, "recursion_limit": steps + 10}
            result = compiled.invoke({"done": steps - count}, config, durability=durability)
            if result["done"] != steps:
                raise SystemExit(f"the graph came out otherwise: {result}")
    gaps = sorted((later - earlier) * 1e3 for earlier, later in pairwise(begun))
    print(json.dumps({"step_p50_ms": statistics.median(gaps), "step_p99_ms": gaps[int(len(gaps) * 0.99)]}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])  # type: ignore[arg-type]  # sync or async
