"""The Python interface: what the README shows works as it is shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fusionkit as fk
from fusionkit.testing import make_batch


def test_list() -> None:
    assert fk.list_methods("mm*") == ["mmim", "mmlatch", "mmmie", "mmtm"]
    assert set(fk.list_datasets()) >= {"watch", "synthetic", "npz"}
    assert set(fk.list_metrics("mm*")) >= {"mmsa", "mmlatch"}


def test_create() -> None:
    spec = fk.DataSpec({"text": 300, "audio": 74, "vision": 35}, task="regression", num_outputs=1)
    model = fk.create("mmlatch", spec, hidden_size=64)
    assert model(make_batch(spec, [5, 3])).shape == (2, 1)
    with pytest.raises(fk.ConfigError, match="did you mean 'hidden_size'"):
        fk.create("mmlatch", spec, hidden=64)


def test_train(tmp_path: Path) -> None:
    result = fk.train(
        "mmlatch", data="synthetic", seed=0, out=tmp_path / "run",
        model={"hidden_size": 4}, train={"epochs": 1}, data_options={"samples": 60},
    )  # fmt: skip
    assert 0 <= result.test["accuracy"].value <= 1


def test_load_data() -> None:
    dataset = fk.load_data("synthetic", samples=60)
    batch = dataset.train.batch([0, 1])
    assert isinstance(batch, fk.MultimodalBatch)
    assert len(batch) == 2
    assert batch.to("cpu", torch.float64).features["text"].dtype == torch.float64


def test_import_is_light() -> None:
    code = "import sys, fusionkit; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_exists() -> None:
    for name in fk.__all__:
        assert getattr(fk, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = fk.nothing  # type: ignore[attr-defined]
    assert {"nn", "ops", "train"} <= set(dir(fk))
