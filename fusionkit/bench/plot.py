"""A bar chart of ratios; needs matplotlib."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from fusionkit.bench.record import Record
from fusionkit.errors import MisuseError


def check_matplotlib() -> None:
    """Say how to get matplotlib before anything is measured.

    Raises:
        MisuseError: it is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise MisuseError("--plot needs matplotlib: pip install 'fusionkit-torch[bench]'")


def plot_ratios(records: Sequence[Record], file: Path) -> None:
    """Write a PNG: one panel for each operator and number of threads, one bar for each ratio.

    Raises:
        MisuseError: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    panels: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        if record.ratio() is not None:
            panels.setdefault((record.op, record.threads), []).append(record)
    heights = [1.0 + 0.18 * len(members) for members in panels.values()]
    figure = Figure(figsize=(9.0, sum(heights) or 1.0), layout="constrained")
    grid = figure.subplots(len(heights) or 1, 1, squeeze=False, height_ratios=heights or [1.0])
    for axes, ((op, threads), members) in zip(grid[:, 0], panels.items()):
        names = [f"{r.case}, {r.variant}, {r.phase}" for r in members]
        places = range(len(members))
        axes.barh(places, [r.ratio() for r in members], color=[_colour(r.phase) for r in members])
        axes.axvline(1.0, color="black", linewidth=0.8)
        axes.set_yticks(places, names, fontsize=6)
        axes.invert_yaxis()
        axes.set_title(f"{op}, {threads} threads: best other over ours (right of 1: ours faster)")
    figure.savefig(file, format="png", dpi=150)


def _colour(phase: str) -> str:
    return {"fwd": "tab:blue", "fwd+bwd": "tab:orange"}.get(phase, "tab:green")
