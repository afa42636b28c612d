"""Traces: ids that follow from a run's own, spans that say what was done and not what was said, and figures for Prometheus."""

from __future__ import annotations

import asyncio
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
import yaml
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from starlette.responses import StreamingResponse

from infra import logs
from infra.metrics import named
from infra.settings import Telemetry, load
from runtime import tracing
from runtime.client import Client
from runtime.conductor import Conductor
from runtime.histogram import BOUNDS, Histogram
from runtime.log import Stored
from runtime.memory_broker import MemoryBroker
from runtime.run_trace import spans_of
from runtime.service import Context, Service, Worker
from runtime.tracing import Place, Span
from schemas.commands import CallTool, RequestApproval
from schemas.envelope import Fact, Order
from schemas.events import ApprovalGranted, Parent, ToolReturned
from schemas.ids import RunId
from schemas.messages import Generation
from schemas.policy import Verdict
from schemas.tools import ToolResult
from services.gateway.api.metrics import router
from services.gateway.telemetry.metrics import FIGURES, Queue, Reading, Told, exposition
from services.gateway.telemetry.observed import Observe, Observed
from services.llm.tally import Tally
from tests.support.builders import (
    CLOCK,
    NOW,
    TENANT,
    RunUnderTest,
    call,
    fact_of,
    order_for,
    passage,
    ready,
    request_fact,
    requested,
    run_of,
)
from tests.support.door import bare, bearing, browser, gateway, key_for
from tests.support.simulation import LoopClock, in_virtual_time

DEPLOY = Path(__file__).parents[2] / "infra" / "deploy"
CALLER = Place("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
SECRET = "xyzzy"


def _renewal() -> RunUnderTest:
    """A run with a write that a person approved; what people and tools say has a word in it that is nowhere else."""
    run = ready(task=f"renew it for 1 month, {SECRET}", passages=(passage(SECRET),))
    run.say(call("renew", months=1, note=SECRET))
    run.plans(verdict=Verdict(outcome="ask", rule="two"))
    ask = run.one(RequestApproval)
    run.answer(ApprovalGranted(command=ask, by="ann", approval_hash=ask.approval_hash))
    run.returns(run.one(CallTool), text=SECRET)
    run.say(text=f"Done, {SECRET}")
    run.end()
    return run


# --- the context that travels ---


@pytest.mark.parametrize(
    ("header", "place"),
    [
        (CALLER.traceparent, CALLER),
        (CALLER.traceparent[:-2] + "00", CALLER),
        ("01" + CALLER.traceparent[2:] + "-more", CALLER),
        (CALLER.traceparent + "-more", None),
        ("01" + CALLER.traceparent[2:] + "more", None),
        ("ff" + CALLER.traceparent[2:], None),
        (CALLER.traceparent.upper(), None),
        (f"00-{'0' * 32}-{CALLER.span}-01", None),
        (f"00-{CALLER.trace}-{'0' * 16}-01", None),
        (CALLER.traceparent + "\n", None),
        ("", None),
        (None, None),
    ],
)
def test_a_traceparent_is_read_as_w3c_says(header: str | None, place: Place | None) -> None:
    assert tracing.read(header) == place


@given(st.text(max_size=80))
def test_any_header_is_read_or_ignored(header: str) -> None:
    place = tracing.read(header)
    assert place is None or tracing.read(place.traceparent) == place


async def test_a_run_knows_where_it_was_begun_and_who_began_it_knows_the_run() -> None:
    broker = MemoryBroker()
    client = Client(broker, broker, cast("Any", LoopClock()), tenant=TENANT, user="ann")
    with tracing.calling(CALLER) as caller:
        asked = await client.ask("hello")
    alone = await client.ask("hello")
    (first,), (other,) = await broker.read(asked.run), await broker.read(alone.run)
    assert first.fact.header.traceparent == CALLER.traceparent
    assert other.fact.header.traceparent is None
    whole = spans_of([first])[0]
    assert whole.links == (CALLER,)
    assert caller.began == [whole.place]


# --- spans from the log ---


def test_a_run_is_one_trace_whose_id_is_its_own() -> None:
    run = _renewal()
    spans = spans_of(run.log)
    assert {each.place.trace for each in spans} == {run.id[-32:]}
    assert len({each.place.span for each in spans}) == len(spans)
    whole, *steps = spans
    assert whole.parent is None
    assert {each.parent for each in steps} == {whole.place.span}
    assert [each.name for each in spans] == [
        "invoke_agent assistant", "retrieval tools", "retrieval default", "search_memory", "chat default", "plan_tool renew",
        "judge renew", "wait_approval renew", "execute_tool renew", "chat default", "upsert_memory",
    ]  # fmt: skip


def test_a_step_lasts_from_what_caused_it_to_its_answer() -> None:
    request = request_fact()
    command = CallTool(call=call("clock"), card_hash=CLOCK.hash(), host="builtin")
    answer = ToolReturned(command=command, result=ToolResult(text="noon"))
    fact = fact_of(answer, run_of(), "a" * 32, time=NOW + timedelta(seconds=3), causes=(request.id,))
    _, step = spans_of([*_stored(request, fact)])
    assert (step.start, step.end, step.service) == (NOW, NOW + timedelta(seconds=3), "tools")
    early = replace(fact, header=fact.header.model_copy(update={"time": NOW - timedelta(seconds=1)}))
    _, step = spans_of([*_stored(request, early)])
    assert step.start <= step.end  # clocks of two machines may differ


def _stored(*facts: Fact) -> list[Stored]:
    return [Stored(fact, position) for position, fact in enumerate(facts, start=1)]


def test_names_of_attributes_are_those_of_the_conventions() -> None:
    known = pytest.importorskip("opentelemetry.semconv._incubating.attributes.gen_ai_attributes", reason="needs the extra otel")
    names = {value for value in vars(known).values() if isinstance(value, str) and value.startswith("gen_ai.")}
    used = {name for content in (False, True) for span in spans_of(_renewal().log, content=content) for name in span.attributes}
    assert {name for name in used if name.startswith("gen_ai.")} <= names
    assert {name.partition(".")[0] for name in used} == {"gen_ai", "milepost"}


def test_what_was_said_stands_in_no_span_unless_it_is_asked_for() -> None:
    run = _renewal()
    assert SECRET not in repr(spans_of(run.log))
    told = {name for span in spans_of(run.log, content=True) for name, value in span.attributes.items() if SECRET in str(value)}
    assert told == {
        "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.tool.call.arguments", "gen_ai.tool.call.result"
    }  # fmt: skip


def test_what_failed_says_its_type() -> None:
    run = ready()
    run.say(call("clock"))
    run.denies(run.one(CallTool))
    run.say(text="It broke.")
    run.end()
    by_name = {each.name: each for each in spans_of(run.log)}
    assert by_name["execute_tool clock"].error == "Broken"
    assert by_name["invoke_agent assistant"].error == ""


def test_a_run_that_another_one_began_is_part_of_its_trace() -> None:
    above = run_of("above")
    parent = Parent(run=above, command="c" * 32, root=above, depth=1)
    child = requested(key="below").model_copy(update={"parent": parent})
    (whole,) = spans_of(_stored(request_fact(child)))
    assert (whole.place.trace, whole.parent) == (above[-32:], "c" * 16)
    assert tracing.step_of(run_of("below"), "d" * 32, child) == Place(above[-32:], "d" * 16)
    assert whole.attributes["milepost.run.outcome"] == "open"


def test_no_run_no_span() -> None:
    assert spans_of([]) == []


# --- from process to process ---


@in_virtual_time
async def test_a_command_says_whose_trace_it_is_part_of_and_the_log_does_not_change() -> None:
    made: list[Span] = []
    broker, command = MemoryBroker(), CallTool(call=call("clock"), card_hash=CLOCK.hash(), host="builtin")
    service = Service("tools", "test", lane="builtin")

    @service.on(CallTool)
    async def handle(command: CallTool, context: Context) -> ToolReturned:
        return ToolReturned(command=command, result=ToolResult(text="noon"))

    worker = Worker(service, broker, broker, LoopClock(), name="w", spans=made.append)
    working = asyncio.create_task(worker.run())
    plain = order_for(command)
    step = tracing.step_of(plain.run, plain.id, None)
    await broker.send(replace(plain, header=plain.header.model_copy(update={"traceparent": step.traceparent})))
    await broker.send(order_for(command, id="d" * 32))
    followed = broker.follow(run_of())
    facts = [await anext(followed), await anext(followed)]  # type: ignore[call-overload]
    while worker.done < 2 or not made:
        await asyncio.sleep(0.01)
    working.cancel()
    (span,) = made  # the other command's sender traces nothing
    assert (span.name, span.place.trace, span.parent) == ("process CallTool", step.trace, step.span)
    assert span.start == NOW <= span.end
    assert span.attributes["milepost.queue.wait"] == 0
    assert span.attributes["messaging.destination.name"] == "tools.builtin"
    assert [each.fact.header.traceparent for each in facts] == [None, None]
    told = worker.stats()
    took = Histogram.read(cast("dict[str, object]", told["took"])["CallTool"])
    assert took is not None
    assert sum(took.counts) == 2


def test_what_was_called_off_is_part_of_the_run_since_no_step_of_it_is_in_the_log() -> None:
    order = order_for(CallTool(call=call("clock"), card_hash=CLOCK.hash(), host="builtin"))
    assert tracing.handled(order, NOW, NOW, attempt=1) is None
    step = tracing.step_of(order.run, order.id, None)
    order = replace(order, header=order.header.model_copy(update={"traceparent": step.traceparent}))
    done, called_off = (tracing.handled(order, NOW, NOW, attempt=1, error=each) for each in ("", tracing.CANCELLED))
    assert done is not None
    assert called_off is not None
    assert done.parent == step.span
    assert called_off.parent == spans_of(_stored(request_fact()))[0].place.span


@pytest.mark.parametrize("traced", [True, False])
def test_commands_of_a_conductor_bear_a_traceparent_only_where_traces_are_on(traced: bool) -> None:
    orders: list[Order] = []

    class Watched(MemoryBroker):
        async def send(self, order: Order, *, resent: bool = False) -> None:
            orders.append(order)

    @in_virtual_time
    async def conducted() -> None:
        broker = Watched()
        conducting = asyncio.create_task(Conductor(broker, broker, LoopClock(), name="c", traced=traced).run())
        await broker.append(request_fact())
        while len(orders) < 4:
            await asyncio.sleep(0.01)
        conducting.cancel()

    conducted()
    expected = [tracing.step_of(run_of(), each.id, None).traceparent if traced else None for each in orders]
    assert [each.header.traceparent for each in orders] == expected


def test_every_line_of_a_handler_says_what_it_is_about() -> None:
    stream = io.StringIO()
    logs.configure("tools", level="info", format="json", stream=stream)
    order = order_for(CallTool(call=call("clock"), card_hash=CLOCK.hash(), host="builtin"))
    order = replace(order, header=order.header.model_copy(update={"traceparent": CALLER.traceparent}))

    @in_virtual_time
    async def worked() -> None:
        broker, service = MemoryBroker(), Service("tools", "test", lane="builtin")

        @service.on(CallTool)
        async def handle(command: CallTool, context: Context) -> ToolReturned:
            logs.logger("tool_adapters.clock").info("looked")
            return ToolReturned(command=command, result=ToolResult(text="noon"))

        working = asyncio.create_task(Worker(service, broker, broker, LoopClock(), name="w").run())
        await broker.send(order)
        await anext(broker.follow(run_of()))  # type: ignore[call-overload]
        working.cancel()

    worked()
    line = next(each for each in map(json.loads, stream.getvalue().splitlines()) if each["message"] == "looked")
    assert (line["run"], line["command"], line["tenant"], line["kind"]) == (order.run, order.id, TENANT, "CallTool")
    assert line["trace"] == CALLER.trace


# --- the door ---


def _asking(spans: list[Span] | None) -> tuple[FastAPI, Observed, MemoryBroker]:
    broker, app, seen = MemoryBroker(), FastAPI(), Observed()
    client = Client(broker, broker, cast("Any", LoopClock()), tenant=TENANT, user="ann")

    @app.post("/ask/{name}")
    async def ask(name: str) -> dict[str, str]:
        return {"run": (await client.ask("hello")).run}

    @app.get("/events")
    async def events() -> StreamingResponse:
        return StreamingResponse(iter(["data: 1\n\n"]), media_type="text/event-stream")

    app.add_middleware(Observe, observed=seen, spans=None if spans is None else spans.append)
    return app, seen, broker


async def _get(app: FastAPI, method: str, path: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as http:
        return await http.request(method, path, headers=headers)


async def test_a_request_that_begins_a_run_and_the_run_are_linked_both_ways() -> None:
    spans: list[Span] = []
    app, _, broker = _asking(spans)
    run = RunId((await _get(app, "POST", "/ask/x", traceparent=CALLER.traceparent)).json()["run"])
    (request,) = spans
    (whole,) = spans_of(await broker.read(run))
    assert (request.name, request.kind, request.place.trace, request.parent) == (
        "POST /ask/{name}", "server", CALLER.trace, CALLER.span,
    )  # fmt: skip
    assert request.links == (whole.place,)
    assert whole.links == (request.place,)
    await _get(app, "GET", "/events")
    assert len(spans) == 1  # it began no run, and came from no trace


async def test_where_traces_are_off_the_callers_own_place_is_kept_for_later() -> None:
    app, _, broker = _asking(None)
    run = RunId((await _get(app, "POST", "/ask/x", traceparent=CALLER.traceparent)).json()["run"])
    assert spans_of(await broker.read(run))[0].links == (CALLER,)
    bare_run = RunId((await _get(app, "POST", "/ask/x", traceparent="nonsense")).json()["run"])
    assert spans_of(await broker.read(bare_run))[0].links == ()


async def test_the_door_counts_by_route_and_never_by_what_was_asked() -> None:
    app, seen, _ = _asking(None)
    for name in ("a", "b", "c"):
        await _get(app, "POST", f"/ask/{name}")
    await _get(app, "GET", "/events")
    await _get(app, "BREW", "/nowhere/at/all")
    assert seen.requests == {
        ("/ask/{name}", "POST", "200"): 3, ("/events", "GET", "200"): 1, ("other", "other", "404"): 1
    }  # fmt: skip
    assert sum(seen.took["/ask/{name}"].counts) == 3
    assert sum(seen.first_byte["/events"].counts) == 1
    assert seen.streams == 0


# --- figures ---


@given(st.lists(st.floats(min_value=-1, max_value=1000)))
def test_a_histogram_counts_what_was_at_most_its_bound(values: list[float]) -> None:
    found = Histogram()
    for each in values:
        found.observe(each)
    for index, bound in enumerate(BOUNDS):
        assert sum(found.counts[: index + 1]) == sum(each <= bound for each in values)
    read = Histogram.read(json.loads(json.dumps(found.told())))
    assert read is not None
    assert read.counts == found.counts


@pytest.mark.parametrize("said", [None, {}, {"counts": [1], "sum": 1}, {"counts": ["x"] * (len(BOUNDS) + 1), "sum": 1}, []])
def test_a_histogram_of_another_version_is_passed_over(said: object) -> None:
    assert Histogram.read(said) is None


def _full() -> Reading:
    """A reading in which nothing is missing."""
    took, tally = Histogram(), Tally()
    took.observe(0.2)
    tally.add(Generation(text="hi", first_token_ms=120.0))
    engine = {"waiting": 0, "running": 1, "slots": 4, "cached_share": 0.5, "decode_tok_s": 30.0, "prefill_tok_s": 400.0}
    own: dict[str, object] = {"done": 3, "failed": 1, "retried": 2, "working": 1, "busy_s": 0.5, "indexed": 9}
    own |= {"facts": 4, "decisions": 5, "failures": 0, "took": {"Generate": took.told()}, "waited": took.told()}
    own |= {"said": {"m": tally.told()}, "models": {"m": engine}}
    return Reading(
        {"bus": True, "log": True, "database": False}, [Told("llm", "main", "llm-1", own)], [Queue("llm", "main", 2, 1, 9.5)],
        {"open": 1, "completed": 7}, dict.fromkeys(FIGURES, 1.0),
    )  # fmt: skip


def _families(text: bytes) -> dict[str, Any]:
    return {each.name: each for each in text_string_to_metric_families(text.decode())}


def _series(text: bytes) -> set[str]:
    return {sample.name for family in _families(text).values() for sample in family.samples}


async def _scrape() -> bytes:
    app, seen, _ = _asking(None)
    await _get(app, "POST", "/ask/x")
    await _get(app, "GET", "/events")
    return exposition(_full(), seen, "1.2.3")


async def test_what_is_scraped_is_what_was_read() -> None:
    found = _families(await _scrape())
    took = {each.labels.get("le", each.name): each.value for each in found["milepost_command_duration_seconds"].samples}
    assert (took["0.1"], took["0.25"], took["+Inf"]) == (0, 1, 1)
    assert took["milepost_command_duration_seconds_sum"] == pytest.approx(0.2)
    (oldest,) = found["milepost_queue_oldest_seconds"].samples
    assert (oldest.labels, oldest.value) == ({"role": "llm", "lane": "main"}, 9.5)
    labels = {name for family in found.values() for sample in family.samples for name in sample.labels}
    assert labels <= {
        "role", "lane", "instance", "command", "outcome", "model", "kind", "route", "method", "status", "part", "version", "le"
    }  # fmt: skip


def _named_in(text: str) -> set[str]:
    return set(re.findall(r"milepost_[a-z_]+", text))


def _expressions() -> str:
    dashboard = json.loads((DEPLOY / "grafana" / "milepost.json").read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
    return "\n".join([*shown, *(rule["expr"] for rule in rules)])


async def test_dashboard_and_alerts_name_what_there_is_and_leave_nothing_out() -> None:
    there, named_there = _series(await _scrape()), _named_in(_expressions())
    assert named_there <= there
    families = {re.sub(r"_(bucket|sum|count)$", "", each) for each in there}
    assert families - {re.sub(r"_bucket$", "", each) for each in named_there} == set()


def test_an_alert_says_what_and_what_next() -> None:
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["next"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_a_process_keeps_its_name_when_it_is_started_anew_unless_another_one_has_it() -> None:
    told = [Told("llm", "main", "llm-1-4711", {}), Told("llm", "main", "llm-2-4712", {}), Told("tools", "builtin", "x", {})]
    assert [each.instance for each in named(told)] == ["llm-1", "llm-2", "x"]
    twins = [Told("llm", "main", "llm-1-4711", {}), Told("llm", "main", "llm-1-9", {})]
    assert [each.instance for each in named(twins)] == ["llm-1-4711", "llm-1-9"]


async def test_figures_are_for_the_stacks_own_tenant() -> None:
    class Full:
        async def read(self) -> Reading:
            return _full()

    found = gateway(readings=Full())
    app = bare(found, router)
    app.state.observed = Observed()
    _, own = await key_for(found, "viewer")
    _, other = await key_for(found, "admin", tenant="other")
    async with browser(found, app) as http:
        answers = [await http.get("/metrics", headers=headers) for headers in ({}, bearing(other), bearing(own))]
    assert [each.status_code for each in answers] == [401, 403, 200]
    assert answers[2].headers["content-type"].startswith("text/plain; version=0.0.4")
    assert _families(answers[2].content)["milepost_info"].samples[0].labels == {"version": "0"}


# --- off ---


def test_by_default_nothing_is_loaded_that_could_send_anything() -> None:
    code = (
        "import sys, threading, infra.wiring, infra.jetstream.bus, runtime.run_trace, services.gateway.telemetry.observed\n"
        "loaded = [name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))]\n"
        "assert not loaded, loaded\n"
        "assert threading.active_count() == 1\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_traces_are_on_only_where_settings_say_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    assert not load(directory=tmp_path).settings.telemetry.is_on
    assert Telemetry(on=True).is_on
    assert Telemetry(otlp_endpoint="http://127.0.0.1:4318").is_on
    assert not Telemetry(content=True).is_on
