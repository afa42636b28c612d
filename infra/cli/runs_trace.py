"""`runs trace`: a run as OpenTelemetry's spans, whenever it was; shown, or sent to a collector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.options import Home, Json, Run, settings_from
from infra.cli.show import as_json, console, plain, print_json, use_json

if TYPE_CHECKING:
    from infra.cli.reading import RunRead
    from infra.wiring import World
    from runtime.client import Client
    from runtime.tracing import Span

_WIDTH = 40


def trace(
    run: Run,
    otlp: Annotated[str | None, typer.Option(help="Send it to this collector, by OTLP over HTTP.", show_default=False)] = None,
    send: Annotated[bool, typer.Option("--send", help="Send it to the collector of the settings.")] = False,
    content: Annotated[bool, typer.Option("--content", help="With what people, models and tools said.")] = False,
    home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Show a run as spans, or send them to a collector: also a run from before traces were on."""
    from infra.cli.words import say

    use_json(json)
    spans = _read(run, home, content)
    to = otlp or (say("trace configured") if send else None)
    sent = _send(spans, otlp, home) if to else 0
    if as_json():
        print_json({"trace": spans[0].place.trace, "sent": sent, "spans": [_told(each) for each in spans]})
    elif to:
        console().print(plain(say("trace sent", count=sent, to=to, trace=spans[0].place.trace)), soft_wrap=True)
    else:
        _print(spans)


def _read(name: str, home: Home, content: bool) -> list[Span]:
    """Raises what reading a run raises, and Erased."""
    from infra.cli.reading import names_file, read_file, read_run, speak
    from runtime.client import UnknownRun
    from runtime.run_trace import spans_of

    if names_file(name):
        speak(home)
        read = read_file(name)
    else:
        from infra.cli.client import connected

        async def work(_: Client, world: World) -> RunRead:
            return await read_run(world, name)

        read = connected(work, home)
    spans = spans_of(read.facts, content=content)
    if not spans:
        raise UnknownRun(f"{name} does not hold a run's request.", why="there is nothing that a trace could begin with")
    return spans


def _send(spans: list[Span], otlp: str | None, home: Home) -> int:
    import asyncio

    from infra.settings import Telemetry
    from infra.wiring import NoTelemetry, open_traces

    settings = settings_from(home).settings.telemetry
    if otlp is None and not settings.is_on:
        raise NoTelemetry("No collector is set.", hint="--otlp http://127.0.0.1:4318, or MILEPOST_TELEMETRY_OTLP_ENDPOINT")
    given = {"otlp_endpoint": otlp} if otlp else {}
    traces = open_traces(Telemetry.model_validate(settings.model_dump() | given | {"sample": 1.0}))
    try:
        return asyncio.run(traces.deliver(spans))
    finally:
        traces.close()


def _told(span: Span) -> dict[str, object]:
    return {
        "name": span.name, "service": span.service, "trace_id": span.place.trace, "span_id": span.place.span,
        "parent_span_id": span.parent, "kind": span.kind, "start": span.start, "end": span.end, "error": span.error or None,
        "attributes": dict(span.attributes),
        "links": [{"trace_id": each.trace, "span_id": each.span} for each in span.links],
    }  # fmt: skip


def _print(spans: list[Span]) -> None:
    """A bar each, as a trace viewer draws them."""
    from infra.cli.words import say

    begun, whole = spans[0].start, max((spans[0].end - spans[0].start).total_seconds(), 1e-6)
    console().print(plain(say("trace", trace=spans[0].place.trace)))
    names = max(len(each.name) for each in spans)
    for each in spans:
        left = round(max(0.0, (each.start - begun).total_seconds()) / whole * _WIDTH)
        long = max(1, round((each.end - each.start).total_seconds() / whole * _WIDTH))
        bar = (" " * min(left, _WIDTH - 1) + "━" * long)[:_WIDTH].ljust(_WIDTH)
        took = (each.end - each.start).total_seconds()
        line = f"{each.name:<{names}}  {bar}  {took:9.3f} s  {each.service}"
        console().print(plain(line, "red" if each.error else ""), soft_wrap=True)
