"""Which backend of `cross_attention` runs, and which arguments are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fusionkit.errors import ConfigError, DataError
from fusionkit.ops import cross_attention, explain, force_backend
from fusionkit.ops.backends import BackendError

from attention_cases import (
    assert_close,
    call,
    outputs_and_gradients,
    small,
)


def test_sdpa_is_preferred_to_the_reference_and_explain_says_why_not() -> None:
    inputs = small()
    assert "reference  a backend of higher priority is chosen" in explain(
        "cross_attention", **inputs.leaves
    )
    text = explain("cross_attention", **inputs.leaves, dropout_p=0.1, seed=1, return_weights=True)
    (sdpa,) = (line for line in text.splitlines() if line.strip().startswith("sdpa"))
    assert "does not follow the seed" in sdpa and "does not return the weights" in sdpa
    bias = torch.zeros(3, 4, dtype=torch.float32)
    assert "SDPA wants one dtype" in explain("cross_attention", **inputs.leaves, bias=bias)
    empty = torch.zeros(2, 2, 0, 2)
    assert "an axis has size 0" in explain("cross_attention", empty, empty, empty)


def test_a_forced_backend_refuses_with_its_reasons() -> None:
    inputs = small(dropout_p=0.1, seed=1)
    with force_backend("sdpa"), pytest.raises(BackendError, match="does not follow the seed"):
        outputs_and_gradients(cross_attention, inputs)


def test_autocast_computes_in_its_dtype() -> None:
    inputs = small(key_lengths=torch.tensor([4, 2])).cast(torch.float32)
    inputs.leaves["value"] = inputs.leaves["value"].detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = outputs_and_gradients(cross_attention, inputs)
    assert got["output"].dtype == torch.bfloat16
    assert got["gradient of query"].dtype == torch.float32
    want = outputs_and_gradients(cross_attention, inputs.cast(torch.float64))
    assert_close(got, want, None, torch.finfo(torch.bfloat16).eps)


def test_a_bias_of_higher_precision_keeps_it() -> None:
    inputs = small().cast(torch.float16)
    inputs.options["bias"] = torch.tensor([-2e5, -1e5, -1e5, -1e5])
    got = call(inputs)
    inputs.options["bias"] = inputs.options["bias"].double()
    want = call(inputs.cast(torch.float64))
    # Half precision would have turned every score to -inf and the rows to zeros; float32 holds
    # scores of 1e5 to 0.008.
    torch.testing.assert_close(got.double(), want, atol=2e-2, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": torch.zeros(2, 3, 2)}, r"query must be \(B, H, T, D\)"),
        ({"query": torch.zeros(2, 2, 3, 0)}, "query must have a head dim of at least 1"),
        ({"key": torch.zeros(2, 2, 4, 3)}, "key .* differ in head dim"),
        ({"key": torch.zeros(3, 2, 4, 2)}, "key .* differ in batch or heads"),
        ({"key": torch.zeros(2, 2, 4, 2).long()}, "key must be floating point"),
        ({"key": torch.zeros(2, 2, 4, 2).double()}, "key is torch.float64 and query torch.float32"),
        ({"key": torch.zeros(2, 2, 4, 2, device="meta")}, "key is on meta"),
        ({"value": torch.zeros(2, 2, 5, 2)}, "value .* differ in steps"),
        ({"key_lengths": torch.tensor([4])}, "key_lengths must have one entry a sample"),
        ({"key_lengths": torch.tensor([4.0, 1.0])}, "key_lengths must be int64"),
        ({"key_lengths": torch.tensor([5, 1])}, r"key_lengths must be in \[0, 4\].* 1 to 5"),
        ({"query_lengths": torch.tensor([-1, 1])}, r"query_lengths must be in \[0, 3\]"),
        ({"query_lengths": torch.ones(2, device="meta").long()}, "query_lengths is on meta"),
        ({"bias": torch.zeros(3, 4, dtype=torch.bool)}, "bias must be floating point"),
        ({"bias": torch.zeros(3, 5)}, "bias must broadcast"),
        ({"bias": torch.zeros(1, 1, 1, 3, 4)}, "bias must broadcast"),
        ({"bias": torch.zeros(3, 4, device="meta")}, "bias is on meta"),
        ({"dropout_p": 0.1, "seed": torch.tensor([1])}, "seed must be an int or a 0-d int64"),
        ({"dropout_p": 0.1, "seed": torch.tensor(1.0)}, "seed must be an int or a 0-d int64"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_data_that_do_not_fit_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "query": torch.zeros(2, 2, 3, 2),
        "key": torch.zeros(2, 2, 4, 2),
        "value": torch.zeros(2, 2, 4, 2),
    }
    with pytest.raises(DataError, match=message):
        cross_attention(**(arguments | change))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout_p": 0.1}, "seed is required when dropout_p > 0"),
        ({"dropout_p": 1.0, "seed": 1}, r"dropout_p must be in \[0, 1\)"),
        ({"dropout_p": -0.1, "seed": 1}, r"dropout_p must be in \[0, 1\)"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    x = torch.zeros(2, 2, 3, 2)
    with pytest.raises(ConfigError, match=message):
        cross_attention(x, x, x, **options)
