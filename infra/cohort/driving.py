"""One run driven again, and what that came to."""

from __future__ import annotations

import os
import time
from datetime import datetime

import orjson
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import TypeAdapter

from infra.cohort.answering import Answers, Speak
from infra.cohort.recorded import Recorded
from infra.cohort.swap import Swap
from runtime.log import Stored
from runtime.recording import Recording
from runtime.redrive import MOST_FACTS, NoRequest, redrive
from runtime.sealing import NONCE_BYTES
from schemas.errors import MilepostError
from schemas.events import RunRequested
from schemas.sealing import Sealed
from schemas.tools import Value
from services.evaluation.agreement import Agreement, Pair, agreement
from services.evaluation.agreement import Answers as BothAnswers
from services.evaluation.course import course_of

log = structlog.get_logger("infra.cohort")

TASK = 300
_PAIRS = TypeAdapter(tuple[Pair, ...])


class Result(Value):
    """What a run came to when it was driven again.

    trouble: why it could not be. erased: its user was forgotten, so there is nothing to drive. sealed: what it says of the
    run's content, under the key of the run, in hex; figures alone are in the clear then. ms: what driving it took.
    """

    run: str
    tenant: str = ""
    datakey: str | None = None
    agent: str = ""
    started: datetime | None = None
    task: str = ""
    agreement: Agreement | None = None
    trouble: str = ""
    erased: bool = False
    sealed: str | None = None
    ms: float = 0.0

    def line(self) -> bytes:
        """As one line of JSON."""
        return orjson.dumps(self.model_dump(mode="json", exclude_defaults=True))


async def drive(recorded: Recorded, swap: Swap, speak: Speak | None = None) -> Result:
    """Drive a run again with something swapped; whatever is wrong with it is told in the result."""
    began = time.perf_counter()
    result = Result(run=recorded.run, tenant=recorded.tenant, datakey=recorded.datakey)
    try:
        result = await _driven(recorded, swap, speak, result)
    except (MilepostError, NoRequest) as error:
        why = f"{type(error).__name__}: {error.what} {error.why}" if isinstance(error, MilepostError) else str(error)
        result = result.model_copy(update={"trouble": why.strip()[:500]})
    except Exception as error:  # one log that nobody foresaw must not stop a thousand others; --fail-under tells of it
        log.exception("a run cannot be driven", run=recorded.run)
        result = result.model_copy(update={"trouble": f"unexpectedly: {error!r}"[:500]})
    return closed(result.model_copy(update={"ms": round((time.perf_counter() - began) * 1000, 3)}), recorded.key)


async def _driven(recorded: Recorded, swap: Swap, speak: Speak | None, result: Result) -> Result:
    facts = recorded.facts()
    if any(isinstance(each.fact.body, Sealed) for each in facts):
        return result.model_copy(update={"erased": True})
    request = _request(facts)
    recording = Recording(recorded.run, facts)
    if request is None:
        raise NoRequest(f"run {recorded.run} has no request in its log")
    answers = Answers(swap, recording, speak)
    again = await redrive(recording, answers.answer, answers.request(request))
    if len(again.facts) >= MOST_FACTS:
        raise MilepostError("The run does not come to an end.", why=f"it was given up after {MOST_FACTS} events")
    compared = agreement(
        course_of(_until_end(facts)), course_of(again.facts, again.unanswered),
        stopped=[each.command.kind for each in again.unanswered], decided_otherwise=swap.nothing and bool(again.fresh),
    )  # fmt: skip
    return result.model_copy(update={
        "tenant": facts[0].fact.tenant, "agent": request.agent.name, "started": facts[0].fact.time,
        "task": request.task[:TASK], "agreement": compared,
    })  # fmt: skip


def _request(facts: tuple[Stored, ...]) -> RunRequested | None:
    return next((each.fact.body for each in facts if isinstance(each.fact.body, RunRequested)), None)


def _until_end(facts: tuple[Stored, ...]) -> tuple[Stored, ...]:
    """What a run did; what is known of it afterwards is no doing of it."""
    end = next((place for place, each in enumerate(facts, start=1) if each.fact.slot == "end"), len(facts))
    return facts[:end]


# --- what it says of a run's content ----------------------------------------------------------------


def closed(result: Result, key: bytes | None) -> Result:
    """The result with what it quotes of a sealed run under that run's key: whoever erases the run erases it, too."""
    if key is None or result.agreement is None:
        return result
    kept = result.agreement
    content = orjson.dumps({
        "task": result.task, "differences": _PAIRS.dump_python(kept.differences, mode="json"),
        "answers": kept.answers.model_dump(mode="json"),
    })  # fmt: skip
    nonce = os.urandom(NONCE_BYTES)
    sealed = (nonce + AESGCM(key).encrypt(nonce, content, _bound(result))).hex()
    return without_content(result).model_copy(update={"sealed": sealed})


def without_content(result: Result) -> Result:
    """The figures alone, without anything that the run says."""
    if result.agreement is None:
        return result
    figures = result.agreement.model_copy(update={"differences": (), "answers": BothAnswers()})
    return result.model_copy(update={"agreement": figures, "task": "", "sealed": None})


def opened(result: Result, key: bytes | None) -> Result:
    """The result with what it quotes, where there is a key that opens it; else as it is."""
    if key is None or result.sealed is None or result.agreement is None:
        return result
    raw = bytes.fromhex(result.sealed)
    try:
        content = orjson.loads(AESGCM(key).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _bound(result)))
    except InvalidTag:
        return result
    differences, answers = _PAIRS.validate_python(content["differences"]), BothAnswers.model_validate(content["answers"])
    whole = result.agreement.model_copy(update={"differences": differences, "answers": answers})
    return result.model_copy(update={"agreement": whole, "task": content["task"], "sealed": None})


def _bound(result: Result) -> bytes:
    return f"milepost cohort result {result.run}".encode()
