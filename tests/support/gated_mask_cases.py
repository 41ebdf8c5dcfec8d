"""Random cases of the gated mask, what is right for them, and how far off a result is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fusionkit.ops import force_backend, gated_mask
from fusionkit.ops.philox import keep_mask

from fuzz import two_generators

LAYOUTS = ("contiguous", "transposed", "columns", "expanded", "sliced", "unaligned", "reversed")
KERNEL_DTYPES = (torch.float32, torch.float16, torch.float32, torch.bfloat16)
"""What the kernels for GPUs take; a fuzz goes through them by its seeds."""


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
    layout: str,
    shape: tuple[int, int, int],
    g: torch.Generator,
    spread: float,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Random numbers of this shape with these strides."""
    batch, steps, size = shape

    def randn(*sizes: int) -> Tensor:
        return (torch.randn(sizes, generator=g) * spread).to(dtype)

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


def draw(seed: int, dtype: torch.dtype = torch.float32, builds: int | None = None) -> Case:
    """Args: builds: as `two_generators` takes it."""
    g = torch.Generator().manual_seed(seed)
    build, r = two_generators(seed, builds)
    size = build.choice([1, build.randint(1, 9), build.randint(10, 80), build.randint(250, 530)])
    shape = (r.randint(1, 4), r.randint(1, 30), size)
    gates = build.randint(1, 8)
    spread = r.choice([1.0, 5.0, 40.0])
    layouts = build.choices(LAYOUTS, k=gates + 2)
    has_lengths = build.random() < 0.5
    lengths = torch.randint(0, shape[1] + 1, (shape[0],), generator=g) if has_lengths else None
    dropout_p = build.choice([0.0, 0.2, 0.7])
    return Case(
        name=f"B{shape[0]}-T{shape[1]}-D{size}-G{gates}-p{dropout_p}-{dtype}-{layouts}-seed{seed}",
        inputs=[in_layout(layouts[0], shape, g, 1.0, dtype)]
        + [in_layout(layout, shape, g, spread, dtype) for layout in layouts[1:-1]],
        grad_out=in_layout(layouts[-1], shape, g, 1.0, dtype),
        lengths=lengths,
        dropout_p=dropout_p,
        seed=r.randint(-(2**40), 2**40),
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


def largest(errors: Tensor, scale: Tensor, dtype: torch.dtype = torch.float32) -> float:
    """Largest error as a multiple of the dtype's spacing at the largest value.

    Numbers below float32's smallest normal one may be flushed to zero.
    """
    error, value = errors.abs().max().item(), scale.abs().max().item()
    of = torch.finfo(dtype)
    if error < torch.finfo(torch.float32).tiny:
        return 0.0
    return error / (of.eps * max(value, of.tiny))
