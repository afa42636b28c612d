"""The composition root: the one place that knows which concrete parts a process is made of."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog

from infra import capability_keys, garbage, logs, master_key, receipt_keys
from infra.jetstream import streams
from infra.jetstream.bus import JetStreamBus
from infra.jetstream.connection import Connection, connect, hear_always
from infra.jetstream.leftovers import Leftovers
from infra.jetstream.log import JetStreamLog
from infra.jetstream.payloads import JetStreamBlobs
from infra.master_key import MasterKey
from infra.processes import announce_ready
from infra.settings import Aws, Cloud, Settings, Telemetry, load
from runtime.capability import Issuer, KeyPairs
from runtime.clock import SystemClock
from runtime.conductor import Conductor
from runtime.keyring import BusKeyring
from runtime.payloads import Payloads, SealedPayloads
from runtime.sealing import Keyring, Sealing
from runtime.service import Service, Worker, serve
from runtime.steps import CALLER_LANE, RECORDED_LANE
from runtime.timer import timer_service
from schemas import subjects
from schemas.errors import MilepostError, first_error
from schemas.tools import Beat

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from infra.postgres.engine import Role
    from infra.postgres.receipts import PostgresReceiptStore
    from infra.postgres.run_index import PostgresRunIndex
    from infra.telemetry import Traces
    from runtime.log import Stored
    from schemas.ids import RunId
    from services.llm.model import TextModel
    from services.recorder.sealing import Sealer
    from services.retrieval.embedder import Embedder
    from services.tools.gate import Gate, KeySource
    from services.tools.ledger import EffectLedger
    from services.tools.service import Toolbox
    from services.tools.shelf import Shelf
    from tool_adapters.tool import Tool

log = structlog.get_logger("infra.wiring")

Work = Coroutine[None, None, None]
SWEEP_S = 15.0
RESERVED_LANES = frozenset({"builtin", "memory", "bus", "main", RECORDED_LANE, CALLER_LANE})
"""Lanes of the stack's own hosts: nothing is imported into them."""


class NoTelemetry(MilepostError):
    """Traces are asked for, and the SDK is not installed."""


@dataclass(slots=True)
class World:
    """What every process has: settings, a connection, a log, a bus, data keys, a clock, and a name of its own."""

    settings: Settings
    connection: Connection
    log: JetStreamLog
    bus: JetStreamBus
    keyring: Keyring
    clock: SystemClock
    name: str
    readiness: list[asyncio.Event]
    ledger: EffectLedger | None = None
    traces: Traces | None = None

    def worker(self, service: Service) -> Coroutine[None, None, None]:
        """A worker for a service, whose readiness counts for the process."""
        ready = asyncio.Event()
        self.readiness.append(ready)
        return Worker(service, self.log, self.bus, self.clock, name=self.name, spans=self.traces).run(ready)


async def open_world(settings: Settings, name: str, on_closed: Callable[[], None] | None = None) -> World:
    """Connect to the bus. Raises Unreachable with what to do."""
    if settings.nats.url is None:
        raise MilepostError(
            "No bus is known.", why="neither --nats nor MILEPOST_NATS_URL is set and no stack runs here", hint="milepost up"
        )
    connection = await connect(settings.nats.url, name=name, on_closed=on_closed)
    keyring = BusKeyring(JetStreamBus(connection))
    sealing = Sealing(keyring, seal_new=settings.keys.seal)
    await hear_always(connection, subjects.forget("*"), keyring.on_forget)
    log, bus = JetStreamLog(connection, sealing), JetStreamBus(connection, sealing)
    return World(settings, connection, log, bus, keyring, SystemClock(), name, [])


def run_service(name: str, copy: int = 1) -> None:
    """Be one service in this process until SIGTERM or SIGINT. Exits 1 with a reason when it cannot go on."""
    import uvloop

    settings = load().settings
    logs.configure(name, level=settings.log_level, format=settings.log_format)
    try:
        uvloop.run(_host(settings, name, copy))
    except* MilepostError as group:
        error = first_error(group)
        log.error("cannot go on", what=error.what, why=error.why, hint=error.hint)
        sys.exit(1)


async def _host(settings: Settings, name: str, copy: int) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    if name == "cloud":
        await serve(_demo_cloud(settings), stopping)
        return
    build = BUILDERS.get(name)
    if build is None:
        raise MilepostError(f"There is no service {name!r}.", hint=f"one of {', '.join(sorted((*BUILDERS, 'cloud')))}")
    lost = asyncio.Event()
    world = await open_world(settings, f"{name}-{copy}-{os.getpid()}", on_closed=lost.set)
    try:
        if settings.telemetry.is_on:
            world.traces = open_traces(settings.telemetry, instance=world.name)
        work = await build(world)
        garbage.settle()
        announcing = asyncio.ensure_future(_announce(world))
        await serve(_together(work, lost, stopping), stopping)
        announcing.cancel()
    finally:
        await world.connection.close()
        if world.traces is not None:
            await asyncio.to_thread(world.traces.close)


async def _announce(world: World) -> None:
    for ready in world.readiness:
        await ready.wait()
    announce_ready()
    log.info("ready")


async def _together(work: list[Work], lost: asyncio.Event, stopping: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        for each in work:
            group.create_task(each)
        group.create_task(_give_up_when(lost, stopping))


async def _give_up_when(lost: asyncio.Event, stopping: asyncio.Event) -> None:
    """nats-py never comes back from a closed connection: end, so that the supervisor starts the process anew."""
    await lost.wait()
    if not stopping.is_set():
        raise MilepostError("The connection to NATS is closed for good.", why="the server refused to go on with it")


async def prepare(settings: Settings) -> None:
    """Bring database and streams up to date; safe when several processes do it at once. Raises MilepostError."""
    from infra.postgres.engine import migrate

    if settings.postgres.url:
        await migrate(settings.postgres.url)
    world = await open_world(settings, "prepare")
    try:
        await streams.ensure(world.connection, world.clock.now())
    finally:
        await world.connection.close()


# --- one builder a service ------------------------------------------------------------------------


async def _conductor(world: World) -> list[Work]:
    from infra.embedded.nats_server import check_durable

    if world.settings.nats.monitor and world.settings.nats.sync_always:
        await check_durable(world.settings.nats.monitor)
    await streams.ensure(world.connection, world.clock.now())
    issuer = Issuer(_signing_keys(world.settings), ttl_s=world.settings.capability.ttl_s)
    conductor = Conductor(
        world.log, world.bus, world.clock, name=world.name, sweep_s=SWEEP_S, issuer=issuer, traced=world.traces is not None
    )
    world.connection.on_reconnect.append(conductor.resend_all)
    ready = asyncio.Event()
    world.readiness.append(ready)
    leftovers = Leftovers(world.connection, world.log, world.bus)
    return [conductor.run(ready), world.worker(timer_service(world.clock)), leftovers.run()]


async def _llm(world: World) -> list[Work]:
    from services.llm.caller import NAME, CallerModel
    from services.llm.models import Models
    from services.llm.service import llm_service

    settings = world.settings
    calls = world.worker(llm_service(Models.of(CallerModel()), world.clock, at_once=64, lane=NAME))
    if settings.model.scripted:
        from services.llm.scripted import ScriptedModel

        scripted = Models.of(ScriptedModel.load(settings.model.scripted))
        return [world.worker(llm_service(scripted, world.clock, at_once=64)), calls]
    models = Models(settings.model.name, lambda name: bring_model(settings, name))
    return [world.worker(llm_service(models, world.clock)), calls, models.load()]


async def _retrieval(world: World) -> list[Work]:
    from infra.postgres.knowledge_index import PostgresKnowledgeIndex
    from infra.postgres.tool_index import PostgresToolIndex
    from infra.postgres.uploads import PostgresUploads
    from services.retrieval.ingestion import Ingestion
    from services.retrieval.knowledge import Knowledge
    from services.retrieval.selection import Selection
    from services.retrieval.service import retrieval_service
    from services.retrieval.tuned import for_tools

    engine, embedder, loading = open_engine(world.settings), *_embedder(world.settings)
    keeper = open_engine(world.settings, "milepost_keeper")
    selection = Selection(PostgresToolIndex(engine, for_tools(embedder).name, keeper), embedder)
    index = PostgresKnowledgeIndex(engine, embedder.name)
    knowledge = Knowledge(index, embedder, world.clock)
    ingestion = Ingestion(index, PostgresUploads(engine), embedder, world.clock)
    service = retrieval_service(selection, knowledge, embedder, ingestion)
    return [world.worker(service), selection.follow_cards(world.bus), *loading]


async def _memory(world: World) -> list[Work]:
    from infra.postgres.conversations import PostgresConversationStore
    from infra.postgres.data_keys import PostgresForgettings, PostgresKeyStore
    from infra.postgres.user_facts import PostgresFactStore
    from services.memory.forgetting import Forgetter
    from services.memory.keys import answer_for_keys
    from services.memory.over_the_bus import asking, embedding
    from services.memory.questions import Questions
    from services.memory.remember import LANE, RememberTool
    from services.memory.service import memory_service
    from services.memory.upkeep import Upkeep

    engine, embed = open_engine(world.settings), embedding(world.bus)
    store, facts = PostgresConversationStore(engine), PostgresFactStore(engine)
    upkeep = Upkeep(store, world.clock, embed=embed, ask=asking(world.log, world.bus, world.clock))
    questions = Questions(store, facts, world.clock, embed)
    service = memory_service(store, world.clock, embed=embed, upkeep=upkeep, questions=questions)
    keys = PostgresKeyStore(engine, _master_key(world.settings))
    answer_for_keys(service, keys)
    forgettings = PostgresForgettings(open_engine(world.settings, "milepost_keeper"))
    forgetter = Forgetter(keys, forgettings, store, world.log, world.bus, world.clock, name=world.name)
    forgetter.answer(service)
    toolbox = open_toolbox(world, [RememberTool(facts, world.clock)], LANE)
    work = [world.worker(service), world.worker(toolbox.service()), toolbox.upkeep(), upkeep.run(), forgetter.work()]
    await toolbox.register(world.bus)
    return work


async def _policy(world: World) -> list[Work]:
    from infra.postgres.policies import PostgresPolicyStore
    from services.policy.questions import Questions
    from services.policy.service import policy_service

    store = PostgresPolicyStore(open_engine(world.settings), open_engine(world.settings, ping=False))
    questions = Questions(store, world.clock, world.bus.tell)
    return [world.worker(policy_service(store, world.clock, journal=world.log, questions=questions))]


async def _tools(world: World) -> list[Work]:
    open_ = toolboxes(world)
    toolbox = open_(_shipped_tools(world.settings), "builtin")
    service = toolbox.service()
    imported = _imported_tools(world, service, open_)
    work = world.worker(service)
    await toolbox.register(world.bus)
    return [work, toolbox.upkeep(), imported, *_bus_tools(world, open_)]


def _imported_tools(world: World, service: Service, open_: OpenToolbox) -> Work:
    """The hosts of what was imported. service: answers the questions about it."""
    from infra.postgres.tool_sources import PostgresSourceStore
    from infra.tool_kinds import Surroundings, open_source
    from runtime.client import Client
    from services.tools.hosting import Hosting
    from services.tools.source_questions import SourceQuestions
    from tool_adapters.agent import AT_ONCE as AGENTS_AT_ONCE
    from tool_adapters.agent import LANE as AGENT_LANE

    store = PostgresSourceStore(open_engine(world.settings), open_engine(world.settings, "milepost_keeper"))
    SourceQuestions(store, world.bus, RESERVED_LANES).answer(service)
    around = Surroundings(
        world.settings.home, world.bus, lambda tenant, user: Client(world.log, world.bus, world.clock, tenant=tenant, user=user)
    )

    async def host(shelf: Shelf, lane: str) -> None:
        toolbox = open_(shelf, lane, hears=False)  # the host of the built-in tools hears for all of the process
        service = toolbox.service()
        if lane.startswith(AGENT_LANE):
            service.at_once = AGENTS_AT_ONCE
        async with asyncio.TaskGroup() as group:
            worker = Worker(service, world.log, world.bus, world.clock, name=world.name, spans=world.traces)
            group.create_task(worker.run())
            group.create_task(toolbox.upkeep())

    ready = asyncio.Event()
    world.readiness.append(ready)
    return Hosting(store, world.bus, lambda source: open_source(source, around), host).run(ready)


def _bus_tools(world: World, open_: OpenToolbox) -> list[Work]:
    """The host of tools that answer on subjects by themselves."""
    from infra.jetstream.listeners import tools_heard
    from services.tools import bus_host

    monitor = world.settings.nats.monitor
    listeners = bus_host.Listeners(lambda: tools_heard(monitor))
    toolbox = open_(bus_host.BusShelf(world.bus), bus_host.LANE, hears=False)
    service = toolbox.service()
    service.pulse = listeners.beside(service.pulse or Beat)
    return [world.worker(service), toolbox.upkeep(), listeners.watch()]


async def _recorder(world: World) -> list[Work]:
    from services.recorder.service import Recorder

    sealer = _sealer(world)
    recorder = Recorder(world.log, open_run_index(world), sealer)
    service = recorder.service()
    work = [_shadows(world, service), world.worker(service), recorder.record(), sealer.work(), *_forks(world)]
    return [*work, world.traces.follow(world.log)] if world.traces else work


def _shadows(world: World, service: Service) -> Work:
    """What keeps shadows running, beside this process. service: answers the questions about them."""
    from infra.postgres.shadows import PostgresShadowStore
    from infra.shadow.keeping import ShadowKeeper
    from infra.shadow.questions import ShadowQuestions

    store = PostgresShadowStore(open_engine(world.settings), open_engine(world.settings, "milepost_keeper"))
    keeper = ShadowKeeper(store, world.settings)
    ShadowQuestions(store, world.clock, keeper.changed).answer(service)
    return keeper.run()


def _sealer(world: World) -> Sealer:
    """What gives runs their receipts."""
    from infra.checkpoint_files import CheckpointFiles, checkpoint_folder
    from services.recorder.sealing import Sealer

    said, shelf = world.settings.receipts, CheckpointFiles(checkpoint_folder(world.settings))
    keys = _receipt_keys(world.settings)
    return Sealer(world.log, open_receipts(world), keys, world.clock, shelf, every=said.every, every_s=said.every_s)


def _forks(world: World) -> list[Work]:
    """What copies into forks what the runs that they leave were told, and answers their calls."""
    from infra.archive.whole import whole_log
    from infra.exports.imported import open_imported
    from services.recorder.forking import Forker
    from services.recorder.recorded_lane import recorded_lane

    whole = whole_log(world.log, world.keyring, world.settings.archive)

    async def past(run: RunId) -> Sequence[tuple[Stored, bytes]]:
        facts = await whole.read_both(run)
        imported = None if facts else await asyncio.to_thread(open_imported, world.settings.home, run)
        return imported.both if imported else facts

    forker = Forker(world.log, past, world.clock, name=world.name)
    return [forker.run(), world.worker(recorded_lane(world.log, past))]


async def _gateway(world: World) -> list[Work]:
    from infra.gateway.wiring import gateway_work

    return await gateway_work(world)


BUILDERS: dict[str, Callable[[World], Awaitable[list[Work]]]] = {
    "conductor": _conductor,
    "llm": _llm,
    "retrieval": _retrieval,
    "memory": _memory,
    "policy": _policy,
    "tools": _tools,
    "recorder": _recorder,
    "gateway": _gateway,
}


# --- parts ----------------------------------------------------------------------------------------


def open_engine(settings: Settings, role: Role = "milepost_service", *, ping: bool = True) -> AsyncEngine:
    """The database as a role that owns none of its tables."""
    from infra.postgres import engine

    if settings.postgres.url is None:
        raise MilepostError(
            "No Postgres is known.", why="neither --postgres nor MILEPOST_POSTGRES_URL is set", hint="milepost up"
        )
    login = settings.postgres.service_url if role == "milepost_service" else settings.postgres.keeper_url
    return engine.connect(login, ping=ping) if login else engine.connect(settings.postgres.url, role=role, ping=ping)


def master_key_file(settings: Settings) -> Path:
    """Where the master key stands if it is not given."""
    return settings.keys.file or settings.home / master_key.FILE


def _master_key(settings: Settings) -> MasterKey:
    given = settings.keys.master.get_secret_value() if settings.keys.master else None
    return master_key.master_key(given, master_key_file(settings))


def capability_file(settings: Settings) -> Path:
    """Where the key that signs capabilities stands if it is not given; its public halves stand beside it."""
    return settings.capability.file or settings.home / capability_keys.FILE


def _receipt_keys(settings: Settings) -> receipt_keys.RecorderKeys:
    """The recorder's keys: given, or in their file, which is made if it is nobody's to bring."""
    given, file = settings.receipts.key, receipt_keys.key_file(settings)
    file.parent.mkdir(parents=True, exist_ok=True)
    if given is None and settings.receipts.file is None:
        receipt_keys.make_receipt_keys(file)
    return receipt_keys.RecorderKeys(file, given.get_secret_value() if given else None)


def _signing_keys(settings: Settings) -> KeyPairs:
    """The conductor's keys: given, or in their file, which is made if it is nobody's to bring."""
    given, file = settings.capability.key, capability_file(settings)
    if given is None and settings.capability.file is None:
        file.parent.mkdir(parents=True, exist_ok=True)
        capability_keys.make_capability_keys(file)
    pairs = capability_keys.GivenKey(given.get_secret_value()) if given else capability_keys.KeysInFiles(file)
    try:
        capability_keys.publish(file, pairs.signing())
    except OSError as error:
        log.warning("public keys not written", why=str(error), next="set MILEPOST_CAPABILITY_KEYS where tools are hosted")
    return pairs


def _public_keys(world: World) -> KeySource:
    """The keys that a host of tools trusts: those that are set, those of its data directory, or those that the bus tells."""
    from services.tools.gate import keys_from_the_bus

    pinned, file = world.settings.capability.keys, capability_keys.public_file(capability_file(world.settings))
    told = keys_from_the_bus(world.bus)

    async def source() -> Mapping[str, bytes]:
        if pinned:
            return capability_keys.parsed(pinned)
        return capability_keys.read_public(file) or await told()

    return source


def open_gate(world: World, ledger: EffectLedger, *, tenant: str = "*") -> Gate:
    """The gate of a host of tools: it verifies what the conductor signs, and hears what is taken back."""
    from services.tools.gate import Gate
    from services.tools.revocations import Revocations

    return Gate(_public_keys(world), world.bus, world.clock, Revocations(world.bus, tenant=tenant), ledger)


def open_run_index(world: World) -> PostgresRunIndex:
    """The index of the log, of all tenants."""
    from infra.postgres.run_index import PostgresRunIndex

    return PostgresRunIndex(open_engine(world.settings, "milepost_keeper"))


def open_receipts(world: World) -> PostgresReceiptStore:
    """The receipts of all tenants."""
    from infra.postgres.receipts import PostgresReceiptStore

    return PostgresReceiptStore(open_engine(world.settings, "milepost_keeper"))


def open_payloads(world: World) -> Payloads:
    """The bytes that results refer to."""
    return SealedPayloads(JetStreamBlobs(world.connection), world.keyring)


def open_ledger(world: World) -> EffectLedger:
    """The ledger that every tool host of the stack shares; a process opens it once, for the sake of its connections."""
    from infra.postgres.effects import PostgresEffectLedger

    if world.ledger is None:
        service, keeper = open_engine(world.settings, ping=False), open_engine(world.settings, "milepost_keeper")
        world.ledger = PostgresEffectLedger(service, keeper)
    return world.ledger


class OpenToolbox(Protocol):
    """Makes a host of tools with all that it needs; its worker and its upkeep are to be run. hears: its worker hears what the
    gate must know; of hosts that share one, one is enough."""

    def __call__(self, tools: Iterable[Tool] | Shelf, lane: str, *, hears: bool = True) -> Toolbox: ...


def toolboxes(world: World, *, tenant: str = "*") -> OpenToolbox:
    """Makes the hosts of one process: they share ledger, gate and payloads."""
    from services.tools.argument_secrets import Secrets
    from services.tools.service import Toolbox

    ledger, payloads, secrets = open_ledger(world), open_payloads(world), Secrets(world.settings.home / "secrets")
    gate = open_gate(world, ledger, tenant=tenant)

    def make(tools: Iterable[Tool] | Shelf, lane: str, *, hears: bool = True) -> Toolbox:
        return Toolbox(
            tools, ledger, world.clock, lane=lane, tenant=tenant, gate=gate, hears=gate.hears if hears else None,
            payloads=payloads, secrets=secrets, journal=world.log, name=world.name,
        )  # fmt: skip

    return make


def open_toolbox(world: World, tools: Iterable[Tool] | Shelf, lane: str, *, tenant: str = "*") -> Toolbox:
    """A host of tools alone in its process, or beside others that are of another kind."""
    return toolboxes(world, tenant=tenant)(tools, lane)


def open_traces(settings: Telemetry, *, instance: str = "") -> Traces:
    """What sends spans. Raises NoTelemetry, BadHeaders."""
    try:
        from infra.telemetry import Traces
    except ImportError as error:
        raise NoTelemetry(
            "Traces are on, and OpenTelemetry is not installed.", why=str(error), hint="pip install 'milepost[otel]'"
        ) from error
    return Traces(settings, instance=instance)


async def bring_model(settings: Settings, name: str) -> TextModel:
    """A language model by its name: a remote one, or one that is fetched and built here if need be, which may take minutes.

    Raises UnknownModel, and what goes wrong on the way.
    """
    from infra.models.build import build, precision_for
    from infra.models.catalogue import find
    from infra.models.fetch import ensure
    from infra.models.remote import remotes
    from services.llm.onnx_model import OnnxModel

    home = settings.model.home
    if remote := remotes(home).get(name):
        from services.llm.openai_model import Endpoint, OpenAIModel

        return OpenAIModel(name, Endpoint(remote.base_url, remote.model, remote.key(name), remote.timeout_s))
    await ensure(name, home=home, offline=settings.model.offline, folder=settings.model.folder)
    precision = precision_for(find(name, home), settings.model.precision, settings.model.provider)
    folder = await build(name, home, precision)
    return await asyncio.to_thread(
        OnnxModel.load, folder, slots=settings.model.streams, context=settings.model.context,
        threads=settings.model.threads, provider=settings.model.provider, speculate=settings.model.speculate,
    )  # fmt: skip


def _embedder(settings: Settings) -> tuple[Embedder, list[Work]]:
    """The embedder and the work of loading it; for scripted stacks one that knows spelling only."""
    from services.retrieval.embedder import E5_SMALL, HashEmbedder
    from services.retrieval.loading import LoadingEmbedder

    if settings.model.scripted:
        return HashEmbedder(), []

    async def bring() -> Embedder:
        from services.retrieval.e5 import E5Embedder

        folder = await embedder_folder(settings.model.home, offline=settings.model.offline)
        return await asyncio.to_thread(E5Embedder, folder)

    embedder = LoadingEmbedder(E5_SMALL, bring)
    return embedder, [embedder.load()]


async def embedder_folder(home: Path, *, offline: bool) -> Path:
    """The folder of the built embedder, fetched and built if need be."""
    from infra.models.build import build
    from infra.models.fetch import ensure

    await ensure("multilingual-e5-small", home=home, offline=offline)
    return await build("multilingual-e5-small", home)


def _shipped_tools(settings: Settings) -> list[Tool]:
    from tool_adapters.builtin import builtin_tools
    from tool_adapters.library import library_tools
    from tool_adapters.library.access import Access

    tools = [*builtin_tools(), *library_tools(Access.of(os.environ)), *_ecs_tools(settings.cloud)]
    if settings.aws.is_wanted:
        tools.extend(_aws_tools(settings.aws))
    return tools


def _ecs_tools(cloud: Cloud) -> list[Tool]:
    """They are there without keys, too, and then say what to set; not without the SDK that their cards come from."""
    from tool_adapters.aliyun.client import EcsConfig
    from tool_adapters.aliyun.ecs import ecs_tools
    from tool_adapters.tool import InvalidTool

    secret = cloud.access_key_secret.get_secret_value() if cloud.access_key_secret else None
    config = EcsConfig(
        region=cloud.region, endpoint=cloud.endpoint, protocol=cloud.protocol, access_key_id=cloud.access_key_id,
        access_key_secret=secret,
    )  # fmt: skip
    try:
        return ecs_tools(config)
    except InvalidTool as error:
        if cloud.endpoint or cloud.access_key_id:
            raise
        log.info("no tools for Alibaba Cloud", why=error.what, hint=error.hint)
        return []


def _aws_tools(aws: Aws) -> list[Tool]:
    from tool_adapters.aws.client import AwsConfig
    from tool_adapters.aws.ec2 import ec2_tools

    secret = aws.access_key_secret.get_secret_value() if aws.access_key_secret else None
    config = AwsConfig(aws.region, aws.endpoint, aws.access_key_id, secret)
    return ec2_tools(aws.region, lambda: config)


async def _demo_cloud(settings: Settings) -> None:
    from infra.demo_cloud.server import DEMO_ACCESS_KEY_ID, DEMO_ACCESS_KEY_SECRET, running
    from infra.local_stack import CLOUD_PORT

    host, _, port = (settings.cloud.endpoint or "").rpartition(":")
    keys = {DEMO_ACCESS_KEY_ID: DEMO_ACCESS_KEY_SECRET}
    state, pace_s = settings.home / "demo-cloud.sqlite", settings.cloud.demo_pace_s
    async with running(host, int(port), state, keys, transition_s=pace_s):
        (settings.home / CLOUD_PORT).write_text(port)
        announce_ready()
        await asyncio.Event().wait()
