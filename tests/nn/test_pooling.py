"""Pooling over valid steps, with the edge of no step at all."""

from __future__ import annotations

import pytest
import torch

from fusionkit.nn import Pooling, pool, pooled_size

LENGTHS = torch.tensor([4, 1, 0, 3])


@pytest.mark.parametrize("how", ["sum", "mean", "max", "mean_max"])
def test_only_valid_steps_count(how: Pooling) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 4, 3)
    x[torch.arange(4) >= LENGTHS[:, None]] = torch.nan
    result = pool(x, LENGTHS, how)
    assert result.shape == (4, pooled_size(3, how))
    for b, length in enumerate(LENGTHS.tolist()):
        valid = x[b, :length]
        parts = {
            "sum": valid.sum(0),
            "mean": valid.mean(0) if length else torch.zeros(3),
            "max": valid.amax(0) if length else torch.zeros(3),
        }
        want = torch.cat([parts["mean"], parts["max"]]) if how == "mean_max" else parts[how]
        assert torch.allclose(result[b], want, atol=1e-6)


@pytest.mark.parametrize("how", ["sum", "mean", "max", "mean_max"])
def test_gradients_stay_finite(how: Pooling) -> None:
    x = torch.randn(4, 4, 3, requires_grad=True)
    pool(x, LENGTHS, how).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert not x.grad[torch.arange(4) >= LENGTHS[:, None]].any()
