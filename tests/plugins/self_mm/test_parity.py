"""Self-MM against what the original authors' code gives, for every golden file there is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fusionkit import CheckpointError, DataSpec
from fusionkit.registry import registry
from fusionkit.training.auxiliary import Auxiliary
from fusionkit.training.config import TrainConfig
from fusionkit.training.objective import build_optimizer
from fusionkit.training.parameter_groups import main_parameters
from fusionkit_plugins.self_mm.checkpoint import convert
from fusionkit_plugins.self_mm.config import SelfMMConfig
from fusionkit_plugins.self_mm.labels import FUSION
from fusionkit_plugins.self_mm.model import SelfMM
from fusionkit_plugins.self_mm.presets import PRESETS

from golden import Golden, assert_close, check_outputs_and_gradients, check_trajectory
from selfmm_golden import FILES, MODES, build, memory, optimizer, own_losses, sizes, total_loss

DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32], ids=["float64", "float32"]
)


@pytest.mark.golden("selfmm_model*.npz")
@DTYPES
def test_outputs_and_gradients(golden_case: Path, dtype: torch.dtype) -> None:
    golden = Golden(golden_case, dtype)
    check_outputs_and_gradients(golden, build(golden))


@pytest.mark.golden("selfmm_model*.npz")
def test_trajectory(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    built = build(golden)
    check_trajectory(golden, built, total_loss(golden, built), optimizer(golden, built))


@pytest.mark.golden("selfmm_model*.npz")
def test_the_preset_gives_the_released_groups(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    built = build(golden)
    wanted = options_by_name(built.module, optimizer(golden, built))
    preset = PRESETS["released"]
    model, config = preset["model"], TrainConfig(**preset["train"])
    network = SelfMM(
        SelfMMConfig(
            main=model["main"],
            learning_rates=model["learning_rates"],
            weight_decays=model["weight_decays"],
        ),
        DataSpec(sizes(golden), "regression", 1),
    )
    method = registry().get("method", "self_mm")
    groups = main_parameters(method, network, Auxiliary(method, network), config)
    found = options_by_name(network, build_optimizer(groups, config))
    assert set(found) == set(wanted)
    for name, (rate, decay) in wanted.items():
        # The files have five times the released rates; a mean of four gradients a quarter of decay.
        assert found[name] == pytest.approx((rate / 5, decay / config.accumulate)), name


def options_by_name(
    module: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of every parameter."""
    found = {
        parameter: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    return {name: found[p] for name, p in module.named_parameters()}


@pytest.mark.golden("selfmm_loss*.npz")
@DTYPES
def test_weighted_losses(golden_case: Path, dtype: torch.dtype) -> None:
    golden = Golden(golden_case, dtype)
    inputs, relative = golden.group("in"), 1e-9 if dtype == torch.float64 else 1e-5
    predictions = {mode: inputs[f"pred_{mode}"].requires_grad_() for mode in MODES.values()}
    labels = {mode: inputs[f"label_{mode}"] for mode in MODES.values()}
    found = own_losses(predictions, labels)
    cotangents = golden.group("cot")
    torch.stack([found[mode] * cotangents[f"loss_{mode}"] for mode in found]).sum().backward()
    for mode, loss in found.items():
        assert_close(mode, loss.detach(), golden.group("out")[f"loss_{mode}"], relative)
    for name, want in golden.group("gradin").items():
        gradient = inputs[name].grad
        assert gradient is not None
        assert_close(f"gradin/{name}", gradient, want, relative)


def assert_close_with_nan(name: str, got: Tensor, want: Tensor, relative: float) -> None:
    assert torch.equal(got.isnan(), want.isnan()), f"{name}: nan in other places"
    assert_close(name, got.nan_to_num(), want.nan_to_num(), relative)


@pytest.mark.golden("selfmm_labels*.npz")
@DTYPES
def test_released_labels_centres_and_losses(golden_case: Path, dtype: torch.dtype) -> None:
    golden = Golden(golden_case, dtype)
    inputs, wanted = golden.group("in"), golden.group("out")
    relative = 1e-9 if dtype == torch.float64 else 1e-5
    bank = memory(golden)
    device = torch.device("cpu")
    epochs, batches = inputs["index"].shape[:2]
    everything = [str(k) for k in range(golden.config["train_samples"])]
    for epoch in range(epochs):
        bank.start_epoch(epoch + 1)
        for step in range(batches):
            at, where = (epoch, step), f"epoch {epoch + 1}, batch {step + 1}"
            ids = [str(k) for k in inputs["index"][at].tolist()]
            labels = bank.of(ids, device)
            by_mode = {mode: labels[name] for name, mode in MODES.items()}
            found = own_losses({m: inputs[f"pred_{m}"][at][:, None] for m in by_mode}, by_mode)
            for mode, loss in found.items():
                want = wanted[f"loss_{mode}"][at]
                assert_close_with_nan(f"{where}: loss {mode}", loss, want, relative)
            total = torch.stack(list(found.values())).sum()
            assert_close_with_nan(f"{where}: loss", total, wanted["loss"][at], relative)
            bank.update(ids, {name: inputs[f"f_{file}"][at] for name, file in FILES.items()})
            for name, file in FILES.items():
                got = bank.of(everything, device)[name].squeeze(1)
                assert_close_with_nan(
                    f"{where}: {file}", got, wanted[f"label_{file}"][at], relative
                )
                for centre, sign in zip(bank.centres(name), ("pos", "neg")):
                    want = wanted[f"center_{file}_{sign}"][at]
                    assert_close_with_nan(f"{where}: {file} {sign}", centre[0], want, relative)
    moved = bank.of(everything, device)
    assert any(not torch.equal(moved[m], moved[FUSION]) for m in moved), "no label has moved"


@pytest.mark.golden("selfmm_model*.npz")
def test_official_state_dicts_convert(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    official = golden.group("param")
    language = {"text_model.model.embeddings.word_embeddings.weight": torch.zeros(3, 2)}
    converted = convert({**official, **language})
    assert converted.modalities == sizes(golden)
    model = SelfMM(
        SelfMMConfig(**converted.config), DataSpec(converted.modalities, "regression", 1)
    )
    model.double().load_state_dict(converted.state_dict)
    for name, value in build(golden).module.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    with pytest.raises(CheckpointError, match="no parameter of the official Self-MM"):
        convert({**official, "video_model.linear_2.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="lacks"):
        convert({n: v for n, v in official.items() if "audio_model.rnn" not in n})
