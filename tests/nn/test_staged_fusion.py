"""Stages a modality with exchange between them: by hand, and with every kind of stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusionkit.nn import last_step, pool
from fusionkit.nn.squeeze_excitation import SqueezeExcitationFusion
from fusionkit.nn.staged_fusion import StagedFusion

SIZES, HIDDEN = {"a": 3, "b": 5}, {"a": 4, "b": 6}
LENGTHS = {"a": torch.tensor([7, 2, 4]), "b": torch.tensor([1, 9, 3])}


def features() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        m: torch.randn(3, int(n.max()), SIZES[m], generator=generator) for m, n in LENGTHS.items()
    }


def build(fusion: Any = SqueezeExcitationFusion, **options: Any) -> StagedFusion:
    torch.manual_seed(0)
    return StagedFusion(SIZES, HIDDEN, fusion, **options)


def rows(x: Mapping[str, Tensor], row: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    lengths = {m: n[row : row + 1] for m, n in LENGTHS.items()}
    return {m: v[row : row + 1, : int(lengths[m])] for m, v in x.items()}, lengths


def test_by_hand() -> None:
    x, streams = features(), build()
    stacks: Any = streams.stages
    first = [stacks[m][0](x[m], LENGTHS[m])[0] for m in SIZES]
    fused = streams.fusions[0]([h.transpose(1, 2) for h in first], list(LENGTHS.values()))
    second = [stacks[m][1](h.transpose(1, 2), LENGTHS[m])[0] for m, h in zip(SIZES, fused)]
    want = [last_step(h, LENGTHS[m], bidirectional=False) for m, h in zip(SIZES, second)]
    torch.testing.assert_close(streams(x, LENGTHS), torch.cat(want, dim=-1))


@pytest.mark.parametrize("stage", ["lstm", "gru", "conv"])
@pytest.mark.parametrize("pooling", ["last", "mean", "max", "mean_max", "attention_max"])
@pytest.mark.parametrize("frontend", [0, 4])
def test_samples_stand_alone(stage: Any, pooling: Any, frontend: int) -> None:
    streams = build(
        stage=stage,
        pooling=pooling,
        num_stages=3,
        bidirectional=stage == "gru",
        frontend_size=frontend,
        frontend_strides={"a": 1, "b": 2},
    )
    assert len(streams.fusions) == 2
    x = features()
    found = streams(x, LENGTHS)
    assert found.shape == (3, streams.output_size)
    for row in range(3):
        torch.testing.assert_close(streams(*rows(x, row)), found[row : row + 1])
    junk = {m: v.clone() for m, v in x.items()}
    for m, n in LENGTHS.items():
        for row in range(3):
            junk[m][row, n[row] :] = torch.nan
    torch.testing.assert_close(streams(junk, LENGTHS), found)


def test_the_modalities_exchange() -> None:
    for fusion, reaches in ((SqueezeExcitationFusion, True), (None, False)):
        streams, x = build(fusion), features()
        x["b"].requires_grad_()
        (gradient,) = torch.autograd.grad(
            streams(x, LENGTHS)[:, :4].sum(), x["b"], allow_unused=True, materialize_grads=True
        )
        assert bool(gradient.any()) == reaches


def test_aligned_modalities_run_together() -> None:
    lengths = dict.fromkeys(SIZES, torch.tensor([7, 2, 4]))
    x = {m: torch.randn(3, 7, size) for m, size in SIZES.items()}
    together, apart = build(aligned=True), build()
    assert together.run_together and not apart.run_together
    torch.testing.assert_close(together(x, lengths), apart(x, lengths))
    strides = {"a": 1, "b": 2}
    assert not build(aligned=True, frontend_size=4, frontend_strides=strides).run_together


def test_pooling_of_the_last_stage() -> None:
    x = features()
    streams = build(None, pooling="mean", num_stages=1)
    stacks: Any = streams.stages
    want = [pool(stacks[m][0](x[m], LENGTHS[m])[0], LENGTHS[m], "mean") for m in SIZES]
    torch.testing.assert_close(streams(x, LENGTHS), torch.cat(want, dim=-1))


def test_fusion_gets_the_channels_of_both_directions() -> None:
    seen: list[Sequence[int]] = []

    def fusion(sizes: Sequence[int]) -> nn.Module:
        seen.append(sizes)
        return SqueezeExcitationFusion(sizes)

    build(fusion, bidirectional=True)
    assert seen == [[8, 12]]
