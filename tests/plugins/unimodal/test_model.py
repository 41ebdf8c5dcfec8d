"""One modality alone: which one, and with which encoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

import fusionkit as fk
from fusionkit import ConfigError, DataSpec, MultimodalBatch
from fusionkit.nn import SequenceEncoder
from fusionkit.testing import make_batch
from fusionkit_plugins.unimodal.config import UnimodalConfig
from fusionkit_plugins.unimodal.model import Unimodal

SPEC = DataSpec({"text": 3, "audio": 2}, "classification", 4)


@pytest.mark.parametrize("kind", ["attentive", "sequence"])
def test_other_modalities_are_not_read(kind: str) -> None:
    torch.manual_seed(0)
    model: Any = fk.create("unimodal:audio", SPEC, hidden_size=5, encoder_kind=kind).eval()
    batch = make_batch(SPEC, {"text": [2, 5], "audio": [7, 3]})
    only = MultimodalBatch({"audio": batch.features["audio"]}, {"audio": batch.lengths["audio"]})
    assert torch.equal(model(batch), model(only))
    assert model(batch).shape == (2, 4)


def test_first_modality_by_default() -> None:
    assert Unimodal(UnimodalConfig(hidden_size=3), SPEC).modality == "text"
    with pytest.raises(ConfigError, match="'smell' is not in the data; they have text, audio"):
        Unimodal(UnimodalConfig(modality="smell"), SPEC)


def test_sequence_encoder_takes_the_options() -> None:
    config = UnimodalConfig(
        encoder_kind="sequence", hidden_size=3, frontend_kernel=7, frontend_stride=0
    )
    encoder = Unimodal(config, SPEC).encoder
    assert isinstance(encoder, SequenceEncoder)
    assert encoder.frontend is None
    assert encoder.output_size == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder_kind": "sequence", "pooling": "max"}, "pooling goes with .*'attentive' alone"),
        ({"encoder_kind": "sequence", "residual": True}, "residual"),
        ({"encoder_kind": "sequence", "frontend_size": 8}, "frontend_size"),
        ({"frontend_stride": 0}, "at least 1"),
        ({"frontend_kernel": 4}, "odd"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        UnimodalConfig(**options)
