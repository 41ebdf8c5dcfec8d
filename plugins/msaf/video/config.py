"""Options of MSAF's video networks; the defaults are the published sizes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from fusionkit import MethodConfig

Layers = tuple[int, int, int, int]


class VideoFusionConfig(MethodConfig):
    """What both networks share."""

    frame_size: int = Field(
        0,
        ge=0,
        description="height and width of a frame in pixels; 0: from the data's feature size",
    )
    channels: int = Field(3, ge=1, description="of a frame")
    reduction: int = Field(
        4, ge=1, description="channels of a block over those of the joint description"
    )
    block_dropout_mode: Literal["corrected", "released"] = Field(
        "corrected",
        description="block dropout acts once, or twice as in the released code",
    )


class MSAFRavdessConfig(VideoFusionConfig):
    """Options of ``msaf_ravdess``."""

    frames: int = Field(30, ge=1, description="video frames; clips are resampled to it")
    audio_steps: int = Field(
        212, ge=12, description="steps of the audio features; sequences are resampled to it"
    )
    video_width: int = Field(
        64, ge=1, description="channels of the video network's first convolution"
    )
    video_layers: Layers = Field((3, 4, 6, 3), description="blocks of its four stages")
    cardinality: int = Field(32, ge=1, description="groups of its 3x3x3 convolutions")
    stem_relu: bool = Field(
        True, description="ReLU before its first pooling (the released fused network has none)"
    )
    audio_width: int = Field(32, ge=1, description="channels of the audio network's convolutions")
    audio_dropout: float = Field(0.2, ge=0, lt=1, description="inside the audio network")
    audio_head_dropout: float = Field(0.4, ge=0, lt=1, description="before its linear layer")
    block_sizes: tuple[int, int] = Field(
        (16, 32), description="channels of a block in the first and second fusion"
    )
    floor: float = Field(0.0, ge=0, le=1, description="least gate of a block")
    block_dropout: float = Field(0.2, ge=0, lt=1, description="of whole blocks, in training")
    augment: Literal["none", "clip", "frame"] = Field(
        "clip",
        description="in training crop and mirror whole clips, or every frame on its own as the "
        "released code does",
    )

    @field_validator("video_layers", "block_sizes")
    @classmethod
    def _at_least_one(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        return _positive(value)


class MSAFNTUConfig(VideoFusionConfig):
    """Options of ``msaf_ntu``."""

    rgb_network: Literal["i3d", "resnet50"] = Field("i3d", description="video network")
    frames: int = Field(
        32, ge=1, description="video frames (published: 32 for i3d, 8 for resnet50)"
    )
    rgb_width: int = Field(
        64, ge=1, description="channels of the video network's first convolution; others in ratio"
    )
    rgb_layers: Layers = Field((3, 4, 6, 3), description="blocks of resnet50's four stages")
    rgb_dropout: float = Field(0.5, ge=0, lt=1, description="before i3d's last layer")
    rgb_norm_momentum: float = Field(
        0.01,
        gt=0,
        le=1,
        description="share of a batch in i3d's running statistics; raise it to 0.1 where a run has "
        "fewer than some hundred steps",
    )
    coordinates: int = Field(3, ge=1, description="of a joint")
    joints: int = Field(25, ge=1, description="of a person")
    persons: int = Field(2, ge=1, description="in a skeleton frame; absent ones are zeros")
    skeleton_steps: int = Field(
        32, ge=16, multiple_of=16, description="skeleton frames; sequences are resampled to it"
    )
    skeleton_width: int = Field(
        64, ge=2, multiple_of=2, description="channels of the skeleton network's first convolution"
    )
    skeleton_dropout: float = Field(0.4, ge=0, lt=1, description="in the skeleton network")
    block_sizes: tuple[int, int] = Field(
        (64, 256), description="channels of a block in the first and second fusion"
    )
    floor: float = Field(0.5, ge=0, le=1, description="least gate of a block")
    block_dropout: float = Field(0.0, ge=0, lt=1, description="of whole blocks, in training")
    loss: Literal["branches", "mean", "alternating"] = Field(
        "branches",
        description="sum of both networks' losses in one step; loss of the mean of their outputs; "
        "or a step for the RGB network, a fresh forward pass and a step for the skeleton network, "
        "as the released code does",
    )
    rgb_learning_rate: float = Field(
        1e-4,
        gt=0,
        description="of the RGB step of loss=alternating; train.scheduler acts on it too",
    )
    rgb_weight_decay: float = Field(1e-4, ge=0, description="of the RGB step of loss=alternating")
    augment: bool = Field(True, description="in training use a random part of each sequence")

    @field_validator("rgb_layers", "block_sizes")
    @classmethod
    def _at_least_one(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        return _positive(value)


def _positive(value: tuple[int, ...]) -> tuple[int, ...]:
    if min(value) < 1:
        raise ValueError("every entry must be at least 1")
    return value
