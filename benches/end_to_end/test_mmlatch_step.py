"""A training step of MMLatch at the paper's sizes: chosen backends beside plain references.

``reference`` is packed `nn.LSTM`, eager attention and an eager mask; ``auto`` is what dispatch
chooses. A time is only taken after both gave the same loss and gradients.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch

import fusionkit as fk
from fusionkit.ops import force_backend
from fusionkit.testing import make_batch

SPEC = fk.DataSpec({"text": 300, "audio": 74, "vision": 35}, "regression", 1, aligned=True)
BATCH, STEPS = 32, 50
LENGTHS = {"full": [STEPS] * BATCH, "40-100%": [20 + (30 * k) // (BATCH - 1) for k in range(BATCH)]}


class Step:
    """One optimizer step on one batch."""

    def __init__(self, lengths: str, **options: Any) -> None:
        torch.manual_seed(0)
        self.model = fk.create("mmlatch", SPEC, **options)
        self.batch = make_batch(SPEC, LENGTHS[lengths])
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=5e-4)

    def loss_and_gradients(self) -> list[torch.Tensor]:
        assert self.batch.targets is not None
        self.optimizer.zero_grad()
        loss = (self.model(self.batch).squeeze(1) - self.batch.targets).abs().mean()
        loss.backward()
        return [
            loss.detach(),
            *(p.grad.clone() for p in self.model.parameters() if p.grad is not None),
        ]

    def __call__(self) -> None:
        self.loss_and_gradients()
        self.optimizer.step()


def run_on(backend: str) -> Any:
    return nullcontext() if backend == "auto" else force_backend(backend)


@pytest.mark.parametrize("lengths", list(LENGTHS))
@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_mmlatch_training_step(benchmark: Any, lengths: str, backend: str) -> None:
    plain = {"encoder_dropout": 0, "fuser_dropout": 0, "mask_rnn_dropout": 0, "mask_dropout": 0}
    with force_backend("reference"):
        expected = Step(lengths, **plain).loss_and_gradients()
    with run_on(backend):
        largest = max(float(t.abs().max()) for t in expected[1:])
        for found, right in zip(Step(lengths, **plain).loss_and_gradients(), expected):
            torch.testing.assert_close(found, right, rtol=1e-3, atol=1e-5 * largest)
        step = Step(lengths)
        benchmark.group = f"MMLatch step B{BATCH} T{STEPS} {lengths}"
        benchmark.pedantic(step, rounds=5, warmup_rounds=1)
