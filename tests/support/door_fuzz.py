"""The door's own description, and requests that are made from it by schemathesis, to see what they break."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation

STREAMS = frozenset({"/api/live", "/api/runs/{run}/follow"})
"""They end when a client goes away, and not before."""
SLOW_S = 20.0
_TYPES = frozenset({
    "application/json", "text/event-stream", "application/jsonl", "application/yaml", "text/plain", "application/octet-stream",
})  # fmt: skip


@dataclass(slots=True)
class Fuzz:
    """What was asked and what went wrong. keys: taken in turn, so that nobody asks too often. asked: statuses by route."""

    url: str
    keys: Sequence[str]
    examples: int
    asked: dict[str, list[int]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def run(self) -> Fuzz:
        """Every route with values that fit its description, and with others."""
        schema = schemathesis.openapi.from_url(f"{self.url}/openapi.json", wait_for_schema=10)
        for found in schema.get_all_operations():
            operation = found.ok() if isinstance(found, Ok) else None
            assert operation is not None, found
            if operation.path not in STREAMS:
                for mode in GenerationMode:
                    self._try(operation, mode)
        return self

    def _try(self, operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode) -> None:
        quiet = settings(
            max_examples=self.examples, derandomize=True, database=None, deadline=None,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate],
        )  # fmt: skip
        try:
            quiet(given(case=operation.as_strategy(mode))(self._ask))()
        except Unsatisfiable:  # a route that takes nothing cannot be told anything wrong
            return

    def _ask(self, case: Case[Any]) -> None:
        label, told = case.operation.label, self.asked.setdefault(case.operation.label, [])
        key = self.keys[sum(map(len, self.asked.values())) % len(self.keys)] if self.keys else ""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        try:
            said = case.call(headers=headers, timeout=SLOW_S)
        except Exception as error:  # a connection that breaks or hangs is what is looked for
            self.wrong.append(f"{label}: {type(error).__name__} {error}"[:500])
            return
        told.append(said.status_code)
        kind = (said.headers.get("content-type") or [""])[0].partition(";")[0]
        if said.status_code >= 500:
            self.wrong.append(f"{label}: {said.status_code} {said.text[:300]} {case.as_curl_command()[:500]}")
        elif said.content and kind not in _TYPES:
            self.wrong.append(f"{label}: {said.status_code} is answered with {kind}")
