"""Gradients of the gated mask's kernels, and the shapes of their operators for tracing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fusionkit.ops.arguments import apart, seed_on
from fusionkit.ops.extension import AVAILABLE
from fusionkit.ops.gated_mask.reference import run_reference

FORWARD_SCHEMA = (
    "gated_mask(Tensor x, Tensor[] gate_logits, Tensor? lengths, float dropout_p, Tensor? seed)"
    " -> Tensor"
)
BACKWARD_SCHEMA = (
    "gated_mask_backward(Tensor grad_out, Tensor x, Tensor[] gate_logits, Tensor? lengths,"
    " float dropout_p, Tensor? seed, int needs) -> Tensor[]"
)


def run_on_device(
    namespace: str,
    x: Tensor,
    gate_logits: Sequence[Tensor],
    lengths: Tensor | None,
    dropout_p: float,
    seed: int | Tensor | None,
) -> Tensor:
    """Call the operators of a namespace whose kernels read the seed on the device of x."""
    seed = None if dropout_p == 0.0 else seed_on(seed, x.device)
    tensors = [x, *gate_logits]
    result: Tensor
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        x, *gate_logits = apart(tensors)
        result = GatedMask.apply(  # type: ignore[no-untyped-call]
            namespace, x, lengths, dropout_p, seed, *gate_logits
        )
        return result
    result = getattr(torch.ops, namespace).gated_mask.default(
        x, list(gate_logits), lengths, dropout_p, seed
    )
    return result


class GatedMask(torch.autograd.Function):
    """The forward and backward of a namespace of operators; the backward recomputes the sigmoids.

    With ``create_graph=True`` the backward runs the reference instead, for second derivatives.
    """

    @staticmethod
    def forward(
        ctx: Any,
        namespace: str,
        x: Tensor,
        lengths: Tensor | None,
        dropout_p: float,
        seed: Tensor | None,
        *gate_logits: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(x, lengths, seed, *gate_logits)
        ctx.namespace, ctx.dropout_p = namespace, dropout_p
        result: Tensor = getattr(torch.ops, namespace).gated_mask.default(
            x, list(gate_logits), lengths, dropout_p, seed
        )
        return result

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        x, lengths, seed, *gate_logits = ctx.saved_tensors
        _, for_x, _, _, _, *for_gates = ctx.needs_input_grad
        needed = (for_x, *for_gates)
        found: Sequence[Tensor | None]
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            found = _differentiable(
                grad_out, (x, *gate_logits), needed, lengths, ctx.dropout_p, seed
            )
        else:
            bits = 0
            for i, need in enumerate(needed):
                bits |= need << i
            found = getattr(torch.ops, ctx.namespace).gated_mask_backward.default(
                grad_out, x, gate_logits, lengths, ctx.dropout_p, seed, bits
            )
        if len(found) < len(needed):
            gradients = iter(found)
            found = [next(gradients) if need else None for need in needed]
        return (None, found[0], None, None, None, *found[1:])


def _differentiable(
    grad_out: Tensor,
    inputs: tuple[Tensor, ...],
    needed: tuple[bool, ...],
    lengths: Tensor | None,
    dropout_p: float,
    seed: Tensor | None,
) -> tuple[Tensor, ...]:
    """The gradients that are needed, from the reference, so that they have gradients themselves."""
    # Views keep the inputs apart where one tensor is given twice.
    x, *gates = views = [tensor.view_as(tensor) for tensor in inputs]
    result = run_reference(x, gates, lengths=lengths, dropout_p=dropout_p, seed=seed)
    wanted = [view for view, need in zip(views, needed) if need]
    return torch.autograd.grad(result, wanted, grad_out, create_graph=True)


def fake_forward(
    x: Tensor,
    gate_logits: list[Tensor],
    lengths: Tensor | None,
    dropout_p: float,
    seed: Tensor | None,
) -> Tensor:
    """Shape of the output."""
    return x.new_empty(x.shape)


def fake_backward(
    grad_out: Tensor,
    x: Tensor,
    gate_logits: list[Tensor],
    lengths: Tensor | None,
    dropout_p: float,
    seed: Tensor | None,
    needs: int,
) -> list[Tensor]:
    """Shapes of the gradients that the bits of ``needs`` ask for: x, then the gates."""
    return [x.new_empty(x.shape) for _ in range(needs.bit_count())]


if AVAILABLE:
    torch.library.register_fake("fusionkit::gated_mask", fake_forward)
    torch.library.register_fake("fusionkit::gated_mask_backward", fake_backward)
