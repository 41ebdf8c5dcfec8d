"""A picture of what a model says about one sample: a heat map for each array; needs matplotlib."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionkit.errors import MisuseError
from fusionkit.training.explain import Explanation

_COLOURS = "RdBu_r"  # white in the middle; blue and red can be told apart by everyone
_INK, _FAINT = "#333333", "#c9c9c9"
_TICKS = (0.0, 0.25, 0.4, 0.5, 0.6, 0.75, 1.0)
_LINE_TICKS = (0.0, 0.4, 0.5, 0.6, 1.0)
_CAPTION = (
    "0 shuts a feature out, 1 lets it through; all scales are stretched around 0.5. "
    "Line: mean of the features. Band: their 10th to 90th percentile."
)

# The page, in inches: everything is placed by hand, so that panels of any size line up.
_WIDTH, _LEFT, _RIGHT = 9.0, 0.75, 0.3
_HEADER, _CAPTION_ROW = 0.75, 0.35
_TITLE_ROW, _GAP, _LINE_ROW, _STEP_ROW = 0.35, 0.08, 0.85, 0.5


def check_matplotlib() -> None:
    """Say how to get matplotlib before any work is done.

    Raises:
        MisuseError: it is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise MisuseError("pictures need matplotlib: pip install 'fusionkit-torch[bench]'")


def draw_explanation(explanation: Explanation, file: Path) -> None:
    """Write a PNG: for each array a heat map, features by time, and its mean over the features.

    All heat maps share one colour scale from 0 to 1.

    Raises:
        MisuseError: matplotlib is not installed.
    """
    check_matplotlib()
    from matplotlib.figure import Figure

    arrays = explanation.arrays
    around = _TITLE_ROW + _GAP + _LINE_ROW + _STEP_ROW
    height = _HEADER + sum(_map_inches(a) + around for a in arrays.values()) + _CAPTION_ROW
    figure = Figure(figsize=(_WIDTH, height))

    def place(top: float, row: float, left: float = _LEFT, right: float = _RIGHT) -> Any:
        box = (left, height - top - row, _WIDTH - left - right, row)
        return figure.add_axes((box[0] / _WIDTH, box[1] / height, box[2] / _WIDTH, box[3] / height))

    top = _HEADER
    for name, array in arrays.items():
        row = _map_inches(array)
        upper = place(top + _TITLE_ROW, row)
        image = _heat_map(upper, name, array)
        _mean_line(place(top + _TITLE_ROW + row + _GAP, _LINE_ROW), array)
        top += row + around
    scale = figure.colorbar(
        image, cax=place(0.22, 0.14, left=_WIDTH - 3.2), orientation="horizontal", ticks=_TICKS
    )
    scale.ax.set_xticklabels([f"{tick:g}" for tick in _TICKS])
    scale.ax.tick_params(colors=_INK, labelsize=8)
    first, second = _title(explanation)
    at: dict[str, Any] = {"x": 0.15 / _WIDTH, "va": "top", "color": _INK}
    figure.text(y=1 - 0.15 / height, s=first, fontsize=11, weight="bold", **at)
    figure.text(y=1 - 0.40 / height, s=second, fontsize=10, **at)
    figure.text(y=0.25 / height, s=_CAPTION, fontsize=8, **at)
    figure.savefig(file, format="png", dpi=150)


def _title(explanation: Explanation) -> tuple[str, str]:
    target = "" if explanation.target is None else f"target {_short(explanation.target)}, "
    return (
        f"{explanation.method}: {_short(explanation.sample)} ({_short(explanation.origin)})",
        f"{target}prediction {_short(explanation.prediction)}",
    )


def _short(text: str, most: int = 32) -> str:
    """The text as it can stand in a title: not too long, and no mathematics to matplotlib."""
    return (text if len(text) <= most else text[: most - 1] + "…").replace("$", r"\$")


def _map_inches(array: NDArray[np.float32]) -> float:
    size: int = array.shape[1]
    return min(2.6, max(0.6, 0.07 * size))


def _heat_map(axes: Any, name: str, array: NDArray[np.float32]) -> Any:
    from matplotlib.colors import FuncNorm

    steps, size = array.shape
    # Masks of LSTMs cannot leave (0.27, 0.73): most of the colours go to the neighbourhood of 0.5.
    norm = FuncNorm((_spread, _unspread), vmin=0.0, vmax=1.0)
    image = axes.imshow(array.T, aspect="auto", interpolation="nearest", cmap=_COLOURS, norm=norm)
    axes.set_title(
        f"{_short(name, 60)} ({_count(size, 'feature')}, {_count(steps, 'step')})",
        loc="left", fontsize=10, color=_INK,
    )  # fmt: skip
    _label(axes, "feature")
    if size < 4:
        axes.set_yticks(range(size))
    axes.tick_params(labelbottom=False, bottom=False, colors=_INK)
    return image


def _spread(value: Any) -> Any:
    centred = 2 * np.asarray(value) - 1
    return (1 + np.sign(centred) * np.sqrt(np.abs(centred))) / 2


def _unspread(value: Any) -> Any:
    centred = 2 * np.asarray(value) - 1
    return (1 + np.sign(centred) * centred**2) / 2


def _mean_line(axes: Any, array: NDArray[np.float32]) -> None:
    from matplotlib.ticker import MaxNLocator

    steps = np.arange(len(array))
    low, high = np.quantile(array, [0.1, 0.9], axis=1)
    # Each value fills its step, as in the heat map above.
    borders = np.arange(len(array) + 1) - 0.5
    axes.stairs(high, borders, baseline=low, fill=True, color=_FAINT)
    axes.axhline(0.5, color=_INK, linewidth=0.5, linestyle=":")
    axes.plot(steps, array.mean(axis=1), color=_INK, linewidth=1.3, marker="." * (len(steps) == 1))
    axes.set_xlim(borders[0], borders[-1])
    axes.set_yscale("function", functions=(_spread, _unspread))
    axes.set_ylim(0.0, 1.0)
    axes.set_yticks(_LINE_TICKS, [f"{tick:g}" for tick in _LINE_TICKS], fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(steps) < 4:
        axes.set_xticks(steps)
    axes.set_xlabel("step", color=_INK)
    _label(axes, "mask")
    axes.tick_params(colors=_INK)
    axes.spines[["top", "right"]].set_visible(False)


def _label(axes: Any, text: str) -> None:
    axes.set_ylabel(text, color=_INK)
    axes.yaxis.set_label_coords(-0.055, 0.5)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
