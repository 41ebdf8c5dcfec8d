"""Many runs at once: methods compared with each other, and a method with its parts switched off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusionkit.api import data_source
from fusionkit.data.source import DataSource
from fusionkit.training.variants import (
    Variant,
    ablated_variants,
    compared_variants,
    default_folder,
    parse_seeds,
)

if TYPE_CHECKING:
    from fusionkit.training.comparison import Comparison


def compare(
    methods: Sequence[str],
    data: str = "watch",
    *,
    seeds: str | Sequence[int] = "0-4",
    recipe: str | None = "default",
    model: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    metrics: str = "default",
    metric: str | None = None,
    baseline: str | None = None,
    out: Path | str | None = None,
    device: str = "auto",
    jobs: int = 1,
    tell: Callable[[str], None] = lambda line: None,
    callbacks: Sequence[object] = (),
) -> Comparison:
    """Train every method with every seed on the same data, and compare the test scores.

    The folder ``out`` has a run a method and seed; finished runs are not repeated, interrupted ones
    are continued. ``results.json`` and ``table.md`` there hold the table.

    Args:
        methods: ``METHOD[:MODALITY][,OPTION=VALUE...]`` each. data: ``NAME`` or ``NAME:PATH``.
        seeds: ``"0-4"``, or the numbers. recipe: how all are trained; None: as each prefers.
        model, train, data_options: options of all methods, by section.
        metrics, metric: metric set, and the one to compare (default: its first for the task).
        baseline: the method that the others are compared with, written like them (default: the
            best single modality by validation). out: folder (default: one for these options).
        device, jobs: of the runs, and how many at a time. tell: gets one line a run.
        callbacks: of every run, where ``jobs`` is 1.

    Raises:
        FusionKitError: something does not fit; found before anything is trained.
    """
    source, path = data_source(data)
    overrides = {"model": model or {}, "train": train or {}, "data": data_options or {}}

    variants, baseline = compared_variants(
        methods, baseline, source, path=path, recipe=recipe, overrides=overrides
    )
    return _experiment(
        variants, source, data, title=f"comparison on {data}", kind="compare", seeds=seeds,
        recipe=recipe, metrics=metrics, metric=metric, baseline=baseline, out=out, device=device,
        jobs=jobs, tell=tell, callbacks=callbacks,
    )  # fmt: skip


def ablate(
    method: str,
    data: str = "watch",
    *,
    seeds: str | Sequence[int] = "0-4",
    recipe: str | None = None,
    model: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    metrics: str = "default",
    metric: str | None = None,
    out: Path | str | None = None,
    device: str = "auto",
    jobs: int = 1,
    tell: Callable[[str], None] = lambda line: None,
    callbacks: Sequence[object] = (),
) -> Comparison:
    """Compare a method with itself, each time without one of its parts (`Method.ablations`).

    Args:
        method: ``METHOD[,OPTION=VALUE...]``; the rest as in `compare`.

    Raises:
        ConfigError: the method names no ablations, or the options switch a part off already.
    """
    source, path = data_source(data)
    overrides = {"model": model or {}, "train": train or {}, "data": data_options or {}}
    variants = ablated_variants(method, source, path=path, recipe=recipe, overrides=overrides)
    full = variants[0]
    return _experiment(
        variants, source, data, title=f"ablation of {full.label} on {data}", kind="ablate",
        seeds=seeds, recipe=recipe, metrics=metrics, metric=metric, baseline=full.label, out=out,
        device=device, jobs=jobs, tell=tell, callbacks=callbacks,
    )  # fmt: skip


def _experiment(
    variants: Sequence[Variant],
    source: DataSource,
    data: str,
    *,
    title: str,
    kind: str,
    seeds: str | Sequence[int],
    out: Path | str | None,
    tell: Callable[[str], None],
    callbacks: Sequence[object],
    **options: Any,
) -> Comparison:
    from fusionkit.report.comparison_table import write_comparison
    from fusionkit.training.experiment import Experiment, run_experiment

    text = seeds if isinstance(seeds, str) else ",".join(map(str, seeds))
    experiment = Experiment(
        title=title,
        folder=default_folder(kind, data, variants) if out is None else Path(out),
        variants=tuple(variants),
        seeds=parse_seeds(text),
        source=source,
        data=data,
        **options,
    )
    comparison = run_experiment(experiment, tell=tell, callbacks=callbacks)
    write_comparison(experiment.folder, comparison)
    return comparison
