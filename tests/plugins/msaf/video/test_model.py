"""What is ours in MSAF's video networks: time, frames, losses, augmentation, sizes, errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit import CheckpointError, ConfigError, DataSpec, MultimodalBatch
from fusionkit.data.ntu import NTUConfig
from fusionkit.data.ravdess import RavdessConfig
from fusionkit.testing import assert_conforms
from fusionkit.training.config import TrainConfig
from fusionkit_plugins.msaf.video.augmentation import crop_and_flip, temporal_crop
from fusionkit_plugins.msaf.video.checkpoint import convert
from fusionkit_plugins.msaf.video.config import MSAFNTUConfig, MSAFRavdessConfig
from fusionkit_plugins.msaf.video.hcn import HCN
from fusionkit_plugins.msaf.video.i3d import I3D
from fusionkit_plugins.msaf.video.inflated_resnet import InflatedResNet
from fusionkit_plugins.msaf.video.ntu import MSAFNTU, auxiliary, training_step
from fusionkit_plugins.msaf.video.presets import NTU_PRESETS, RAVDESS_PRESETS
from fusionkit_plugins.msaf.video.ravdess import MSAFRavdess
from fusionkit_plugins.msaf.video.sequences import as_clip, frame_shape, to_steps

TINY_RAVDESS: dict[str, Any] = {
    "channels": 1,
    "frames": 32,
    "audio_steps": 28,
    "video_width": 4,
    "video_layers": (1, 1, 1, 1),
    "cardinality": 2,
    "audio_width": 4,
    "block_sizes": (4, 8),
    "reduction": 2,
}
TINY_NTU: dict[str, Any] = {
    "channels": 1,
    "rgb_width": 4,
    "rgb_layers": (1, 1, 1, 1),
    "coordinates": 1,
    "joints": 2,
    "persons": 2,
    "skeleton_steps": 16,
    "skeleton_width": 4,
    "block_sizes": (4, 8),
    "reduction": 2,
}


def test_ravdess_conforms() -> None:
    assert_conforms("msaf_ravdess", frame_size=2, **TINY_RAVDESS)


@pytest.mark.parametrize("network", ["i3d", "resnet50"])
def test_ntu_conforms(network: str) -> None:
    assert_conforms("msaf_ntu", frame_size=2, rgb_network=network, **TINY_NTU)


def test_to_steps_interpolates_as_torch_does() -> None:
    x, lengths = torch.randn(3, 9, 4), torch.tensor([9, 5, 2])
    for steps in (1, 4, 9, 20):
        for b, n in enumerate(lengths.tolist()):
            own = x[b, :n].mT[None]
            linear = F.interpolate(own, size=steps, mode="linear", align_corners=False)[0].mT
            found = to_steps(x, lengths, steps, linear=True)[b]
            assert torch.allclose(found, linear, atol=1e-6), (steps, n)
            nearest = F.interpolate(own, size=steps, mode="nearest-exact")[0].mT
            assert torch.equal(to_steps(x, lengths, steps, linear=False)[b], nearest), (steps, n)


def test_to_steps_keeps_what_fits_and_starts_where_it_is_told() -> None:
    x = torch.randn(2, 8, 3)
    full = torch.tensor([8, 8])
    assert torch.equal(to_steps(x, full, 8, linear=True), x)
    assert torch.equal(to_steps(x, full, 8, linear=False), x)
    part = to_steps(x, torch.tensor([3, 0]), 3, linear=True, start=torch.tensor([4, 0]))
    assert torch.equal(part[0], x[0, 4:7]) and not part[1].any()


def test_a_frame_is_channel_after_channel() -> None:
    frames = torch.arange(2 * 5 * 12.0).reshape(2, 5, 12)
    clip = as_clip(frames, 3, 2)
    assert clip.shape == (2, 3, 5, 2, 2)
    assert torch.equal(clip[1, 2, 4].flatten(), frames[1, 4, 8:])


def test_frame_sizes() -> None:
    assert frame_shape("frame_size", 3 * 49, 3, 0, "video") == 7
    for features, size in ((3 * 49, 8), (3 * 49 + 3, 0), (2, 0)):
        with pytest.raises(ConfigError, match=f"frame_size: 'video' has {features} features"):
            frame_shape("frame_size", features, 3, size, "video")


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_published_parameter_counts() -> None:
    assert count(I3D()) == 12_348_764
    assert count(HCN()) == 1_062_652
    spec = DataSpec({"rgb": 3 * 224 * 224, "skeleton": 150}, "classification", 60)
    assert count(MSAFNTU(MSAFNTUConfig(), spec)) == 13_547_400


def test_published_shapes() -> None:
    with torch.device("meta"):
        clip, skeleton = torch.empty(2, 3, 32, 224, 224), torch.empty(2, 3, 32, 25, 2)
        i3d, hcn, resnet = I3D(), HCN(), InflatedResNet()
        early = i3d.stem(clip)
        assert early.shape[1:] == (832, 4, 7, 7)
        assert i3d.body(early).shape[1:] == (1024, 4, 7, 7)
        assert i3d(clip).shape == (2, 60)
        persons = hcn.persons(skeleton)
        assert [p.shape[1:] for p in persons] == [(128, 4, 4)] * 2
        assert hcn.vector(persons).shape[1:] == (512,)
        early = resnet.stem(clip[:, :, :8])
        assert early.shape[1:] == (1024, 8, 14, 14)
        assert resnet.body(early).shape[1:] == (2048, 8, 7, 7)


def test_running_statistics_of_i3d() -> None:
    for momentum in (0.01, 0.1):
        model = ntu(rgb_norm_momentum=momentum).train()
        norms = [m for m in model.rgb.modules() if isinstance(m, nn.BatchNorm3d)]
        assert {norm.momentum for norm in norms} == {momentum} and len(norms) == 57
        assert {norm.eps for norm in norms} == {0.001}


def test_the_skeleton_network_does_not_know_who_is_who() -> None:
    torch.manual_seed(0)
    network, skeleton = HCN(5, width=4).eval(), torch.randn(2, 3, 32, 25, 2)
    assert torch.allclose(network(skeleton), network(skeleton.flip(-1)), atol=1e-6)


def ravdess(task: Any = "classification", **options: Any) -> MSAFRavdess:
    spec = DataSpec({"video": 16, "audio": 5}, task, 3)
    torch.manual_seed(0)
    return MSAFRavdess(MSAFRavdessConfig(**{**TINY_RAVDESS, **options}), spec)


def ntu(task: Any = "classification", **options: Any) -> MSAFNTU:
    torch.manual_seed(0)
    spec = DataSpec({"rgb": 16, "skeleton": 4}, task, 3)
    return MSAFNTU(MSAFNTUConfig(**{**TINY_NTU, **options}), spec)


def batch_of(**sizes: int) -> MultimodalBatch:
    generator = torch.Generator().manual_seed(1)
    features = {m: torch.randn(3, 20, size, generator=generator) for m, size in sizes.items()}
    lengths = dict.fromkeys(features, torch.tensor([20, 13, 7]))
    return MultimodalBatch(features, lengths, torch.tensor([0, 2, 1]))


def test_augmentation_acts_in_training_alone() -> None:
    batch = batch_of(video=16, audio=5)
    quiet: dict[str, Any] = {"audio_dropout": 0, "audio_head_dropout": 0, "block_dropout": 0}
    for augment, moves in (("none", False), ("clip", True), ("frame", True)):
        model = ravdess(augment=augment, **quiet).train()
        assert torch.equal(model(batch), model(batch)) != moves, augment
        model.eval()
        assert torch.equal(model(batch), model(batch)), augment


def test_crops_of_clips_and_of_frames() -> None:
    torch.manual_seed(0)
    frame = torch.rand(8, 2, 1, 6, 6)
    clip = frame.expand(-1, -1, 5, -1, -1)
    whole = crop_and_flip(clip, per_frame=False)
    assert whole.shape == clip.shape
    assert torch.allclose(whole, whole[:, :, :1].expand_as(whole), atol=1e-6)
    single = crop_and_flip(clip, per_frame=True)
    assert not torch.allclose(single, single[:, :, :1].expand_as(single), atol=1e-3)
    for cropped in (whole, single):
        assert cropped.min() >= clip.min() - 1e-5 and cropped.max() <= clip.max() + 1e-5


def test_crops_are_large_and_half_of_them_mirrored() -> None:
    torch.manual_seed(0)
    # Each pixel says where it is, so that a crop says where it was.
    ramp = (torch.arange(64.0) + 0.5).mul(2 / 64).sub(1).expand(400, 1, 1, 64, 64)
    slope = crop_and_flip(ramp, per_frame=False)[:, 0, 0, 32].diff(dim=-1)[:, 16:48].mean(1) * 32
    assert 0.4 < (slope < 0).float().mean() < 0.6
    assert slope.abs().min() > 0.75 and slope.abs().max() < 1 + 1e-4


def test_temporal_crops() -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([1, 2, 50, 64, 100, 300]).repeat(200)
    start, kept = temporal_crop(lengths, least=64)
    assert (start >= 0).all() and (start + kept <= lengths).all()
    assert (kept >= torch.minimum(lengths, torch.tensor(64))).all()
    assert (2 * kept >= lengths).all() and (kept[lengths == 300] < 300).any()
    assert len(start[lengths == 300].unique()) > 10
    start, kept = temporal_crop(lengths, centred=True)
    assert ((lengths - kept - 2 * start).abs() <= 1).all()


def task_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(outputs, targets)


def test_losses_of_ntu() -> None:
    batch = batch_of(rgb=16, skeleton=4)
    assert batch.targets is not None
    found = {}
    for loss in ("branches", "mean", "alternating"):
        model = ntu(loss=loss).eval()
        rgb, skeleton = model.branches(batch)
        assert torch.equal(model(batch), (rgb + skeleton) / 2)
        each = task_loss(rgb, batch.targets), task_loss(skeleton, batch.targets)
        found[loss] = training_step(model, batch, task_loss)
    assert torch.equal(found["branches"], each[0] + each[1])
    assert torch.equal(found["mean"], task_loss((rgb + skeleton) / 2, batch.targets))
    assert torch.equal(found["alternating"], each[1])
    (objective,) = auxiliary(model)
    assert torch.equal(objective.loss(model, batch), each[0])
    assert not auxiliary(ntu())


def test_alternating_steps_share_all_parameters_between_them() -> None:
    model = ntu(loss="alternating", rgb_learning_rate=0.3)
    (objective,) = auxiliary(model)
    own = set(objective.parameters(model))
    names = {name.split(".")[0] for name, p in model.named_parameters() if p in own}
    rest = {name.split(".")[0] for name, p in model.named_parameters() if p not in own}
    assert (names, rest) == ({"rgb", "fusions"}, {"skeleton"})
    assert (objective.learning_rate, objective.weight_decay) == (0.3, 1e-4)
    assert objective.scheduled
    with pytest.raises(ConfigError, match="alternating is for classification"):
        ntu("regression", loss="alternating")


def test_the_number_of_persons_is_free() -> None:
    spec = DataSpec({"rgb": 16, "skeleton": 6}, "classification", 3)
    model = MSAFNTU(MSAFNTUConfig(**{**TINY_NTU, "persons": 3}), spec).eval()
    assert model(batch_of(rgb=16, skeleton=6)).shape == (3, 3)


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="joints: 'skeleton' has 4 features"):
        ntu(joints=25)
    with pytest.raises(ConfigError, match="frame_size"):
        ntu(frame_size=5)
    for config in (MSAFRavdessConfig, MSAFNTUConfig):
        with pytest.raises(ValueError, match="at least 1"):
            config(block_sizes=(0, 4))


def test_presets_are_valid() -> None:
    for preset in RAVDESS_PRESETS.values():
        MSAFRavdessConfig(**preset.get("model", {}))
        TrainConfig(**preset["train"])
        RavdessConfig(path=".", **preset["data"])
    for preset in NTU_PRESETS.values():
        MSAFNTUConfig(**preset.get("model", {}))
        train = TrainConfig(**preset["train"])
        assert (train.scheduler, train.step_epochs, train.step_factor) == ("step", (5, 20), 0.1)
        NTUConfig(path=".", **preset["data"])


def test_foreign_checkpoints() -> None:
    with pytest.raises(CheckpointError, match=r"'fc\.weight' is no parameter of the official MSAF"):
        convert({"fc.weight": torch.zeros(2, 2)})
    with pytest.raises(CheckpointError, match="no parameter of the official MSAF network for RAV"):
        convert({"video_model_blocks.0.2.weight": torch.zeros(2, 2)})
    with pytest.raises(CheckpointError, match=r"lacks 'video\.conv1\.weight'"):
        convert({"audio_model_blocks.0.0.bias": torch.zeros(2)})
