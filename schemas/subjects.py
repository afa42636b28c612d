"""Every subject, built and parsed here and nowhere else.

Facts     mp.ev.{segment}.{partition}.{run}.{tenant}.{role}.{slot}
Commands  mp.cmd.{role}.{lane}.{tenant}.{run}.{command}
Asks      mp.ask.{tenant}.{run}.{command}          a person is asked (core; the log holds the truth)
Deltas    mp.delta.{tenant}.{run}.{command}        text as it is generated (core)
Missed    mp.missed.{tenant}.{run}.{command}       a listener missed text: say it again from there (core)
Busy      mp.busy.{tenant}.{run}.{command}         the model takes no more for now (core)
Stops     mp.stop.{role}.{run}                     a run was cancelled: give up its work (core)
Revokes   mp.revoke.{tenant}                       rights to call were taken back, or given again (core)
Tools     mp.tool.{tenant}.{tool}                  a call of a tool that answers by itself (core request and reply)
Sources   mp.sources.{tenant}                      tools were imported or dropped: look what there is to host (core)
Forgets   mp.forget.{tenant}                       data keys were destroyed: drop what was opened with them (core)
Cards     mp.card.{tenant}.{lane}.{tool}           a tool and its host, last value kept
Beats     mp.beat.{lane}                           a host of tools lives (core)
Refused   mp.refused.{tenant}.{lane}.{tool}        the catalogue did not take a card (core)
Embedding mp.embedding.{process}                   which texts a process gives vectors to, so that others do not (core)
Services  mp.svc.{role}.{verb}                     questions to a service (core request and reply)
Cohorts   mp.cohort.work.{cohort}.{n}              runs that are to be driven again, a work queue
          mp.cohort.done.{cohort}.{n}              what that came to: one result an item
Dead      mp.dead.{role}                           what could not be read, as it came

The slot of a fact is the id of the command it answers, or one of request, cancel, release, end, seal. Since a slot's
subject takes one message for ever, a command has one result and a run has one end.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from schemas.commands import Role
from schemas.errors import ProtocolError
from schemas.ids import RunId, checked_run, checked_token, partition_of, segment_of_run

ROOT = "mp"
COMMAND_STREAM = "COMMANDS"
CARD_STREAM = "CARDS"
DEAD_STREAM = "DEAD"
COHORT_STREAM = "COHORTS"
RUN_STREAM_PREFIX = "RUNS_"

COMMAND_SUBJECTS = f"{ROOT}.cmd.>"
CARD_SUBJECTS = f"{ROOT}.card.>"
DEAD_SUBJECTS = f"{ROOT}.dead.>"
COHORT_SUBJECTS = f"{ROOT}.cohort.>"
COHORT_WORK = f"{ROOT}.cohort.work.>"


@dataclass(frozen=True, slots=True)
class FactSubject:
    """Where one fact stands."""

    run: RunId
    tenant: str
    role: str
    slot: str

    def __str__(self) -> str:
        return f"{_run_head(self.run)}.{self.tenant}.{self.role}.{self.slot}"


@lru_cache(maxsize=256)  # facts of one run come one after another
def _run_head(run: RunId) -> str:
    return f"{ROOT}.ev.{segment_of_run(run)}.{partition_of(run)}.{run}"


@dataclass(frozen=True, slots=True)
class CommandSubject:
    """Where one command waits."""

    role: str
    lane: str
    tenant: str
    run: RunId
    command: str

    def __str__(self) -> str:
        return f"{ROOT}.cmd.{self.role}.{self.lane}.{self.tenant}.{self.run}.{self.command}"


def fact(run: RunId, tenant: str, role: Role, slot: str) -> FactSubject:
    """The checked place of a fact."""
    return FactSubject(checked_run(run), checked_token(tenant, "tenant"), role, checked_token(slot, "slot"))


def command(role: Role, lane: str, tenant: str, run: RunId, command_id: str) -> CommandSubject:
    """The checked place of a command."""
    lane, tenant = checked_token(lane, "lane"), checked_token(tenant, "tenant")
    return CommandSubject(role, lane, tenant, checked_run(run), checked_token(command_id, "command id"))


def parse_fact(subject: str) -> FactSubject:
    """The parts of a fact's subject; ProtocolError if it is none, or names a wrong segment or partition."""
    tokens = subject.split(".")
    if len(tokens) != 8 or tokens[:2] != [ROOT, "ev"]:
        raise ProtocolError(f"{subject!r} is no subject of a fact.")
    parsed = FactSubject(checked_run(tokens[4]), checked_token(tokens[5]), checked_token(tokens[6]), checked_token(tokens[7]))
    if str(parsed) != subject:
        raise ProtocolError(f"{subject!r} has a segment or partition that its run does not have.")
    return parsed


def parse_command(subject: str) -> CommandSubject:
    """The parts of a command's subject; ProtocolError if it is none."""
    tokens = subject.split(".")
    if len(tokens) != 7 or tokens[:2] != [ROOT, "cmd"]:
        raise ProtocolError(f"{subject!r} is no subject of a command.")
    return CommandSubject(
        checked_token(tokens[2]), checked_token(tokens[3]), checked_token(tokens[4]), checked_run(tokens[5]),
        checked_token(tokens[6]),
    )  # fmt: skip


def run_stream(segment: str) -> str:
    """The stream that holds a segment's runs."""
    return f"{RUN_STREAM_PREFIX}{checked_token(segment, 'segment')}"


def segment_subjects(segment: str) -> str:
    """Every fact of a segment."""
    return f"{ROOT}.ev.{checked_token(segment, 'segment')}.>"


def partition_subjects(segment: str, partition: int) -> str:
    """Every fact of a partition of a segment."""
    return f"{ROOT}.ev.{checked_token(segment, 'segment')}.{partition}.>"


def run_subjects(run: RunId) -> str:
    """Every fact of a run."""
    return f"{ROOT}.ev.{segment_of_run(run)}.{partition_of(run)}.{checked_run(run)}.>"


def request_subjects(segment: str) -> str:
    """The first fact of every run of a segment."""
    return f"{ROOT}.ev.{checked_token(segment, 'segment')}.*.*.*.client.request"


def facts_of_tenant(tenant: str) -> str:
    """Every fact of a tenant's runs, in whatever segment."""
    return f"{ROOT}.ev.*.*.*.{checked_token(tenant, 'tenant')}.>"


def end_subjects(segment: str) -> str:
    """The end of every run of a segment."""
    return f"{ROOT}.ev.{checked_token(segment, 'segment')}.*.*.*.conductor.end"


def role_commands(role: Role, lane: str) -> str:
    """Every command that waits for a role's lane."""
    return f"{ROOT}.cmd.{role}.{checked_token(lane, 'lane')}.>"


def ask(tenant: str, run: RunId, command_id: str) -> str:
    """Where a person hears that a run waits for an approval."""
    return f"{ROOT}.ask.{checked_token(tenant)}.{checked_run(run)}.{checked_token(command_id)}"


def asks(tenant: str) -> str:
    """Where it is heard that any run of a tenant waits for an approval."""
    return f"{ROOT}.ask.{checked_token(tenant, 'tenant')}.>"


def delta(tenant: str, run: RunId, command_id: str) -> str:
    """Where the text of one generation is heard as it comes; `*` for the command hears all of a run."""
    return _heard("delta", tenant, run, command_id)


def missed(tenant: str, run: str, command_id: str) -> str:
    """Where a listener says which text it missed; `*` for all three hears every listener."""
    return _heard("missed", tenant, run, command_id)


def busy(tenant: str, run: str, command_id: str) -> str:
    """Where a run hears that its model takes no more for now; `*` for the command hears all of a run."""
    return _heard("busy", tenant, run, command_id)


def _heard(kind: str, tenant: str, run: str, command_id: str) -> str:
    checked = (
        "*" if tenant == "*" else checked_token(tenant), "*" if run == "*" else checked_run(run),
        "*" if command_id == "*" else checked_token(command_id),
    )  # fmt: skip
    return ".".join((ROOT, kind, *checked))


def stop(role: Role | str, run: str) -> str:
    """Where a service hears that a run was cancelled; `*` for the run hears all."""
    return f"{ROOT}.stop.{role}.{run if run == '*' else checked_run(run)}"


def forget(tenant: str) -> str:
    """Where every process hears which data keys were destroyed; `*` for the tenant hears all."""
    return f"{ROOT}.forget.{tenant if tenant == '*' else checked_token(tenant, 'tenant')}"


def revoke(tenant: str) -> str:
    """Where every host hears which rights to call were taken back; `*` for the tenant hears all."""
    return f"{ROOT}.revoke.{tenant if tenant == '*' else checked_token(tenant, 'tenant')}"


def tool(tenant: str, name: str) -> str:
    """Where a tool that answers by itself is asked; the tenant is `*` for one that is everybody's."""
    return f"{ROOT}.tool.{'_all' if tenant == '*' else checked_token(tenant, 'tenant')}.{checked_token(name, 'tool name')}"


def sources(tenant: str) -> str:
    """Where every host of imported tools hears that a tenant's have changed; `*` hears of all."""
    return f"{ROOT}.sources.{tenant if tenant == '*' else checked_token(tenant, 'tenant')}"


def card(tenant: str, lane: str, tool: str) -> str:
    """Where a tool's card stands; the last one counts."""
    owner = "_all" if tenant == "*" else checked_token(tenant, "tenant")
    return f"{ROOT}.card.{owner}.{checked_token(lane, 'lane')}.{checked_token(tool, 'tool name')}"


def card_owner(token: str) -> str:
    """The tenant whose card it is, `*` for all, from its token."""
    return "*" if token == "_all" else token


def card_pattern(tenant: str, lane: str, tool: str) -> str:
    """Where the card of a tool stands; `*` for the tool covers all of the lane."""
    return card(tenant, lane, "x").removesuffix("x") + "*" if tool == "*" else card(tenant, lane, tool)


def beat(lane: str) -> str:
    """Where a host of tools gives its signs of life; `*` hears all."""
    return f"{ROOT}.beat.{lane if lane == '*' else checked_token(lane, 'lane')}"


def refused(card_subject: str) -> str:
    """Where whoever published a card hears that it was not taken."""
    return f"{ROOT}.refused.{card_subject.removeprefix(f'{ROOT}.card.')}"


def refused_of(lane: str) -> str:
    """Where a host hears of all its refused cards; `*` hears of everybody's."""
    return f"{ROOT}.refused.*.{lane if lane == '*' else checked_token(lane, 'lane')}.*"


def embedding(process: str) -> str:
    """Where a process says which texts it gives vectors to; `*` hears all."""
    return f"{ROOT}.embedding.{process if process == '*' else checked_token(process)}"


def question(role: Role, verb: str) -> str:
    """Where a service answers questions."""
    return f"{ROOT}.svc.{role}.{checked_token(verb)}"


def dead(role: str) -> str:
    """Where messages go that nobody could read."""
    return f"{ROOT}.dead.{checked_token(role)}"


def cohort_work(cohort: str, item: int | Literal["*"]) -> str:
    """Where an item of a cohort waits to be worked on; `*` names all of them."""
    return f"{ROOT}.cohort.work.{checked_token(cohort, 'cohort')}.{item}"


def cohort_done(cohort: str, item: int | Literal["*"]) -> str:
    """Where the result of an item waits to be kept; `*` names all of them."""
    return f"{ROOT}.cohort.done.{checked_token(cohort, 'cohort')}.{item}"
