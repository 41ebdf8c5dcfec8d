"""The plain sequence encoder, and its pooling by attention."""

from __future__ import annotations

import pytest
import torch

from fusionkit.nn import AttentionPooling, SequenceEncoder


def test_attention_pooling_is_a_weighted_mean() -> None:
    torch.manual_seed(0)
    pooling = AttentionPooling(4).double()
    x, lengths = torch.randn(3, 5, 4, dtype=torch.float64), torch.tensor([5, 2, 0])
    pooled = pooling(x, lengths)
    for row, length in enumerate(lengths.tolist()):
        valid = x[row, :length]
        weights = pooling.score(valid).squeeze(-1).softmax(dim=0)
        assert torch.allclose(pooled[row], (weights[:, None] * valid).sum(dim=0))
    assert not pooled[2].any()


@pytest.mark.parametrize("stride", [0, 1, 3])
def test_encoder_sees_valid_steps_only(stride: int) -> None:
    torch.manual_seed(0)
    encoder = SequenceEncoder(3, 6, stride=stride)
    x, lengths = torch.randn(4, 9, 3), torch.tensor([9, 4, 1, 0])
    encoded = encoder(x, lengths)
    assert encoded.shape == (4, encoder.output_size)
    junk = x.clone()
    for row, length in enumerate(lengths.tolist()):
        junk[row, length:] = torch.nan
        alone = encoder(x[row : row + 1, : max(length, 1)], lengths[row : row + 1])
        assert torch.allclose(alone[0], encoded[row], atol=1e-6)
    assert torch.allclose(encoder(junk, lengths), encoded, atol=1e-6)
    sequence, steps = encoder.sequence(x, lengths)
    assert sequence.shape == (4, int(steps.max()), encoder.sequence_size)


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    encoder = SequenceEncoder(3, 6, dropout=0.2)
    encoder(torch.randn(4, 9, 3), torch.tensor([9, 4, 1, 3])).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
