"""The same inputs give the same bits twice, and every device draws the CPU's dropout masks."""

from __future__ import annotations

import pytest
import torch

from fusionkit.ops import cross_attention, dropout, force_backend, gated_mask
from fusionkit.ops.philox import keep_mask

from every_op import ON_DEVICE, Call, calls_of, results, unavailable

WITH_KERNELS = [
    (call, backend)
    for call, backend in calls_of(*ON_DEVICE, "cpu")
    if backend != "cpu" or call.dtype == torch.float32
]
NAMES = [f"{call.op}-{call.name}-{backend}" for call, backend in WITH_KERNELS]
needs_device = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def device_of(backend: str) -> str:
    """Where a backend computes; skips the test where there is no such device."""
    if backend == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return "cuda"


@pytest.mark.parametrize(("call", "backend"), WITH_KERNELS, ids=NAMES)
def test_twice_the_same_bits(
    unwritten_is_nan: None, monkeypatch: pytest.MonkeyPatch, call: Call, backend: str
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    device = device_of(backend)
    if unavailable(call.op, backend):
        pytest.skip(unavailable(call.op, backend))
    leaves = call.leaves(device)
    with force_backend("reference"):
        right = results(leaves, call.prepared(leaves))
    with force_backend(backend):
        first, second = (results(leaves, call.prepared(leaves)) for _ in range(2))
    tolerance = 1e-3 if call.dtype == torch.float32 else 0.05
    for expected, one, other in zip(right, first, second):
        assert torch.equal(one, other)
        torch.testing.assert_close(one, expected, rtol=tolerance, atol=tolerance)


@needs_device
@pytest.mark.parametrize("seed", [0, -1, 2**40 + 3])
def test_masks_of_the_reference_are_equal_on_both(seed: int) -> None:
    shape = (2, 3, 17, 29)
    on_device = keep_mask(torch.tensor(seed, device="cuda"), shape, 0.3, torch.device("cuda"))
    assert torch.equal(on_device.cpu(), keep_mask(seed, shape, 0.3, torch.device("cpu")))


@needs_device
@pytest.mark.parametrize("backend", ON_DEVICE)
@pytest.mark.parametrize("op", ["cross_attention", "gated_mask", "dropout"])
def test_masks_of_the_kernels_are_the_cpus(op: str, backend: str) -> None:
    if (op, backend) not in {(call.op, name) for call, name in calls_of(*ON_DEVICE)}:
        pytest.skip(f"{op} has no backend {backend}")
    if unavailable(op, backend):
        pytest.skip(unavailable(op, backend))
    p, steps, size = 0.4, 19, 33
    seed = torch.tensor(5, device="cuda")
    ones = torch.ones(2, steps, size, device="cuda")
    with force_backend(backend):
        if op == "gated_mask":
            kept = gated_mask(ones, [ones], dropout_p=p, seed=seed)[:, None]
        elif op == "dropout":
            kept = dropout(ones.flatten(0, 1), p, seed)[None, None]
        else:
            heads = ones[:, None, :, :1].expand(2, 2, steps, 4)
            key = ones.new_zeros(2, 2, size, 4)
            value = torch.eye(size, device="cuda").expand(2, 2, size, size)
            kept = cross_attention(heads, key, value, dropout_p=p, seed=seed)
    batch, count, rows, columns = kept.shape
    right = keep_mask(5, (batch, count, rows, columns), p, torch.device("cpu"))
    assert torch.equal(kept.cpu() != 0, right)
