"""What is measured of every reply, whichever benchmark asked."""

from __future__ import annotations

from collections.abc import Sequence

from services.evaluation.item import Item, Reply
from services.evaluation.metrics.calls import Wanted, matched
from services.evaluation.metrics.fitting import invalid
from services.evaluation.metrics.intervals import Measured
from services.evaluation.metrics.retrieval import recall_at
from services.evaluation.similarity import rouge_l

FIGURES = (
    "right", "action_em", "exact_call", "argument_f1", "argument_f1_macro", "rouge_l", "no_tool_precision", "no_tool_recall",
    "tools_found", "spurious_calls", "invalid_calls", "unanswered",
)  # fmt: skip
"""The common figures, in the order in which they are told; of the last three less is better."""


def measured(item: Item, reply: Reply, wanted: Sequence[Wanted] | None) -> dict[str, Measured]:
    """The common figures' share of one item. wanted: the calls that should be made; None: a call is wanted, but not told which.

    action_em, exact_call, argument_f1 (counts summed first), argument_f1_macro, spurious_calls (more calls than wanted): of
    items that want a call. no_tool_recall: of items that want none, how many got none; no_tool_precision: of replies without a
    call, how many were to be so. rouge_l: of items with a reference text and no call wanted; a call there is worth 0.
    tools_found: of the tools wanted, those that whoever finds its own could call. invalid_calls: of replies that call or try
    to, how many have a call that is malformed, of no tool offered, or whose arguments do not fit. unanswered: replies that
    never came. A figure that a reply has no part in is 0 of 0, so that two models are compared over all items of both.
    """
    calls = reply.calls if reply.readable else ()
    tried, silent = bool(reply.malformed or calls), reply.readable and not calls
    found = {
        "unanswered": Measured(float(bool(reply.trouble))),
        "invalid_calls": Measured(
            float(tried and bool(reply.malformed or invalid(calls, item.cards, reply.offered))), float(tried)
        ),
    }
    found["no_tool_precision"] = Measured(float(silent and wanted is not None and not wanted), float(silent))
    if wanted is None:
        return found
    if not wanted:
        found["no_tool_recall"] = Measured(float(silent))
        if item.text:
            said = reply.text if silent else ""
            found["rouge_l"] = Measured(rouge_l(said, item.text) if said else 0.0)
        return found
    if reply.offered is not None:
        gold = {each.name for each in wanted}
        found["tools_found"] = Measured(recall_at(len(reply.offered), gold, reply.offered) * len(gold), len(gold))
    match = matched(wanted, calls)
    return found | {
        "action_em": Measured(float(match.tools)),
        "exact_call": Measured(float(match.exact)),
        "argument_f1": Measured(2 * match.full + match.half, match.wanted + match.given),
        "argument_f1_macro": Measured(match.f1),
        "spurious_calls": Measured(float(len(calls) > len(wanted))),
    }
