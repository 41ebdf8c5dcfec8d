"""Every kernel of ours can be captured in a CUDA graph, which then computes new inputs."""

from __future__ import annotations

import pytest
import torch

from fusionkit.ops import force_backend

from every_op import ON_DEVICE, Call, calls_of, results, unavailable

CAPTURED = calls_of(*ON_DEVICE)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("call", "backend"), CAPTURED, ids=[f"{c.op}-{c.name}-{b}" for c, b in CAPTURED]
)
def test_capture_and_replay(call: Call, backend: str) -> None:
    if unavailable(call.op, backend):
        pytest.skip(unavailable(call.op, backend))
    leaves = call.leaves("cuda")
    run = call.prepared(leaves)
    with force_backend(backend):
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(2):
                results(leaves, run)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = results(leaves, run)
        # Other numbers in the same memory: a replay must read them.
        with torch.no_grad():
            for leaf in leaves:
                leaf.mul_(-0.5)
        graph.replay()
        torch.cuda.synchronize()
        right = results(leaves, run)
    for one, other in zip(captured, right):
        assert torch.equal(one, other)
