"""What CUDA graphs ask of every method's step; the tests that capture wait for a CUDA device."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import fusionkit as fk
from fusionkit.nn.dropout import dropout_seed
from fusionkit.registry import Method, registry
from fusionkit.testing.conformance import make_batch
from fusionkit.training import cuda_graph

from graphed_runs import losses, train

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

SPEC = fk.DataSpec(
    {"text": 6, "audio": 4, "vision": 3}, "classification", 3, context={"speaker": 4, "turn": 2}
)


class NoHost(TorchDispatchMode):
    """Refuses what moves values between devices; meta tensors refuse to be read themselves."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        copies = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        if func in copies:
            devices = {x.device.type for x in tree_leaves((args, out)) if isinstance(x, Tensor)}
            assert len(devices) == 1, f"a copy between {sorted(devices)}"
        return out


CAPTURABLE: list[tuple[str, dict[str, Any]]] = [
    ("mmlatch", {"hidden_size": 4}),
    ("mmlatch", {"hidden_size": 4, "mask": "boom", "time_axis": "longest", "frontend_size": 3}),
    ("mult", {"width": 4, "num_heads": 2, "num_layers": 1, "attn_mask": True, "feedback": "lstm"}),
    ("msaf", {"hidden_size": 4, "block_size": 4, "num_segments": 2, "bidirectional": True}),
    ("mmtm", {"hidden_size": 4, "encoder": "conv"}),
    ("tfn", {"hidden_size": 4}),
    ("lmf", {"hidden_size": 4, "encoder": "conv_bilstm", "frontend_size": 4}),
    ("misa", {"hidden_size": 4, "heads": 1}),
    ("misa", {"hidden_size": 4, "heads": 1, "cell": "gru", "similarity": "adversarial"}),
    ("mag", {"hidden_size": 4}),
    ("early_fusion", {"hidden_size": 4}),
    ("late_fusion", {"hidden_size": 4}),
    ("unimodal", {"hidden_size": 4}),
]


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("method", "options"), CAPTURABLE, ids=[m for m, _ in CAPTURABLE])
def test_a_step_reads_nothing_on_the_host(
    method: str, options: dict[str, Any], aligned: bool
) -> None:
    spec = replace(SPEC, aligned=aligned)
    found: Method = registry().get("method", method)
    model = fk.create(method, spec, **options).to("meta").train()
    batch = make_batch(spec, [4, 2, 3]).to("meta")
    assert batch.targets is not None
    task_loss = torch.nn.functional.cross_entropy
    with NoHost():
        if found.training_step is not None:
            loss = found.training_step(model, batch, task_loss)
        else:
            loss = task_loss(model(batch), batch.targets)
        loss.backward()  # type: ignore[no-untyped-call]
    assert any(p.grad is not None for p in model.parameters())


@needs_cuda
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("method", ["late_fusion", "lmf"])
def test_captured_training_on_a_device(tmp_path: Path, method: str, optimizer: str) -> None:
    # SGD cannot be captured where its momentum changes.
    scheduler = "cosine" if optimizer == "sgd" else "onecycle"
    options: dict[str, Any] = {
        "train": {"optimizer": optimizer, "epochs": 6, "clip_norm": 1.0, "scheduler": scheduler},
        "device": "cuda",
    }
    plain = train(tmp_path / "plain", method, **options)
    graphed = train(tmp_path / "graphed", method, cuda_graph=True, **options)
    for one, other in zip(losses(graphed), losses(plain), strict=True):
        assert one == pytest.approx(other, rel=1e-2)


@needs_cuda
def test_replays_draw_new_seeds_on_a_device() -> None:
    module = torch.nn.Identity()
    pool, stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    replay, seed = cuda_graph.capture_step(lambda: _seed(module), pool, stream)
    drawn = set()
    for _ in range(4):
        replay()
        drawn.add(int(seed))
    assert len(drawn) == 4


@needs_cuda
@pytest.mark.parametrize(("method", "options"), CAPTURABLE, ids=[m for m, _ in CAPTURABLE])
def test_every_method_is_captured_on_a_device(
    tmp_path: Path, method: str, options: dict[str, Any]
) -> None:
    result = train(
        tmp_path / "run", method, model=options, cuda_graph=True, device="cuda",
        train={"epochs": 5, "input_noise": 0.1},
    )  # fmt: skip
    assert all(math.isfinite(record["train_loss"]) for record in result.history)


def _seed(module: torch.nn.Module) -> Tensor:
    seed = dropout_seed(module, 0.5, torch.device("cuda"))[1]
    assert seed is not None
    return seed
