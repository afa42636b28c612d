"""LangGraph's side: a thread of model and tool nodes whose messages grow as in our runs, and its checkpoints loaded again.

    python langgraph_peer.py POSTGRES_URL STEPS   prints one line of JSON

Its replay recomputes nothing: `get_state_history` loads every checkpoint of a thread with the state it holds, and
`get_state` loads one by its id, as a person who steps through a thread does.
"""

from __future__ import annotations

import json
import operator
import sys
import time
import uuid
from typing import Annotated, TypedDict

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.graph import END, START, StateGraph

TURNS = 12  # checkpoints of one thread: about as many as our runs have events
RESULT = json.dumps([{"InstanceId": f"i-{row:07d}", "Status": "Running", "ExpiredTime": "2026-12-01"} for row in range(30)])


class State(TypedDict):
    messages: Annotated[list[dict[str, str]], operator.add]


def main(url: str, steps: int) -> None:
    graph = StateGraph(State)
    graph.add_node("model", lambda state: {"messages": [{"role": "assistant", "content": "DescribeInstances"}]})
    graph.add_node("tool", lambda state: {"messages": [{"role": "tool", "content": RESULT}]})
    graph.add_edge(START, "model")
    graph.add_edge("model", "tool")
    graph.add_conditional_edges("tool", lambda state: END if len(state["messages"]) >= TURNS else "model")
    with PostgresSaver.from_conn_string(url) as saver:
        saver.setup()
        compiled = graph.compile(checkpointer=saver)
        threads = [{"configurable": {"thread_id": uuid.uuid4().hex}} for _ in range(max(1, steps // TURNS))]
        for thread in threads:
            compiled.invoke({"messages": [{"role": "user", "content": "Which servers expire?"}]}, thread)
        whole, single = [], []
        for _ in range(3):
            begun = time.perf_counter()
            found = [list(compiled.get_state_history(thread)) for thread in threads]
            whole.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            for history in found:
                for snapshot in history:
                    compiled.get_state(snapshot.config)
            single.append(time.perf_counter() - begun)
        count = sum(map(len, found))
        if count < len(threads) * TURNS:
            raise SystemExit(f"only {count} checkpoints are there")
    print(json.dumps({
        "langgraph_history_checkpoints_per_s": count / min(whole),
        "langgraph_step_by_step_checkpoints_per_s": count / min(single),
    }))  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
