"""Evaluations: a model or an agent asked a benchmark's items, its figures, and two of them side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer
from typer.core import TyperGroup

from infra.cli.evaluating_shown import KEPT, Data, Html, Out, Part, as_data, compare, results, show, write_report
from infra.cli.evaluating_shown import tell as tell_result
from infra.cli.evaluating_votes import vote, votes
from infra.cli.options import Home, Json, settings_from
from infra.cli.show import as_json, console, plain, print_json, print_table, show_error, use_json
from infra.cli.words import say, use_language
from infra.evaluation import LONGEST
from schemas.errors import MilepostError

if TYPE_CHECKING:
    from typer._click.core import Context

    from infra.evaluation.result import Result
    from infra.evaluation.running import Progress
    from infra.evaluation.wiring import Subject, Wanted
    from infra.settings import Settings
    from schemas.agent import AgentSpec

INTERRUPTED = 130
_RUN = "run"


class _OrBenchmark(TyperGroup):
    """`eval BENCHMARK` runs; `eval ls|run|show|compare|...` are words of their own."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        first = args[0] if args else "--help"
        known = first in self.commands or first in ("--help", "--install-completion", "--show-completion")
        return super().parse_args(ctx, args if known else [_RUN, *args])


evaluations = typer.Typer(
    cls=_OrBenchmark, no_args_is_help=True,
    help="Examine models and agents: `milepost eval BENCHMARK --model NAME` (`eval run --help`), `eval compare`, `eval vote`.",
)  # fmt: skip


class Found(StrEnum):
    """Where tools stand in the prompt."""

    system = "system"
    request = "request"


class WireName(StrEnum):
    """How tools are shown and calls are written; model: as the model is used to."""

    model = "model"
    json = "json"
    hermes = "hermes"
    openai = "openai"
    msagent = "msagent"
    mrkl = "mrkl"
    chatglm3 = "chatglm3"


class VariantName(StrEnum):
    """How tools are shown otherwise: other names, other names of parameters, another order, or more of them."""

    renamed = "renamed"
    parameters = "parameters"
    shuffled = "shuffled"
    distractors = "distractors"


Which = Annotated[
    list[str], typer.Argument(help="Benchmarks of `eval ls`, parts of them (bfcl:live), or all.", show_default=False)
]


def add_to(app: typer.Typer) -> None:
    """Add this file's commands."""
    evaluations.command(_RUN)(run)
    evaluations.command("ls")(list_)
    for command in (results, show, compare, vote, votes):
        evaluations.command()(command)
    app.add_typer(evaluations, name="eval")


# --- examining --------------------------------------------------------------------------------------


def run(
    names: Which, part: Part = "",
    model: Annotated[str, typer.Option(help="`default`, or a model of `milepost models ls`.", show_default=False)] = "",
    folder: Annotated[Path | None, typer.Option(help="A folder that `models build` wrote.", show_default=False)] = None,
    endpoint: Annotated[str, typer.Option(help="An OpenAI-compatible base URL.", show_default=False)] = "",
    name_there: Annotated[str, typer.Option("--name", help="With --endpoint: the model there.", show_default=False)] = "",
    key_env: Annotated[str, typer.Option(help="With --endpoint: the variable with its key.", show_default=False)] = "",
    agent: Annotated[
        Path | None, typer.Option(help="An agent of the running stack: its file, or NAME[@VERSION].", show_default=False)
    ] = None,
    own_tools: Annotated[bool, typer.Option("--own-tools", help="With --agent: its own tools, not the items'.")] = False,
    label: Annotated[str, typer.Option("--as", help="What to call who is examined.", show_default=False)] = "",
    data: Data = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="So many items, drawn.", show_default=False)] = None,
    each: Annotated[int | None, typer.Option(min=1, help="So many items of each group.", show_default=False)] = None,
    draw: Annotated[int, typer.Option(min=0, help="Another number, another draw.")] = 0,
    free: Annotated[bool, typer.Option("--free", help="Unconstrained: the model writes what it likes.")] = False,
    always: Annotated[bool, typer.Option("--always", help="Always call, to see calls apart from the decision.")] = False,
    found: Annotated[Found, typer.Option(help="Where the tools stand.")] = Found.system,
    wire: Annotated[WireName, typer.Option(help="How tools and calls are written.")] = WireName.model,
    variant: Annotated[
        VariantName | None, typer.Option(help="Show the tools otherwise, to see what hangs on it.", show_default=False)
    ] = None,
    longest: Annotated[int, typer.Option(min=1, max=8192, help="Tokens of a reply at most.")] = LONGEST,
    no_leaning: Annotated[bool, typer.Option("--no-leaning", help="Without retrieval's view of a request.")] = False,
    precision: Annotated[str, typer.Option(help="Of a local model.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Of a local model.", show_default=False)] = None,
    slots: Annotated[int | None, typer.Option(min=1, max=256, help="Items side by side.", show_default=False)] = None,
    context: Annotated[int | None, typer.Option(min=256, help="Tokens of prompt and reply.", show_default=False)] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that an item may take.")] = 300.0,
    price: Annotated[str, typer.Option(help="Of a million tokens, read/written: '0.15/0.60 USD'.", show_default=False)] = "",
    fresh: Annotated[bool, typer.Option("--fresh", help="Ask again what was answered before.")] = False,
    out: Out = KEPT, html: Html = None, home: Home = None, json: Json = False,
) -> None:  # fmt: skip
    """Examine a model or an agent with a benchmark.

    What was answered is kept: the same command goes on where it was stopped, and asks nothing twice. Exit code: 0 done, 1 it
    cannot be done or too many items got no reply, 130 stopped.
    """
    from infra.evaluation.result import How
    from infra.evaluation.speakers import Price
    from infra.evaluation.wiring import Subject, Wanted

    use_json(json)
    settings = settings_from(home).settings
    use_language(settings.language)
    _one_of(model=model, folder=folder, endpoint=endpoint, agent=agent)
    spec = _agent(agent, home)
    how = How(
        constrained=not free, calls="required" if always else "auto", found=found.value, wire=wire.value, longest=longest,
        own_tools=own_tools, variant=variant.value if variant else "",
    )  # fmt: skip
    cost = Price.parse(price) if price else None
    subject = Subject(model, folder, endpoint, spec, name_there, key_env, label, precision, not no_leaning, cost)
    wanted = Wanted(data, part, limit, each, draw, how, slots, timeout, threads, context, fresh)
    if names == ["all"]:
        names = _all(data)
    _check_several(names, part, html)
    if _examine_all(subject, names, wanted, settings, out, html):
        raise typer.Exit(1)


def _agent(named: Path | None, home: Path | None) -> AgentSpec | None:
    """The agent that is meant, if any is. Raises what is said of agents."""
    if named is None:
        return None
    from infra.cli.agents import agent_named

    return agent_named(named, (), home)


def _all(data: Path | None) -> list[str]:
    """The benchmarks whose data are here; the others are told."""
    from infra.evaluation.wiring import all_there, known

    names = all_there(data)
    if left := [each.name for each in known() if each.name not in names]:
        console(stderr=True).print(plain(say("eval left out", names=", ".join(left)), "yellow"))
    return names


def _one_of(**given: object) -> None:
    named = [f"--{name}" for name, value in given.items() if value]
    if len(named) > 1:
        raise MilepostError(f"{' and '.join(named)} name different ones to examine.", hint="give one of them")


def _check_several(names: Sequence[str], part: str, html: Path | None) -> None:
    if len(names) > 1 and (part or html):
        option, instead = ("--part", "bfcl:live") if part else ("--html", "milepost eval show RESULT --html FILE")
        raise MilepostError(f"{option} is of one benchmark, and {len(names)} are named.", hint=instead)


def _examine_all(
    subject: Subject, names: Sequence[str], wanted: Wanted, settings: Settings, out: Path, html: Path | None
) -> int:
    """One benchmark after the other with the same speaker; how many failed. What cannot be asked at all is refused before."""
    import asyncio

    from infra import logs
    from infra.evaluation.wiring import examine, questions_of, speaking

    logs.configure("client", level="error")
    all_of = [questions_of(name, wanted) for name in names]
    found: list[tuple[Path, Result]] = []
    failed: list[MilepostError] = []

    async def work() -> None:
        async with speaking(subject, wanted, settings) as (speaker, how):
            for each in all_of:
                try:
                    with _bar(f"{each.benchmark.name} {each.part}") as tell:
                        found.append(await examine(each, speaker, how, wanted, out=out, tell=tell))
                except MilepostError as error:
                    if len(all_of) == 1:
                        raise
                    failed.append(error)
                    show_error(error)
                    continue
                if not as_json():
                    tell_result(*found[-1], html)

    try:
        asyncio.run(work())
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    if as_json():
        if html is not None:
            write_report(*found[0], html)
        told = [as_data(*each) for each in found]
        print_json(told[0] if len(all_of) == 1 else told)
    return len(failed)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[Progress], None]]:
    """Progress on a terminal; who interrupts is told how to go on."""
    from rich import progress as bars

    out = console(stderr=True)
    last: list[Progress] = []
    columns = (
        bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn(), bars.TimeElapsedColumn(),
        bars.TimeRemainingColumn(),
    )  # fmt: skip
    with bars.Progress(*columns, console=out, transient=True, disable=as_json() or not out.is_terminal) as shown:
        task = shown.add_task(what, total=None)

        def tell(far: Progress) -> None:
            last[:] = [far]
            about = say("eval bar", what=what, right=far.right, troubled=far.troubled)
            shown.update(task, description=about, total=far.of, completed=far.done)

        try:
            yield tell
        except BaseException as error:
            shown.stop()
            if last and not isinstance(error, MilepostError) and not as_json():
                out.print(plain(say("eval interrupted", done=last[0].done, all=last[0].of), "yellow"))
            raise


# --- looking ----------------------------------------------------------------------------------------


class _Listed(TypedDict):
    """A benchmark as it is listed. here: whether its items can be read."""

    name: str
    title: str
    source: str
    parts: list[str]
    languages: list[str]
    data: str
    here: bool


def list_(data: Data = None, json: Json = False) -> None:
    """List the benchmarks: what they measure, their parts, and whether their data are here."""
    from infra.evaluation.wiring import is_there, known

    use_json(json)
    found: list[_Listed] = []
    for each in known():
        found.append({
            "name": each.name, "title": each.title, "source": each.source, "parts": list(each.parts),
            "languages": list(each.languages), "data": each.data, "here": is_there(each, data),
        })  # fmt: skip
    if as_json():
        print_json(found)
        return
    states = {True: plain(say("eval there"), "green"), False: plain(say("eval not there"), "yellow")}
    rows = [
        (
            plain(each["name"], "bold"), states[each["here"]], "/".join(each["languages"]), _short_parts(each["parts"]),
            each["title"],
        )
        for each in found
    ]  # fmt: skip
    columns = ("benchmark", "data", "languages", "parts", "title")
    print_table([say(f"eval ls {each}") for each in columns], rows, spare=(say("eval ls languages"),))
    if data is None:
        console(stderr=True).print(plain(say("eval where data"), "dim"))


def _short_parts(parts: Sequence[str]) -> str:
    return ", ".join(parts[:3]) + (f" +{len(parts) - 3}" if len(parts) > 3 else "")
