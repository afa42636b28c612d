from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from schemas import subjects
from schemas.asyncapi import PLACES, ROLES, answers_to, document, markdown, stated_by, tokens_of
from schemas.commands import COMMANDS, EndRun, Generate, RequestApproval
from schemas.envelope import encode, speakers
from schemas.events import EVENTS, Answered
from schemas.ids import CommandId
from tests.support.builders import order_for, ready, run_of
from tests.support.drawn_run import play

PAGE = Path(__file__).parents[2] / "docs" / "subjects.md"
WHOLE = document()
NAME = re.compile(r"^[A-Za-z0-9_\-]+$")


def _refs(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from _refs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _refs(inner)


def _at(ref: str) -> object:
    found: object = WHOLE
    for step in ref.removeprefix("#/").split("/"):
        assert isinstance(found, dict) and step in found, f"{ref} leads nowhere"
        found = found[step]
    return found


def test_every_reference_resolves() -> None:
    refs = set(_refs(WHOLE))

    assert len(refs) > 50
    assert all(ref.startswith("#/") for ref in refs)
    for ref in refs:
        _at(ref)


def test_it_has_what_the_specification_requires() -> None:
    assert WHOLE["asyncapi"] == "3.0.0"
    assert {"title", "version"} <= WHOLE["info"].keys()
    for name, channel in WHOLE["channels"].items():
        assert NAME.match(name)
        assert set(channel["parameters"]) == set(tokens_of(channel["address"])), name
        assert channel["messages"], name
    for name, message in WHOLE["components"]["messages"].items():
        assert NAME.match(name)
        assert set(message) <= {"name", "title", "summary", "contentType", "payload"}


def test_operations_name_channels_and_messages_of_those_channels() -> None:
    for name, operation in WHOLE["operations"].items():
        assert operation["action"] in ("send", "receive"), name
        for part in (operation, operation.get("reply")):
            if part:
                channel = part["channel"]["$ref"]
                assert channel.startswith("#/channels/"), name
                assert part["messages"], name
                assert all(ref["$ref"].startswith(f"{channel}/messages/") for ref in part["messages"]), name


def test_every_command_and_event_is_there_and_said_somewhere() -> None:
    names = {each.__name__ for each in (*COMMANDS, *EVENTS)}
    said = {ref.rsplit("/", 1)[-1] for operation in WHOLE["operations"].values() for ref in _refs(operation)}

    assert names <= WHOLE["components"]["messages"].keys()
    assert names <= WHOLE["components"]["schemas"].keys()
    assert names - {EndRun.__name__} <= said


@pytest.mark.parametrize(
    ("place", "subject"),
    [
        ("facts", str(subjects.fact(run_of(), "acme", "llm", "c" * 32))),
        ("commands", str(subjects.command("tools", "builtin", "acme", run_of(), "c" * 32))),
        ("asks", subjects.ask("acme", run_of(), "c" * 32)),
        ("deltas", subjects.delta("acme", run_of(), "c" * 32)),
        ("stops", subjects.stop("llm", run_of())),
        ("cards", subjects.card("acme", "builtin", "clock")),
        ("services", subjects.question("recorder", "runs")),
        ("cohortWork", subjects.cohort_work("c" * 16, 0)),
        ("cohortDone", subjects.cohort_done("c" * 16, 0)),
        ("dead", subjects.dead("tools")),
    ],
)
def test_an_address_is_what_subjects_build(place: str, subject: str) -> None:
    (address,) = [each.address for each in PLACES if each.name == place]
    tokens = address.split(".")

    assert len(tokens) == len(subject.split("."))
    for pattern, token in zip(tokens, subject.split("."), strict=True):
        assert pattern.startswith("{") or pattern == token
    assert address in " ".join((subjects.__doc__ or "").split()), "the docstring of subjects.py names the same address"


def test_all_places_of_subjects_are_described() -> None:
    named = set(re.findall(r"\bmp\.[a-z.]+\.\{\S+", subjects.__doc__ or ""))

    assert named == {place.address for place in PLACES}


def test_roles_that_may_speak_are_those_that_a_reader_accepts() -> None:
    accepted: dict[str, set[str]] = {}
    for seed in range(30):
        for stored in play(seed).log:
            accepted.setdefault(type(stored.fact.body).__name__, set()).update(speakers(stored.fact.body))

    assert len(accepted) > 12
    for event in EVENTS:
        assert accepted.get(event.__name__, set()) <= set(stated_by(event))
        assert set(stated_by(event)) <= set(ROLES)


def test_answers_of_a_command() -> None:
    assert answers_to(Generate) == ["Generated", "StepFailed"]
    assert answers_to(RequestApproval) == ["ApprovalGranted", "ApprovalRefused", "StepFailed"]
    assert all(
        any(each.__name__ in answers_to(command) for command in COMMANDS) for each in EVENTS if issubclass(each, Answered)
    )


def _validator(message: str) -> Draft202012Validator:
    registry = Registry().with_resource("", Resource.opaque(WHOLE))
    payload = WHOLE["components"]["messages"][message]["payload"]
    return Draft202012Validator({**payload, "components": WHOLE["components"]}, registry=registry)


def test_real_facts_and_orders_are_valid_by_the_schemas() -> None:
    seen = set()
    for seed in range(12):
        for stored in play(seed).log:
            name = type(stored.fact.body).__name__
            _validator(name).validate(orjson.loads(encode(stored.fact)))
            seen.add(name)
    run = ready()
    _validator("Generate").validate(orjson.loads(encode(order_for(run.one(Generate), id=CommandId("d" * 32)))))

    assert len(seen) > 12


def test_the_schemas_refuse_what_is_wrong() -> None:
    fact = orjson.loads(encode(play(0).log[0].fact))

    assert _validator("RunRequested").is_valid(fact)
    assert not _validator("RunRequested").is_valid({**fact, "type": "io.milepost.Generated.v1"})
    assert not _validator("RunRequested").is_valid({**fact, "data": {**fact["data"], "task": ""}})
    assert not _validator("RunRequested").is_valid({**fact, "run": "x"})


def test_the_committed_page_is_current() -> None:
    assert PAGE.read_text() == markdown(), "run: milepost asyncapi --markdown > docs/subjects.md"
