"""A linear layer and its adapter in one step, with the fewest passes over memory.

peft computes y = Wx + s·B(Ax) as four operations, each of which reads and writes a whole activation, and as many backwards.
Here the low-rank product is added by the matrix multiplication itself, forwards and backwards.
"""

from __future__ import annotations

import torch
from peft.tuners.lora import Linear


class _Adapted(torch.autograd.Function):  # type: ignore[misc]  # torch is not where types are checked
    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        inner = x @ a.t()
        y = x @ weight.t() if bias is None else torch.addmm(bias, x, weight.t())
        ctx.save_for_backward(x, weight, a, b, inner)
        ctx.scale = scale
        return y.addmm_(inner, b.t(), alpha=scale)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, dy: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, a, b, inner = ctx.saved_tensors
        d_inner = (dy @ b).mul_(ctx.scale)
        dx = (dy @ weight).addmm_(d_inner, a) if ctx.needs_input_grad[0] else None
        return dx, None, None, d_inner.t() @ x, (dy.t() @ inner).mul_(ctx.scale), None


def adapted(layer: Linear, x: torch.Tensor) -> torch.Tensor:
    """What `layer` makes of x: (..., in) to (..., out), in the type of its frozen weight."""
    weight, bias = layer.base_layer.weight, layer.base_layer.bias
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    flat = x.reshape(-1, x.shape[-1]).to(weight.dtype)
    y = _Adapted.apply(flat, weight, bias, a.to(weight.dtype), b.to(weight.dtype), layer.scaling["default"])
    return y.view(*x.shape[:-1], -1)


def fuse(model: torch.nn.Module) -> int:
    """Lets every plain adapted layer of `model` compute so; how many. Layers with dropout or 4-bit weights stay peft's."""
    count = 0
    for layer in model.modules():
        if (
            type(layer) is Linear
            and type(layer.base_layer) is torch.nn.Linear
            and isinstance(layer.lora_dropout["default"], torch.nn.Identity)
        ):
            layer.forward = lambda x, *_, layer=layer, **__: adapted(layer, x)
            count += 1
    return count
