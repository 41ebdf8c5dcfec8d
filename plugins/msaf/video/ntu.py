"""MSAF for actions in RGB video and skeletons: the networks meet twice, the persons too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit import AuxiliaryObjective, ConfigError, DataSpec, MultimodalBatch
from fusionkit.nn.split_attention import SplitAttention
from fusionkit_plugins.msaf.video.augmentation import temporal_crop
from fusionkit_plugins.msaf.video.config import MSAFNTUConfig
from fusionkit_plugins.msaf.video.hcn import HCN
from fusionkit_plugins.msaf.video.i3d import I3D
from fusionkit_plugins.msaf.video.inflated_resnet import InflatedResNet
from fusionkit_plugins.msaf.video.sequences import as_clip, frame_shape, to_steps

TaskLoss = Callable[[Tensor, Tensor], Tensor]
_LEAST_SKELETON_FRAMES = 64


class MSAFNTU(nn.Module):
    """I3D or ResNet-50 on frames and HCN on skeletons, joined by `SplitAttention`.

    The first fusion sees the RGB features and conv5 of every person, the second the RGB features
    and the skeleton vector fc7; the prediction is the mean of both networks' outputs (released
    code, ``ntu_rgb_d/msaf_ntu.py``).

    Args:
        config: sizes and options. spec: modalities ``rgb`` (channels x size x size features a
            frame) and ``skeleton`` (coordinates x joints x persons), task and outputs.

    Raises:
        ConfigError: the features of a modality are not of that size, or ``loss=alternating`` is
            asked for another task than classification.
    """

    def __init__(self, config: MSAFNTUConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config = config
        self.frame_size = frame_shape(
            "frame_size", spec.modalities["rgb"], config.channels, config.frame_size, "rgb"
        )
        wanted = config.coordinates * config.joints * config.persons
        if spec.modalities["skeleton"] != wanted:
            raise ConfigError(
                f"joints: 'skeleton' has {spec.modalities['skeleton']} features a frame, but "
                f"{config.coordinates} coordinates x {config.joints} joints x {config.persons} "
                f"persons = {wanted}; set coordinates, joints and persons to those of the data"
            )
        if config.loss == "alternating" and spec.task != "classification":
            raise ConfigError(f"loss: alternating is for classification, the task is {spec.task}")
        self.rgb = _rgb_network(config, spec.num_outputs)
        self.skeleton = HCN(
            spec.num_outputs,
            coordinates=config.coordinates,
            joints=config.joints,
            steps=config.skeleton_steps,
            width=config.skeleton_width,
            dropout=config.skeleton_dropout,
        )
        first = [self.rgb.stem_channels, *[self.skeleton.person_channels] * config.persons]
        second = [self.rgb.body_channels, self.skeleton.vector_size]
        self.fusions = nn.ModuleList(
            SplitAttention(
                channels,
                size,
                reduction=config.reduction,
                floor=config.floor,
                block_dropout=config.block_dropout,
                block_dropout_mode=config.block_dropout_mode,
            )
            for channels, size in zip((first, second), config.block_sizes)
        )

    def branches(self, batch: MultimodalBatch) -> tuple[Tensor, Tensor]:
        """Outputs (B, num_outputs) of the RGB and of the skeleton network."""
        first, second = self.fusions
        each = self.skeleton.persons(self._skeletons(batch))
        video, *persons = first([self.rgb.stem(self._clip(batch)), *each])
        video, vector = second([self.rgb.body(video), self.skeleton.vector(persons)])
        return self.rgb.head(video), self.skeleton.head(vector)

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Outputs (B, num_outputs): the mean of both networks'."""
        rgb, skeleton = self.branches(batch)
        return (rgb + skeleton) / 2

    def _clip(self, batch: MultimodalBatch) -> Tensor:
        x, lengths, start = batch.features["rgb"], batch.lengths["rgb"], None
        if self.training and self.config.augment:
            start, lengths = temporal_crop(lengths, centred=True)
        frames = to_steps(x, lengths, self.config.frames, linear=False, start=start)
        return as_clip(frames, self.config.channels, self.frame_size)

    def _skeletons(self, batch: MultimodalBatch) -> Tensor:
        config = self.config
        x, lengths, start = batch.features["skeleton"], batch.lengths["skeleton"], None
        if self.training and config.augment:
            start, lengths = temporal_crop(lengths, least=_LEAST_SKELETON_FRAMES)
        steps = to_steps(x, lengths, config.skeleton_steps, linear=True, start=start)
        shape = (config.coordinates, config.joints, config.persons)
        return steps.reshape(*steps.shape[:2], *shape).transpose(1, 2)


def training_step(model: nn.Module, batch: MultimodalBatch, task_loss: TaskLoss) -> Tensor:
    """What the main optimizer minimises, as ``loss`` says.

    With ``alternating`` it is the skeleton network's loss; `auxiliary` has the other.
    """
    assert batch.targets is not None
    network = cast(MSAFNTU, model)
    rgb, skeleton = network.branches(batch)
    if network.config.loss == "mean":
        return task_loss((rgb + skeleton) / 2, batch.targets)
    if network.config.loss == "alternating":
        return task_loss(skeleton, batch.targets)
    return task_loss(rgb, batch.targets) + task_loss(skeleton, batch.targets)


def auxiliary(model: nn.Module) -> Sequence[AuxiliaryObjective]:
    """The RGB step of ``loss=alternating``: its network and both fusions, before the other step.

    The schedule acts on both steps. The released code has the fusions in both optimizers; here the
    RGB step alone moves them.
    """
    if cast(MSAFNTU, model).config.loss != "alternating":
        return ()
    return (
        AuxiliaryObjective(
            name="rgb",
            parameters=_rgb_parameters,
            loss=_rgb_loss,
            learning_rate=cast(MSAFNTU, model).config.rgb_learning_rate,
            weight_decay=cast(MSAFNTU, model).config.rgb_weight_decay,
            scheduled=True,
        ),
    )


def _rgb_parameters(model: nn.Module) -> list[nn.Parameter]:
    network = cast(MSAFNTU, model)
    return [*network.rgb.parameters(), *network.fusions.parameters()]


def _rgb_loss(model: nn.Module, batch: MultimodalBatch) -> Tensor:
    assert batch.targets is not None
    return F.cross_entropy(cast(MSAFNTU, model).branches(batch)[0], batch.targets)


def _rgb_network(config: MSAFNTUConfig, num_outputs: int) -> I3D | InflatedResNet:
    if config.rgb_network == "resnet50":
        return InflatedResNet(
            num_outputs,
            channels=config.channels,
            width=config.rgb_width,
            layers=config.rgb_layers,
        )
    return I3D(
        num_outputs,
        channels=config.channels,
        width=config.rgb_width,
        dropout=config.rgb_dropout,
        norm_momentum=config.rgb_norm_momentum,
    )
