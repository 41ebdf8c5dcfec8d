"""LMF beyond the released code: other modalities and tasks, padding, options, presets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from fusionkit import ConfigError, DataSpec, MultimodalBatch
from fusionkit.testing import make_batch
from fusionkit.training.config import TrainConfig
from fusionkit_plugins.lmf.config import LMFConfig
from fusionkit_plugins.lmf.model import LMF, parameter_groups
from fusionkit_plugins.lmf.presets import PRESETS

SPEC = DataSpec({"text": 3, "audio": 4, "vision": 2}, "classification", 3)
SMALL: dict[str, Any] = {"hidden_size": 3, "recurrent_hidden_size": 4, "recurrent_output_size": 2}


def build(spec: DataSpec = SPEC, **options: Any) -> LMF:
    torch.manual_seed(0)
    return LMF(LMFConfig(**{**SMALL, **options}), spec).eval()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_any_number_of_modalities(count: int) -> None:
    spec = DataSpec({f"m{k}": 2 + k for k in range(count)}, "multilabel", 4)
    model = build(spec, rank=6)
    assert [tuple(f.shape) for f in model.fusion.factors] == [(6, 3, 4)] + [(6, 4, 4)] * (count - 1)
    assert model(make_batch(spec, [3, 5])).shape == (2, 4)


def test_parameters_grow_with_the_sum_of_the_sizes() -> None:
    counts = [sum(p.numel() for p in build(rank=rank).fusion.parameters()) for rank in (1, 2)]
    per_rank = 3 * ((2 + 1) + 2 * (3 + 1)) + 1
    assert counts == [per_rank + 3, 2 * per_rank + 3]


def test_softmax_is_released_behaviour_and_off() -> None:
    batch = make_batch(SPEC, [4, 6, 1])
    plain, released = build(), build(softmax=True)
    assert torch.allclose(released(batch), plain(batch).softmax(dim=-1))
    assert torch.allclose(released(batch).sum(dim=-1), torch.ones(3))
    with pytest.raises(ConfigError, match="softmax: over one output"):
        build(DataSpec({"one": 2, "two": 2}, "regression", 1), softmax=True)


def test_padding_counts_only_as_released() -> None:
    batch = make_batch(SPEC, [4, 6, 1])
    features = {m: torch.nn.functional.pad(x, (0, 0, 0, 3)) for m, x in batch.features.items()}
    longer = MultimodalBatch(features, batch.lengths)
    with torch.no_grad():
        corrected, released = build(), build(lengths="padded")
        assert (corrected(batch) - corrected(longer)).abs().max() < 1e-6
        assert (released(batch) - released(longer)).abs().max() > 1e-4


def test_the_factors_have_their_rate_only_where_it_is_asked_for() -> None:
    assert not parameter_groups(build())
    model = build(factor_learning_rate=0.25)
    (group,) = parameter_groups(model)
    assert (group.learning_rate, group.weight_decay) == (0.25, None)
    names = {id(p): name for name, p in model.named_parameters()}
    assert [names[id(p)] for p in group.parameters] == [f"fusion.factors.{k}" for k in range(3)]


@pytest.mark.parametrize(
    "options",
    [{"rank": 0}, {"hidden_size": 0}, {"post_fusion_size": 3}, {"factor_learning_rate": 0.0}],
)
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LMFConfig(**options)


def test_presets_build() -> None:
    for preset in PRESETS.values():
        TrainConfig(**preset.get("train", {}))
        assert build(**preset["model"])(make_batch(SPEC, [5, 3])).shape == (2, 3)
