"""MMLatch against what the original authors' code gives, for every golden file there is."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fusionkit import DataSpec, MultimodalBatch
from fusionkit.ops import force_backend
from fusionkit_plugins.mmlatch.checkpoint import convert
from fusionkit_plugins.mmlatch.config import MMLatchConfig
from fusionkit_plugins.mmlatch.model import MMLatch

from golden import Arrays, Golden, assert_close, check_trajectory
from mmlatch_golden import MODALITIES, build


def check_gradient(
    golden: Golden, name: str, gradient: Tensor, relative: float, floor: float
) -> None:
    """Whole gradients, or the parts of matrices that large files keep."""
    stored = golden.group("grad")
    if name in stored:
        assert_close(f"grad/{name}", gradient, stored[name], relative, floor)
        return
    # The sums are the test's own arithmetic: no rounding may come from them.
    gradient = gradient.double()
    signs = {int(size): sign.double() for size, sign in golden.group("sign").items()}
    parts = {
        "gradrows": gradient[golden.group("gradrows_idx")[name]],
        "gradproj_right": gradient @ signs[gradient.shape[1]],
        "gradproj_left": signs[gradient.shape[0]] @ gradient,
        "gradnorm": gradient.norm(),
    }
    for part, got in parts.items():
        assert_close(f"{part}/{name}", got, golden.group(part)[name], relative, floor)


@pytest.mark.golden("mmlatch*.npz")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_outputs_and_gradients(
    golden_case: Path, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = Golden(golden_case, dtype)
    built = build(golden)
    inputs = golden.group("in")
    if "keep" in inputs:
        keep = inputs["keep"].bool()
        reference = importlib.import_module("fusionkit.ops.gated_mask.reference")
        monkeypatch.setattr(reference, "keep_mask", lambda *args: keep[:, None])
    wanted_input_gradients = golden.group("gradin")
    for name in wanted_input_gradients:
        inputs[name].requires_grad_()
    if "keep" in inputs:
        with force_backend("reference"):
            outputs = built.run(built.module, inputs)
    else:
        outputs = built.run(built.module, inputs)

    exact = dtype == torch.float64
    for name, want in golden.group("out").items():
        assert_close(f"out/{name}", outputs[name].detach(), want, 1e-9 if exact else 1e-5)

    loss = sum((outputs[name] * cot).sum() for name, cot in golden.group("cot").items())
    assert isinstance(loss, Tensor)
    loss.backward()
    gradients = {name: p.grad for name, p in built.module.named_parameters()}
    largest = max(g.abs().max().item() for g in gradients.values() if g is not None)
    # Large files store their gradients in float32.
    relative = (1e-6 if golden.group("gradnorm") else 1e-9) if exact else 1e-5
    floor = largest * (1e-16 if exact else 1e-6)
    for name in golden.group("param"):
        gradient = gradients[built.name(name)]
        if name in golden.meta["no_grad"]:
            assert gradient is None or not gradient.any(), name
            continue
        assert gradient is not None, name
        check_gradient(golden, name, gradient, relative, floor)
    for name, want in wanted_input_gradients.items():
        got = inputs[name].grad
        assert got is not None, name
        assert_close(f"gradin/{name}", got, want, relative, floor)


@pytest.mark.golden("mmlatch*.npz")
def test_trajectory(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    if not golden.group("traj"):
        assert golden.meta["optimizer"] is None, "a trajectory is described but not stored"
        return
    built = build(golden)
    options = golden.meta["optimizer"]
    assert options["name"] == "Adam" and options["clipping"] is None
    optimizer = torch.optim.Adam(
        built.module.parameters(),
        lr=options["lr"],
        betas=options["betas"],
        eps=options["eps"],
        weight_decay=options["weight_decay"],
    )

    def loss(module: nn.Module, inputs: Arrays) -> Tensor:
        outputs = built.run(module, inputs)
        if set(outputs) >= {"x", "y", "z"}:
            predicted = torch.cat([outputs[k] for k in "xyz"], dim=-1)
        else:
            predicted = outputs["pred"] if "pred" in outputs else outputs["out"]
        return (predicted.reshape(inputs["target"].shape) - inputs["target"]).abs().mean()

    check_trajectory(golden, built, loss, optimizer)


@pytest.mark.golden("mmlatch*released*.npz")
def test_padded_lengths_ignore_the_true_ones(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    built = build(golden)
    assert isinstance(built.module, MMLatch)
    config = built.module.config.model_copy(update={"lengths": "padded", "padding_in_fuser": False})
    spec = DataSpec(
        {m: golden.config[f"{m}_input_size"] for m in MODALITIES},
        "regression", golden.config["num_classes"], aligned=True,
    )  # fmt: skip
    model = MMLatch(config, spec).double()
    model.load_state_dict(built.module.state_dict())
    inputs = golden.group("in")
    features = {m: inputs[m] for m in MODALITIES}
    lengths = dict.fromkeys(features, inputs["true_lengths"])
    predicted = model(MultimodalBatch(features, lengths)).detach()
    assert_close("out/pred", predicted, golden.group("out")["pred"], 1e-9)


@pytest.mark.golden("mmlatch_*_released.npz", "mmlatch_options*.npz", "mmlatch_paper_dims*.npz")
def test_official_state_dicts_convert(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    built = build(golden)
    assert isinstance(built.module, MMLatch)
    for alias in (False, True):
        official = {
            _second_class(name) if alias else name: value
            for name, value in golden.group("param").items()
        }
        converted = convert(official)
        wanted = built.module.config
        config = MMLatchConfig(**converted.config)
        for field in ("hidden_size", "encoder", "encoder_layers", "bidirectional", "mask"):
            assert getattr(config, field) == getattr(wanted, field), field
        assert converted.num_outputs == golden.config["num_classes"]
        for name, value in built.module.state_dict().items():
            assert torch.equal(converted.state_dict[name], value), name


def _second_class(name: str) -> str:
    for modality in MODALITIES:
        name = name.replace(f"encoder.{modality}.encoder.", f"encoder.{modality}.{modality}.")
    return name
