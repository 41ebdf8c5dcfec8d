"""Attention, recurrent, convolution and feedback blocks against torch and by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fusionkit.nn import (
    AttentiveRNN,
    ConvFrontend,
    FeedbackMask,
    LengthAwareRNN,
    ProjectedAttention,
    SymmetricAttention,
    last_step,
)

LENGTHS = torch.tensor([5, 2, 7])


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("both", [False, True])
def test_recurrent_loads_and_equals_torch(cell: str, layers: int, both: bool) -> None:
    torch.manual_seed(0)
    kind = nn.LSTM if cell == "lstm" else nn.GRU
    theirs = kind(3, 4, layers, batch_first=True, bidirectional=both)
    ours = LengthAwareRNN(3, 4, num_layers=layers, bidirectional=both, cell=cell)  # type: ignore[arg-type]
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 7, 3)
    packed = pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    want = pad_packed_sequence(theirs(packed)[0], batch_first=True)[0]
    assert torch.allclose(ours(x, LENGTHS)[0], want, atol=1e-6)
    assert ours.output_size == want.shape[-1]


def test_last_step() -> None:
    output = torch.arange(24.0).view(2, 3, 4)
    lengths = torch.tensor([2, 3])
    assert last_step(output, lengths, bidirectional=False).tolist() == [
        output[0, 1].tolist(), output[1, 2].tolist(),
    ]  # fmt: skip
    both = last_step(output, lengths, bidirectional=True)
    assert both[0].tolist() == [*output[0, 1, :2].tolist(), *output[0, 0, 2:].tolist()]
    mixed_up = last_step(output, lengths, bidirectional=False, sort_lengths=True)
    assert mixed_up.tolist() == [output[0, 2].tolist(), output[1, 1].tolist()]


def test_attention_by_hand() -> None:
    torch.manual_seed(0)
    block = ProjectedAttention(4, 6, query_size=3)
    source, queries = torch.randn(2, 5, 4), torch.randn(2, 3, 3)
    scores = block.query(queries) @ block.key(source).transpose(1, 2) / 2
    output, weights = block(source, queries, return_weights=True)
    assert torch.allclose(weights, scores.softmax(-1), atol=1e-6)
    assert torch.allclose(output, scores.softmax(-1) @ block.value(source), atol=1e-6)
    assert torch.allclose(block(source, queries), output, atol=1e-6)


def test_symmetric_attention_adds_the_query_stream() -> None:
    torch.manual_seed(0)
    block = SymmetricAttention(4)
    first, second = torch.randn(2, 5, 4), torch.randn(2, 3, 4)
    to_second_length, to_first_length = block(first, second)
    assert to_second_length.shape == second.shape
    assert to_first_length.shape == first.shape
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    unchanged = block(first, second)
    assert torch.equal(unchanged[0], second)
    assert torch.equal(unchanged[1], first)


def test_attentive_rnn_pads_with_zeros_or_as_released() -> None:
    torch.manual_seed(0)
    encoder = AttentiveRNN(3, 4)
    x = torch.randn(3, 7, 3)
    zeros = encoder(x, LENGTHS)
    kept = encoder(x, LENGTHS, keep_padded_queries=True)
    assert not zeros[1, 2:].any()
    values = encoder.attention.value(
        (lambda h: h[..., :4] + h[..., 4:])(encoder.rnn(x, LENGTHS)[0])
    )
    assert torch.allclose(kept[1, 3], values[1, :2].mean(dim=0), atol=1e-6)
    assert torch.allclose(kept[1, :2], zeros[1, :2], atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_convolution_respects_lengths(stride: int) -> None:
    torch.manual_seed(0)
    frontend = ConvFrontend(3, 4, kernel_size=5, stride=stride)
    x = torch.randn(3, 7, 3)
    output, lengths = frontend(x, LENGTHS)
    assert lengths.tolist() == [-(-n // stride) for n in LENGTHS.tolist()]
    assert output.shape == (3, max(lengths.tolist()), 4)
    for b, length in enumerate(LENGTHS.tolist()):
        alone, one = frontend(x[b : b + 1, :length], LENGTHS[b : b + 1])
        assert torch.allclose(output[b, : one[0]], alone[0], atol=1e-6)
        assert not output[b, one[0] :].any()


@pytest.mark.parametrize("kind", ["lstm", "linear"])
def test_feedback_is_the_mean_of_sigmoids(kind: str) -> None:
    torch.manual_seed(0)
    block = FeedbackMask(6, 4, 2, kind=kind, mask_dropout=0.5).eval()  # type: ignore[arg-type]
    x, sources = torch.randn(3, 7, 6), [torch.randn(3, 7, 4) for _ in range(2)]
    mask = block.mask(sources, LENGTHS)
    assert torch.allclose(block(x, sources, LENGTHS, keep_padding=True), x * mask, atol=1e-6)
    valid = (torch.arange(7) < LENGTHS[:, None])[..., None]
    assert torch.allclose(block(x, sources, LENGTHS), x * mask * valid, atol=1e-6)


def test_mask_dropout_drops_and_scales() -> None:
    torch.manual_seed(0)
    block = FeedbackMask(50, 4, 1, dropout=0, mask_dropout=0.2)
    x, sources = torch.ones(4, 20, 50), [torch.randn(4, 20, 4)]
    masked, mask = block.train()(x, sources), block.mask(sources)
    dropped = masked == 0
    assert 0.15 < dropped.float().mean() < 0.25
    assert torch.allclose(masked[~dropped], (mask / 0.8)[~dropped], atol=1e-6)
    assert not torch.equal(block(x, sources), masked), "two training calls drop the same"
