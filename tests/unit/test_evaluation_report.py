from __future__ import annotations

from pathlib import Path

from services.evaluation.report import Share, Verdict, Verdicts, shares


def test_a_broken_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "verdicts.jsonl"
    first = Verdicts(path)
    first.add(Verdict(id="a", group="call", reason="", text="好"))
    with path.open("a", encoding="utf-8") as file:
        file.write('{"id": "b", "gro')
    again = Verdicts(path)
    assert [verdict.text for verdict in again.all] == ["好"]
    assert (again.has("a"), again.has("b")) == (True, False)
    again.add(Verdict(id="b", group="call", reason="answered"))
    assert [verdict.right for verdict in Verdicts(path).all] == [True, False]


def test_shares_are_counted_by_group() -> None:
    verdicts = [Verdict(id=str(number), group=group, reason=reason) for number, (group, reason) in enumerate(
        [("call", ""), ("chat", "called stop"), ("call", "answered"), ("call", "")]
    )]  # fmt: skip
    assert shares(verdicts) == {"call": Share(2, 3), "chat": Share(0, 1)}
    assert shares(verdicts)["call"].value == 0.6667
    assert Share(0, 0).value == 0.0
