"""The counter-based generator against published vectors, and its masks."""

from __future__ import annotations

import math

import pytest
import torch

from fusionkit.ops import force_backend, gated_mask
from fusionkit.ops.philox import keep_mask, philox_4x32

# philox4x32 with 10 rounds from the known-answer file of the Random123 library.
KNOWN_ANSWERS = {
    "zeros": (
        (0, 0, 0, 0),
        (0, 0),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    "ones": (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF,) * 2,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    "pi": (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
}


@pytest.mark.parametrize("name", KNOWN_ANSWERS)
def test_known_answers(name: str) -> None:
    counter, key, expected = KNOWN_ANSWERS[name]
    c0, c1, c2, c3 = (torch.tensor([word]) for word in counter)
    words = philox_4x32(key, (c0, c1, c2, c3))
    assert tuple(int(word) for word in words) == expected


def test_position_of_an_element() -> None:
    """Element (b, h, r, c) is word c % 4 of counter (c // 4, r, h, b) under (low, high) of seed."""
    seed, p = (0x0123456789ABCDEF, 0.4)
    mask = keep_mask(seed, (2, 3, 5, 11), p, "cpu")
    for b, h, r, c in [(0, 0, 0, 0), (1, 2, 4, 10), (1, 0, 3, 7), (0, 2, 0, 8)]:
        c0, c1, c2, c3 = (torch.tensor(word) for word in (c // 4, r, h, b))
        word = philox_4x32((0x89ABCDEF, 0x01234567), (c0, c1, c2, c3))[c % 4]
        assert bool(mask[b, h, r, c]) == (int(word) >= math.floor(p * 2**32))


@pytest.mark.parametrize("seed", [0, 42, -5, 2**63 - 1, -(2**63)])
def test_seed_as_number_and_as_tensor(seed: int) -> None:
    shape = (2, 1, 3, 9)
    assert keep_mask(seed, shape, 0.5, "cpu").equal(
        keep_mask(torch.tensor(seed), shape, 0.5, "cpu")
    )


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_share_of_kept_elements(p: float) -> None:
    count = 400 * 500
    kept = keep_mask(3, (1, 1, 400, 500), p, "cpu").sum().item()
    assert abs(kept - count * (1 - p)) < 5 * math.sqrt(count * p * (1 - p))


def test_nothing_is_dropped_at_zero() -> None:
    assert keep_mask(3, (2, 2, 5, 7), 0.0, "cpu").all()


def test_part_of_a_larger_mask() -> None:
    """An element does not depend on the sizes, so padding a batch leaves the mask alone."""
    small = keep_mask(9, (2, 2, 3, 6), 0.5, "cpu")
    assert keep_mask(9, (4, 3, 8, 13), 0.5, "cpu")[:2, :2, :3, :6].equal(small)


def test_seeds_differ() -> None:
    masks = [keep_mask(seed, (1, 1, 32, 32), 0.5, "cpu") for seed in (0, 1, 2**32)]
    for i, first in enumerate(masks):
        for second in masks[i + 1 :]:
            assert 0.4 < (first == second).float().mean().item() < 0.6


@pytest.mark.parametrize("rows", [5, 700])
@pytest.mark.parametrize("size", [1, 3, 4, 35, 256, 257, 300, 1023, 1025])
@pytest.mark.parametrize("seed", [0, 7, -1, 2**40 + 11])
def test_compiled_twin(isa: str, rows: int, size: int, seed: int) -> None:
    """The kernel of the gated mask drops exactly the elements that `keep_mask` says."""
    x = torch.ones(3, rows, size) if rows * size < 30_000 else torch.ones(1, rows, size)
    with force_backend("cpu"):
        out = gated_mask(x, [x], dropout_p=0.3, seed=seed)
    assert (out != 0).equal(keep_mask(seed, (len(x), 1, rows, size), 0.3, "cpu")[:, 0])
