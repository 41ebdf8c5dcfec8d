"""Squeeze-and-excitation fusion by hand, for any number of modalities, and with lengths."""

from __future__ import annotations

import pytest
import torch

from fusionkit.errors import ConfigError, DataError
from fusionkit.nn.squeeze_excitation import SqueezeExcitationFusion

SHAPES = ((4, 6, 7), (4, 4, 3, 2), (4, 5))


@pytest.mark.parametrize("gate_scale", [1.0, 2.0])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_by_hand(gate_scale: float, count: int) -> None:
    torch.manual_seed(0)
    x = [torch.randn(shape).double() for shape in SHAPES[:count]]
    sizes = [own.shape[1] for own in x]
    block = SqueezeExcitationFusion(sizes, ratio=3, gate_scale=gate_scale).double()
    assert block.squeezed_size == int(2 * sum(sizes) / 3)
    means = torch.cat([own.reshape(*own.shape[:2], -1).mean(dim=-1) for own in x], dim=1)
    squeezed = block.squeeze(means).relu()
    for out, own, layer in zip(block(x), x, block.excitations):
        gates = gate_scale / (1 + torch.exp(-layer(squeezed)))
        torch.testing.assert_close(out, own * gates.reshape(*gates.shape, *[1] * (own.dim() - 2)))


def test_padding_has_no_influence() -> None:
    torch.manual_seed(0)
    block = SqueezeExcitationFusion([6, 4]).double()
    x = [torch.randn(3, 6, 7).double(), torch.randn(3, 4, 9).double()]
    lengths = [torch.tensor([7, 2, 4]), torch.tensor([1, 9, 3])]
    junk = [own.clone() for own in x]
    for own, n in zip(junk, lengths):
        for row in range(3):
            own[row, :, n[row] :] = torch.nan
    want = block(x, lengths)
    for row in range(3):
        alone = block([own[row : row + 1, :, : n[row]] for own, n in zip(x, lengths)])
        for out, poisoned, own, n in zip(want, block(junk, lengths), alone, lengths):
            torch.testing.assert_close(out[row : row + 1, :, : n[row]], own)
            assert out.equal(poisoned)
            assert not out[row, :, n[row] :].any()
    whole = [torch.full((3,), own.shape[2]) for own in x]
    for with_lengths, without in zip(block(x, whole), block(x)):
        torch.testing.assert_close(with_lengths, without)


def test_number_of_parameters() -> None:
    for sizes, count in (((512, 128), 410_560), ((1024, 256), 1_640_320), ((2048, 512), 6_557_440)):
        block = SqueezeExcitationFusion(sizes, ratio=4)
        assert sum(p.numel() for p in block.parameters()) == count


@pytest.mark.parametrize(
    "options",
    [{"sizes": []}, {"sizes": [0, 1]}, {"ratio": 0}, {"ratio": 21}, {"gate_scale": 0}],
    ids=str,
)
def test_bad_options(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        SqueezeExcitationFusion(**{"sizes": [6, 4], **options})  # type: ignore[arg-type]


def test_bad_features() -> None:
    block = SqueezeExcitationFusion([6, 4])
    with pytest.raises(DataError, match="2 modalities got 1 features"):
        block([torch.zeros(2, 6)])
    with pytest.raises(DataError, match=r"features\[1\] must be \(B, 4, \.\.\.\)"):
        block([torch.zeros(2, 6), torch.zeros(2, 5)])
