"""The official BFCL checker, out of bfcl-eval's wheel alone: `python -m tests.oracle.official_bfcl --help`.

Gold calls and calls that were changed at random are judged by it and by us; or, with --result FOLDER, the replies that
`milepost eval bfcl` kept, whose verdicts are compared item for item. Every difference is printed, and the exit status is 1 if
there is one. The wheel is never installed: only the checker's own modules are imported from it, beside a stand-in for
the table of models, of which it asks whether a model takes dots in names for underscores.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import re
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import NoReturn, TypeAlias, cast

from infra.evaluation.result import outcomes
from schemas.tools import ToolCall
from services.evaluation import bfcl
from services.evaluation.benchmarks.bfcl import LIVE, OTHERS, PLAIN

VERSION = "2026.3.23"
CATEGORIES = (*PLAIN, *LIVE, *OTHERS)
Calls: TypeAlias = Sequence[tuple[str, Mapping[str, object]]]
"""Calls by the names of cards."""


@dataclass(frozen=True)
class Difference:
    """What the two say of one reply; empty: right."""

    item: str
    calls: Calls
    ours: str
    official: str


class Official:
    """The checker of the wheel. Its own crash is `raised ...`: no verdict, and the reply is surely not right."""

    def __init__(self, wheel: Path) -> None:
        table = ModuleType("bfcl_eval.constants.model_config")
        vars(table)["MODEL_CONFIG_MAPPING"] = {"any": SimpleNamespace(underscore_to_dot=True)}
        sys.modules[table.__name__] = table
        sys.path.insert(0, str(wheel))
        self._check = import_module("bfcl_eval.eval_checker.ast_eval.ast_checker").ast_checker
        self._languages = import_module("bfcl_eval.constants.enums").Language
        self._is_empty = _function(wheel, "bfcl_eval/utils.py", "is_function_calling_format_output", "is_empty_output")

    def wrong(self, item: bfcl.Item, calls: Calls) -> str:
        """Why it takes a reply for wrong; empty if right."""
        said = [{re.sub(r"\.", "_", item.names.get(name, name)): dict(given)} for name, given in calls]
        if item.category in bfcl.NO_CALL:
            return "" if self._is_empty(said) else "irrelevance_error"
        if item.category == bfcl.ANY_CALL:
            return "relevance_error" if self._is_empty(said) else ""
        try:
            found = self._check(
                list(item.functions), said, list(item.gold), self._languages(item.language), item.category, "any"
            )
        except Exception as error:  # whatever it stumbles over
            return f"raised {type(error).__name__}: {error}"
        return "" if found["valid"] else str(found["error_type"])


def _function(wheel: Path, path: str, *names: str) -> Callable[[object], bool]:
    """The last of these functions of a module that cannot be imported for what it imports itself."""
    source = zipfile.ZipFile(wheel).read(path) if wheel.is_file() else (wheel / path).read_bytes()
    wanted: list[ast.stmt] = [
        node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name in names
    ]
    there: dict[str, object] = {}
    exec(compile(ast.Module(wanted, []), path, "exec"), there)
    return cast("Callable[[object], bool]", there[names[-1]])


def ours(item: bfcl.Item, calls: Calls) -> str:
    """Why we take a reply for wrong; empty if right."""
    return bfcl.wrong(item, [ToolCall.model_construct(id="c", name=name, arguments=dict(given)) for name, given in calls])


def compare(official: Official, item: bfcl.Item, calls: Calls) -> Difference | None:
    """None if both say the same."""
    first, second = ours(item, calls), official.wrong(item, calls)
    return None if (not first) == (not second) else Difference(item.id, calls, first, second)


# --- replies ---------------------------------------------------------------------------------------


def replies(item: bfcl.Item, dice: random.Random, changed: int) -> Iterator[Calls]:
    """The gold calls, each value any of the accepted ones, and that changed at random so many times."""
    yield _gold(item, dice, first=True)
    yield ()
    for _ in range(changed):
        calls = _gold(item, dice) or _made_up(item, dice)
        for _ in range(dice.choice((0, 1, 1, 1, 2, 3))):
            calls = _changed(item, calls, dice)
        yield calls


def _gold(item: bfcl.Item, dice: random.Random, *, first: bool = False) -> Calls:
    cards = {own: card for card, own in item.names.items()}
    calls = []
    for gold in item.gold:
        for name, arguments in gold.items():
            if first:
                calls.append((cards[name], bfcl.written(item, name, bfcl.first_accepted(arguments))))
                continue
            given = {}
            for argument, accepted in arguments.items():
                value = dice.choice(list(accepted)) if accepted else None
                if value == "" and dice.random() < 0.8:
                    continue
                given[argument] = _one_of(value, dice)
            calls.append((cards[name], bfcl.written(item, name, given) if dice.random() < 0.9 else given))
    return calls


def _one_of(value: object, dice: random.Random) -> object:
    if isinstance(value, dict):
        chosen = {
            key: dice.choice(options) if isinstance(options, list) and options else options for key, options in value.items()
        }
        return {key: _one_of(one, dice) for key, one in chosen.items() if one != "" or dice.random() < 0.1}
    return [_one_of(each, dice) for each in value] if isinstance(value, list) else value


def _made_up(item: bfcl.Item, dice: random.Random) -> Calls:
    """A call of a function of an item without gold."""
    return [(dice.choice(item.cards).name, {"x": 1})] if item.cards and dice.random() < 0.7 else []


def _changed(item: bfcl.Item, calls: Calls, dice: random.Random) -> Calls:
    made = [(name, dict(given)) for name, given in calls]
    if not made:
        return _made_up(item, dice)
    place = dice.randrange(len(made))
    _, given = made[place]
    match dice.randrange(10):
        case 0:
            dice.shuffle(made)
        case 1:
            made.append(dice.choice(made)) if dice.random() < 0.5 else made.pop(place)
        case 2:
            made[place] = (dice.choice([*(card.name for card in item.cards), "nothing_like_it"]), given)
        case 3:
            given[dice.choice(["extra", *given])] = dice.choice([1, "x", None, [], {}])
        case 4 if given:
            del given[dice.choice(list(given))]
        case 5 if given:
            argument = dice.choice(list(given))
            given[argument + "_"] = given.pop(argument)
        case _ if given:
            argument = dice.choice(list(given))
            given[argument] = _other(given[argument], dice)
    return made


def _other(value: object, dice: random.Random) -> object:
    """A value like another: of another type, case or punctuation, with an element more, fewer or in another place."""
    if isinstance(value, (list, tuple)) and value and dice.random() < 0.7:
        return _other_list(list(value), dice)
    if isinstance(value, dict) and value and dice.random() < 0.7:
        return _other_dict(dict(value), dice)
    if isinstance(value, bool) or value is None:
        return dice.choice([not value, int(bool(value)), str(value), str(value).lower(), None, []])
    if isinstance(value, (int, float)):
        return dice.choice(
            [float(value), int(value), str(value), value + 1, -value, value == 1, [value], {"a": value}, value * 1.0000001]
        )
    if isinstance(value, str):
        return dice.choice([
            value.upper(), value.lower(), f" {value} ", value.replace(" ", ""), f"{value}.", value.replace("'", '"'),
            value.replace(",", ", "), value[:-1], f"{value}x", "-".join(value), "", [value], list(value), {"a": value}, 1, None,
            value.replace(" ", "_"), f"{value}?", f"'{value}'", f"\t{value}", value.title(),
        ])  # fmt: skip
    return dice.choice(["", [], {}, [[]], None, 0, [value], [value, value], "x"])


def _other_list(value: list[object], dice: random.Random) -> object:
    place = dice.randrange(len(value))
    match dice.randrange(8):
        case 0:
            dice.shuffle(value)
        case 1:
            value.pop(place)
        case 2:
            value.append(value[place])
        case 3:
            return value[0]
        case 4:
            return tuple(value)
        case 5:
            return [value]
        case _:
            value[place] = _other(value[place], dice)
    return value


def _other_dict(value: dict[str, object], dice: random.Random) -> object:
    key = dice.choice(list(value))
    match dice.randrange(6):
        case 0:
            del value[key]
        case 1:
            value["extra"] = value[key]
        case 2:
            value[key.upper()] = value.pop(key)
        case 3:
            return [value]
        case _:
            value[key] = _other(value[key], dice)
    return value


# --- the whole comparison --------------------------------------------------------------------------


def differences(
    wheel: Path, data: Path, *, changed: int, seed: int = 8, counts: Counter[str] | None = None
) -> Iterator[Difference]:
    """Every difference over all items of all categories, so many changed replies each. counts: what was compared."""
    official, tally = Official(wheel), Counter[str]() if counts is None else counts
    for category in CATEGORIES:
        for item in bfcl.read(data, category):
            dice = random.Random(f"{seed} {item.id}")
            for calls in replies(item, dice, changed):
                found = compare(official, item, calls)
                verdict = official.wrong(item, calls)
                tally.update([category, "right" if not verdict else "raised" if verdict.startswith("raised") else "wrong"])
                if found:
                    yield found


def spoken(path: Path) -> Iterator[tuple[str, Calls]]:
    """What a model said to items: lines of JSON with `id` and `calls`, each a call {name: arguments}, as text or not."""
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        calls = [json.loads(call) if isinstance(call, str) else call for call in row.get("calls", ())]
        yield row["id"], [(name, given) for call in calls for name, given in call.items()]


def kept(official: Official, data: Path, folder: Path, counts: Counter[str]) -> Iterator[Difference]:
    """Every item of a finished result whose verdict is not the official one. counts: what was compared.

    Where no call is right, the leaderboard takes a reply that cannot be read for none, and we take it for wrong: `stricter`.
    """
    judged = outcomes(folder)
    items = {item.id: item for category in {each.group for each in judged} for item in bfcl.read(data, category)}
    for each in judged:
        item, reply = items[each.id], each.reply
        said = [(call.name, call.arguments) for call in reply.calls] if reply.readable else []
        verdict = official.wrong(item, said)
        counts.update(["items", "official right" if not verdict else "official wrong"])
        if item.category in bfcl.NO_CALL and not reply.readable and not each.right:
            counts["stricter"] += 1
        elif each.right != (not verdict):
            yield Difference(each.id, said, each.reason, verdict)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.oracle.official_bfcl", description=__doc__)
    parser.add_argument(
        "--wheel", type=Path, required=True, help=f"bfcl_eval-{VERSION}: the wheel, or a folder it was unpacked to"
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder with BFCL_v4_*.json")
    parser.add_argument("--changed", type=int, default=20, help="changed replies to each item")
    parser.add_argument("--spoken", type=Path, action="append", default=[], help="what a model said, as lines of JSON")
    parser.add_argument("--result", type=Path, action="append", default=[], help="a result's folder: its verdicts alone")
    asked = parser.parse_args()
    counts: Counter[str] = Counter()
    official = Official(asked.wheel)
    if asked.result:
        _tell([each for folder in asked.result for each in kept(official, asked.data, folder, counts)], counts)
    found = list(differences(asked.wheel, asked.data, changed=asked.changed, counts=counts))
    items = {item.id: item for category in CATEGORIES for item in bfcl.read(asked.data, category)}
    for path in asked.spoken:
        for id, calls in spoken(path):
            if id in items:
                counts["spoken"] += 1
                found.extend(filter(None, [compare(official, items[id], calls)]))
    _tell(found, counts)


def _tell(found: Sequence[Difference], counts: Counter[str]) -> NoReturn:
    for each in found[:50]:
        print(json.dumps([each.item, each.calls, each.ours, each.official], ensure_ascii=False, default=str))
    print(json.dumps({"differences": len(found), **counts}))
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
