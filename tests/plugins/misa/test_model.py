"""MISA beyond the released code: other modalities and encoders, and the losses one by one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit import ConfigError, DataSpec
from fusionkit.testing import make_batch
from fusionkit_plugins.misa.config import MISAConfig
from fusionkit_plugins.misa.encoders import StackedRNN
from fusionkit_plugins.misa.losses import difference_loss, reconstruction_loss
from fusionkit_plugins.misa.model import MISA
from fusionkit_plugins.misa.objective import (
    difference,
    reconstruction,
    similarity,
    training_step,
)
from fusionkit_plugins.misa.plugin import fusionkit_register_methods
from fusionkit_plugins.misa.transformer import PostNormLayer

SPEC = DataSpec({"one": 3, "two": 5, "three": 4}, "regression", 1)


def build(spec: DataSpec = SPEC, **options: Any) -> Any:
    torch.manual_seed(0)
    return MISA(MISAConfig(**{"hidden_size": 6, "feedforward_size": 16, **options}), spec)


def represent(model: Any, spec: DataSpec = SPEC) -> Any:
    lengths = {name: [5 + k, 3, 2 + k, 6] for k, name in enumerate(spec.modalities)}
    return model.represent(model.utterances(make_batch(spec, lengths)))


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_any_number_of_modalities(count: int) -> None:
    spec = DataSpec({f"m{k}": 3 + k for k in range(count)}, "classification", 4)
    model = build(spec, similarity="adversarial")
    parts = represent(model, spec)
    assert list(parts.private) == list(parts.shared) == list(spec.modalities)
    assert model.head[0].in_features == 2 * count * 6
    assert all(x.shape == (4, count) for x in model.domains(parts).values())
    assert model.predict(parts).shape == (4, 4)


def test_the_difference_counts_every_pair_once() -> None:
    parts = represent(build())
    private, shared = list(parts.private.values()), list(parts.shared.values())
    pairs = [
        *zip(private, shared),
        *((private[i], private[j]) for i, j in [(0, 1), (0, 2), (1, 2)]),
    ]
    expected = sum(difference_loss(*pair) for pair in pairs)
    assert torch.allclose(difference(parts), torch.as_tensor(expected))


def test_orthogonal_features_have_no_difference_loss() -> None:
    one = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    other = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, -1.0], [0.0, -1.0]])
    assert difference_loss(one, other).item() == pytest.approx(0.0, abs=1e-10)
    assert difference_loss(one, one).item() > 1


def test_a_blind_discriminator_knows_nothing() -> None:
    model = build(similarity="adversarial").eval()
    nn.init.zeros_(model.discriminator[3].weight)
    nn.init.zeros_(model.discriminator[3].bias)
    assert similarity(model, represent(model)).item() == pytest.approx(math.log(3))


def test_the_discriminator_and_the_shared_encoder_pull_apart() -> None:
    model = build(similarity="adversarial", reversal_scale=0.5).eval()
    parts = represent(model)
    similarity(model, parts).backward()
    turned = model.shared[0].weight.grad
    assert turned is not None
    model.zero_grad()
    names, rows = list(parts.shared), represent(model).shared
    logits = torch.cat([model.discriminator(rows[name]) for name in names])
    F.cross_entropy(logits, torch.arange(3).repeat_interleave(4)).backward()
    plain = model.shared[0].weight.grad
    assert plain is not None and plain.abs().max() > 0
    assert torch.allclose(turned, -0.5 * plain, atol=1e-7)


@pytest.mark.parametrize("kind", ["mse", "scale_invariant"])
def test_reconstruction(kind: str) -> None:
    real = torch.randn(4, 6)
    shifted = reconstruction_loss(real + 3, real, kind)
    assert shifted.item() == pytest.approx(9.0 if kind == "mse" else 0.0, abs=1e-5)
    model = build(reconstruction=kind)
    assert reconstruction(model, represent(model)) > 0


def loss_of(model: MISA, rows: int = 4) -> Tensor:
    batch = make_batch(SPEC, [5, 3, 6, 2][:rows])

    def task(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.mse_loss(outputs, targets.reshape(outputs.shape))

    return training_step(model, batch, task)


def test_weights_of_zero_leave_the_task_loss() -> None:
    names = ("difference_weight", "similarity_weight", "reconstruction_weight")
    weights: dict[str, Any] = dict.fromkeys(names, 0.0)
    model = build(**weights).eval()
    batch = make_batch(SPEC, [5, 3, 6, 2])
    assert batch.targets is not None
    assert loss_of(model) == F.mse_loss(model(batch).squeeze(1), batch.targets)
    for name in names:
        more = build(**{**weights, name: 1.0}).eval()
        assert loss_of(more) > loss_of(model)


def test_one_sample_can_be_trained_on() -> None:
    model = build()
    loss_of(model, rows=1).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(g.isfinite().all() for g in gradients)
    released = build(cmd_gradient_at_equality="nan")
    loss_of(released, rows=1).backward()
    assert any(p.grad is not None and p.grad.isnan().any() for p in released.parameters())


def test_losses_under_autocast_are_those_of_single_precision() -> None:
    model = build().eval()
    with torch.autocast("cpu", torch.bfloat16):
        half = loss_of(model)
    assert half.item() == pytest.approx(loss_of(model).item(), rel=0.05)


def test_encoders_are_chosen_by_modality() -> None:
    model = build(encoder={"two": "mean", "three": "conv_bilstm"}, frontend_size=4, rnn_size=7)
    sizes = {name: encoder.output_size for name, encoder in model.encoders.items()}
    assert sizes == {"one": 28, "two": 5, "three": 16}
    with pytest.raises(ConfigError, match="four"):
        build(encoder={"four": "mean"})


def test_the_mean_is_over_valid_steps() -> None:
    batch = make_batch(SPEC, [2, 4])
    vector = build(encoder="mean").utterances(batch)["two"]
    assert torch.allclose(vector[0], batch.features["two"][0, :2].mean(dim=0))


def test_recurrent_weights_start_orthogonal() -> None:
    encoder: Any = StackedRNN(5, 5)
    for weight in (encoder.first.weight_hh_l0, encoder.second.weight_hh_l0_reverse):
        assert torch.allclose(weight.T @ weight, torch.eye(5), atol=1e-5)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_the_transformer_layer_is_torchs(heads: int) -> None:
    torch.manual_seed(0)
    ours = PostNormLayer(8, heads, 12, dropout=0.0).double()
    theirs = nn.TransformerEncoderLayer(8, heads, 12, dropout=0.0, batch_first=True).double()
    names = {
        "self_attn.in_proj_weight": ours.projection.weight,
        "self_attn.in_proj_bias": ours.projection.bias,
        "self_attn.out_proj.weight": ours.output.weight,
        "self_attn.out_proj.bias": ours.output.bias,
        "linear1.weight": ours.expand.weight,
        "linear1.bias": ours.expand.bias,
        "linear2.weight": ours.contract.weight,
        "linear2.bias": ours.contract.bias,
        "norm1.weight": ours.attention_norm.weight,
        "norm1.bias": ours.attention_norm.bias,
        "norm2.weight": ours.feedforward_norm.weight,
        "norm2.bias": ours.feedforward_norm.bias,
    }
    for parameter in names.values():
        nn.init.normal_(parameter)
    theirs.load_state_dict({name: p.detach() for name, p in names.items()})
    x = torch.randn(3, 6, 8).double()
    assert torch.allclose(ours(x), theirs(x), atol=1e-12)


def test_dropout_acts_in_training_alone() -> None:
    model = build()
    parts = represent(model)
    assert not torch.equal(model.predict(parts), model.predict(parts))
    model.eval()
    assert torch.equal(model.predict(parts), model.predict(parts))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_size": 5}, "hidden_size 5 must be a multiple of heads 2"),
        ({"frontend_kernel": 4}, "frontend_kernel must be odd"),
        ({"frontend_stride": {"one": 0}}, "frontend_stride"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MISAConfig(**options)


def test_presets_and_ablations_are_valid() -> None:
    methods: list[Any] = []
    fusionkit_register_methods(methods.append)
    (method,) = methods
    for preset in method.presets.values():
        MISAConfig(**preset.get("model", {}))
    for name, options in method.ablations.items():
        assert MISAConfig(**options) != MISAConfig(), name
