"""The frame of a report in HTML: one file that loads nothing, runs no script, and reads well by day and by night.

Headings, paragraphs, tables, `<details>`, `<pre>`, `<figure>` with inline SVG and `<dl class="facts">` have their style here;
so have the words `added`, `removed`, `changed`, `note`, `number`, `quiet` as classes, and the colours as variables
(--ink --quiet --line --paper --raised --accent --added --removed --changed and --added-ground ...), which plots may use too.
"""

from __future__ import annotations

from html import escape
from typing import Literal

# Nothing may be loaded or run, whatever stands in a report: what a tool or a model said is shown, never obeyed.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
# Characters that no document may hold, and those that turn the direction of text.
_UNSHOWN = {
    code: "\ufffd" for code in (*range(9), 11, 12, *range(14, 32), *range(127, 160), 0x200E, 0x200F, *range(0x202A, 0x202F),
    *range(0x2066, 0x206A), *range(0xD800, 0xE000))
}  # fmt: skip


def escaped(text: object) -> str:
    """Any text as it may stand in HTML, in an attribute too; what cannot be shown is shown as a box."""
    return escape(str(text).translate(_UNSHOWN), quote=True)


def page(title: str, body: str, language: Literal["en", "zh"] = "en", style: str = "") -> str:
    """A whole document. title: plain text; body: HTML, in which the caller has escaped all that is not his own.

    style: more CSS, of the report alone.
    """
    spoken = "zh-CN" if language == "zh" else "en"
    return (
        f'<!DOCTYPE html>\n<html lang="{spoken}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escaped(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


_STYLE = """
:root {
  --ink: #1d2329; --quiet: #5c6670; --line: #d5dae0; --paper: #fbfbfa; --raised: #ffffff; --accent: #1f5fa8;
  --added: #17643a; --added-ground: #dff3e5; --removed: #9c2323; --removed-ground: #fbe3e1;
  --changed: #80550a; --changed-ground: #fcf1d8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #dfe4e8; --quiet: #98a3ad; --line: #37414a; --paper: #14181c; --raised: #1b2126; --accent: #79b2f2;
    --added: #84d7a3; --added-ground: #16331f; --removed: #f3a29b; --removed-ground: #42201f;
    --changed: #e9c06d; --changed-ground: #382c11;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .75rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.25rem 0 .4rem; }
p { margin: .5rem 0; max-width: 46rem; }
h1::first-letter, h2::first-letter { text-transform: uppercase; }
a { color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 3px; }
code, pre, .code { font: .87em/1.5 ui-monospace, "SF Mono", Consolas, "Noto Sans Mono CJK SC", monospace; }
pre { margin: .4rem 0; padding: .6rem .75rem; background: var(--raised); border: 1px solid var(--line); border-radius: 6px;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; margin: .4rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .7rem; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
th { color: var(--quiet); font-weight: 600; font-size: .87em; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; margin: .5rem 0; }
dl.facts dt { color: var(--quiet); }
dl.facts dd { margin: 0; overflow-wrap: anywhere; }
details { border: 1px solid var(--line); border-radius: 6px; background: var(--raised); margin: .4rem 0; }
summary { cursor: pointer; padding: .45rem .75rem; overflow-wrap: anywhere; }
details > :not(summary) { margin-left: .75rem; margin-right: .75rem; }
figure { margin: 1rem 0; }
figcaption, .quiet { color: var(--quiet); }
figure svg { max-width: 100%; height: auto; }
.added { color: var(--added); background: var(--added-ground); text-decoration: none; }
.removed { color: var(--removed); background: var(--removed-ground); }
.changed { color: var(--changed); background: var(--changed-ground); }
del.removed { text-decoration: line-through; text-decoration-thickness: 1px; }
.note { border-left: 3px solid var(--accent); padding: .3rem .9rem; background: var(--raised); max-width: none; }
.badge { display: inline-block; padding: 0 .45rem; border-radius: 4px; font-size: .82em; font-weight: 600;
  white-space: nowrap; }
@media (max-width: 40rem) { dl.facts { grid-template-columns: 1fr; gap: 0; } dl.facts dd { margin-bottom: .4rem; } }
@media print { details > summary { list-style: none; } }
"""
