"""The CUDA cross-attention as an operator: its contract, shapes, and what it leaves to others."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fusionkit.ops.cross_attention.cost import gpu_slower_reasons
from fusionkit.ops.cross_attention.cuda import cuda_attention_reasons
from fusionkit.ops.cuda_runtime import EMULATED

from attention_checks import check_compiled, check_operators, check_tracing
from attention_devices import moved
from on_cuda import DEVICE, runs


@runs
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_opcheck(dtype: torch.dtype) -> None:
    check_operators("cuda", DEVICE, dtype)


@runs
def test_compiled_in_one_graph() -> None:
    check_compiled("cuda", DEVICE)


X, Y = torch.zeros(2, 2, 3, 4), torch.zeros(2, 2, 5, 4)


@runs
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": X[0]}, "query must have 4 axes, got 3"),
        ({"query": X.double()}, "query must be float32, float16 or bfloat16"),
        ({"key": Y.half()}, "key must have the dtype of the query"),
        ({"key": Y[:, :1]}, "key must have size 2 on axis 1, got 1"),
        ({"value": X}, "value must have size 5 on axis 2, got 3"),
        ({"value": torch.zeros(2, 2, 5, 129)}, "head dims must be 1 to 128, got 4 and 129"),
        ({"bias": torch.zeros(3, 5)}, "bias must be float32 with 4 axes"),
        ({"bias": torch.zeros(1, 1, 3, 4)}, "bias must have size 5 on axis 3, got 4"),
        ({"bias": torch.zeros(1, 1, 3, 5).half()}, "bias must be float32 with 4 axes"),
        ({"key_lengths": torch.tensor([1])}, "key_lengths must hold 2 numbers, got 1"),
        ({"query_lengths": torch.ones(2)}, "query_lengths must be int64"),
        ({"dropout_p": 1.0}, r"dropout_p must be in \[0, 1\), got 1"),
        ({"dropout_p": 0.5}, "seed is required"),
    ],
    ids=lambda x: "-".join(x) if isinstance(x, dict) else None,
)  # fmt: skip
def test_raw_operator_checks_its_inputs(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "query": X, "key": Y, "value": Y, "bias": None, "key_lengths": None, "query_lengths": None,
        "scale": 1.0, "dropout_p": 0.0, "seed": None,
    }  # fmt: skip
    arguments = {name: moved(x, DEVICE) for name, x in {**arguments, **change}.items()}
    with pytest.raises(RuntimeError, match=message):
        torch.ops.fusionkit_cuda.cross_attention(**arguments)


@runs
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grad_out": Y}, "grad_out must have size 3 on axis 2, got 5"),
        ({"out": X[..., :2]}, "out must have size 4 on axis 3, got 2"),
        ({"row_sums": torch.zeros(2, 2, 2, 4)}, r"row_sums must be float32 \(2, B, H, Tq\)"),
    ],
    ids=lambda x: "-".join(x) if isinstance(x, dict) else None,
)
def test_raw_backward_checks_its_inputs(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "grad_out": X, "query": X, "key": Y, "value": Y, "out": X,
        "row_sums": torch.zeros(2, 2, 2, 3), "bias": None, "key_lengths": None,
        "query_lengths": None, "scale": 1.0, "dropout_p": 0.0, "seed": None, "needs": 7,
    }  # fmt: skip
    arguments = {name: moved(x, DEVICE) for name, x in {**arguments, **change}.items()}
    with pytest.raises(RuntimeError, match=message):
        torch.ops.fusionkit_cuda.cross_attention_backward(**arguments)


def test_what_it_does_not_take() -> None:
    x = torch.ones(1, 2, 3, 129, dtype=torch.float64)
    reasons = "; ".join(cuda_attention_reasons(x, x, x, bias=x, return_weights=True))
    for reason in ("query is torch.float64", "head dims 129", "bias is float64", "return_weights"):
        assert reason in reasons
    assert ("is on cpu" in reasons) == (not EMULATED)
    far = torch.empty(2, 1, 1, 4, device="meta").as_strided((2, 1, 1, 4), (2**31, 4, 4, 1))
    reasons = "; ".join(cuda_attention_reasons(far, far, far))
    assert "a size or stride of query is above 2147483647" in reasons


def test_long_sequences_in_half_precision_are_left_to_sdpa() -> None:
    x = torch.empty(1, 1, 512, 32, dtype=torch.half)
    assert "estimated, not measured" in gpu_slower_reasons(x, x, x)[0]
    lengths = torch.tensor([512])
    for arguments, options in (
        ((x.float(),) * 3, {}), ((x[:, :, :50], x[:, :, :64], x[:, :, :64]), {}),
        ((x[..., :16],) * 3, {}),
        ((x, x, x), {"key_lengths": lengths}), ((x, x, x), {"query_lengths": lengths}),
        ((x, x, x), {"dropout_p": 0.1}), ((x, x, x), {"bias": x.new_zeros(512, 512)}),
    ):  # fmt: skip
        kept: Any = options
        assert not gpu_slower_reasons(*arguments, **kept)


def test_traced_without_a_device() -> None:
    check_tracing("cuda")
