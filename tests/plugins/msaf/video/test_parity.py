"""MSAF's video networks against what the original authors' code gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit import DataSpec
from fusionkit_plugins.msaf.checkpoint import fusion_name
from fusionkit_plugins.msaf.video.audio_cnn import AudioCNN
from fusionkit_plugins.msaf.video.checkpoint import convert, official_to_ours
from fusionkit_plugins.msaf.video.config import MSAFNTUConfig, MSAFRavdessConfig
from fusionkit_plugins.msaf.video.hcn import motion
from fusionkit_plugins.msaf.video.ntu import MSAFNTU
from fusionkit_plugins.msaf.video.ravdess import MSAFRavdess
from fusionkit_plugins.msaf.video.resnext3d import ResNeXt3D

from golden import (
    Arrays,
    Built,
    Golden,
    assert_close,
    check_outputs_and_gradients,
    check_trajectory,
)
from msaf_video_golden import audio_cnn, fusion, key_file, two_branch, two_branch_batch

# A normalisation by the statistics of the batch follows these biases.
ZERO_GRADIENTS = (
    "msaf.0.blocks.0.joint_features.0.bias",
    "msaf.1.blocks.0.joint_features.0.bias",
    "video_model_blocks.0.1.bias",
)

BOTH = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


def adam(golden: Golden, module: nn.Module) -> torch.optim.Adam:
    options = golden.meta["optimizer"]
    assert options["name"] == "Adam" and options["clipping"] is None
    return torch.optim.Adam(
        module.parameters(),
        lr=options["lr"],
        betas=options["betas"],
        eps=options["eps"],
        weight_decay=options["weight_decay"],
    )


def check_buffers(golden: Golden, built: Built) -> None:
    """Running statistics after the one forward pass that there has been."""
    buffers = dict(built.module.named_buffers())
    for name, want in golden.group("buffer_after").items():
        limit = 1e-9 if golden.dtype == torch.float64 else 1e-5
        assert_close(name, buffers[built.name(name)].to(want.dtype), want, limit)


@BOTH
@pytest.mark.golden("msaf_ravdess_audio_cnn*.npz")
def test_audio_network(golden_case: Path, dtype: torch.dtype) -> None:
    golden = Golden(golden_case, dtype)
    built = audio_cnn(golden)
    if "parameters" in golden.config:
        count = sum(p.numel() for p in built.module.parameters())
        assert count == golden.config["parameters"]
    check_outputs_and_gradients(golden, built)
    check_buffers(golden, built)


@pytest.mark.golden("msaf_ravdess_audio_cnn*.npz")
def test_audio_network_trajectory(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    if golden.meta["optimizer"] is None:
        assert not golden.group("traj"), "a trajectory is stored but not described"
        return
    built = audio_cnn(golden)

    def loss(module: nn.Module, inputs: Arrays) -> Tensor:
        return F.cross_entropy(built.run(module, inputs)["logits"], inputs["target"])

    check_trajectory(golden, built, loss, adam(golden, built.module))


@BOTH
@pytest.mark.golden("msaf_ntu_msaf*.npz")
def test_ntu_fusion(golden_case: Path, dtype: torch.dtype) -> None:
    golden = Golden(golden_case, dtype)
    built = fusion(golden)
    check_outputs_and_gradients(golden, built)
    check_buffers(golden, built)


@pytest.mark.golden("msaf_ntu_msaf*.npz")
def test_ntu_fusion_trajectory(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    built = fusion(golden)

    def loss(module: nn.Module, inputs: Arrays) -> Tensor:
        outputs = built.run(module, inputs).values()
        return F.mse_loss(torch.cat([y.flatten(2).mean(2) for y in outputs], 1), inputs["target"])

    optimizer = adam(golden, built.module)
    check_trajectory(golden, built, loss, optimizer, loose=built.zero_gradients)


@BOTH
@pytest.mark.golden("msaf_ntu_motion*.npz")
def test_motion(golden_case: Path, dtype: torch.dtype) -> None:
    golden = Golden(golden_case, dtype)

    def run(_: nn.Module, x: Arrays) -> Arrays:
        moved = motion(x["skeleton"])
        return {f"motion_person{k}": moved[..., k] for k in range(moved.shape[-1])}

    # The motion has no parameters: the inputs' gradients are all there is.
    module = nn.ParameterDict({"none": nn.Parameter(torch.zeros(1, dtype=dtype))})
    module["none"].grad = torch.zeros(1, dtype=dtype)
    check_outputs_and_gradients(golden, Built(module, run))


@pytest.mark.golden("msaf_ravdess_two_branch*.npz")
def test_two_branch_network(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    model, (video, mfcc, batch) = two_branch(golden), two_branch_batch(golden)
    seen: dict[str, Tensor] = {}
    for k, module in enumerate(model.fusions):
        module.register_forward_hook(_recorder(seen, k))
    logits = model(batch)
    assert_close("out/logits", logits.detach(), golden.group("out")["logits"], 1e-9)
    for name, want in golden.group("mid").items():
        assert_close(f"mid/{name}", seen[name], want, 1e-9)

    (logits * golden.group("cot")["logits"]).sum().backward()
    parameters = dict(model.named_parameters())
    gradients: dict[str, Tensor] = {}
    for key in golden.meta["keys"]:
        found = parameters[official_to_ours(key)].grad
        assert found is not None, key
        gradients[key] = found
    floor = max(g.abs().max().item() for g in gradients.values()) * 1e-16
    norms, starts = golden.group("gradnorm")["all"], golden.group("gradfirst")["all"]
    assert len(norms) == len(starts) == len(gradients)
    for (key, gradient), norm, start in zip(gradients.items(), norms, starts):
        if key in ZERO_GRADIENTS:
            assert gradient.abs().max() <= 1e-10, key
            continue
        assert_close(f"gradnorm/{key}", gradient.norm(), norm, 1e-9, floor)
        # Four elements have no scale of their own: that of the whole gradient is theirs.
        limit = max(1e-9 * gradient.abs().max().item(), floor)
        assert_close(f"gradfirst/{key}", gradient.flatten()[:4], start, 0.0, limit)
    for key, want in golden.group("grad").items():
        if key not in ZERO_GRADIENTS:
            assert_close(f"grad/{key}", gradients[key], want, 1e-9, floor)
    assert mfcc.grad is not None and video.grad is not None
    assert_close("gradin/mfcc", mfcc.grad, golden.group("gradin")["mfcc"], 1e-9, floor)
    part, flat = golden.group("sub/gradin")["video"], video.grad.flatten()
    step = -(-len(flat) // len(part))
    assert_close("sub/gradin/video", flat[::step], part, 1e-9, floor)
    norm, total = golden.group("norm/gradin")["video"]
    assert_close("norm/gradin/video", flat.norm(), norm, 1e-9)
    # The sum of many cancelling terms is as exact as their norm.
    assert_close("sum of gradin/video", flat.sum(), total, 1e-9, 1e-9 * norm.item())

    with torch.no_grad():
        evaluated = model.eval()(batch)
    want = golden.group("out")["logits_eval_after_one_forward"]
    assert_close("out/logits_eval_after_one_forward", evaluated, want, 1e-9)


@pytest.mark.golden("msaf_ravdess_two_branch*.npz")
def test_two_branch_network_in_float32(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float32)
    _, _, batch = two_branch_batch(golden)
    with torch.no_grad():
        got = two_branch(golden)(batch)
    # Rounding grows through 53 normalisations by statistics of few values: with torch's own layers
    # and no fusion the video network alone is off by 1e-4 (the golden README asks for float64).
    assert_close("out/logits", got, golden.group("out")["logits"], 1e-3)


def _recorder(seen: dict[str, Tensor], index: int) -> Any:
    def record(_: nn.Module, inputs: tuple[list[Tensor]], outputs: list[Tensor]) -> None:
        for when, features in (("before", inputs[0]), ("after", outputs)):
            for modality, x in zip(("video", "audio"), features):
                name = f"msaf{index}_{when}_{modality}_channel_mean"
                seen[name] = x.detach().flatten(2).mean(dim=2)

    return record


@pytest.mark.golden("msaf_ravdess_two_branch*.npz")
def test_two_branch_trajectory(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    model, (_, _, batch) = two_branch(golden), two_branch_batch(golden)
    optimizer, losses = adam(golden, model), []
    wanted = golden.group("traj")
    assert batch.targets is not None
    for step in range(len(wanted["loss"])):
        loss = F.cross_entropy(model(batch), batch.targets)
        losses.append(loss.item())
        if step + 1 < len(wanted["loss"]):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert_close("traj/loss", torch.tensor(losses, dtype=torch.float64), wanted["loss"], 1e-9)
    parameters = dict(model.named_parameters())
    for key, want in zip(golden.meta["keys"], wanted["paramnorm"]):
        got = parameters[official_to_ours(key)].detach().norm()
        assert_close(f"traj/paramnorm/{key}", got, want, 1e-7 if key in ZERO_GRADIENTS else 1e-9)


@pytest.mark.golden("msaf_ravdess_two_branch*.npz")
def test_the_stem_relu_makes_a_difference(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    _, _, batch = two_branch_batch(golden)
    with torch.no_grad():
        got = two_branch(golden, stem_relu=True)(batch)
    want = golden.group("out")["logits"]
    assert (got - want).abs().max() > 1e-3 * want.abs().max()


@pytest.fixture(scope="module")
def ravdess_keys(golden: Path) -> dict[str, Any]:
    return key_file(golden / "msaf_ravdess_video_keys.json")


def shapes(module: nn.Module) -> dict[str, list[int]]:
    return {name: list(value.shape) for name, value in module.state_dict().items()}


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_ravdess_names_and_counts(ravdess_keys: dict[str, Any]) -> None:
    counts = ravdess_keys["parameters"]
    audio, video = AudioCNN(), ResNeXt3D()
    assert shapes(audio) == ravdess_keys["state_dict of the audio network alone"]
    assert shapes(video) == ravdess_keys["state_dict of the video network alone"]
    assert (count(audio), count(video)) == (counts["audio CNN alone"],
                                            counts["video ResNeXt-50 alone"])  # fmt: skip
    spec = DataSpec({"video": 3 * 224 * 224, "audio": 13}, "classification", 8)
    model = MSAFRavdess(MSAFRavdessConfig(), spec)
    assert count(model) == counts["fused network"] == 25_940_724
    for k, module in enumerate(model.fusions):
        assert count(module) == counts[f"msaf.{k}"]
    official = ravdess_keys["state_dict of the fused network (name: shape)"]
    assert shapes(model) == {official_to_ours(name): shape for name, shape in official.items()}


def test_official_ravdess_state_dict_converts(ravdess_keys: dict[str, Any]) -> None:
    official = ravdess_keys["state_dict of the fused network (name: shape)"]
    converted = convert({name: torch.full(shape, 0.5) for name, shape in official.items()})
    spec = DataSpec(dict(converted.modalities), "classification", converted.num_outputs)
    config = MSAFRavdessConfig(**converted.config)
    assert config == MSAFRavdessConfig(
        frame_size=224, stem_relu=False, block_dropout_mode="released", augment="frame"
    )
    assert (dict(spec.modalities), spec.num_outputs) == ({"video": 3 * 224 * 224, "audio": 13}, 8)
    MSAFRavdess(config, spec).load_state_dict(converted.state_dict)


@pytest.mark.parametrize(("name", "ours"), [("i3d", "i3d"), ("resnet", "resnet50")])
def test_ntu_fusion_names_and_counts(golden: Path, name: str, ours: Any) -> None:
    content = key_file(golden / "msaf_ntu_fusion_keys.json")
    spec = DataSpec({"rgb": 3 * 32 * 32, "skeleton": 3 * 25 * 2}, "classification", 60)
    model = MSAFNTU(MSAFNTUConfig(rgb_network=ours), spec)
    found = {f"msaf{k + 1}": module for k, module in enumerate(model.fusions)}
    assert {k: count(m) for k, m in found.items()} == content["parameters"][name]
    official = content["state_dict"][name]
    for key, module in found.items():
        own = {k.removeprefix(f"{key}."): v for k, v in official.items() if k.startswith(key)}
        assert shapes(module) == {fusion_name(k): v for k, v in own.items()}
