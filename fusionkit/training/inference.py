"""What a finished run can do: score its weights again, and predict new samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fusionkit.data.dataset import Split
from fusionkit.data.formats.samples import prepare_samples, read_samples
from fusionkit.data.source import Nonfinite
from fusionkit.data.spec import DataSpec
from fusionkit.data.store import SequenceStore
from fusionkit.errors import DataError
from fusionkit.evaluation.protocol import Score, check_samples, predict_store, score
from fusionkit.registry import Method, registry
from fusionkit.training.checkpoint import load_checkpoint, load_weights
from fusionkit.training.loop import make_fabric
from fusionkit.training.run_folder import RunFolder
from fusionkit.training.settings import build_config
from fusionkit.training.work import open_work


@dataclass(frozen=True)
class Predictions:
    """Outputs for new samples.

    Args:
        ids: sample names. outputs: (N, num_outputs) logits, or values of a regression.
        task, class_names: of the run's data.
    """

    ids: list[str]
    outputs: Tensor
    task: str
    class_names: tuple[str, ...]

    @property
    def probabilities(self) -> Tensor | None:
        """(N, num_outputs): softmax or sigmoid of the logits; None for a regression."""
        if self.task == "classification":
            return self.outputs.softmax(dim=-1)
        return self.outputs.sigmoid() if self.task == "multilabel" else None

    @property
    def labels(self) -> list[str]:
        """Most probable class, labels that are on, or the values, as text."""
        names = self.class_names or tuple(str(k) for k in range(self.outputs.shape[1]))
        if self.task == "classification":
            return [names[int(k)] for k in self.outputs.argmax(dim=-1)]
        if self.task == "multilabel":
            return [" ".join(n for n, v in zip(names, row) if v > 0) for row in self.outputs]
        return [" ".join(f"{v:.4f}" for v in row) for row in self.outputs.tolist()]


def evaluate_run(path: Path, *, split: Split, metrics: str | None, device: str) -> dict[str, Score]:
    """Score the selected weights on a split of the run's own data."""
    folder = RunFolder.open(path)
    work, dataset = open_work(folder)
    model = load_model(folder, work.method, dataset.spec)
    chosen = work.metrics if metrics is None else registry().get("metric set", metrics)
    store = dataset.split(split)
    fabric = make_fabric(device, "32-true", [], [])
    outputs = predict_store(
        model.to(fabric.device),
        store,
        batch_size=work.settings.train.batch_size,
        device=fabric.device,
    )
    assert store.targets is not None
    return score(chosen, dataset.spec, outputs, torch.from_numpy(store.targets), seed=work.seed)


def predict_run(
    path: Path, samples: Path | SequenceStore, *, device: str, nonfinite: Nonfinite
) -> Predictions:
    """Outputs for samples that are prepared exactly as the training data were."""
    folder = RunFolder.open(path)
    description = folder.description
    spec, preparation = folder.spec, folder.preparation
    method: Method = registry().get("method", description["method"])
    model = load_model(folder, method, spec)
    if isinstance(samples, Path):
        store = read_samples(samples, spec, preparation, nonfinite=nonfinite)
    else:
        store = prepare_samples(samples, spec, preparation, where="samples", nonfinite=nonfinite)
    if len(store) == 0:
        raise DataError("there is no sample to predict")
    check_samples(model, store, str(samples) if isinstance(samples, Path) else "samples")
    fabric = make_fabric(device, "32-true", [], [])
    batch_size = int(description["train"].get("batch_size", 32))
    outputs = predict_store(
        model.to(fabric.device), store, batch_size=batch_size, device=fabric.device
    )
    return Predictions(list(store.ids), outputs, spec.task, spec.class_names)


def load_model(folder: RunFolder, method: Method, spec: DataSpec) -> nn.Module:
    config = build_config(method.config, folder.description["model"], method.name)
    model = method.create(config, spec)
    load_weights(model, load_checkpoint(folder.checkpoints, "best")[0], folder.checkpoints)
    return model
