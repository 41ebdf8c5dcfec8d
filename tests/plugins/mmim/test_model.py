"""MMIM beyond the released code: other tasks and modalities, corrected bounds, the two stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

import fusionkit as fk
from fusionkit import ConfigError, DataSpec
from fusionkit.testing import make_batch
from fusionkit_plugins.mmim.bounds import BarberAgakovTerms, ContrastivePrediction
from fusionkit_plugins.mmim.config import MMIMConfig
from fusionkit_plugins.mmim.encoders import LastState, TimeSummary
from fusionkit_plugins.mmim.model import MMIM
from fusionkit_plugins.mmim.objective import (
    entropy,
    first_stage,
    likelihood_loss,
    training_step,
)
from fusionkit_plugins.mmim.plugin import fusionkit_register_methods

SPEC = DataSpec({"one": 3, "two": 5, "three": 4}, "regression", 1)


def build(spec: DataSpec = SPEC, **options: Any) -> MMIM:
    torch.manual_seed(0)
    return MMIM(MMIMConfig(**{"hidden_size": 6, "encoder_size": 8, **options}), spec)


def task_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.l1_loss(outputs, targets.reshape(outputs.shape))


def batch_of(spec: DataSpec = SPEC, rows: int = 12, seed: int = 0) -> Any:
    return make_batch(spec, [2 + k % 4 for k in range(rows)], seed=seed)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_pairs_start_from_the_main_modality(count: int) -> None:
    spec = DataSpec({f"m{k}": 3 + k for k in range(count)}, "classification", 4)
    model = build(spec, main="m1", all_pairs=True)
    others = [f"m{k}" for k in range(count) if k != 1]
    assert list(model.bounds)[: count - 1] == [f"m1_to_{other}" for other in others]
    assert len(model.bounds) == count * (count - 1) // 2
    assert len(build(spec).bounds) == count - 1
    assert list(model.contrast) == list(spec.modalities)
    with pytest.raises(ConfigError, match="'m9' is not in the data"):
        build(spec, main="m9")


def test_first_step_and_mean() -> None:
    x, lengths = torch.randn(3, 4, 2), torch.tensor([4, 2, 0])
    first, mean = TimeSummary(2, "first")(x, lengths), TimeSummary(2, "mean")(x, lengths)
    assert torch.equal(first[:2], x[:2, 0]) and not first[2].any()
    assert torch.allclose(mean[1], x[1, :2].mean(dim=0)) and not mean[2].any()


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_state_is_that_of_the_last_layer(bidirectional: bool) -> None:
    torch.manual_seed(0)
    encoder = LastState(3, 4, 5, num_layers=2, bidirectional=bidirectional)
    x, lengths = torch.randn(2, 6, 3), torch.tensor([6, 3])
    output, _ = encoder.rnn(x, lengths)
    last = output[torch.arange(2), lengths - 1]
    if bidirectional:
        last = torch.cat([last[:, :4], output[:, 0, 4:]], dim=-1)
    assert torch.allclose(encoder(x, lengths), encoder.linear(last), atol=1e-6)
    released = LastState(3, 4, 5, num_layers=2, bidirectional=bidirectional, first_layer=True)
    released.load_state_dict(encoder.state_dict())
    assert torch.equal(released(x, lengths), encoder(x, lengths)) != bidirectional


def test_the_log_likelihood_is_torchs() -> None:
    torch.manual_seed(0)
    terms = BarberAgakovTerms(3, 8, MMIMConfig())
    x, y = torch.randn(5, 3), torch.randn(5, 8)
    mean, log_variance = terms.conditional(x)
    assert log_variance.abs().max() < 1
    loss = F.gaussian_nll_loss(mean, y, log_variance.exp(), reduction="none").sum(dim=1).mean()
    assert torch.allclose(terms.log_likelihood(x, y), -loss, atol=1e-5)


def test_without_its_log_variance_a_likelihood_rewards_any_variance() -> None:
    released = BarberAgakovTerms(
        3, 8, MMIMConfig(log_variance_term=False, bounded_log_variance=False)
    )
    corrected = BarberAgakovTerms(3, 8, MMIMConfig(bounded_log_variance=False))
    x, y = torch.randn(5, 3), torch.randn(5, 8)
    for terms in (released, corrected):
        torch.nn.init.constant_(terms.conditional.log_variance[2].bias, 30.0)  # type: ignore[arg-type]
    assert released.log_likelihood(x, y).item() == pytest.approx(0.0, abs=1e-3)
    assert corrected.log_likelihood(x, y) < -100


def test_contrast_prefers_matching_rows() -> None:
    contrast = ContrastivePrediction(4, 4)
    with torch.no_grad():
        contrast.predictor[0].weight.copy_(torch.eye(4))  # type: ignore[operator,union-attr]
        contrast.predictor[0].bias.zero_()  # type: ignore[operator,union-attr]
    z = torch.eye(4)
    assert contrast(z, z) < contrast(z, z.roll(1, 0))
    assert contrast(z[:1], z[:1]).item() == pytest.approx(0.0)


def test_a_vector_of_zeros_has_a_finite_contrast() -> None:
    contrast = ContrastivePrediction(4, 6)
    x = torch.randn(3, 4)
    x[1] = 0
    x.requires_grad_()
    loss = contrast(x, torch.randn(3, 6))
    loss.backward()
    assert loss.isfinite() and x.grad is not None and x.grad.isfinite().all()


@pytest.mark.parametrize(("one", "kinds"), [(False, "LTLTL"), (True, "LTLL")])
def test_activations_of_a_deep_predictor(one: bool, kinds: str) -> None:
    layers = ContrastivePrediction(4, 6, layers=3, one_activation=one).predictor
    assert "".join(type(layer).__name__[0] for layer in layers) == kinds


def test_the_training_step_is_the_sum_of_its_terms() -> None:
    model, batch = build(alpha=0.3, beta=0.2).eval(), batch_of()
    vectors = model.encode(batch)
    fused, outputs = model.fuse(vectors)
    expected = task_loss(outputs, batch.targets) + 0.3 * model.contrastive_loss(vectors, fused)
    expected = expected - 0.2 * model.log_likelihood(vectors)
    assert torch.allclose(training_step(model, batch, task_loss), expected)
    second = training_step(model, batch, task_loss)
    memory_entropy = entropy(model, vectors, batch.targets)
    assert memory_entropy != 0
    assert torch.allclose(second, expected - 0.2 * memory_entropy)
    alone = build(alpha=0, beta=0).eval()
    assert training_step(alone, batch, task_loss) == task_loss(outputs, batch.targets)
    assert alone.memory.seen == 0


def test_the_first_stage_trains_the_predictors_and_nothing_else() -> None:
    model = build()
    (objective,) = first_stage(model)
    owned = {id(p) for p in objective.parameters(model)}
    assert owned == {id(p) for p in model.bounds.parameters()}
    assert objective.when == "epoch" and objective.clip_norm == 1.0
    likelihood_loss(model, batch_of()).backward()
    touched = {n for n, p in model.named_parameters() if p.grad is not None}
    assert touched == {n for n, _ in model.named_parameters() if ".conditional." in n}
    assert first_stage(build(beta=0)) == []


@pytest.mark.parametrize("task", ["regression", "classification", "multilabel"])
def test_every_task_trains_with_a_batch_of_one(task: Any) -> None:
    spec = DataSpec(dict(SPEC.modalities), task, 3)
    model = build(spec)
    for rows in (1, 12, 1):
        outputs_only: Any = lambda outputs, targets: outputs.square().mean()  # noqa: E731
        loss = training_step(model, batch_of(spec, rows), outputs_only)
        loss.backward()
        assert loss.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_the_released_entropy_is_for_regression() -> None:
    spec = DataSpec(dict(SPEC.modalities), "classification", 3)
    with pytest.raises(ConfigError, match="knows no classification"):
        build(spec, entropy="released")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frontend_kernel": 4}, "frontend_kernel must be odd"),
        ({"encoder_size": {"one": 0}}, "encoder_size"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MMIMConfig(**options)


def test_presets_and_ablations_are_valid() -> None:
    methods: list[Any] = []
    fusionkit_register_methods(methods.append)
    (method,) = methods
    for preset in method.presets.values():
        MMIMConfig(**preset.get("model", {}))
    for name, options in method.ablations.items():
        assert MMIMConfig(**options) != MMIMConfig(), name


def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    options: Any = {
        "data": "synthetic",
        "data_options": {"samples": 120},
        "model": {"hidden_size": 8, "encoder_hidden": 6, "encoder_size": 8},
        "train": {"epochs": 3, "batch_size": 16, "monitor": "last"},
    }
    whole = fk.train("mmim", out=tmp_path / "whole", **options)
    assert all("train_likelihood" in record for record in whole.history)

    class Stop:
        def on_epoch_end(self, state: Any) -> None:
            if state.progress.epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fk.train("mmim", out=tmp_path / "cut", callbacks=[Stop()], **options)
    resumed = fk.train(resume=tmp_path / "cut")
    names = ("train_loss", "train_likelihood", "validation_loss")
    assert [r[n] for r in resumed.history for n in names] == [
        r[n] for r in whole.history for n in names
    ]
