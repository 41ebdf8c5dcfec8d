"""Named configurations of MSAF's video networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Preset = Mapping[str, Mapping[str, Any]]

# The released training script of RAVDESS. It selects the epoch by the best accuracy on the samples
# that it reports; here the accuracy is that of validation actors.
_RAVDESS_TRAIN: dict[str, Any] = {
    "epochs": 70,
    "batch_size": 4,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "patience": None,
    "monitor": "accuracy",
}
# The source gives frames of the published size, ImageNet statistics and raw MFCC.
_RAVDESS_DATA: dict[str, Any] = {"normalise": False, "frame_size": 224}
RAVDESS_PRESETS: Mapping[str, Preset] = {
    "ravdess": {"train": _RAVDESS_TRAIN, "data": _RAVDESS_DATA},
    "released": {
        "model": {"stem_relu": False, "block_dropout_mode": "released", "augment": "frame"},
        "train": _RAVDESS_TRAIN,
        "data": {**_RAVDESS_DATA, "channel_order": "bgr"},
    },
}

# Without a preset the rate stays: the epochs at which it drops were chosen for NTU.
NTU_TRAIN_DEFAULTS: dict[str, Any] = {
    "epochs": 20,
    "batch_size": 4,
    "optimizer": "adam",
    "learning_rate": 1e-4,
    "weight_decay": 1e-4,
    "patience": None,
}
# The released training script of NTU; the second drop lies behind its last epoch.
_NTU_TRAIN: dict[str, Any] = {
    **NTU_TRAIN_DEFAULTS,
    "scheduler": "step",
    "step_epochs": (5, 20),
    "step_factor": 0.1,
}
_NTU_DATA: dict[str, Any] = {"normalise": False, "frame_size": 224}
NTU_PRESETS: Mapping[str, Preset] = {
    "ntu60": {"train": _NTU_TRAIN, "data": _NTU_DATA},
    "ntu60-resnet": {
        "model": {"rgb_network": "resnet50", "frames": 8},
        "train": _NTU_TRAIN,
        "data": {**_NTU_DATA, "frames": 8},
    },
    "released": {
        "model": {"loss": "alternating", "block_dropout_mode": "released"},
        "train": _NTU_TRAIN,
        "data": {**_NTU_DATA, "channel_order": "bgr", "shift_absent": True},
    },
}
