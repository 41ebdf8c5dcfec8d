"""Late fusion: what it shares with its single modalities, and where they meet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from fusionkit import DataSpec
from fusionkit.testing import make_batch
from fusionkit_plugins.late_fusion.config import LateFusionConfig
from fusionkit_plugins.late_fusion.model import LateFusion
from fusionkit_plugins.unimodal.config import UnimodalConfig
from fusionkit_plugins.unimodal.model import Unimodal

SPEC = DataSpec({"text": 3, "audio": 2, "vision": 4}, "classification", 4)
LENGTHS = {"text": [4, 2, 3], "audio": [8, 4, 1], "vision": [1, 1, 1]}


def build(**options: Any) -> LateFusion:
    torch.manual_seed(0)
    return LateFusion(LateFusionConfig(**{"hidden_size": 5, **options}), SPEC).eval()


def alone(modality: str, **options: Any) -> Unimodal:
    config = UnimodalConfig(
        modality=modality, encoder_kind="sequence", **{"hidden_size": 5, **options}
    )
    return Unimodal(config, SPEC).eval()


def test_equal_terms_with_its_parts() -> None:
    """The defaults of the shared options are the same, and so are the encoders."""
    ours, theirs = LateFusionConfig().model_dump(), UnimodalConfig().model_dump()
    shared = set(ours) & set(theirs)
    assert shared == set(ours) - {"fusion"}
    assert {k: ours[k] for k in shared} == {k: theirs[k] for k in shared}
    whole = build()
    for modality, encoder in whole.encoders.items():
        state = alone(modality).encoder.state_dict()
        assert {k: v.shape for k, v in state.items()} == {
            k: v.shape for k, v in encoder.state_dict().items()
        }


def test_mean_of_logits_is_the_mean_of_single_modalities() -> None:
    whole, batch = build(fusion="mean_logits"), make_batch(SPEC, LENGTHS)
    outputs = []
    for (modality, encoder), layer in zip(whole.encoders.items(), whole.classifiers):
        one = alone(modality)
        one.encoder.load_state_dict(encoder.state_dict())
        one.classifier.load_state_dict(layer.state_dict())
        outputs.append(one(batch))
    assert torch.allclose(whole(batch), torch.stack(outputs).mean(dim=0), atol=1e-6)


def test_concatenation_is_one_layer_on_all_vectors() -> None:
    whole, batch = build(), make_batch(SPEC, LENGTHS)
    vectors = [e(batch.features[m], batch.lengths[m]) for m, e in whole.encoders.items()]
    (layer,) = whole.classifiers
    assert layer.weight.shape == (4, 60)
    assert torch.allclose(whole(batch), layer(torch.cat(vectors, dim=-1)))


@pytest.mark.parametrize("options", [{"fusion": "sum"}, {"frontend_kernel": 2}, {"hidden_size": 0}])
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LateFusionConfig(**options)
