"""Running a short program that the model wrote, in a sandbox."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tool_adapters.builtin.sandbox import Limits, Ran, python, run
from tool_adapters.media import Media, media_of
from tool_adapters.python import tool
from tool_adapters.tool import CallContext

MAX_OUTPUT = 2000
MARGIN_S = 2.0

_PYTHON = """
import ast, sys
source = sys.stdin.read()
tree = ast.parse(source, "program")
last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
names = {"__name__": "__main__"}
exec(compile(tree, "program", "exec"), names)
if last is not None:
    value = eval(compile(ast.Expression(last.value), "program", "eval"), names)
    if value is not None:
        print(repr(value))
"""


@tool(
    name="code_interpreter",
    title="Code interpreter",
    examples=(
        "Write Python that finds the primes below 50 and run it",
        "Run this code: print(sum(range(101)))",
        "Simulate 1000 coin tosses with Python",
        "用 Python 计算前 20 个斐波那契数",
        "运行这段代码并告诉我结果",
    ),
    tags=("code", "python", "shell", "compute"),
    timeout_s=30,
)
async def code_interpreter(
    code: str, context: CallContext, language: Literal["python", "shell"] = "python"
) -> str | list[str | Media]:
    """Run a short Python or shell program in a sandbox without network, and give back what it prints and writes.

    Args:
        code: The whole program. Each run begins anew; files that it writes to its folder are given back.
        language: python or shell.
    """
    limits = Limits(wall_s=max(1.0, context.timeout_s - MARGIN_S))
    ran = await run(_command(language), code, limits)
    files = [media_of(data, name=name) for name, data in ran.files.items()]
    return [told(ran, limits), *files] if files else told(ran, limits)


def _command(language: str) -> Sequence[str]:
    if language == "shell":
        return ["/bin/sh", "-s"]
    return [str(python()), "-I", "-S", "-c", _PYTHON]


def told(ran: Ran, limits: Limits) -> str:
    """What it printed, cut in the middle where that is much, and how it ended if it did not end well."""
    output = ran.output.strip()
    if len(output) > MAX_OUTPUT:
        half = MAX_OUTPUT // 2
        output = f"{output[:half]}\n[... {len(output) - 2 * half} characters left out ...]\n{output[-half:]}"
    if ran.stopped:
        return f"It was stopped: {ran.stopped}."
    if ran.code is None:
        return f"It was stopped: it ran longer than {limits.wall_s:g} s.".strip()
    ended = "" if ran.code == 0 else f"\nIt ended with status {ran.code}."
    more = f"\nNot given back: {', '.join(ran.left_out)}." if ran.left_out else ""
    return (output or ("It printed nothing." if not ended else "")) + ended + more
