"""Shadows: what is compared with what, what their processes may know, and what a promotion changes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.cohort.answering import Speak
from infra.cohort.swap import Swap, swap_of
from infra.models.remote import Remote, add_remote
from infra.settings import Loaded, Settings, load
from infra.shadow import promoting
from infra.shadow.asked import asked_in
from infra.shadow.candidates import ModelAsker, RulesAsker, Skipped
from infra.shadow.comparing import generations, results, verdicts
from infra.shadow.environment import NotScrubbed, check_scrubbed, home_of, scrubbed
from infra.shadow.promoting import CannotPromote
from infra.shadow.shadow import Candidate, Compared, Shadow
from infra.shadow.summary import placed, skipped, summary
from runtime import prompt
from schemas.commands import CallTool, Generate, JudgeCall
from schemas.messages import Generation, Prompt, Usage
from schemas.policy import Limit, Policy, Rule, Verdict, When
from schemas.tools import Part, ToolCall, ToolResult
from services.evaluation.agreement import Agreement
from services.evaluation.course import Action
from tests.bench.replay.workload import recorded as operator_run
from tests.support.builders import RunUnderTest

NOW = datetime(2026, 11, 22, tzinfo=UTC)
EFFECTS = {"look": "read", "renew": "write"}
RENEWAL = Action(step=1, event=4, tool="renew", effect="write")
LOOK = Action(step=1, event=4, tool="look", effect="read")


def said(text: str = "", *calls: str, tokens: int = 10, ms: float = 100.0, malformed: str = "") -> Generation:
    made = tuple(ToolCall(id=f"c{number}", name=name, arguments={}) for number, name in enumerate(calls))
    return Generation(text=text, calls=made, usage=Usage(prompt_tokens=tokens), total_ms=ms, malformed=malformed)


def shadow(swap: Swap | None = None, **more: object) -> Shadow:
    values = {"tenant": "acme", "name": "new", "said": "llm=other", "since": NOW, "by": "ann", "created": NOW}
    return Shadow.model_validate({**values, "candidate": Candidate(swap=swap or Swap(llm="other")), **more})


@pytest.mark.parametrize(
    ("recorded", "driven", "risk"),
    [
        (said("", "look"), said("", "look"), "same"),
        (said("", "look"), said("", "renew"), "new_write"),
        (said("", "renew"), said("I will not."), "lost_write"),
        (said("", "look"), said("I will not."), "lost_read"),
        (said("yes"), said("", "look"), "new_read"),
        (said("yes"), said("yes"), "same"),
        (said("yes"), said("no"), "answer"),
        (said("yes"), said("{", malformed="no JSON"), "outcome"),
    ],
)
def test_two_generations_are_compared_by_what_they_would_do(recorded: Generation, driven: Generation, risk: str) -> None:
    assert generations(recorded, driven, EFFECTS, 4).risk == risk  # type: ignore[arg-type]  # effects by their names


def test_tokens_and_times_of_both_are_told() -> None:
    found = generations(said("yes", tokens=10, ms=100), said("yes", tokens=30, ms=700), {}, 4)
    assert (found.recorded.tokens, found.driven.tokens) == (10, 30)
    assert (found.recorded.models_s, found.driven.models_s) == (0.1, 0.7)


@pytest.mark.parametrize(
    ("recorded", "driven", "risk"),
    [("ask", "ask", "same"), ("ask", "deny", "verdict"), ("ask", "allow", "verdict"), ("deny", "allow", "new_write")],
)
def test_two_verdicts_are_compared(recorded: str, driven: str, risk: str) -> None:
    both = [Verdict.model_validate({"outcome": outcome}) for outcome in (recorded, driven)]
    assert verdicts(RENEWAL, *both).risk == risk


def in_json(value: object) -> ToolResult:
    return ToolResult(text=str(value), parts=(Part(kind="json", json_value=value),))


@pytest.mark.parametrize(
    ("recorded", "driven", "risk"),
    [
        (in_json({"n": 1}), in_json({"n": 1}), "same"),
        (in_json({"n": 1}), in_json({"n": 2}), "answer"),
        (in_json({"n": [1, 2]}), in_json({"n": [3]}), "answer"),
        (in_json({"n": 1}), in_json({"n": "1"}), "outcome"),
        (in_json({"n": 1}), in_json({"n": 1, "m": 2}), "outcome"),
        (ToolResult(text="noon"), ToolResult(text="one"), "answer"),
        (ToolResult(text="noon"), None, "outcome"),
    ],
)
def test_two_results_are_compared_by_their_form(recorded: ToolResult, driven: ToolResult | None, risk: str) -> None:
    assert results(LOOK, recorded, driven, (0.1, 0.2)).risk == risk


def test_what_was_asked_is_rebuilt_as_it_was_asked() -> None:
    run = operator_run(1)
    asked = list(asked_in(run.id, run.log, Generate))
    assert [each.answer.number for each in asked] == [
        number for number, each in enumerate(run.log, start=1) if type(each.fact.body).__name__ == "Generated"
    ]
    for each in asked:
        assert isinstance(each.decision.command, Generate)
        assert each.decision.command == each.answer.command
        assert prompt.digested(each.state)[1] == each.decision.command.prompt_hash
    assert len(list(asked_in(run.id, run.log, CallTool))) == 2


def upto(run: RunUnderTest, kind: str, count: int = 1) -> int:
    """The number of the nth event of a kind."""
    return [number for number, each in enumerate(run.log, start=1) if type(each.fact.body).__name__ == kind][count - 1]


async def test_rules_are_asked_what_a_run_asked() -> None:
    run = operator_run(1)
    place = upto(run, "CallJudged")
    tool = next(asked_in(run.id, run.log, JudgeCall)).decision.command.call.name  # type: ignore[union-attr]  # a JudgeCall
    none = Policy(rules=(Rule(name="none", when=When(tools=(tool,)), then="deny"),))
    found = await RulesAsker(Swap(policy=none)).compare(run.id, run.log[:place])
    assert isinstance(found, Agreement)
    assert found.risk == "verdict"
    assert found.differences[0].driven and found.differences[0].driven.event == place
    same = await RulesAsker(Swap(policy=Policy())).compare(run.id, run.log[:place])
    assert isinstance(same, Agreement) and same.risk == "same"
    few = Policy(limits=(Limit(name="few", window_s=86400, writes=0),))
    held = await RulesAsker(Swap(policy=few)).compare(run.id, run.log[:place])
    assert isinstance(held, Agreement) and held.risk == "verdict"


async def test_a_model_is_asked_from_the_recorded_prompt() -> None:
    run = operator_run(1)
    heard: list[tuple[str, str]] = []

    async def speak(command: Generate, of: Prompt, label: str) -> Generation:
        heard.append((label, str(of.messages[-1])))
        return said("something else")

    speaks: Speak = speak
    asker, place = ModelAsker(speaks, 1), upto(run, "Generated")
    found = await asker.compare(run.id, run.log[:place])
    assert isinstance(found, Agreement) and found.risk == "lost_read"
    assert [label for label, _ in heard] == [run.id]
    assert isinstance(await asker.compare(run.id, run.log[1:place]), Skipped), "without its request nobody knows what was asked"
    assert len(heard) == 1


def test_a_share_is_of_whole_runs_and_always_the_same() -> None:
    tenth = shadow(share=0.1)
    runs = [f"202611-{number:032x}" for number in range(3000)]
    seen = [run for run in runs if tenth.sees(run)]
    assert 200 < len(seen) < 400
    assert seen == [run for run in runs if shadow(share=0.1).sees(run)]
    assert seen != [run for run in runs if shadow(share=0.1, name="other").sees(run)]
    assert all(shadow().sees(run) for run in runs)


def test_what_failed_and_what_was_skipped_is_told_apart() -> None:
    alike = generations(said("yes"), said("yes"), {}, 4)

    def of(event: int, risk: str, why: str = "") -> Compared:
        found = {"run": "202611-a", "tenant": "acme", **({"agreement": alike} if risk == "same" else {})}
        return Compared.model_validate(
            {"run": "202611-a", "event": event, "risk": risk, "why": why, "at": NOW, "result": found}
        )

    rows = [of(4, "same"), of(5, "failed", "Broken"), of(6, "skipped", "a write"), of(7, "skipped", "a write")]
    made = summary(shadow(), rows)
    assert (made.totals.runs, len(made.troubled), made.missing) == (1, 1, 0)
    assert made.troubled[0].run == "202611-a#5"
    assert placed(rows[0]).run == "202611-a#4"
    assert skipped(rows) == {"a write": 2}


# --- what it may know -------------------------------------------------------------------------------

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "s", "MILEPOST_CLOUD_ACCESS_KEY_SECRET": "s", "MILEPOST_POSTGRES_URL": "postgresql://u:p@h/d",
    "MILEPOST_POSTGRES_KEEPER_URL": "postgresql://u:p@h/d", "MILEPOST_CAPABILITY_KEY": "s", "MILEPOST_KEYS_MASTER": "s",
    "MILEPOST_RECEIPTS_KEY": "s", "MILEPOST_SECRET_ZOO": "s", "OPENAI_API_KEY": "s", "GITHUB_TOKEN": "s",
    "https_proxy": "http://u:p@h", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "s",
}  # fmt: skip


def settings_in(folder: Path) -> Settings:
    return load({"home": str(folder / "stack"), "nats.url": "nats://u:p@h:4222", "model.home": str(folder)}).settings


def test_no_credential_reaches_a_shadow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_in(tmp_path)
    (tmp_path / "milepost.toml").write_text('[cloud]\naccess_key_secret = "s"\n')
    given = scrubbed(settings, shadow(), {**SECRETS, "PATH": "/bin", "MILEPOST_MODEL_THREADS": "1"})
    assert not SECRETS.keys() & given.keys()
    assert given["MILEPOST_MODEL_THREADS"] == "1"
    check_scrubbed(settings, shadow(), given)
    with pytest.raises(NotScrubbed):
        check_scrubbed(settings, shadow(), {**given, "AWS_SECRET_ACCESS_KEY": "s"})
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    known = load(directory=home_of(settings, shadow())).settings
    assert known.cloud.access_key_secret is None, "the milepost.toml of the stack was read"
    assert known.postgres.url is None
    assert known.home != settings.home


def test_a_remote_candidate_has_the_key_of_its_endpoint_and_no_other(tmp_path: Path) -> None:
    add_remote(tmp_path, "far", Remote(base_url="http://far.test", model="m", key_env="OPENAI_API_KEY"))
    given = scrubbed(settings_in(tmp_path), shadow(Swap(llm="far")), SECRETS)
    assert SECRETS.keys() & given.keys() == {"OPENAI_API_KEY"}
    check_scrubbed(settings_in(tmp_path), shadow(Swap(llm="far")), given)


# --- putting a model in place -----------------------------------------------------------------------


def loaded(folder: Path) -> Loaded:
    return load(directory=folder)


def promoted(of: Shadow, folder: Path) -> Shadow:
    return of.model_copy(update={"before": promoting.promote_model(of, loaded(folder), folder), "state": "promoted"})


def test_a_model_is_written_into_the_settings_and_taken_out_again(tmp_path: Path) -> None:
    file = tmp_path / "milepost.toml"
    text = '# ours\nuser = "ann"\n\n[model]\nname = "old"  # for now\nthreads = 2\n'
    file.write_text(text)
    now = promoted(shadow(), tmp_path)
    assert loaded(tmp_path).settings.model.name == "other"
    assert "# for now" in file.read_text()
    promoting.rollback_model(now, anyway=False)
    assert file.read_text() == text


def test_settings_that_were_not_there_are_gone_again(tmp_path: Path) -> None:
    now = promoted(shadow(), tmp_path)
    assert loaded(tmp_path).settings.model.name == "other"
    promoting.rollback_model(now, anyway=False)
    assert (tmp_path / "milepost.toml").read_text().strip() == ""


def test_a_rollback_that_would_undo_somebody_elses_change_is_refused(tmp_path: Path) -> None:
    now = promoted(shadow(), tmp_path)
    (tmp_path / "milepost.toml").write_text('[model]\nname = "third"\n')
    with pytest.raises(CannotPromote):
        promoting.rollback_model(now, anyway=False)
    assert loaded(tmp_path).settings.model.name == "third"
    promoting.rollback_model(now, anyway=True)
    assert loaded(tmp_path).settings.model.name == Settings().model.name


def test_a_promotion_that_would_change_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILEPOST_MODEL_NAME", "mine")
    with pytest.raises(CannotPromote) as caught:
        promoted(shadow(), tmp_path)
    assert "MILEPOST_MODEL_NAME" in caught.value.what
    assert not (tmp_path / "milepost.toml").exists()


def test_a_script_is_promoted_as_a_script(tmp_path: Path) -> None:
    script = tmp_path / "other.json"
    script.write_text('{"rules": [{"role": "user", "say": "hi"}]}')
    of = shadow(swap_of([f"llm={script}"]))
    assert promoted(of, tmp_path).before == {
        "file": str(tmp_path / "milepost.toml"), "key": "model.scripted", "value": None, "promoted": str(script),
    }  # fmt: skip
    assert loaded(tmp_path).settings.model.scripted == script
