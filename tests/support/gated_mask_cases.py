"""Random cases of the gated mask, what is right for them, and how far off a result is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fusionkit.ops import force_backend, gated_mask
from fusionkit.ops.philox import keep_mask

LAYOUTS = ("contiguous", "transposed", "columns", "expanded", "sliced", "unaligned", "reversed")
EPS = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Case:
    """Inputs of one call, drawn from a seed."""

    name: str
    inputs: list[Tensor]  # x, then the gates
    grad_out: Tensor
    lengths: Tensor | None
    dropout_p: float
    seed: int

    def to(self, device: str) -> Case:
        """The same numbers there, in the same layouts."""
        return replace(
            self,
            inputs=[_moved(t, device) for t in self.inputs],
            grad_out=_moved(self.grad_out, device),
            lengths=None if self.lengths is None else self.lengths.to(device),
        )


def _moved(tensor: Tensor, device: str) -> Tensor:
    numbers = tensor.untyped_storage().nbytes() // tensor.element_size()
    everything = tensor.as_strided((numbers,), (1,), 0).to(device)
    return everything.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def in_layout(
    layout: str, shape: tuple[int, int, int], g: torch.Generator, spread: float
) -> Tensor:
    """Random numbers of this shape with these strides."""
    batch, steps, size = shape

    def randn(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=g) * spread

    if layout == "transposed":
        return randn(steps, batch, size).transpose(0, 1)
    if layout == "columns":
        return randn(batch, size, steps).transpose(1, 2)
    if layout == "expanded":
        return randn(1, steps, 1).expand(shape)
    if layout == "sliced":
        return randn(batch, 2 * steps + 1, size + 3)[:, 1::2, 2 : size + 2]
    if layout == "unaligned":
        return randn(batch * steps * size + 1)[1:].view(shape)
    if layout == "reversed":
        return randn(size, steps, batch).permute(2, 1, 0)
    return randn(batch, steps, size)


def draw(seed: int) -> Case:
    g = torch.Generator().manual_seed(seed)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=g))

    size = [1, number(1, 9), number(10, 80), number(250, 530)][number(0, 3)]
    shape = (number(1, 4), number(1, 30), size)
    gates = number(1, 8)
    spread = [1.0, 5.0, 40.0][number(0, 2)]
    layouts = [LAYOUTS[number(0, len(LAYOUTS) - 1)] for _ in range(gates + 2)]
    lengths = torch.randint(0, shape[1] + 1, (shape[0],), generator=g) if number(0, 1) else None
    dropout_p = [0.0, 0.2, 0.7][number(0, 2)]
    return Case(
        name=f"B{shape[0]}-T{shape[1]}-D{size}-G{gates}-p{dropout_p}-{layouts}-seed{seed}",
        inputs=[in_layout(layouts[0], shape, g, 1.0)]
        + [in_layout(layout, shape, g, spread) for layout in layouts[1:-1]],
        grad_out=in_layout(layouts[-1], shape, g, 1.0),
        lengths=lengths,
        dropout_p=dropout_p,
        seed=number(-(2**40), 2**40),
    )


def run(case: Case, backend: str) -> list[Tensor]:
    """Output, and gradients of x and the gates, in float64."""
    leaves = [t.detach().requires_grad_() for t in case.inputs]
    with force_backend(backend):
        out = gated_mask(
            leaves[0], leaves[1:], lengths=case.lengths, dropout_p=case.dropout_p, seed=case.seed
        )
    grads = torch.autograd.grad(out, leaves, case.grad_out)
    return [t.detach().double() for t in (out, *grads)]


def exact(case: Case) -> list[Tensor]:
    """The same by the formulas in float64, with s(g) s(-g) for the slope: 1 - s(g) cancels."""
    x, *gates = (t.double() for t in case.inputs)
    batch, steps, size = x.shape
    share = keep_mask(case.seed, (batch, 1, steps, size), case.dropout_p, x.device)[:, 0].double()
    share = share / (1 - case.dropout_p) / len(gates)
    if case.lengths is not None:
        share = share * (torch.arange(steps, device=x.device) < case.lengths[:, None])[:, :, None]
    total = torch.stack(gates).sigmoid().sum(dim=0)
    dy = case.grad_out.double() * share
    slopes = [torch.sigmoid(gate) * torch.sigmoid(-gate) for gate in gates]
    return [x * total * share, dy * total, *(dy * x * slope for slope in slopes)]


def largest(errors: Tensor, scale: Tensor) -> float:
    """Largest error as a multiple of the float32 spacing at the largest value.

    Numbers below the smallest normal one may be flushed to zero.
    """
    error, value = errors.abs().max().item(), scale.abs().max().item()
    return 0.0 if error < torch.finfo(torch.float32).tiny else error / (EPS * value)
