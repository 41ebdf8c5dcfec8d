"""Sinusoidal positions, and where the released code leaves them out."""

from __future__ import annotations

import math

import pytest
import torch

from fusionkit.nn.positions import positions_for, sinusoidal_table


@pytest.mark.parametrize("size", [4, 7, 10])
def test_table_is_the_formula(size: int) -> None:
    table, half = sinusoidal_table(6, size), size // 2
    assert table.shape == (6, size) and table.dtype == torch.float32
    for step in range(6):
        for i in range(half):
            angle = (step + 1) * 10000 ** (-i / (half - 1))
            assert table[step, i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[step, half + i].item() == pytest.approx(math.cos(angle), abs=1e-6)
    assert not table[:, 2 * half :].any()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_narrow_tables_are_finite(size: int) -> None:
    table = sinusoidal_table(5, size)
    assert table.shape == (5, size) and bool(table.isfinite().all())
    if size > 1:
        assert torch.allclose(table[:, 0], torch.arange(1, 6).sin())


def test_a_longer_table_begins_with_the_shorter() -> None:
    assert torch.equal(sinusoidal_table(9, 6)[:4], sinusoidal_table(4, 6))


def test_no_steps() -> None:
    assert sinusoidal_table(0, 6).shape == (0, 6)


def test_steps_count_whatever_they_hold() -> None:
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    x[0, 2], x[1, 1, 0] = 0.0, 0.0
    by_step = positions_for(x)
    assert by_step.dtype == torch.float64
    assert torch.equal(by_step, sinusoidal_table(5, 6).double())

    released = positions_for(x, "released")
    without = torch.zeros(2, 5, dtype=torch.bool)
    without[0, 2] = without[1, 1] = True
    assert not released[without].any()
    assert torch.equal(released[~without], by_step.expand(2, -1, -1)[~without])
