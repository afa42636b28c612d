"""Arithmetic on an expression, read with `ast` and never executed as code."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable

from tool_adapters.python import tool
from tool_adapters.tool import InvalidArguments

Number = int | float

LENGTH_LIMIT = 400
DEPTH_LIMIT = 40
BITS_LIMIT = 4096


def rounded(value: Number, digits: Number = 0) -> Number:
    """round() with sane digits: -10**9 of them would build a power of ten that fills the memory."""
    if not isinstance(digits, int) or abs(digits) > 30:
        raise InvalidArguments("round takes at most 30 digits.")
    return round(value, digits) if digits else round(value)


_BINARY: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_UNARY: dict[type[ast.unaryop], Callable[[Number], Number]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_FUNCTIONS: dict[str, Callable[..., Number]] = {
    "abs": abs, "round": rounded, "min": min, "max": max, "sqrt": math.sqrt, "exp": math.exp, "log": math.log,
    "log10": math.log10, "log2": math.log2, "sin": math.sin, "cos": math.cos, "tan": math.tan, "floor": math.floor,
    "ceil": math.ceil, "degrees": math.degrees, "radians": math.radians, "hypot": math.hypot,
}  # fmt: skip
_CONSTANTS: dict[str, Number] = {"pi": math.pi, "e": math.e}
_SPELLINGS = str.maketrans({"×": "*", "÷": "/", "−": "-", "（": "(", "）": ")", "，": ",", "＋": "+", "－": "-", "^": "\x00"})


@tool(
    name="calculator",
    title="Calculator",
    examples=(
        "What is 17.5 * 23 + 4?",
        "Compute the square root of 2024",
        "How much is 15% of 240?",
        "计算 (12 + 8) * 3 / 4",
        "3 台服务器每台每月 86.5 元，一年多少钱？",
    ),
    tags=("math", "arithmetic"),
    timeout_s=5,
)
def calculator(expression: str) -> str:
    """Calculate an arithmetic expression: + - * / // % **, sqrt, log, sin, round, min, max, pi.

    Args:
        expression: Such as (12 + 8) * 3 / 4 or sqrt(2) * 0.15.
    """
    return f"{expression.strip()} = {shown(evaluate(expression))}"


def evaluate(expression: str) -> Number:
    """The value of an arithmetic expression. Raises InvalidArguments for anything else, or for too large a number."""
    if len(expression) > LENGTH_LIMIT:
        raise InvalidArguments(f"The expression is longer than {LENGTH_LIMIT} characters.")
    text = expression.translate(_SPELLINGS).replace("\x00", "**").strip().rstrip("=").strip()
    try:
        return _value(ast.parse(text, mode="eval").body, 0)
    except SyntaxError as error:
        raise InvalidArguments(f"{expression!r} is no arithmetic expression.", why=error.msg) from error
    except ZeroDivisionError as error:
        raise InvalidArguments(f"{expression!r} divides by zero.") from error
    except (ArithmeticError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise InvalidArguments(f"{expression!r} cannot be calculated.", why=str(error)[:200]) from error


def shown(value: Number) -> str:
    """A number as a person writes it: 0.3 rather than 0.30000000000000004."""
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        raise InvalidArguments("The result is not a finite number.")
    return f"{value:.12g}"


def _value(node: ast.expr, depth: int) -> Number:
    if depth > DEPTH_LIMIT:
        raise InvalidArguments("The expression is nested too deeply.")
    match node:
        case ast.Constant(value=bool()):
            raise InvalidArguments("True and False are no numbers.")
        case ast.Constant(value=int() | float() as value):
            return _bounded(value)
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(operand, depth + 1))
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left, depth + 1), _value(right, depth + 1))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _bounded(_BINARY[type(op)](_value(left, depth + 1), _value(right, depth + 1)))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _bounded(_FUNCTIONS[name](*(_value(argument, depth + 1) for argument in args)))
        case _:
            raise InvalidArguments(f"{ast.unparse(node)!r} is no arithmetic.", hint="use numbers, + - * / ** and sqrt, log ...")


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and isinstance(exponent, int) and abs(exponent) * base.bit_length() > BITS_LIMIT:
        raise InvalidArguments(f"{base} ** {exponent} is too large.")
    result: object = base**exponent
    if not isinstance(result, int | float):
        raise InvalidArguments(f"({base}) ** {exponent} is no real number.")
    return _bounded(result)


def _bounded(value: Number) -> Number:
    if isinstance(value, int) and value.bit_length() > BITS_LIMIT:
        raise InvalidArguments("A number in the calculation is too large.")
    return value
