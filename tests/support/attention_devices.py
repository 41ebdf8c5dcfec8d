"""Cases of `cross_attention` on the device that the kernels under test run on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fusionkit.ops import cross_attention, force_backend

from attention_cases import BIAS_AXES, LAYOUTS, Case, Inputs, outputs_and_gradients
from fuzz import two_generators


def normal(*shape: int, seed: int, device: str) -> Tensor:
    """The same numbers on every device."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)


def moved(x: Any, device: str) -> Any:
    """A tensor there, with the same strides and the same memory around it; others unchanged."""
    if not isinstance(x, Tensor) or x.device.type == device:
        return x
    storage = x.detach().as_strided((x.untyped_storage().nbytes() // x.element_size(),), (1,), 0)
    there = storage.to(device).as_strided(x.shape, x.stride(), x.storage_offset())
    return there.requires_grad_(x.requires_grad)


def run_on(backend: str, device: str, inputs: Inputs, upstream: list[Tensor]) -> dict[str, Tensor]:
    """Results and gradients by name, back on the CPU."""
    leaves, options = (
        {name: moved(x, device) for name, x in given.items()}
        for given in (inputs.leaves, inputs.options)
    )
    with force_backend(backend):
        found = outputs_and_gradients(
            cross_attention,
            Inputs(leaves, options, inputs.layouts),
            [moved(x, device) for x in upstream],
        )
    return {name: x.cpu() for name, x in found.items()}


def draw_small(seed: int, most_dim: int, builds: int | None = None) -> Case:
    """Everything that a kernel takes, few steps; some cases have more steps and narrow heads.

    Args:
        builds: as `two_generators` takes it.
    """
    build, r = two_generators(seed, builds)
    longer = build.random() < 0.15

    def dim() -> int:
        most = 16 if longer else build.choice([4, 8, 16, 32, 64, most_dim])
        return build.randint(max(1, most // 2), most)

    def steps(most: int) -> int:
        return r.choice([r.randint(0, 9), r.randint(1, most), r.randint(1, most)])

    head_dim = dim()
    return Case(
        seed=seed,
        batch=r.randint(1, 3),
        heads=1 if longer else build.randint(1, 2),
        num_queries=steps(140 if longer else 40),
        num_keys=steps(140 if longer else 60),
        head_dim=head_dim,
        value_dim=build.choice([head_dim, head_dim, dim()]),
        dtype=build.choice([torch.float32, torch.float32, torch.bfloat16, torch.float16]),
        layouts=(build.choice(LAYOUTS), build.choice(LAYOUTS), build.choice(LAYOUTS)),
        has_key_lengths=build.random() < 0.6,
        has_query_lengths=build.random() < 0.5,
        bias_axes=build.choice(BIAS_AXES) if build.random() < 0.5 else "",
        dropout_p=build.choice([0.0, 0.0, 0.1, 0.75]),
        spread=r.choice([0.3, 1.0, 1.0, 5.0, 30.0]),
        learns_bias=build.random() < 0.7,
    )


def upstream_of(case: Case) -> Tensor:
    """(B, H, Tq, Dv), random, of the case's dtype."""
    g = torch.Generator().manual_seed(case.seed)
    shape = (case.batch, case.heads, case.num_queries, case.value_dim)
    return torch.randn(shape, generator=g).to(case.dtype)
