"""Split attention by hand, with lengths, block dropout and batches of one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from fusionkit.errors import ConfigError, DataError
from fusionkit.nn.split_attention import SplitAttention

SHAPES = ((4, 10, 7), (4, 3, 2, 5), (4, 6))


def features(shapes: Sequence[tuple[int, ...]] = SHAPES) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]


def module(
    sizes: Sequence[int] = (10, 3, 6), block_size: int = 4, **options: object
) -> SplitAttention:
    torch.manual_seed(0)
    return SplitAttention(sizes, block_size, **{"reduction": 2, **options}).double()  # type: ignore[arg-type]


def test_by_hand() -> None:
    """Split, join, highlight, block by block."""
    block, x = module(floor=0.25).eval(), features()
    (attention,) = block.segments
    channels = [(0, 4), (4, 8), (8, 10)], [(0, 3)], [(0, 4), (4, 6)]
    descriptor = torch.zeros(4, 4, dtype=torch.float64)
    for own, parts in zip(x, channels):
        for start, end in parts:
            mean = own[:, start:end].reshape(4, end - start, -1).mean(dim=-1)
            descriptor[:, : end - start] += mean
    reduced = attention.norm(attention.squeeze(descriptor)).relu()  # type: ignore[operator, union-attr]
    logits = [layer(reduced) for layer in attention.highlights]  # type: ignore[union-attr]
    gains = 0.25 + 0.75 * torch.stack(logits).softmax(dim=0)
    gain = iter(gains)
    for out, own, parts in zip(block(x), x, channels):
        assert out.shape == own.shape
        for start, end in parts:
            now = next(gain)[:, : end - start].reshape(4, end - start, *[1] * (own.dim() - 2))
            torch.testing.assert_close(out[:, start:end], own[:, start:end] * now)


def test_attention_is_a_distribution_over_all_blocks() -> None:
    attention = module([8, 5], num_segments=3).eval().attention(features([(4, 8, 9), (4, 5, 6)]))
    assert attention.shape == (4, 3, 4, 4)
    torch.testing.assert_close(attention.sum(dim=2), torch.ones(4, 3, 4).double())


def test_a_floor_of_one_changes_nothing() -> None:
    x = features()
    for out, own in zip(module(floor=1.0)(x), x):
        assert out.equal(own)


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("segments", [1, 4])
def test_padding_has_no_influence(mode: str, segments: int) -> None:
    """Each sample gives what it gives without padding, from its own segments; training too."""
    lengths = [torch.tensor([9, 4, 1, 6]), torch.tensor([3, 12, 5, 2])]
    x = features([(4, 8, 9), (4, 5, 12)])
    block = module([8, 5], num_segments=segments).train(mode == "train")
    want = block(x, lengths)
    longer = [torch.nn.functional.pad(own, (0, 7), value=torch.nan) for own in x]
    for own, n in zip(longer, lengths):
        for row, length in enumerate(n.tolist()):
            own[row, :, length:] = torch.nan
    for out, own, n in zip(want, module_again(block)(longer, lengths), lengths):
        torch.testing.assert_close(own[..., : out.shape[-1]], out, rtol=1e-12, atol=1e-12)
        assert not own[..., out.shape[-1] :].any()
        for row, length in enumerate(n.tolist()):
            assert not out[row, :, length:].any()
    if mode == "eval":
        for row in range(4):
            alone = block([own[row : row + 1, :, : n[row]] for own, n in zip(x, lengths)])
            for out, own, n in zip(want, alone, lengths):
                torch.testing.assert_close(out[row : row + 1, :, : n[row]], own)


def module_again(block: SplitAttention) -> SplitAttention:
    again = module(block.sizes, num_segments=block.num_segments).train(block.training)
    return again


def test_lengths_of_the_padded_axis_are_the_released_behaviour() -> None:
    x = features([(4, 8, 9), (4, 5, 12)])
    block = module([8, 5], num_segments=4).eval()
    whole = [torch.full((4,), own.shape[2]) for own in x]
    for with_lengths, without in zip(block(x, whole), block(x)):
        torch.testing.assert_close(with_lengths, without, rtol=1e-12, atol=1e-12)


def test_segments_have_weights_of_their_own() -> None:
    x, block = features([(4, 8, 9)]), module([8], num_segments=3).eval()
    attention = block.attention(x)
    for a, b in itertools.combinations(range(3), 2):
        assert (attention[:, a] - attention[:, b]).abs().max() > 1e-3
    block([own[..., :3] for own in x])[0].sum().backward()
    assert all(p.grad is not None for p in block.parameters())


@pytest.mark.parametrize("mode", ["corrected", "released"])
def test_block_dropout_by_sample_and_segment(mode: str) -> None:
    torch.manual_seed(0)
    p, q = 0.25, 2
    block = module([8, 8], num_segments=q, block_dropout=p, block_dropout_mode=mode, floor=1.0)
    x = [torch.ones(500, 8, 4, dtype=torch.float64)] * 2
    out = block(x)
    # (B, modality, block, C, segment, steps): one gain a block and segment
    found = torch.stack(out, dim=1).reshape(500, 2, 2, 4, q, 2)
    gains = found[:, :, :, :1, :, :1]
    assert found.equal(gains.expand_as(found))
    kept = (1 / (1 - p)) ** (1 if mode == "corrected" else 2)
    assert torch.allclose(gains[gains != 0], torch.tensor(kept).double())
    share = (gains == 0).double().mean().item()
    assert abs(share - p) < 0.04
    flat = gains.flatten(1)
    assert len(flat.unique(dim=0)) > 100, "samples share a mask"
    if mode == "corrected":
        assert abs(gains.mean().item() - 1.0) < 0.05
    assert block.eval()(x)[0].equal(x[0])


def test_dropped_blocks_are_not_in_the_descriptor() -> None:
    block = module([4, 4], block_dropout=0.5)
    block.block_dropout = Fixed([2.0, 0.0])  # type: ignore[assignment]
    x = features([(4, 4, 3), (4, 4, 3)])
    junk = [x[0], x[1] * 100]
    assert block(x)[0].equal(block(junk)[0])
    assert not block(junk)[1].any()


class Fixed(torch.nn.Module):
    p = 0.5

    def __init__(self, mask: list[float]) -> None:
        super().__init__()
        self.mask = torch.tensor(mask, dtype=torch.float64)[:, None]

    def forward(self, ones: Tensor) -> Tensor:
        return ones * self.mask


def test_a_training_batch_of_one_takes_running_statistics() -> None:
    x, block = [own[:1] for own in features()], module()
    block(features())
    before = {name: value.clone() for name, value in block.state_dict().items()}
    out = block.train()(x)
    for name, value in block.state_dict().items():
        assert value.equal(before[name]), name
    for one, other in zip(out, block.eval()(x)):
        assert one.equal(other)
    block.train()(x)[0].sum().backward()
    assert all(p.grad is not None for p in block.parameters())


def test_number_of_parameters() -> None:
    """C * C' + C' + 2 C' + n * (C' * C + C), for the released configurations."""
    counts = {
        (16, 4, (1024, 32), 1): 5_356,
        (32, 4, (2048, 64), 1): 19_288,
        (16, 2, (32, 64, 128), 5): 10_840,
        (64, 4, (832, 128, 128), 1): 19_568,
        (256, 4, (1024, 512), 1): 116_416,
    }
    for (size, reduction, sizes, segments), count in counts.items():
        block = SplitAttention(sizes, size, reduction=reduction, num_segments=segments)
        assert sum(p.numel() for p in block.parameters()) == count


@pytest.mark.parametrize(
    "options",
    [
        {"sizes": []},
        {"sizes": [4, 0]},
        {"block_size": 0},
        {"reduction": 0},
        {"reduction": 5},
        {"floor": 1.5},
        {"block_dropout": 1.0},
        {"num_segments": 0},
    ],
    ids=str,
)
def test_bad_options(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        SplitAttention(**{"sizes": [4], "block_size": 4, **options})  # type: ignore[arg-type]


def test_bad_features() -> None:
    block, x = module(), features()
    with pytest.raises(DataError, match="3 modalities got 2 features and 3 lengths"):
        block(x[:2], [None] * 3)
    with pytest.raises(DataError, match=r"features\[1\] must be \(B, 3, \.\.\.\)"):
        block([x[0], x[2], x[1]])
    with pytest.raises(DataError, match="a vector"):
        module(num_segments=2)(x)
