"""MMMIE in the harness: it learns, is evaluated, and predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fusionkit as fk

MODEL: dict[str, Any] = {"hidden_size": 16, "num_heads": 2, "estimator_size": 16,
                         "fusion_layers": 1}  # fmt: skip
TRAIN: dict[str, Any] = {"epochs": 6, "learning_rate": 5e-3, "scheduler": "none"}


@pytest.mark.parametrize("encoder", ["lstm", "transformer"])
def test_it_learns(tmp_path: Path, encoder: str) -> None:
    result = fk.train(
        "mmmie", "synthetic", model={**MODEL, "encoder": encoder}, train=TRAIN,
        data_options={"samples": 600}, out=tmp_path / "run",
    )  # fmt: skip
    first, last = result.history[0], result.history[-1]
    assert last["train_loss"] < first["train_loss"]
    assert last["train_conditionals"] < first["train_conditionals"]
    # Four classes; the standard error over 90 samples is 0.05.
    assert max(record["validation_accuracy"] for record in result.history) > 0.4


def test_a_run_can_be_resumed_and_used(tmp_path: Path) -> None:
    options: dict[str, Any] = {"data_options": {"samples": 120}, "model": MODEL}
    train = {**TRAIN, "epochs": 2}
    whole = fk.train("mmmie", "synthetic", train=train, out=tmp_path / "whole", **options)

    class Stop:
        def on_epoch_end(self, state: Any) -> None:
            if state.progress.epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fk.train("mmmie", "synthetic", train=train, out=tmp_path / "cut", callbacks=[Stop()],
                 **options)  # fmt: skip
    resumed = fk.train(resume=tmp_path / "cut")
    for one, other in zip(resumed.history, whole.history):
        assert {k: v for k, v in one.items() if k != "seconds"} == {
            k: v for k, v in other.items() if k != "seconds"
        }
    assert fk.evaluate(tmp_path / "whole")
    predictions = fk.predict(tmp_path / "whole", tmp_path / "whole" / "examples.npz")
    assert len(predictions.ids) == 3
