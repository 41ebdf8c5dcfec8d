"""Registers the data sources that come with FusionKit."""

from __future__ import annotations

from collections.abc import Callable

from fusionkit.data.formats.arrays import NpzConfig, load_npz
from fusionkit.data.ntu import CITATION as NTU_CITATION
from fusionkit.data.ntu import NTUConfig, load_ntu
from fusionkit.data.ravdess import CITATION as RAVDESS_CITATION
from fusionkit.data.ravdess import RavdessConfig, load_ravdess
from fusionkit.data.source import DataSource
from fusionkit.data.synthetic import SyntheticConfig, load_synthetic
from fusionkit.data.watch import CITATION as WATCH_CITATION
from fusionkit.data.watch import WatchConfig, load_watch
from fusionkit.registry.hookspecs import hookimpl


@hookimpl
def fusionkit_register_datasets(register: Callable[[DataSource], None]) -> None:
    """The smartwatch data, generated data, files of arrays, and folders of recordings."""
    register(
        DataSource(
            name="watch",
            summary="shoulder exercises from a smartwatch: accelerometer and gyroscope, 7 classes",
            config=WatchConfig,
            load=load_watch,
            citation=WATCH_CITATION,
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
    register(
        DataSource(
            name="ravdess",
            summary="emotions of 24 actors in video and voice: --data ravdess:FOLDER",
            config=RavdessConfig,
            load=load_ravdess,
            citation=RAVDESS_CITATION,
        )
    )
    register(
        DataSource(
            name="ntu",
            summary="NTU RGB+D actions, RGB video and skeletons: --data ntu:FOLDER",
            config=NTUConfig,
            load=load_ntu,
            citation=NTU_CITATION,
        )
    )
