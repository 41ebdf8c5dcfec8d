"""One time axis: the main modality's own steps."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from fusionkit import ConfigError, DataSpec
from fusionkit.nn import resample


def main_modality(name: str, spec: DataSpec) -> str:
    """The modality that the others shift: the named one, or the first of the data.

    Raises:
        ConfigError: the data have no such modality.
    """
    chosen = name or next(iter(spec.modalities))
    if chosen not in spec.modalities:
        have = ", ".join(spec.modalities)
        raise ConfigError(f"main: no modality {chosen!r} in the data ({have})")
    return chosen


def on_main_steps(
    main: str, features: Mapping[str, Tensor], lengths: Mapping[str, Tensor], *, aligned: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """The main sequence, and every other on its steps.

    Args:
        main: its name. features: modality -> (B, T_m, D_m). lengths: modality -> (B,).
        aligned: all modalities share the main one's steps; otherwise the others are averaged or
            repeated onto them.

    Returns:
        (B, T, D_main), and name -> (B, T, D_m).
    """
    x = features[main]
    others = {name: other for name, other in features.items() if name != main}
    if aligned:
        return x, others
    steps = lengths[main]
    others = {
        name: resample(other, lengths[name], steps, most=x.shape[1])
        for name, other in others.items()
    }
    return x[:, : next(iter(others.values())).shape[1]], others
