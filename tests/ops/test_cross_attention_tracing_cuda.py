"""The CUDA cross-attention as an operator: its contract, shapes, and what it leaves to others."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fusionkit.ops.cross_attention.cost import cuda_slower_reasons
from fusionkit.ops.cross_attention.cuda import attention_reasons
from fusionkit.ops.cuda_runtime import EMULATED

runs = pytest.mark.usefixtures("cuda_kernels")
DEVICE = "cpu" if EMULATED else "cuda"


@runs
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_opcheck(dtype: torch.dtype) -> None:
    query, key, value = (torch.randn(2, 2, n, 5).to(DEVICE, dtype) for n in (3, 4, 4))
    lengths = (torch.tensor([4, 1]).to(DEVICE), torch.tensor([0, 3]).to(DEVICE))
    options: Any = (
        torch.randn(1, 1, 3, 4).to(DEVICE),
        *lengths,
        0.4,
        0.2,
        torch.tensor(3).to(DEVICE),
    )
    operators = torch.ops.fusionkit_cuda
    torch.library.opcheck(operators.cross_attention.default, (query, key, value, *options))
    out, sums = operators.cross_attention(query, key, value, *options)
    inputs = (torch.ones_like(out), query, key, value, out, sums, *options, 0b1011)
    torch.library.opcheck(operators.cross_attention_backward.default, inputs)


def test_what_it_does_not_take() -> None:
    x = torch.ones(1, 2, 3, 129, dtype=torch.float64)
    reasons = "; ".join(attention_reasons(x, x, x, bias=x, return_weights=True))
    for reason in ("query is torch.float64", "head dims 129", "bias is float64", "return_weights"):
        assert reason in reasons
    assert ("is on cpu" in reasons) == (not EMULATED)


def test_long_sequences_in_half_precision_are_left_to_sdpa() -> None:
    x = torch.empty(1, 1, 512, 32, dtype=torch.half)
    assert "an estimate, not measured" in cuda_slower_reasons(x, x, x)[0]
    lengths = torch.tensor([512])
    for arguments, options in (
        ((x.float(),) * 3, {}), ((x[:, :, 1:], x, x), {}), ((x[..., 1:], x[..., 1:], x), {}),
        ((x, x, x), {"key_lengths": lengths}), ((x, x, x), {"query_lengths": lengths}),
        ((x, x, x), {"dropout_p": 0.1}), ((x, x, x), {"bias": x.new_zeros(512, 512)}),
    ):  # fmt: skip
        kept: Any = options
        assert not cuda_slower_reasons(*arguments, **kept)


def test_traced_without_a_device() -> None:
    """Shapes on ``cuda`` can be found out on a machine that has no GPU."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    operators = torch.ops.fusionkit_cuda
    with FakeTensorMode():
        query, key = (torch.empty(2, 3, n, 8, device="cuda", dtype=torch.half) for n in (5, 7))
        inputs = (query, key, key)
        out, sums = operators.cross_attention(*inputs, None, None, None, 0.5, 0.0, None)
        back = operators.cross_attention_backward(
            out, *inputs, out, sums, None, None, None, 0.5, 0.0, None, 0b1001
        )
    assert out.device.type == "cuda" and out.dtype == torch.half and out.shape == query.shape
    assert sums.dtype == torch.float32 and sums.shape == (2, 2, 3, 5)
    assert [(x.shape, x.dtype) for x in back] == [
        (query.shape, torch.half), ((2, 3, 5, 7), torch.float32)
    ]  # fmt: skip
