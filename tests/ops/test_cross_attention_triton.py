"""The Triton cross-attention against float64: in Triton's interpreter, or on a device."""

from __future__ import annotations

import pytest
import torch

from fusionkit.ops.cross_attention.triton import triton_attention_reasons
from fusionkit.ops.triton_runtime import INTERPRETING

from attention_cases import build
from attention_checks import (
    EMPTY_AXES,
    check_accuracy,
    check_asked_for_gradients,
    check_compiled,
    check_dead_rows,
    check_dropout_mask,
    check_empty_axes,
    check_large_offsets,
    check_nan_is_not_hidden,
    check_numeric_gradients,
    check_operators,
    check_row_sums,
    check_second_derivatives,
    check_tracing,
    one_case,
)
from attention_devices import draw_small
from fuzz import blocks
from on_triton import BUILDS, DEVICE, runs


@runs
@pytest.mark.parametrize("seeds", blocks(0.007))
def test_fuzz(unwritten_is_nan: None, seeds: range) -> None:
    for seed in seeds:
        case = draw_small(seed, 256, BUILDS)
        check_accuracy("triton", DEVICE, case, build(case))


@runs
@pytest.mark.parametrize("head_dim", [5, 10, 25, 30, 100])
def test_head_dims_that_are_padded_in_registers(head_dim: int) -> None:
    case, inputs = one_case(batch=1, heads=1, head_dim=head_dim, value_dim=head_dim)
    check_accuracy("triton", DEVICE, case, inputs)


@runs
@pytest.mark.parametrize(("rows", "keys", "seed", "p"), [
    (3, 70, 2**40 + 7, 0.5), (35, 6, -(2**62) - 3, 0.9)
])  # fmt: skip
def test_the_dropout_mask_is_that_of_philox(rows: int, keys: int, seed: int, p: float) -> None:
    check_dropout_mask("triton", DEVICE, rows=rows, keys=keys, head_dim=8, seed=seed, p=p)


@runs
def test_only_asked_for_gradients_are_computed_and_always_the_same() -> None:
    check_asked_for_gradients("triton", DEVICE, head_dim=7)


@runs
def test_row_sums_make_the_log_sum_exp() -> None:
    check_row_sums("triton", DEVICE, head_dim=9)


@runs
@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_nan_in_valid_inputs_is_not_hidden(name: str) -> None:
    check_nan_is_not_hidden("triton", DEVICE, name, head_dim=4)


@runs
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_gradients_that_arrive_at_rows_without_result_go_nowhere(dtype: torch.dtype) -> None:
    check_dead_rows("triton", DEVICE, 10, dtype)


@runs
@pytest.mark.parametrize("offset", [-1e4, -1e30, torch.finfo(torch.float32).min])
def test_large_offsets_of_whole_rows(offset: float) -> None:
    check_large_offsets("triton", DEVICE, offset, head_dim=8)


@runs
@pytest.mark.parametrize("shape", EMPTY_AXES.values(), ids=EMPTY_AXES)
def test_empty_axes(unwritten_is_nan: None, shape: tuple[int, ...]) -> None:
    check_empty_axes("triton", DEVICE, shape)


@runs
def test_opcheck() -> None:
    check_operators("triton", DEVICE, torch.float32)


@runs
def test_gradients_numerically() -> None:
    check_numeric_gradients("triton", DEVICE)


@runs
def test_second_derivatives_are_those_of_the_reference() -> None:
    check_second_derivatives("triton", DEVICE)


@runs
def test_compiled_in_one_graph() -> None:
    check_compiled("triton", DEVICE)


def test_what_it_does_not_take() -> None:
    x, wide = torch.ones(1, 1, 2, 3, dtype=torch.float64), torch.ones(1, 1, 2, 257)
    reasons = "; ".join(triton_attention_reasons(x, x, wide, bias=x, return_weights=True))
    for part in ("query is torch.float64", "3 and 257", "return_weights", "bias is float64"):
        assert part in reasons
    assert ("is on cpu" in reasons) == (not INTERPRETING)


def test_traced_without_a_device() -> None:
    check_tracing("triton")
