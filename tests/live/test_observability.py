"""A run on a whole stack: one trace at a collector, in order, without a word that was said; and the stack's figures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from infra.gateway.address import remembered
from infra.gateway.door_secret import door_seed
from infra.processes import python
from infra.settings import Telemetry
from infra.telemetry import BadHeaders
from infra.wiring import open_traces
from runtime import tracing
from runtime.client import Client
from runtime.errors import Unreachable
from runtime.run_trace import spans_of
from runtime.tracing import Place, Span
from schemas.ids import run_id
from tests.support.builders import NOW
from tests.support.otlp import Collector, Got, collecting
from tests.support.stack import OPERATOR, LocalStack, local_stack, open_folder, see_through

DEPLOY = Path(__file__).parents[2] / "infra" / "deploy"
CALLER = Place("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
TASK = "Renew ECS instance i-bp1f8k2m9x4q7web02 for 1 month"
# What no run of this test leads to: nothing waits too long, no model of ours is loaded, and no stream was opened.
UNSEEN = {
    "milepost_llm_running", "milepost_llm_waiting", "milepost_llm_slots", "milepost_llm_cache_fill_ratio",
    "milepost_llm_decode_tokens_per_second", "milepost_llm_prefill_tokens_per_second",
    "milepost_http_stream_first_byte_seconds_bucket",
}  # fmt: skip


def _span(run: str, **changes: object) -> Span:
    place = Place(run[-32:], "a" * 16)
    values = {"name": "chat m", "place": place, "start": NOW, "end": NOW + timedelta(seconds=1), "service": "llm", **changes}
    return Span(**values)  # type: ignore[arg-type]


# --- what goes over the wire ---


async def test_a_span_arrives_as_it_was() -> None:
    run = run_id("default", "key", "202611")
    with collecting() as collector:
        traces = open_traces(Telemetry(otlp_endpoint=collector.url, otlp_headers=SecretStr("x-key=k, x-more=m")))
        span = _span(run, parent="b" * 16, kind="client", attributes={"n": 1, "s": ("a", "b")}, links=(CALLER,), error="Broken")
        assert await traces.deliver([span]) == 1
        traces.close()
    (got,) = collector.spans
    assert (got.service, got.name, got.trace, got.id, got.parent) == ("milepost-llm", "chat m", run[-32:], "a" * 16, "b" * 16)
    assert (got.end - got.start, got.kind, got.failed) == (1_000_000_000, 3, True)
    assert got.attributes == {"n": 1, "s": ("a", "b"), "error.type": "Broken"}
    assert got.links == ((CALLER.trace, CALLER.span),)
    assert collector.paths == ["/v1/traces"]
    assert (collector.headers[0]["x-key"], collector.headers[0]["x-more"]) == ("k", "m")


async def test_runs_are_sampled_whole() -> None:
    """Every process decides by the trace's id, so that a trace is there with all its spans or not at all."""
    runs = [run_id("default", str(number), "202611") for number in range(200)]
    with collecting() as collector:
        for instance in ("one", "another"):
            traces = open_traces(Telemetry(otlp_endpoint=collector.url, sample=0.5), instance=instance)
            await traces.deliver([_span(run, parent="b" * 16 if instance == "another" else None) for run in runs])
            traces.close()
    seen = [each.trace for each in collector.spans]
    assert 60 < len(set(seen)) < 140
    assert sorted(seen) == sorted([*set(seen)] * 2)


async def test_a_collector_that_refuses_is_told_of() -> None:
    with collecting() as collector:
        collector.refusing = 1
        traces = open_traces(Telemetry(otlp_endpoint=f"{collector.url}/v1/traces"))
        with pytest.raises(Unreachable, match="did not take"):
            await traces.deliver([_span(run_id("t", "k", "202611"))])
        assert await traces.deliver([_span(run_id("t", "k", "202611"))]) == 1
        traces.close()
    assert collector.paths == ["/v1/traces"] * 2


def test_what_happens_is_sent_beside_the_work() -> None:
    before = threading.active_count()
    with collecting() as collector:
        traces = open_traces(Telemetry(otlp_endpoint=collector.url), instance="llm-1")
        listening = threading.active_count()
        assert listening == before + 1  # the collector's own: no thread before the first span
        traces(_span(run_id("t", "k", "202611")))
        traces.close()  # what waits goes out
    assert len(collector.spans) == 1


def test_headers_that_are_none_are_refused() -> None:
    with pytest.raises(BadHeaders):
        open_traces(Telemetry(otlp_endpoint="http://127.0.0.1:9", otlp_headers=SecretStr("nonsense")))


# --- a whole stack ---


async def test_a_run_is_one_trace_and_the_stack_tells_its_figures() -> None:
    with collecting() as collector, open_folder() as home:
        flags = {"services__gateway": 1, "telemetry__otlp_endpoint": collector.url}
        async with local_stack(home, **flags) as stack:
            async with stack.session() as (client, _):
                run = await _renew(client)
                facts = await client.log.read(run)
            expected = spans_of(facts)
            spans = collector.wait(run[-32:], "invoke_agent ops", "process Generate", "process StoreTurn", "process CallTool")
            _check_trace(spans, expected)
            assert TASK.encode() not in collector.raw
            assert b"i-bp1f8k2m9x4q7web02" not in collector.raw
            assert [each.fact.header.traceparent for each in facts if each.fact.header.traceparent] == [CALLER.traceparent]
            _check_command(stack, run, expected, collector)
            _check_figures(await _scraped(stack))


async def _renew(client: Client) -> str:
    with tracing.calling(CALLER) as caller:
        asked = await client.ask(TASK, agent=OPERATOR)
    assert len(caller.began) == 1
    ended = await see_through(client, asked.run)
    assert ended.state.outcome == "completed"
    return asked.run


def _check_trace(spans: list[Got], expected: list[Span]) -> None:
    by_id = {each.id: each for each in spans}
    assert len(by_id) == len(spans)
    (whole,) = [each for each in spans if not each.parent]
    assert whole.links == ((CALLER.trace, CALLER.span),)
    assert {each.parent for each in spans if each is not whole} <= set(by_id)
    from_log = [each for each in spans if each.id in {span.place.span for span in expected}]
    assert len(from_log) == len(expected)
    assert {each.parent for each in from_log if each is not whole} == {whole.id}
    names = {each.name for each in from_log}
    assert {"chat default", "wait_approval RenewInstance", "execute_tool RenewInstance", "search_memory"} <= names
    for each in spans:
        assert each.start <= each.end
        if each.name.startswith("process "):
            step = by_id[each.parent]
            assert (step.start <= each.start, step.service) == (True, each.service)
    worked = {each.service for each in spans if each.name.startswith("process ")}
    assert worked == {"milepost-llm", "milepost-memory", "milepost-policy", "milepost-retrieval", "milepost-tools"}
    chat = next(each for each in from_log if each.name == "chat default")
    assert chat.attributes["gen_ai.response.model"] == "scripted"
    assert chat.attributes["gen_ai.usage.input_tokens"] > 0
    assert chat.end > chat.start


def _check_command(stack: LocalStack, run: str, expected: list[Span], collector: Collector) -> None:
    """`runs trace` tells the same, and sends it to any collector."""
    command, environment = python("infra", "runs", "trace", run, "--otlp", collector.url, "--json")
    had = len(collector.of(run[-32:]))
    done = subprocess.run(
        command, env={"PATH": "", "MILEPOST_HOME": str(stack.home), **environment}, cwd=stack.home, capture_output=True,
        text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [each["span_id"] for each in told["spans"]] == [each.place.span for each in expected]
    assert (told["trace"], told["sent"]) == (run[-32:], len(expected))
    assert len(collector.of(run[-32:])) == had + len(expected)


async def _scraped(stack: LocalStack) -> str:
    url, key = remembered(stack.home), door_seed(stack.loaded.settings).local_key
    assert url is not None
    async with httpx.AsyncClient(base_url=url, trust_env=False, headers={"authorization": f"Bearer {key}"}) as http:
        await http.get("/api/session")
        found = await http.get("/metrics")
    assert found.status_code == 200
    return found.text


def _check_figures(text: str) -> None:
    families = {each.name: each for each in text_string_to_metric_families(text)}
    series = {sample.name for family in families.values() for sample in family.samples}
    dashboard = (DEPLOY / "grafana" / "milepost.json").read_text() + (DEPLOY / "prometheus" / "alerts.yml").read_text()
    assert set(re.findall(r"milepost_[a-z_]+", dashboard)) - series <= UNSEEN
    assert {sample.labels["part"]: sample.value for sample in families["milepost_up"].samples} == {
        "bus": 1, "log": 1, "database": 1
    }  # fmt: skip

    def value(name: str, **labels: str) -> float:
        samples = families[name].samples
        return sum(each.value for each in samples if labels.items() <= each.labels.items())

    assert value("milepost_runs", status="completed") == 1
    assert value("milepost_instances", role="conductor") == 1
    assert value("milepost_commands", role="tools", outcome="done") >= 2
    assert value("milepost_llm_tokens", model="scripted", kind="read") > 0
    assert value("milepost_queue_waiting", role="llm", lane="main") == 0
    assert value("milepost_http_requests", route="/api/session", status="200") == 1
    assert value("milepost_log_facts") > 10
    assert value("milepost_effects_in_doubt") == 0
    assert sys.getsizeof(text) < 256 * 1024
