"""The pre-norm transformer, held against torch's own modules, and its lengths."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusionkit import ConfigError
from fusionkit.nn import crossmodal_transformer
from fusionkit.nn.crossmodal_transformer import (
    MultiheadAttention,
    Reading,
    TransformerEncoder,
    run_transformers,
)
from fusionkit.nn.positions import Positions
from fusionkit.ops import AttentionPair, cross_attention_pairs
from fusionkit.ops.lengths import within


def randomised(module: Any) -> Any:
    """Biases and gains start at 0 and 1, which would hide mistakes."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.double()


def rand(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("inputs", ["self", "cross", "three"])
def test_attention_is_torchs(inputs: str) -> None:
    torch.manual_seed(0)
    ours = randomised(MultiheadAttention(6, 3))
    theirs = nn.MultiheadAttention(6, 3, batch_first=True).double()
    theirs.load_state_dict(ours.state_dict())
    query, key, value = rand(4, 5, 6), rand(4, 7, 6), rand(4, 7, 6)
    lengths = torch.tensor([7, 3, 1, 5])
    if inputs == "self":
        lengths = lengths.clamp(max=5)
        key = value = query
        given: tuple[Tensor, ...] = (query,)
    elif inputs == "cross":
        value, given = key, (query, key)
    else:
        given = (query, key, value)
    padded = ~within(lengths, key.shape[1])
    want, want_weights = theirs(query, key, value, key_padding_mask=padded)
    got, weights = ours(*given, key_lengths=lengths, return_weights=True)
    assert torch.allclose(got, want, atol=1e-12)
    assert torch.allclose(weights, want_weights, atol=1e-12)
    assert torch.allclose(ours(*given, key_lengths=lengths), want, atol=1e-12)


def test_values_alone_may_differ() -> None:
    attention = randomised(MultiheadAttention(6, 3))
    x, values = rand(2, 5, 6), rand(2, 5, 6)
    assert torch.allclose(attention(x, value=values), attention(x, x, values))


def test_heads_are_views_of_one_projection() -> None:
    attention = MultiheadAttention(6, 3)
    x, source = torch.randn(2, 5, 6), torch.randn(2, 4, 6)
    together = {heads.untyped_storage().data_ptr() for heads in attention.heads(x)}
    assert len(together) == 1
    query, key, value = attention.heads(x, source)
    assert key.untyped_storage().data_ptr() == value.untyped_storage().data_ptr()
    assert query.shape == (2, 3, 5, 2) and key.shape == value.shape == (2, 3, 4, 2)


def test_heads_have_to_divide_the_size() -> None:
    with pytest.raises(ConfigError, match="num_heads: 4 heads do not divide 6"):
        MultiheadAttention(6, 4)


def torch_layers(encoder: TransformerEncoder) -> list[nn.TransformerEncoderLayer]:
    layers = []
    size = len(encoder.norm.weight)
    for layer in encoder.layers:
        theirs = nn.TransformerEncoderLayer(
            size, 2, 4 * size, dropout=0.0, batch_first=True, norm_first=True
        ).double()
        names = {"attention": "self_attn"}
        state = {
            ".".join([names.get(first, first), *rest]): value
            for first, *rest, value in ((*n.split("."), v) for n, v in layer.state_dict().items())
        }
        theirs.load_state_dict(state)
        layers.append(theirs)
    return layers


def test_self_attention_is_torchs_pre_norm_layer() -> None:
    torch.manual_seed(0)
    encoder = randomised(TransformerEncoder(8, 2, 3, positions=None))
    x, lengths = rand(4, 6, 8), torch.tensor([6, 2, 1, 4])
    valid, want = within(lengths, 6), x
    for layer in torch_layers(encoder):
        want = layer(want, src_key_padding_mask=~valid)
    want = encoder.norm(want)
    assert torch.allclose(encoder(x, lengths)[valid], want[valid], atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_a_sample_does_not_depend_on_its_batch(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    encoder = randomised(TransformerEncoder(8, 2, 2)).to(dtype)
    x, source = torch.randn(3, 6, 8, dtype=dtype), torch.randn(3, 9, 8, dtype=dtype)
    n, m = torch.tensor([6, 2, 4]), torch.tensor([3, 9, 1])
    together = encoder(x, n, source, m)
    for row, (a, b) in enumerate(zip(n.tolist(), m.tolist())):
        alone = encoder(x[row : row + 1, :a], source=source[row : row + 1, :b])
        assert torch.allclose(together[row, :a], alone[0], atol=1e-5)


def test_encoders_of_all_kinds_run_together() -> None:
    torch.manual_seed(0)
    kinds: list[tuple[int, Positions | None]]
    kinds = [(3, "step"), (1, "released"), (2, None), (2, "step")]
    encoders = [randomised(TransformerEncoder(8, 2, n, positions=how)) for n, how in kinds]
    encoders.append(randomised(TransformerEncoder(6, 3, 2)))
    a, b, c = rand(2, 5, 8), rand(2, 4, 8), rand(2, 3, 6)
    n, m = torch.tensor([5, 3]), torch.tensor([4, 1])
    bias = rand(2, 1, 5, 4)
    readings = [
        Reading(a, n, b, m),
        Reading(b, m, a, n),
        Reading(a, n),
        Reading(a, n, b, m, bias=bias),
        Reading(c),
    ]
    together = run_transformers(encoders, readings)
    for encoder, reading, got in zip(encoders, readings, together):
        alone = encoder(*reading[:4], values=reading.values, bias=reading.bias)
        assert torch.allclose(got, alone, atol=1e-12)
    without = run_transformers([encoders[3]], [readings[3]._replace(bias=None)])[0]
    assert not torch.allclose(without, together[3])


def test_attentions_of_one_depth_are_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, float]] = []

    def spy(pairs: list[AttentionPair], *, dropout_p: float) -> list[Tensor]:
        calls.append((len(pairs), dropout_p))
        return cross_attention_pairs(pairs, dropout_p=dropout_p)

    monkeypatch.setattr(crossmodal_transformer, "cross_attention_pairs", spy)
    encoders = [TransformerEncoder(4, 2, 2, attention_dropout=p) for p in (0.0, 0.1, 0.1)]
    readings = [Reading(torch.randn(2, 3, 4)) for _ in encoders]
    for encoder in encoders:
        encoder.eval()
    run_transformers(encoders, readings)
    assert calls == [(3, 0.0), (3, 0.0)]
    calls.clear()
    for encoder in encoders:
        encoder.train()
    run_transformers(encoders, readings)
    assert sorted(calls) == [(1, 0.0), (1, 0.0), (2, 0.1), (2, 0.1)]


@pytest.mark.parametrize(
    "dropout", ["attention_dropout", "relu_dropout", "residual_dropout", "embed_dropout"]
)
def test_every_dropout_acts_in_training_only(dropout: str) -> None:
    options: dict[str, Any] = {dropout: 0.5}
    encoder = TransformerEncoder(8, 2, 2, **options)
    x = torch.randn(3, 6, 8)

    def run(seed: int) -> Tensor:
        torch.manual_seed(seed)
        output: Tensor = encoder(x).detach()
        return output

    assert torch.equal(run(1), run(1))
    assert not torch.allclose(run(1), run(2))
    encoder.eval()
    assert torch.equal(run(1), run(2))


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    encoder = TransformerEncoder(8, 2, 2)
    output = encoder(torch.randn(2, 3, 8), source=torch.randn(2, 5, 8))
    (output * torch.randn_like(output)).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_nothing_to_attend_to_leaves_the_residual() -> None:
    encoder = randomised(TransformerEncoder(8, 2, 1)).eval()
    x, source = rand(2, 4, 8), rand(2, 3, 8)
    x.requires_grad_()
    output = encoder(x, source=source, source_lengths=torch.tensor([0, 3]))
    other = encoder(x, source=rand(2, 3, 8), source_lengths=torch.tensor([0, 3]))
    assert torch.equal(output[0], other[0]) and not torch.allclose(output[1], other[1])
    output.sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all())
