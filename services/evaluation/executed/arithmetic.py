"""The calculator that tau2's domains have: the four operations, to two digits."""

from __future__ import annotations

import re

from services.evaluation.executed.world import Failed
from tool_adapters.builtin.calculator import evaluate
from tool_adapters.tool import InvalidArguments


def calculate(expression: str) -> str:
    """The value of an expression of numbers, brackets and + - * /, as text. Raises Failed."""
    if not re.fullmatch(r"[-0-9+*/(). ]*", expression):
        raise Failed("Invalid characters in expression")
    try:
        return str(round(float(evaluate(expression)), 2))
    except (InvalidArguments, ArithmeticError) as error:
        raise Failed(f"Invalid expression: {error}") from error
