"""MMMIE's parts: tokens, identity vectors, encoders, options and ablations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from fusionkit import ConfigError, DataSpec, MultimodalBatch
from fusionkit.testing import make_batch
from fusionkit_plugins.mmmie.config import MMMIEConfig
from fusionkit_plugins.mmmie.identity import IdentityEmbedding, join_sequences
from fusionkit_plugins.mmmie.model import MMMIE
from fusionkit_plugins.mmmie.plugin import ABLATIONS
from fusionkit_plugins.mmmie.presets import PRESETS

SPEC = DataSpec({"audio": 4, "depth": 2, "vision": 3}, "classification", 3)
SMALL: dict[str, Any] = {"hidden_size": 8, "num_heads": 2, "estimator_size": 6}


def model(spec: DataSpec = SPEC, **options: Any) -> MMMIE:
    torch.manual_seed(0)
    return MMMIE(MMMIEConfig(**{**SMALL, **options}), spec)


def batch(spec: DataSpec = SPEC) -> MultimodalBatch:
    return make_batch(spec, {m: [5 + k, 2, 4 - k] for k, m in enumerate(spec.modalities)})


def test_joined_sequences_hold_valid_steps_in_order() -> None:
    first, second = torch.arange(1.0, 7).view(2, 3, 1), torch.arange(11.0, 15).view(2, 2, 1)
    joined, lengths = join_sequences([first, second], [torch.tensor([2, 0]), torch.tensor([1, 2])])
    assert lengths.tolist() == [3, 2]
    assert joined[..., 0].tolist() == [[1, 2, 11, 0, 0], [13, 14, 0, 0, 0]]


def test_joined_sequences_leave_no_nan_of_the_padding() -> None:
    x = torch.full((1, 3, 2), float("nan"))
    x[:, :1] = 1
    joined, lengths = join_sequences([x, x], [torch.tensor([1]), torch.tensor([1])])
    assert lengths.tolist() == [2] and joined.isfinite().all()


def test_identity_vectors() -> None:
    torch.manual_seed(0)
    identity = IdentityEmbedding(["a", "b"], 3, max_positions=4)
    marked = identity({"a": torch.zeros(2, 6, 3), "b": torch.zeros(2, 4, 3)})
    assert identity.modality is not None and identity.position is not None
    names, steps = identity.modality.weight, identity.position.weight
    torch.testing.assert_close(marked["a"][1, 2], names[0] + steps[2])
    torch.testing.assert_close(marked["b"][0, 3], names[1] + steps[3])
    torch.testing.assert_close(marked["a"][0, 5], names[0] + steps[3])
    difference = marked["a"][:, :4] - marked["b"]
    torch.testing.assert_close(difference, (names[0] - names[1]).expand_as(difference))


@pytest.mark.parametrize("kind", ["modality", "position", None])
def test_identity_can_be_switched_off(kind: str | None) -> None:
    without = model(identity=kind)
    names = {n.split(".")[1] for n in without.state_dict() if n.startswith("identity.")}
    assert names == ({kind} if kind else set())
    assert without(batch()).shape == (3, 3)


def test_position_identity_makes_the_order_matter() -> None:
    """Without it, the fusion of given tokens does not see which step they came from."""
    x = batch()
    for kind, changes in (("modality_position", True), ("modality", False)):
        one = model(identity=kind).eval()
        encoded = one.encode(x)
        before = one.predict(encoded)
        turned: dict[str, Tensor] = dict(encoded.tokens)
        steps = int(encoded.lengths["audio"][0])
        turned["audio"] = turned["audio"].clone()
        turned["audio"][0, :steps] = turned["audio"][0, :steps].flip(0)
        after = one.predict(type(encoded)(turned, encoded.lengths))
        assert torch.allclose(before[0], after[0], atol=1e-6) != changes


@pytest.mark.parametrize("encoder", ["lstm", "gru", "transformer"])
@pytest.mark.parametrize("frontend_size", [0, 5])
def test_a_sample_does_not_depend_on_padding(encoder: str, frontend_size: int) -> None:
    one = model(encoder=encoder, frontend_size=frontend_size, encoder_layers=2).eval().double()
    x = batch().to("cpu", torch.float64)
    features = {
        m: torch.cat([f, torch.full_like(f[:, :3], 7.0)], dim=1) for m, f in x.features.items()
    }
    longer = one(MultimodalBatch(features, x.lengths))
    torch.testing.assert_close(longer, one(x), rtol=0, atol=1e-12)


def test_options_per_modality() -> None:
    one = model(encoder_layers={"depth": 2}, frontend_size=5, frontend_stride={"vision": 3})
    layers = {m: e.rnn.num_layers for m, e in one.encoders.items()}  # type: ignore[union-attr]
    strides = {m: e.frontend.stride for m, e in one.encoders.items()}  # type: ignore[union-attr]
    assert layers == {"audio": 1, "depth": 2, "vision": 1}
    assert strides == {"audio": 2, "depth": 2, "vision": 3}
    with pytest.raises(ConfigError, match="encoder_layers: no modality 'text'"):
        model(encoder_layers={"text": 2})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 3}, "num_heads 3 does not divide hidden_size 8"),
        ({"frontend_kernel": 4}, "frontend_kernel must be odd"),
        ({"frontend_stride": {"audio": 0}}, "frontend_stride must be at least 1"),
        ({"encoder_layers": 0}, "encoder_layers must be at least 1"),
        ({"bert_modality": "audio"}, "bert_modality goes with bert"),
        ({"bert_finetune": True}, "bert_finetune goes with bert"),
        ({"maximise": "vib"}, "maximise"),
        ({"alpha": -1}, "alpha"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MMMIEConfig(**{**SMALL, **options})


def test_every_ablation_takes_a_part_away() -> None:
    spec = replace(SPEC, context={"speaker": 3})
    for data in (SPEC, spec):
        full = set(dict(model(data).named_parameters()))
        for name, options in ABLATIONS.items():
            smaller = model(data, **options)
            assert set(dict(smaller.named_parameters())) < full, name
            assert smaller(batch(data)).shape == (3, 3)
    bare = model(spec, **ABLATIONS["no-identity"])
    assert bare.identity is None and bare.context is None
    assert model(**ABLATIONS["no-maximisation"]).maximised is None
    assert model(**ABLATIONS["no-minimisation"]).minimised is None
    assert not model(**ABLATIONS["no-fusion-transformer"]).fusion.layers


def test_presets_are_valid_options() -> None:
    for preset in PRESETS.values():
        MMMIEConfig(**preset.get("model", {}))
