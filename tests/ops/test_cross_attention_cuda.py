"""The CUDA cross-attention against float64: in the emulator on the CPU, or on a device."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from attention_cases import build
from attention_checks import (
    EMPTY_AXES,
    check_accuracy,
    check_asked_for_gradients,
    check_dead_rows,
    check_dropout_mask,
    check_empty_axes,
    check_large_offsets,
    check_nan_is_not_hidden,
    check_numeric_gradients,
    check_row_sums,
    check_second_derivatives,
    one_case,
)
from attention_devices import draw_small, run_on, upstream_of
from fuzz import blocks
from on_cuda import DEVICE, runs

ORDERS = ("forward", "reverse", "shuffled")


@runs
@pytest.mark.parametrize("seeds", blocks(0.06))
def test_fuzz(monkeypatch: pytest.MonkeyPatch, unwritten_is_nan: None, seeds: range) -> None:
    for seed in seeds:
        monkeypatch.setenv("FUSIONKIT_EMULATED_ORDER", ORDERS[seed % 3])
        case = draw_small(seed, 128)
        check_accuracy("cuda", DEVICE, case, build(case))


@runs
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("head_dim", "steps"),
    [(3, 270), (5, 270), (8, 270), (10, 140), (16, 140), (32, 70), (64, 70), (128, 40)],
)
def test_several_tiles(head_dim: int, steps: int, dtype: torch.dtype) -> None:
    """More keys and more rows than shared memory holds at once."""
    for queries, keys in ((9, steps), (steps, 9)):
        check_accuracy(
            "cuda", DEVICE,
            *one_case(
                batch=1, heads=1, num_queries=queries, num_keys=keys, head_dim=head_dim,
                value_dim=head_dim, dtype=dtype, has_key_lengths=False, has_query_lengths=False,
                bias_axes="",
            )
        )  # fmt: skip


@runs
def test_the_same_bits_in_any_order_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for head_dim in (10, 40):
        case, inputs = one_case(head_dim=head_dim)
        results = []
        for order in (*ORDERS, "shuffled"):
            monkeypatch.setenv("FUSIONKIT_EMULATED_ORDER", order)
            results.append(run_on("cuda", DEVICE, inputs, [upstream_of(case)]))
        for first, second in pairwise(results):
            assert all(first[name].equal(second[name]) for name in first)


@runs
@pytest.mark.parametrize("head_dim", [6, 50])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_rounded_at_the_end(dtype: torch.dtype, head_dim: int) -> None:
    """Close to the reference, which computes in float32, rather than to PyTorch in this dtype."""
    case, inputs = one_case(dtype=dtype, head_dim=head_dim, bias_axes="QK", learns_bias=False)
    plain, ours = (
        run_on(backend, DEVICE, inputs, [upstream_of(case)]) for backend in ("reference", "cuda")
    )
    eps = torch.finfo(dtype).eps
    for name in plain:
        assert ours[name].dtype == dtype
        # Wide heads go to the tensor cores, which take weights and gradients in this dtype.
        rounded_once = name == "output" and head_dim <= 16
        atol = eps / 100 if rounded_once else eps * plain[name].abs().max().item()
        torch.testing.assert_close(ours[name], plain[name], rtol=eps, atol=atol)


@runs
@pytest.mark.parametrize("head_dim", [8, 40])
@pytest.mark.parametrize("keys", [1, 5, 50])
def test_the_dropout_mask_is_that_of_philox(keys: int, head_dim: int) -> None:
    for seed, p in ((1, 0.5), (-(2**62) - 3, 0.01), (2**40 + 7, 0.9)):
        check_dropout_mask("cuda", DEVICE, rows=9, keys=keys, head_dim=head_dim, seed=seed, p=p)


@runs
@pytest.mark.parametrize("head_dim", [7, 40])
def test_only_asked_for_gradients_are_computed_and_always_the_same(head_dim: int) -> None:
    check_asked_for_gradients("cuda", DEVICE, head_dim)


@runs
@pytest.mark.parametrize("head_dim", [9, 40])
def test_row_sums_make_the_log_sum_exp(head_dim: int) -> None:
    check_row_sums("cuda", DEVICE, head_dim)


@runs
@pytest.mark.parametrize("head_dim", [10, 40])
@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_nan_in_valid_inputs_is_not_hidden(name: str, head_dim: int) -> None:
    check_nan_is_not_hidden("cuda", DEVICE, name, head_dim)


@runs
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("head_dim", [10, 40])
def test_gradients_that_arrive_at_rows_without_result_go_nowhere(
    head_dim: int, dtype: torch.dtype
) -> None:
    check_dead_rows("cuda", DEVICE, head_dim, dtype)


@runs
@pytest.mark.parametrize("offset", [-1e4, -1e30, torch.finfo(torch.float32).min])
def test_large_offsets_of_whole_rows(offset: float) -> None:
    check_large_offsets("cuda", DEVICE, offset, head_dim=8)


@runs
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("shape", EMPTY_AXES.values(), ids=EMPTY_AXES)
def test_empty_axes(unwritten_is_nan: None, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    check_empty_axes("cuda", DEVICE, shape, dtype)


@runs
def test_gradients_numerically() -> None:
    check_numeric_gradients("cuda", DEVICE)


@runs
def test_second_derivatives_are_those_of_the_reference() -> None:
    check_second_derivatives("cuda", DEVICE)
