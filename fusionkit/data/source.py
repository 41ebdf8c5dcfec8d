"""What a plugin registers to add a data set or file format; importing it needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fusionkit.data.preparation import Missing

if TYPE_CHECKING:
    from fusionkit.data.dataset import MultimodalDataset

Nonfinite = Literal["error", "zero"]


class DataConfig(BaseModel):
    """Options that every data source takes; a source adds its own fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    nonfinite: Nonfinite = Field(
        "error",
        description="NaN or infinite features: refuse them, or set them to 0 and say how many",
    )
    missing: Missing = Field(
        "error",
        description="samples that lack a modality (length 0): refuse them, or give zeros after "
        "normalisation, as many frames as the other modalities have if they agree, else one",
    )
    centre: tuple[str, ...] = Field(
        (),
        description="modalities whose features lose their mean over each sample (where someone "
        "stands, how tall someone is)",
    )
    deltas: bool = Field(
        False, description="append the differences of successive frames as further features"
    )
    normalise: bool = Field(
        True,
        description="subtract the mean and divide by the standard deviation of training frames",
    )


@dataclass(frozen=True)
class DataSource:
    """What a plugin registers with ``fusionkit_register_datasets``.

    Args:
        name: as in ``--data NAME`` or ``--data NAME:PATH``.
        summary: one line for ``fusionkit list``.
        config: options of the source; if it has a ``path`` field, ``NAME:PATH`` fills it.
        load: reads, checks, splits and normalises.
        citation: reference and licence.
    """

    name: str
    summary: str
    config: type[DataConfig]
    load: Callable[[Any], MultimodalDataset]
    citation: str = ""
