"""MSAF against what the original authors' code gives, for every golden file there is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fusionkit import CheckpointError, DataSpec, MultimodalBatch
from fusionkit.nn.split_attention import SplitAttention
from fusionkit_plugins.msaf.checkpoint import MODALITIES, convert, fusion_name
from fusionkit_plugins.msaf.config import MSAFConfig
from fusionkit_plugins.msaf.model import MSAF

from golden import Built, Golden, assert_close, check_outputs_and_gradients, check_trajectory
from msaf_golden import (
    INPUTS,
    attentions,
    batch_of,
    build,
    check_subsampled,
    loss_of,
    network_config,
    segment_name,
)

FILES = ("msaf_module*.npz", "msaf_mosei*.npz", "msaf_ntu_msaf*.npz")
both_dtypes = pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32], ids=["float64", "float32"]
)


@pytest.mark.golden(*FILES)
@both_dtypes
def test_outputs_and_gradients(golden_case: Path, dtype: torch.dtype) -> None:
    golden = Golden(golden_case, dtype)
    check_outputs_and_gradients(golden, build(golden))


@pytest.mark.golden(*FILES)
@both_dtypes
def test_attention_and_running_statistics(golden_case: Path, dtype: torch.dtype) -> None:
    golden = Golden(golden_case, dtype)
    built = build(golden)
    relative = 1e-9 if dtype == torch.float64 else 1e-5
    with attentions(built.module) as found:
        built.run(built.module, golden.group("in"))
    for name, want in golden.group("mid/attention").items():
        got = found[segment_name(built, name)].detach()
        assert_close(f"mid/attention/{name}", got, want, relative)
    state = built.module.state_dict()
    for name, want in golden.group("buffer_after").items():
        assert_close(f"buffer_after/{name}", state[built.name(name)], want, relative)
    if golden.meta["mode"] == "eval":
        for name, want in golden.group("buffer").items():
            assert torch.equal(state[built.name(name)], want), name


@pytest.mark.golden(*FILES)
def test_trajectory(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    options = golden.meta["optimizer"]
    if options is None:
        assert not golden.group("traj"), "a trajectory is stored but not described"
        return
    built = build(golden)
    assert options["name"] == "Adam" and options["clipping"] is None
    optimizer = torch.optim.Adam(
        built.module.parameters(),
        lr=options["lr"],
        betas=options["betas"],
        eps=options["eps"],
        weight_decay=options["weight_decay"],
    )
    check_trajectory(golden, built, loss_of(built), optimizer, loose=built.zero_gradients)
    trained = dict(built.module.named_parameters())
    official = {name: trained[built.name(name)] for name in golden.group("param")}
    check_subsampled(golden, "traj/param", official, 1e-9)


@pytest.mark.golden("msaf_mosei*.npz")
@both_dtypes
def test_gradients_that_are_stored_in_part(golden_case: Path, dtype: torch.dtype) -> None:
    golden = Golden(golden_case, dtype)
    built = build(golden)
    inputs = {name: x.requires_grad_() for name, x in golden.group("in").items()}
    outputs = built.run(built.module, inputs)
    sum((outputs[n] * cot).sum() for n, cot in golden.group("cot").items()).backward()  # type: ignore[union-attr]
    parameters = dict(built.module.named_parameters())
    gradients = {name: parameters[built.name(name)].grad for name in golden.group("param")}
    present = {name: g for name, g in gradients.items() if g is not None}
    relative = 1e-9 if dtype == torch.float64 else 1e-5
    largest = max(g.abs().max().item() for g in present.values())
    floor = largest * (1e-16 if dtype == torch.float64 else 1e-6)
    count = check_subsampled(golden, "grad", present, relative, floor)
    of_inputs = {name: x.grad for name, x in inputs.items() if x.grad is not None}
    count += check_subsampled(golden, "gradin", of_inputs, relative, floor)
    described = golden.meta.get("subsampled", {}).get("stride", {})
    assert count == sum(key.startswith(("grad/", "gradin/")) for key in described)


class StoredMask(nn.Module):
    """Takes the place of the block dropout: gives the mask of a golden file."""

    p = 0.2

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def forward(self, ones: Tensor) -> Tensor:
        return self.mask.to(ones.dtype).expand(ones.shape[0], -1).reshape(ones.shape)


def block_with_mask(golden: Golden, commit: str) -> Built:
    c = golden.config
    names = [f"x{k}" for k in range(len(c["in_channels"]))]
    ours = SplitAttention(
        c["in_channels"],
        c["block_channel"],
        reduction=c["reduction_factor"],
        floor=c["lowest_atten"],
        block_dropout=c["block_dropout"],
        block_dropout_mode="released",
    )
    masks = golden.group(f"mask_{commit}")
    mask = masks["all"][None] if "all" in masks else torch.cat([masks[n] for n in names], dim=1)
    ours.block_dropout = StoredMask(mask)  # type: ignore[assignment]

    def run(ours: nn.Module, x: dict[str, Tensor]) -> dict[str, Tensor]:
        return dict(zip(names, ours([x[n] for n in names])))

    return Built(ours, run, lambda name: fusion_name(f"blocks.0.{name}")).load(golden)


@pytest.mark.golden("msaf_block_dropout*.npz")
@pytest.mark.parametrize("commit", ["current", "paper"])
@both_dtypes
def test_block_dropout(golden_case: Path, commit: str, dtype: torch.dtype) -> None:
    """The released mask is applied twice; each sample has its own, or the batch has one."""
    golden = Golden(golden_case, dtype)
    built = block_with_mask(golden, commit)
    inputs = {name: x.requires_grad_() for name, x in golden.group("in").items()}
    outputs = built.run(built.module, inputs)
    exact = dtype == torch.float64
    relative = 1e-9 if exact else 1e-5
    for name, want in golden.group(f"out_{commit}").items():
        assert_close(f"out/{name}", outputs[name].detach(), want, relative)
    sum((outputs[n] * cot).sum() for n, cot in golden.group("cot").items()).backward()  # type: ignore[union-attr]
    parameters = dict(built.module.named_parameters())
    for name, want in golden.group(f"grad_{commit}").items():
        got = parameters[built.name(name)].grad
        assert got is not None, name
        floor = (1e-10 if exact else 1e-5) if name == "joint_features.0.bias" else 0.0
        assert_close(f"grad/{name}", got, want, relative, floor)
    for name, want in golden.group(f"gradin_{commit}").items():
        got = inputs[name].grad
        assert got is not None, name
        assert_close(f"gradin/{name}", got, want, relative)
    state = built.module.state_dict()
    for name, want in golden.group(f"buffer_after_{commit}").items():
        assert_close(f"buffer_after/{name}", state[built.name(name)], want, relative)


@pytest.mark.golden("msaf_block_dropout*.npz")
def test_corrected_block_dropout_applies_the_mask_once(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    built, corrected = (block_with_mask(golden, "current") for _ in range(2))
    assert isinstance(corrected.module, SplitAttention)
    corrected.module.block_dropout_mode = "corrected"
    inputs = golden.group("in")
    twice, once = (b.run(b.module, inputs) for b in (built, corrected))
    scale = golden.meta["scale_of_a_kept_block"]
    for name, out in once.items():
        assert_close(name, out.detach() * scale, twice[name].detach(), 1e-12)


@pytest.mark.golden("msaf_mosei*.npz")
def test_official_state_dicts_convert(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    official = {**golden.group("param"), **golden.group("buffer")}
    converted = convert(official)
    config = MSAFConfig(**converted.config)
    msaf = golden.config["msaf"]
    assert list(converted.modalities) == list(MODALITIES)
    for modality, size in converted.modalities.items():
        assert size == golden.group("in")[INPUTS[modality]].shape[-1]
    assert isinstance(config.hidden_size, dict)
    assert list(config.hidden_size.values()) == msaf["in_channels"]
    assert config.block_size == msaf["block_channel"]
    assert config.reduction == msaf["reduction_factor"]
    assert config.num_segments == msaf["split_block"]
    spec = DataSpec(converted.modalities, "regression", converted.num_outputs)
    model = MSAF(config, spec).double().eval()
    model.load_state_dict(converted.state_dict)
    if "parameters" in golden.config:
        assert sum(p.numel() for p in model.parameters()) == golden.config["parameters"]
    foreign = {**official, "video_model.0.bias_ih_l0": torch.zeros(4)}
    incomplete = {n: x for n, x in official.items() if not n.startswith("multimodal")}
    for broken in (foreign, incomplete):
        with pytest.raises(CheckpointError):
            convert(broken)


@pytest.mark.golden("msaf_mosei*.npz")
def test_padded_lengths_are_the_released_ones(golden_case: Path) -> None:
    """What the lengths say changes nothing in the released mode, and much in the corrected one."""
    golden = Golden(golden_case, torch.float64)
    built = build(golden)
    inputs = golden.group("in")
    features = {m: inputs[INPUTS[m]] for m in MODALITIES}
    whole = batch_of(features)
    short = MultimodalBatch(features, {m: n - 3 for m, n in whole.lengths.items()})
    want = golden.group("out")["pred"]
    assert_close("padded", built.module(short).detach(), want, 1e-9)
    config, spec = network_config(golden)
    corrected = MSAF(config.model_copy(update={"lengths": "true"}), spec).double()
    corrected.load_state_dict(build(golden).module.state_dict())
    assert_close("full", corrected(whole).detach(), want, 1e-9)
    assert (corrected(short) - want).abs().max() > 1e-4
