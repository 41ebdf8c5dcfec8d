"""MSAF for emotions in video and voice: two convolutional networks that meet twice."""

from __future__ import annotations

from torch import Tensor, nn

from fusionkit import DataSpec, MultimodalBatch
from fusionkit.nn.split_attention import SplitAttention
from fusionkit_plugins.msaf.video.audio_cnn import AudioCNN
from fusionkit_plugins.msaf.video.augmentation import crop_and_flip
from fusionkit_plugins.msaf.video.config import MSAFRavdessConfig
from fusionkit_plugins.msaf.video.resnext3d import ResNeXt3D
from fusionkit_plugins.msaf.video.sequences import as_clip, frame_shape, to_steps


class MSAFRavdess(nn.Module):
    """3D ResNeXt on frames and a 1D CNN on MFCC, joined by `SplitAttention` after stem and body.

    The outputs of both networks are added (released code, ``ravdess/networks/msaf_ravdess.py``).

    Args:
        config: sizes and options. spec: modalities ``video`` (channels x size x size features a
            frame) and ``audio``, task and outputs.

    Raises:
        ConfigError: the video features are no square frames of ``config.frame_size``.
    """

    def __init__(self, config: MSAFRavdessConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config = config
        self.frame_size = frame_shape(
            "frame_size", spec.modalities["video"], config.channels, config.frame_size, "video"
        )
        self.video = ResNeXt3D(
            spec.num_outputs,
            channels=config.channels,
            width=config.video_width,
            layers=config.video_layers,
            cardinality=config.cardinality,
            stem_relu=config.stem_relu,
        )
        self.audio = AudioCNN(
            spec.modalities["audio"],
            config.audio_steps,
            spec.num_outputs,
            width=config.audio_width,
            dropout=config.audio_dropout,
            head_dropout=config.audio_head_dropout,
        )
        channels = [
            (self.video.stem_channels, self.audio.stem_channels),
            (self.video.body_channels, self.audio.body_channels),
        ]
        self.fusions = nn.ModuleList(
            SplitAttention(
                pair,
                size,
                reduction=config.reduction,
                floor=config.floor,
                block_dropout=config.block_dropout,
                block_dropout_mode=config.block_dropout_mode,
            )
            for pair, size in zip(channels, config.block_sizes)
        )

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Outputs (B, num_outputs): the sum of both networks'."""
        config = self.config
        frames = to_steps(
            batch.features["video"], batch.lengths["video"], config.frames, linear=False
        )
        clip = as_clip(frames, config.channels, self.frame_size)
        if self.training and config.augment != "none":
            clip = crop_and_flip(clip, per_frame=config.augment == "frame")
        mfcc = to_steps(
            batch.features["audio"], batch.lengths["audio"], config.audio_steps, linear=True
        )
        first, second = self.fusions
        video, audio = first([self.video.stem(clip), self.audio.stem(mfcc.transpose(1, 2))])
        video, audio = second([self.video.body(video), self.audio.body(audio)])
        return self.video.head(video) + self.audio.head(audio)
