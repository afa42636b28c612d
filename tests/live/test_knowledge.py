"""Knowledge on a whole stack: the example of the guide, the sources under an answer, and what `impact` tells afterwards."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.support.stack import LocalStack

ROOT = Path(__file__).parents[2]


def run(stack: LocalStack, *command: str, code: int = 0) -> str:
    """A process of a person who has this stack."""
    where = {**os.environ, "PYTHONPATH": str(ROOT), "MILEPOST_HOME": str(stack.home)}
    done = subprocess.run(
        [sys.executable, *command], env=where, capture_output=True, text=True, check=False, timeout=60, cwd=stack.home.parent
    )
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def milepost(stack: LocalStack, *words: str, code: int = 0) -> str:
    return run(stack, "-m", "infra", *words, code=code)


def test_the_retriever_of_the_guide_answers_over_the_bus(scripted_stack: LocalStack, tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "knowledge.md").read_text(), re.S)
    script = tmp_path / "office.py"
    script.write_text(example)
    assert "The canteen serves lunch from 11:30 to 13:30." in run(scripted_stack, str(script))


def test_an_answer_shows_its_sources_and_impact_finds_it_by_them(scripted_stack: LocalStack, tmp_path: Path) -> None:
    guide = tmp_path / "guide.md"
    guide.write_text(
        f"# Quagga guide\n\n{'A quagga is striped. ' * 80}\n\n## Feeding\n\nQuaggas eat grass at half past four.\n"
    )
    milepost(scripted_stack, "knowledge", "add", str(guide))
    said = milepost(scripted_stack, "ask", "At what time do quaggas eat grass?")
    assert re.search(r"\[1\] Quagga guide › Feeding  characters \d+-\d+ · .*guide\.md", said)
    result = json.loads(milepost(scripted_stack, "ask", "When do quaggas eat grass?", "--json"))
    source = result["sources"][0]
    assert guide.read_text()[source["start"] : source["end"]].strip().endswith("half past four.")
    found: list[dict[str, object]] = []
    deadline = time.monotonic() + 20  # the recorder follows the log; a person may be faster
    while not any(each["run"] == result["run"] for each in found) and time.monotonic() < deadline:
        found = json.loads(milepost(scripted_stack, "impact", source["hash"], "--json"))
    for what in (source["hash"][:8], str(guide)):
        used = json.loads(milepost(scripted_stack, "impact", what, "--json"))
        assert {each["run"] for each in used} >= {result["run"]}
        assert {each["kind"] for each in used} <= {"chunk", "document"}
    newest = next(each for each in used if each["run"] == result["run"])
    assert newest["answer"] == result["answer"] and newest["task"] == "When do quaggas eat grass?"
    assert json.loads(milepost(scripted_stack, "impact", "scripted", "--json"))[0]["how"] == "asked"
    assert json.loads(milepost(scripted_stack, "impact", "nothing-of-this-name", "--json")) == []
