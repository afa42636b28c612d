"""Every subject is built and parsed in one place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.memory_broker import matches
from schemas import subjects
from schemas.commands import COMMANDS
from schemas.errors import ProtocolError
from schemas.ids import partition_of, run_id

RUN = run_id("acme", "key", "202611")
TOKENS = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)


def test_the_grammar_never_changes_because_logs_keep_it() -> None:
    fact = subjects.fact(RUN, "acme", "tools", "c" * 32)
    assert str(fact) == f"mp.ev.202611.{partition_of(RUN)}.{RUN}.acme.tools.{'c' * 32}"
    assert str(subjects.command("tools", "cloud", "acme", RUN, "c" * 32)) == f"mp.cmd.tools.cloud.acme.{RUN}.{'c' * 32}"
    assert subjects.card("*", "cloud", "renew") == "mp.card._all.cloud.renew"


@given(TOKENS, TOKENS, TOKENS, st.sampled_from([command.role for command in COMMANDS]))
def test_what_is_built_is_parsed_back(tenant: str, slot: str, lane: str, role: str) -> None:
    fact = subjects.fact(RUN, tenant, role, slot)  # type: ignore[arg-type]
    assert subjects.parse_fact(str(fact)) == fact
    command = subjects.command(role, lane, tenant, RUN, slot)  # type: ignore[arg-type]
    assert subjects.parse_command(str(command)) == command


@pytest.mark.parametrize(
    "subject",
    ["", "mp", "mp.ev", f"mp.ev.202611.0.{RUN}.acme.tools", f"mp.ev.202611.0.{RUN}.acme.tools.slot.more",
     f"xx.ev.202611.{partition_of(RUN)}.{RUN}.acme.tools.slot", f"mp.ev.202612.{partition_of(RUN)}.{RUN}.acme.tools.slot",
     f"mp.ev.202611.{(partition_of(RUN) + 1) % 16}.{RUN}.acme.tools.slot",
     f"mp.ev.202611.{partition_of(RUN)}.{RUN}.*.tools.slot",
     f"mp.ev.202611.{partition_of(RUN)}.{RUN}.acme.tools.>"],
)  # fmt: skip
def test_what_is_no_subject_of_a_fact_is_refused(subject: str) -> None:
    with pytest.raises(ProtocolError):
        subjects.parse_fact(subject)


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "mp.cmd",
        f"mp.cmd.tools.main.acme.{RUN}",
        f"mp.cmd.tools.main.acme.run.{'c' * 32}",
        f"mp.cmd.tools.main.*.{RUN}.{'c' * 32}",
        f"mp.ev.tools.main.acme.{RUN}.{'c' * 32}",
    ],
)
def test_what_is_no_subject_of_a_command_is_refused(subject: str) -> None:
    with pytest.raises(ProtocolError):
        subjects.parse_command(subject)


def test_each_pattern_covers_what_it_says_and_no_more() -> None:
    request = str(subjects.fact(RUN, "acme", "client", "request"))
    cancel = str(subjects.fact(RUN, "acme", "client", "cancel"))
    other = str(subjects.fact(run_id("acme", "other", "202612"), "acme", "client", "request"))
    command = str(subjects.command("tools", "cloud", "acme", RUN, "c" * 32))
    covers = {
        subjects.run_subjects(RUN): {request, cancel},
        subjects.segment_subjects("202611"): {request, cancel},
        subjects.request_subjects("202611"): {request},
        subjects.role_commands("tools", "cloud"): {command},
        subjects.role_commands("tools", "builtin"): set(),
        subjects.role_commands("llm", "cloud"): set(),
        subjects.COMMAND_SUBJECTS: {command},
        subjects.stop("tools", "*"): {subjects.stop("tools", RUN)},
        subjects.delta("acme", RUN, "*"): {subjects.delta("acme", RUN, "c" * 32)},
        subjects.CARD_SUBJECTS: {subjects.card("acme", "cloud", "renew")},
        subjects.DEAD_SUBJECTS: {subjects.dead("llm")},
    }
    everything = {request, cancel, other, command}.union(*covers.values())
    for pattern, covered in covers.items():
        assert {subject for subject in everything if matches(pattern, subject)} == covered, pattern


def test_the_longest_subject_fits_into_a_line_of_the_server() -> None:
    longest = subjects.fact(RUN, "t" * 64, "conductor", "s" * 64)
    assert len(str(longest)) < 512
