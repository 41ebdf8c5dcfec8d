"""Registers the data sources that come with FusionKit."""

from __future__ import annotations

from collections.abc import Callable

from fusionkit.data.formats.arrays import NpzConfig, load_npz
from fusionkit.data.source import DataSource
from fusionkit.data.synthetic import SyntheticConfig, load_synthetic
from fusionkit.data.watch import CITATION, WatchConfig, load_watch
from fusionkit.registry.hookspecs import hookimpl


@hookimpl
def fusionkit_register_datasets(register: Callable[[DataSource], None]) -> None:
    """The smartwatch data, generated data with a known optimum, and files of arrays."""
    register(
        DataSource(
            name="watch",
            summary="shoulder exercises from a smartwatch: accelerometer and gyroscope, 7 classes",
            config=WatchConfig,
            load=load_watch,
            citation=CITATION,
        )
    )
    register(
        DataSource(
            name="synthetic",
            summary="generated sequences of several modalities; the best accuracy is known exactly",
            config=SyntheticConfig,
            load=load_synthetic,
        )
    )
    register(
        DataSource(
            name="npz",
            summary="your own arrays: --data npz:FILE with X and X_len for each modality",
            config=NpzConfig,
            load=load_npz,
        )
    )
