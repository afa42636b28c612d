"""Attention over conversations that follow each other in one row, none of which sees another.

transformers finds such rows by their positions and masks them, which costs the square of the whole row. Here each
conversation attends by itself with the causal kernel, so that a row costs what its conversations cost.
"""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from services.training.refusal import Refused

NAME = "milepost_segments"
UNPACKED = 'set "packing": false in the plan'


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    segments: tuple[int, ...] | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **others: object,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface; query, key, value: (1, heads, tokens, size). Raises Refused for what it cannot do."""
    if segments is None:
        raise Refused(
            "this model cannot be packed", why="it does not tell its attention where conversations end", hint=UNPACKED
        )
    if odd := [name for name in ("softcap", "s_aux") if others.get(name) is not None]:
        raise Refused("this model cannot be packed", why=f"its attention needs {', '.join(odd)}", hint=UNPACKED)
    if sliding_window is not None and max(segments) > sliding_window:
        raise Refused(
            "this model cannot be packed at this length", why=f"it attends to {sliding_window} tokens only", hint=UNPACKED
        )
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    parts = zip(query.split(segments, 2), key.split(segments, 2), value.split(segments, 2), strict=True)
    seen = [scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling, is_causal=True) for q, k, v in parts]
    return torch.cat([one.transpose(1, 2) for one in seen], 1), None


AttentionInterface.register(NAME, attend)
