"""Resampling: averages over equal parts, exactly, and only over valid frames."""

from __future__ import annotations

import torch

from fusionkit.nn import resample


def by_hand(x: torch.Tensor, length: int, target: int) -> torch.Tensor:
    """Mean over each part, by summing the overlap with every frame."""
    rows = []
    for t in range(target):
        start, stop = t * length / target, (t + 1) * length / target
        overlaps = [max(0.0, min(stop, f + 1) - max(start, f)) for f in range(length)]
        weights = torch.tensor(overlaps, dtype=x.dtype) / (stop - start)
        rows.append((weights[:, None] * x[:length]).sum(dim=0))
    return torch.stack(rows) if rows else x[:0]


def test_against_overlaps_summed_by_hand() -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 11, 3, dtype=torch.float64)
    lengths = torch.tensor([11, 7, 1, 5, 10, 3])
    targets = torch.tensor([4, 7, 3, 0, 5, 9])
    result = resample(x, lengths, targets)
    assert result.shape == (6, 9, 3)
    for b in range(6):
        want = by_hand(x[b], int(lengths[b]), int(targets[b]))
        assert torch.allclose(result[b, : targets[b]], want, atol=1e-12)
        assert not result[b, targets[b] :].any()


def test_same_length_is_the_identity() -> None:
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    lengths = torch.tensor([5, 5])
    assert torch.allclose(resample(x, lengths, lengths), x, atol=1e-12)


def test_gradient() -> None:
    x = torch.randn(2, 6, 2, dtype=torch.float64, requires_grad=True)
    lengths, targets = torch.tensor([6, 4]), torch.tensor([3, 5])
    assert torch.autograd.gradcheck(lambda v: resample(v, lengths, targets), (x,))
    resample(x, lengths, targets).sum().backward()
    assert x.grad is not None
    assert not x.grad[1, 4:].any()


def test_padding_has_no_influence() -> None:
    x = torch.randn(1, 6, 2)
    junk = x.clone()
    junk[:, 4:] = 1e6
    lengths, targets = torch.tensor([4]), torch.tensor([3])
    assert torch.allclose(resample(x, lengths, targets), resample(junk, lengths, targets))


def test_a_sequence_of_length_0_gives_zeros() -> None:
    """And no gradient, whatever its padding holds."""
    x = torch.full((2, 3, 2), torch.nan)
    x[1] = 1.0
    x.requires_grad_()
    result = resample(x, torch.tensor([0, 3]), torch.tensor([2, 2]))
    assert not result[0].any() and result[1].eq(1).all()
    result.sum().backward()
    assert x.grad is not None and not x.grad[0].any() and x.grad[1].isfinite().all()
