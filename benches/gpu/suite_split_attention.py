"""MSAF's and MMTM's passes over large feature maps: a mean for each segment, and gains on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from benches.gpu.contenders import Function, compiled, contender, ours
from benches.gpu.setting import SHORT_NAMES, Setting, bound_of_others, in_dtype, our_bound
from fusionkit.bench.case import BOTH, FORWARD, FULL, PARTIAL, Case, Inputs, Suite, Work
from fusionkit.bench.cases.valid_lengths import forty_to_hundred_percent
from fusionkit.bench.goals import EAGER
from fusionkit.ops import force_backend, segment_mean, segment_scale

OPS = ("segment_mean", "segment_scale")


def suite(setting: Setting) -> Suite:
    """(B, C, T) sequences in one and four segments, and (B, C, T, H, W) video."""
    single, brain = torch.float32, torch.bfloat16
    shapes = [
        ((32, 512, 500), 1, single, FULL),
        ((64, 1024, 1024), 4, single, FULL),
        ((16, 256, 16, 28, 28), 1, single, FULL),
        ((32, 512, 500), 4, single, PARTIAL),
        ((64, 1024, 1024), 4, brain, FULL),
        ((16, 256, 16, 28, 28), 2, single, PARTIAL),
    ]
    dry = [((2, 3, 5), 1, single, FULL), ((2, 3, 4, 2), 2, single, PARTIAL)]
    cases = [_case(*shape, setting=setting) for shape in setting.pick(shapes, shapes[:2], dry)]
    return Suite("split_attention", tuple(cases))


def _case(
    shape: tuple[int, ...], segments: int, dtype: torch.dtype, variant: str, *, setting: Setting
) -> Case:
    count = 1
    for size in shape:
        count *= size
    slow = variant == FULL and dtype == torch.float32
    return Case(
        name=f"{'x'.join(map(str, shape))} Q{segments} {SHORT_NAMES[dtype]}",
        group="squeeze and scale",
        variant=variant,
        inputs=partial(_inputs, shape, segments, dtype, variant, setting.device),
        reference=_reference,
        contenders=(
            contender(EAGER, _eager),
            *([contender("torch.compile", _compiled, slow_start=True)] if slow else []),
            *ours(OPS, _ours, setting.device),
        ),
        # Read twice and written once; backward three tensors are read and one written.
        work={
            FORWARD: in_dtype(Work(2.0 * count, 12.0 * count), dtype),
            BOTH: in_dtype(Work(6.0 * count, 28.0 * count), dtype),
        },
        bound=our_bound(dtype),
        bound_others=bound_of_others(dtype),
    )


def _inputs(
    shape: tuple[int, ...], segments: int, dtype: torch.dtype, variant: str, device: torch.device
) -> Inputs:
    generator = torch.Generator(device).manual_seed(0)
    x = torch.randn(shape, generator=generator, device=device)
    gains = torch.rand(*shape[:2], segments, generator=generator, device=device)
    lengths = {}
    if variant == PARTIAL:
        lengths = {"x": forty_to_hundred_percent(shape[2], shape[0])}
    return Inputs({"x": x, "gains": gains}, lengths).to(dtype, device)


def _reference(inputs: Inputs, phase: str) -> dict[str, Tensor]:
    with force_backend("reference"):
        return contender("reference", _ours).prepare(inputs, phase).results()


def plain(x: Tensor, gains: Tensor, lengths: Tensor | None) -> list[Tensor]:
    """Means of the segments and x times its gains, as one writes it in PyTorch."""
    segments, steps = gains.shape[2], x.shape[2]
    positions = torch.arange(steps, device=x.device)
    counts = lengths if lengths is not None else torch.full((len(x),), steps, device=x.device)
    part = (positions // (counts // segments).clamp(min=1)[:, None]).clamp(max=segments - 1)
    own = torch.nn.functional.one_hot(part, segments).to(x.dtype)  # (B, T, Q)
    own = own * (positions < counts[:, None])[:, :, None]
    rows = x.flatten(3).mean(3) if x.dim() > 3 else x  # (B, C, T)
    mean = rows @ own / own.sum(1).clamp(min=1)[:, None, :]
    gain = gains @ own.mT  # (B, C, T)
    return [mean, x * gain.reshape(gain.shape + (1,) * (x.dim() - 3))]


def _eager(inputs: Inputs) -> Function:
    lengths = inputs.lengths.get("x")
    return lambda leaves: plain(leaves["x"], leaves["gains"], lengths)


def _compiled(inputs: Inputs) -> Function:
    lengths = inputs.lengths.get("x")
    return lambda leaves: compiled(plain)(leaves["x"], leaves["gains"], lengths)


def _ours(inputs: Inputs) -> Function:
    lengths = inputs.lengths.get("x")

    def run(leaves: Mapping[str, Tensor]) -> Sequence[Tensor]:
        x, gains = leaves["x"], leaves["gains"]
        mean = segment_mean(x, num_segments=gains.shape[2], lengths=lengths)
        return [mean, segment_scale(x, gains, lengths=lengths)]

    return run
