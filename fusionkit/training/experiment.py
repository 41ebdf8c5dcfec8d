"""Train several methods with several seeds on the same data; a killed comparison goes on.

Everything that can be checked is checked before the first run starts. The folder holds
``comparison.json`` (what is compared) and one run folder ``VARIANT/seed-K`` each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fusionkit.data.dataset import MultimodalDataset
from fusionkit.data.source import DataSource
from fusionkit.errors import CheckpointError, ConfigError, UnknownNameError
from fusionkit.evaluation.metric_set import MetricSet
from fusionkit.evaluation.protocol import metric_function
from fusionkit.ops.backends import check_forced
from fusionkit.registry import registry
from fusionkit.training.comparison import Comparison, Row, choose_baseline, difference_to
from fusionkit.training.cuda_graph import check_cuda_graph
from fusionkit.training.experiment_folder import (
    check_space,
    claim,
    is_finished,
    locked,
    make_folder,
)
from fusionkit.training.jobs import Job, train_jobs
from fusionkit.training.loop import make_fabric
from fusionkit.training.result import RunResult
from fusionkit.training.run_folder import RunFolder
from fusionkit.training.settings import takes_modality
from fusionkit.training.variants import Variant, check_labels
from fusionkit.training.work import Work, check_metrics, describe

_FORMAT = 1
# Weights and Adam's two moments, in the last and the best checkpoint.
_COPIES_A_RUN = 6


@dataclass(frozen=True)
class Experiment:
    """What is compared.

    Args:
        title: of the table. folder: for the runs. variants, seeds: every variant with every seed.
        source, data: where the data come from, and their name.
        metrics, metric: metric set, and the one to compare (None: the set's first for the task).
        baseline: label of a variant (None: the best single modality by validation).
        recipe: its name, for the table. device: of all runs. jobs: runs at a time.
    """

    title: str
    folder: Path
    variants: tuple[Variant, ...]
    seeds: tuple[int, ...]
    source: DataSource
    data: str
    metrics: str = "default"
    metric: str | None = None
    baseline: str | None = None
    recipe: str | None = None
    device: str = "auto"
    jobs: int = 1

    def run_folder(self, variant: Variant, seed: int) -> Path:
        """Where a run lies."""
        return self.folder / variant.folder / f"seed-{seed}"


@dataclass(frozen=True)
class _Checked:
    """What the checks found: data, metric, and each variant's parameters and bytes."""

    dataset: MultimodalDataset
    metric: str
    parameters: Mapping[str, int]
    size: Mapping[str, int]
    record: Mapping[str, Any]


def run_experiment(
    experiment: Experiment,
    *,
    tell: Callable[[str], None] = lambda line: None,
    callbacks: Sequence[object] = (),
) -> Comparison:
    """Train what is not trained yet, and compare.

    A run that fails by its own fault (a loss that is not finite, a bug in a plugin) does not stop
    the others; its row says so.

    Args:
        tell: gets one line a run. callbacks: of every run, where ``jobs`` is 1.

    Raises:
        FusionKitError: a method, option, metric, seed or folder does not fit, before any training;
            or the disk is full.
    """
    checked = _check(experiment)
    total = [(variant, seed) for variant in experiment.variants for seed in experiment.seeds]
    make_folder(experiment.folder)
    with locked(experiment.folder):
        record = claim(experiment.folder, checked.record)
        pending = [(v, s) for v, s in total if not is_finished(experiment.run_folder(v, s))]
        needed = sum(_COPIES_A_RUN * checked.size[variant.label] for variant, _ in pending)
        check_space(experiment.folder, needed, len(pending))
        if len(pending) < len(total):
            tell(f"{len(total) - len(pending)} of {len(total)} runs are finished already")
        jobs = [_job(experiment, variant, seed) for variant, seed in pending]
        failures = train_jobs(jobs, experiment.jobs, checked.metric, tell, callbacks)
        return _collect(experiment, checked, failures, most_jobs=record["jobs"])


def _check(experiment: Experiment) -> _Checked:
    if experiment.jobs < 1:
        raise ConfigError(f"jobs: {experiment.jobs} is too few; at least 1 is needed")
    check_labels(experiment.variants)
    check_forced()
    first = experiment.variants[0].settings.data
    if any(variant.settings.data != first for variant in experiment.variants):
        raise ConfigError("the methods' presets prepare the data differently; name a recipe")
    metrics: MetricSet = registry().get("metric set", experiment.metrics)
    fabrics = [
        make_fabric(experiment.device, variant.settings.train.precision, [], [])
        for variant in experiment.variants
    ]
    dataset: MultimodalDataset = experiment.source.load(first)
    parameters, size, described = {}, {}, {}
    for variant, fabric in zip(experiment.variants, fabrics):
        work = Work(
            variant.method, experiment.source, variant.settings, experiment.data, 0, metrics
        )
        variant.method.check(dataset.spec)
        check_metrics(work, dataset)
        model = variant.method.create(variant.settings.model, dataset.spec)
        check_cuda_graph(variant.method, model, variant.settings, dataset.train, fabric.device)
        trained = [p for p in model.parameters() if p.requires_grad]
        parameters[variant.label] = sum(p.numel() for p in trained)
        size[variant.label] = sum(t.nbytes for t in model.state_dict().values())
        described[variant.label] = describe(work, dataset)
    metric = _metric(experiment, metrics, dataset)
    common = next(iter(described.values()))
    keep = ("method", "model", "train")
    record = {
        "format": _FORMAT,
        "data": {k: common["data"][k] for k in ("source", "config", "sha256")},
        "metrics": common["metrics"],
        "variants": {
            v.label: {"folder": v.folder, **{k: described[v.label][k] for k in keep}}
            for v in experiment.variants
        },
        "jobs": experiment.jobs,
    }
    return _Checked(dataset, metric, parameters, size, json.loads(json.dumps(record)))


def _metric(experiment: Experiment, metrics: MetricSet, dataset: MultimodalDataset) -> str:
    """The metric to compare; a set's first one for the task is its primary one."""
    targets = dataset.validation.targets
    assert targets is not None
    zeros = torch.zeros(len(targets), dataset.spec.num_outputs)
    values = metric_function(metrics, dataset.spec)(zeros, torch.from_numpy(targets))
    known = list(values or metrics.higher_is_better)
    if experiment.metric is None:
        return known[0]
    if experiment.metric not in known:
        raise UnknownNameError(f"metric of {metrics.name!r}", experiment.metric, known)
    return experiment.metric


def _job(experiment: Experiment, variant: Variant, seed: int) -> Job:
    return Job(
        label=variant.label,
        method=variant.method.name,
        source=experiment.source.name,
        settings=variant.settings,
        data=experiment.data,
        seed=seed,
        metrics=experiment.metrics,
        folder=experiment.run_folder(variant, seed),
        device=experiment.device,
    )


def _collect(
    experiment: Experiment,
    checked: _Checked,
    failures: Mapping[Path, str],
    *,
    most_jobs: int,
) -> Comparison:
    dataset, metric = checked.dataset, checked.metric
    rows = []
    for variant in experiment.variants:
        runs, failed = {}, {}
        for seed in experiment.seeds:
            folder = experiment.run_folder(variant, seed)
            if folder in failures:
                failed[seed] = failures[folder]
            else:
                runs[seed] = _result(folder, dataset)
        rows.append(
            Row(
                label=variant.label,
                parameters=checked.parameters[variant.label],
                single=takes_modality(variant.method),
                batches=-(-len(dataset.train) // variant.settings.train.batch_size),
                runs=runs,
                failures=failed,
            )
        )
    higher = registry().get("metric set", experiment.metrics).higher_is_better[metric]
    baseline, rule = choose_baseline(rows, experiment.baseline, metric, higher)
    partner = next((row for row in rows if row.label == baseline), None)
    versions = _distinct(rows, lambda run: ", ".join(f"{n} {v}" for n, v in run.versions.items()))
    notes = [*dataset.notes]
    if len(versions) > 1:
        notes.append("the runs were made with different versions")
    if most_jobs > 1:
        notes.append(f"up to {most_jobs} runs shared the machine: a step alone is faster")
    return Comparison(
        title=experiment.title,
        rows=[replace(row, difference=difference_to(row, partner, metric)) for row in rows],
        seeds=experiment.seeds,
        metrics=experiment.metrics,
        metric=metric,
        higher_is_better=higher,
        baseline=baseline,
        baseline_rule=rule,
        recipe=experiment.recipe,
        selection=_distinct(rows, lambda run: run.selection),
        data=experiment.data,
        data_sha256=dataset.sha256,
        split_rule=dataset.split_rule,
        versions=versions,
        notes=notes,
    )


def _result(folder: Path, dataset: MultimodalDataset) -> RunResult:
    results = RunFolder.open(folder).results
    try:
        result = RunResult.from_json(folder, results or {})
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{folder / 'results.json'}: not as FusionKit wrote it; remove the run to train again"
        ) from error
    if result.data_sha256 != dataset.sha256:
        raise CheckpointError(f"{folder}: was trained on other data; remove it to train again")
    return result


def _distinct(rows: Sequence[Row], text: Callable[[RunResult], str]) -> list[str]:
    """What all runs say, once; with the methods' names where they differ."""
    said: dict[str, list[str]] = {}
    for row in rows:
        for run in row.runs.values():
            labels = said.setdefault(text(run), [])
            if row.label not in labels:
                labels.append(row.label)
    if len(said) == 1:
        return list(said)
    return [f"{', '.join(labels)}: {line}" for line, labels in said.items()]
