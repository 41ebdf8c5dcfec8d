"""Plots of a run, where matplotlib is installed: ratios, and shares of the roofline."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from benches.gpu.runner import GRAPH
from fusionkit.bench.plot import plot_ratios
from fusionkit.bench.record import Record


def draw(records: Sequence[Record], folder: Path) -> None:
    """``ratios``, ``ratios_graph`` and ``roofline``, each a PNG, of records with a time of ours."""
    if find_spec("matplotlib") is None:
        print("no plots: matplotlib is not installed")
        return
    plain = [r for r in records if not r.phase.endswith(GRAPH)]
    graphs = [r for r in records if r.phase.endswith(GRAPH)]
    for name, chosen in (("ratios", plain), ("ratios_graph", graphs)):
        if chosen:
            plot_ratios(chosen, folder / f"{name}.png")
    bounded = [r for r in records if r.roofline is not None]
    if bounded:
        plot_roofline(bounded, folder / "roofline.png")


def plot_roofline(records: Sequence[Record], file: Path) -> None:
    """One panel for each operator; a case has a bar for a phase, and one for it under a graph."""
    from matplotlib.figure import Figure

    panels: dict[str, dict[str, list[Record]]] = {}
    for record in records:
        cases = panels.setdefault(record.op, {})
        title = f"{record.case}, {record.variant}, {record.phase.removesuffix(GRAPH)}"
        cases.setdefault(title, []).append(record)
    heights = [1.0 + 0.2 * len(cases) for cases in panels.values()]
    figure = Figure(figsize=(9.0, sum(heights)), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
    for axes, (op, cases) in zip(grid[:, 0], panels.items()):
        for place, members in enumerate(cases.values()):
            for r in members:
                graph = r.phase.endswith(GRAPH)
                axes.barh(place + (0.2 if graph else -0.2), 100 * (r.roofline or 0.0), 0.4,
                          color="tab:orange" if graph else "tab:blue")  # fmt: skip
        axes.set_yticks(range(len(cases)), list(cases), fontsize=6)
        axes.axvline(100.0, color="black", linewidth=0.8)
        axes.invert_yaxis()
        axes.set_title(f"{op}: % of the roofline (blue: calls from Python, orange: CUDA graph)",
                       fontsize=9)  # fmt: skip
    figure.savefig(file, format="png", dpi=150)
