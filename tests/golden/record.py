"""Record runs of every branch with the decider of today, as files that no later version may decide otherwise.

    python -m tests.golden.record    writes tests/golden/corpus-<decider>/*.jsonl.gz, the same bytes each time

Recorded once for each decider: a corpus is never written again, or a change that breaks running conversations would go unseen.
"""

from __future__ import annotations

import gzip
import io
import sys
from collections.abc import Callable
from pathlib import Path

from infra.exports.writing import Exported, write_export
from runtime.fold import Folded
from runtime.sealing import run_key, seal
from runtime.state import RunState
from schemas.agent import Recall
from schemas.commands import (
    AskPerson,
    CallTool,
    Generate,
    JudgeCall,
    KeepGrant,
    PlanCall,
    RecallMemory,
    RequestApproval,
    StartTimer,
)
from schemas.envelope import DECIDER, encode
from schemas.events import (
    ApprovalGranted,
    ApprovalRefused,
    EffectSettled,
    Generated,
    GrantKept,
    Parent,
    PersonAnswered,
    TimerFired,
    ToolAsked,
    ToolInDoubt,
    ToolReturned,
    TurnQueued,
    TurnRefused,
)
from schemas.ids import settled_slot
from schemas.messages import Generation, Message, Usage
from schemas.policy import Verdict
from schemas.tools import Before, Part, Question, ToolCard, ToolResult
from tests.support.builders import CLOCK, NOW, RunUnderTest, call, failure, passage, planned, ready, requested, spec
from tests.support.drawn_run import play
from tests.support.history import TOLD, remembered
from tests.support.sealing import under

PLACE = Path(__file__).parent
SECRET = bytes(range(32))
DRAWN = 250
QUESTION = Question(id="size", text="How large?")
HELPER = ToolCard(name="helper", description="another agent", parameters={"type": "object"}, lane="agents", tags=("agent",))
ASK = Verdict(outcome="ask", rule="all", why="writes are looked at", approvers=("ops-*",), four_eyes=True)


def _written(verdict: Verdict | None = None, **budget: object) -> RunUnderTest:
    """A write that is planned and judged."""
    run = ready(spec(**budget), task="renew i-77 for 3 months")
    run.say(call("renew", InstanceId="i-77", Period=3, PeriodUnit="Month"))
    run.plans(planned(run.one(PlanCall), price="120.50", currency="CNY"), verdict)
    return run


def _approve(run: RunUnderTest, **more: str) -> RunUnderTest:
    asked = run.one(RequestApproval)
    run.later(5)
    run.answer(
        ApprovalGranted.model_validate({"command": asked, "by": "ops-bob", "approval_hash": asked.approval_hash, **more})
    )
    return run


def _done(run: RunUnderTest, text: str = "It is done.") -> RunUnderTest:
    if run.open(Generate):
        run.say(text=text)
    run.end()
    return run


def approval_granted() -> RunUnderTest:
    run = _approve(_written(ASK))
    run.returns(run.one(CallTool), "renewed until 2027-03-01")
    return _done(run)


def approval_refused() -> RunUnderTest:
    run = _written()
    run.answer(ApprovalRefused(command=run.one(RequestApproval), by="bob", reason="not i-77 but i-78"))
    run.say(call("renew", "c2", InstanceId="i-78", Period=3, PeriodUnit="Month"))
    run.plans()
    run.returns(_approve(run).one(CallTool))
    return _done(run)


def approval_expired() -> RunUnderTest:
    run = _written(approval_s=60)
    timer = next(each for _, each in run.open(StartTimer) if each.purpose == "approval")
    run.now = timer.at
    run.answer(TimerFired(command=timer, fired=run.now))
    return _done(run, "Nobody answered.")


def approval_of_others() -> RunUnderTest:
    run = _written(ASK)
    asked = run.one(RequestApproval)
    run.answer(ApprovalGranted(command=asked, by="eve", approval_hash=asked.approval_hash))  # asked again
    run.answer(ApprovalGranted(command=run.one(RequestApproval), by="ops-bob", approval_hash="0" * 32))
    run.returns(_approve(run).one(CallTool))
    return _done(run)


def grant_for_always() -> RunUnderTest:
    run = _approve(_written(), scope="always")
    run.answer(GrantKept(command=run.one(KeepGrant), grant="g1"))
    run.returns(run.one(CallTool))
    return _done(run)


def in_doubt_and_settled() -> RunUnderTest:
    run = _approve(_written())
    command = run.one(CallTool)
    id = run.id_of(command)
    run.answer(ToolInDoubt(command=command, failure=failure("The line was cut.")))
    result = ToolResult(text="renewed after all")
    run.tell(EffectSettled(call=id, write_key="k", happened=True, by="tools", result=result), settled_slot(id), role="tools")
    run.say(call("renew", "c2", InstanceId="i-77", Period=3, PeriodUnit="Month"))
    return _done(run)


def questions_of_a_tool() -> RunUnderTest:
    run = ready(spec(approval="never", approval_s=60))
    run.say(call("clock"))
    for accepted in (True, False):
        run.answer(ToolAsked(command=run.one(CallTool), question=QUESTION))
        content: dict[str, object] = {"size": 3} if accepted else {}
        run.answer(PersonAnswered(command=run.one(AskPerson), by="ann", accepted=accepted, content=content))
    run.answer(ToolAsked(command=run.one(CallTool), question=QUESTION))
    timer = next(each for _, each in run.open(StartTimer) if each.purpose == "question" and each.at > run.now)
    run.now = timer.at
    for _, each in run.open(StartTimer):
        if each.purpose == "question":
            run.answer(TimerFired(command=each, fired=run.now))
    return _done(run)


def too_many_questions() -> RunUnderTest:
    run = ready(spec(approval="never"))
    run.say(call("clock"))
    while run.open(CallTool):
        run.answer(ToolAsked(command=run.one(CallTool), question=QUESTION))
        if run.open(AskPerson):
            run.answer(PersonAnswered(command=run.one(AskPerson), by="ann", accepted=True, content={"size": 1}))
    return _done(run)


def asks_another_agent() -> RunUnderTest:
    run = ready(spec(), HELPER, CLOCK)
    run.say(call("helper", task="look at i-77"), call("clock", "c2"))
    for _, command in run.open(CallTool):
        run.returns(command, "i-77 is well")
    return _done(run)


def asked_by_another_agent() -> RunUnderTest:
    run = RunUnderTest(spec(), key="child")
    parent = Parent(run="202611-" + "a" * 32, command="c" * 32, root="202611-" + "a" * 32, depth=1)
    run.request = requested(spec(), key="child", task="renew i-77").model_copy(update={"parent": parent})
    run.begin()
    run.gather()
    run.say(call("renew", InstanceId="i-77"))
    run.plans()
    run.returns(_approve(run).one(CallTool))
    return _done(run)


def cancelled_in_a_write() -> RunUnderTest:
    run = _approve(_written())
    run.cancel()
    run.returns(run.one(CallTool))
    return _done(run)


def deadline() -> RunUnderTest:
    run = ready(spec(deadline_s=30))
    timer = run.one(StartTimer)
    run.now = timer.at
    run.answer(TimerFired(command=timer, fired=run.now))
    return _done(run)


def deadline_waits_for_a_person() -> RunUnderTest:
    run = _written(deadline_s=30, approval_s=600)
    timer = next(each for _, each in run.open(StartTimer) if each.purpose == "deadline")
    run.now = timer.at
    run.answer(TimerFired(command=timer, fired=run.now))
    run.returns(_approve(run).one(CallTool))
    return _done(run)


def queued_and_released() -> RunUnderTest:
    run = RunUnderTest(spec(when_busy="queue"))
    run.begin()
    run.answer(TurnQueued(command=run.one(RecallMemory), behind="another"))
    run.gather_tools()
    run.release()
    run.gather()
    return _done(run)


def released_before_it_was_queued() -> RunUnderTest:
    run = RunUnderTest(spec(when_busy="interrupt"))
    run.begin()
    run.release()
    run.answer(TurnQueued(command=run.one(RecallMemory), behind="another", interrupts=True))
    run.gather()
    return _done(run)


def turned_away() -> RunUnderTest:
    run = RunUnderTest(spec(when_busy="refuse"))
    run.begin()
    run.answer(TurnRefused(command=run.one(RecallMemory), by="another"))
    run.end()
    return run


def malformed() -> RunUnderTest:
    run = ready()
    for why in ("no JSON", "no such field"):
        generation = Generation(text="{", malformed=why, usage=Usage(prompt_tokens=9, completion_tokens=1))
        run.answer(Generated(command=run.one(Generate), generation=generation))
    return _done(run)


def steps_are_spent() -> RunUnderTest:
    run = ready(spec(steps=1))
    run.say(call("clock"))
    run.returns(run.one(CallTool))
    return _done(run)


def tokens_are_spent() -> RunUnderTest:
    run = ready(spec(tokens=5))
    generation = Generation(text="", calls=(call("clock"),), usage=Usage(prompt_tokens=9, completion_tokens=1))
    run.answer(Generated(command=run.one(Generate), generation=generation))
    run.returns(run.one(CallTool))
    return _done(run)


def calls_and_writes_are_spent() -> RunUnderTest:
    run = ready(spec(calls=2, writes=0))
    run.say(call("renew", n=1), call("clock", "c2"), call("clock", "c3"), call("clock", "c4"))
    for _, command in run.open(CallTool):
        run.returns(command)
    return _done(run)


def money_is_spent() -> RunUnderTest:
    return _done(_written(money={"CNY": 100.0}))


def denied() -> RunUnderTest:
    return _done(_written(Verdict(outcome="deny", rule="freeze", why="nothing is changed in December")))


def tried_only() -> RunUnderTest:
    return _done(_written(Verdict(outcome="dry_run", rule="try")))


def judged_with_its_price() -> RunUnderTest:
    run = _written(Verdict(outcome="allow", rule="small", price_needed=True))
    run.judges(Verdict(outcome="allow", rule="small"), run.one(JudgeCall))
    run.returns(run.one(CallTool))
    return _done(run)


def done_before() -> RunUnderTest:
    run = ready(spec())
    run.say(call("renew", n=1))
    before = Before(run="202611-x", conversation="talk", at="2026-11-20T08:00:00Z", text="Renewed.")
    run.plans(planned(run.one(PlanCall), before=before), Verdict(outcome="allow", rule="all"))
    run.returns(_approve(run).one(CallTool))
    return _done(run)


def the_same_again() -> RunUnderTest:
    run = ready(spec(approval="never"))
    for number in range(3):
        run.say(call("renew", f"c{number}", n=1), call("renew", f"d{number}", n=1))
        if number == 0:
            run.plans()
            run.returns(run.one(CallTool))
    return _done(run)


def nothing_works() -> RunUnderTest:
    run = ready(spec(approval="never"))
    run.say(call("clock"), call("renew", "c2", n=1), call("renew", "c3", n=2), call("none", "c4"))
    run.fails(run.one(CallTool))
    first, second = (command for _, command in run.open(PlanCall))
    run.denies(first)
    judge = next(command for _, command in run.open(JudgeCall) if command.call == second.call)
    run.fails(judge)
    run.fails(run.one(Generate), "There is no model.")
    run.end()
    return run


def with_a_memory() -> RunUnderTest:
    examples = (Message(role="user", content="Open?"), Message(role="assistant", content="Yes."))
    run = remembered(
        spec(instructions="You manage cn-hangzhou.", examples=examples, recall=Recall(similar=2), tools=("clock",))
    )
    run.say(call("renew", ref="blob:cat-1", n=7))
    run.plans()
    run.returns(_approve(run).one(CallTool))
    return _done(run)


def _spoken(**how: object) -> RunUnderTest:
    run = RunUnderTest(spec(knowledge_k=2, **how))
    run.begin()
    run.gather(told=TOLD, passages=(passage(), passage("A second one.")))
    run.say(call("clock"))
    run.returns(run.one(CallTool), "12:00")
    return _done(run)


def prompt_ms() -> RunUnderTest:
    return _spoken(prompt="ms")


def prompt_mrkl() -> RunUnderTest:
    return _spoken(prompt="mrkl", found_tools="request")


def many_results() -> RunUnderTest:
    run = ready(spec(steps=20, calls=20))
    for number in range(12):
        run.say(call("clock", f"c{number}", n=number))
        parts = (Part(kind="file", ref=f"payload:{number:064x}", media_type="text/csv"),) if number % 2 else ()
        text = f"row {number} " * (2000 if number == 3 else 5)
        run.answer(ToolReturned(command=run.one(CallTool), result=ToolResult(text=text, parts=parts)))
    run.say(call("renew", "w", Period=7, PeriodUnit="Month", InstanceId="i-made-up-99"))
    run.plans()
    run.returns(_approve(run).one(CallTool))
    return _done(run)


BRANCHES: tuple[Callable[[], RunUnderTest], ...] = (
    approval_granted, approval_refused, approval_expired, approval_of_others, grant_for_always, in_doubt_and_settled,
    questions_of_a_tool, too_many_questions, asks_another_agent, asked_by_another_agent, cancelled_in_a_write, deadline,
    deadline_waits_for_a_person, queued_and_released, released_before_it_was_queued, turned_away, malformed, steps_are_spent,
    tokens_are_spent, calls_and_writes_are_spent, money_is_spent, denied, tried_only, judged_with_its_price, done_before,
    the_same_again, nothing_works, with_a_memory, prompt_ms, prompt_mrkl, many_results,
)  # fmt: skip


def exported(run: RunUnderTest, *, sealed: bool = False) -> Exported:
    facts = [stored.fact for stored in run.log]
    if not sealed:
        return Exported(run.id, [encode(fact) for fact in facts], schemas=False)
    key = run_key(SECRET, run.id)
    messages = [encode(seal(under(fact, "k" * 32), key, number.to_bytes(12, "big"))) for number, fact in enumerate(facts)]
    return Exported(run.id, messages, sealed=True, key=key, schemas=False)


def drawn() -> dict[str, RunUnderTest]:
    """Of many random runs those in which something follows from something for the first time."""
    seen: set[tuple[str, ...]] = set()
    kept: dict[str, RunUnderTest] = {}
    for seed in range(DRAWN):
        run = play(seed)
        ways = _ways(run)
        if ways - seen:
            seen |= ways
            kept[f"drawn-{seed}"] = run
    return kept


def _ways(run: RunUnderTest) -> set[tuple[str, ...]]:
    """In which phase which event caused which commands."""
    folded, found = Folded(RunState(run=run.id)), set()
    for stored in run.log:
        phase = folded.state.phase
        found.add((phase, stored.fact.kind, *sorted(each.command.kind for each in folded.add(stored))))
    return found


def write(folder: Path) -> None:
    """Raises FileExistsError: what was recorded stays as it is."""
    folder.mkdir()
    runs = {branch.__name__.replace("_", "-"): branch() for branch in BRANCHES} | drawn()
    what = {name: exported(run) for name, run in runs.items()}
    what["sealed"] = exported(many_results(), sealed=True)
    for name, run in what.items():
        out = io.BytesIO()
        write_export(out, run, NOW)
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(out.getvalue(), 9, mtime=0))


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else PLACE / f"corpus-{DECIDER}")
