"""CUDA graphs: what can be tested without a device, and what waits for one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import fusionkit as fk
from fusionkit.data.dataset import MultimodalDataset
from fusionkit.errors import ConfigError, FusionKitError
from fusionkit.nn.dropout import dropout_seed
from fusionkit.registry import Method, registry
from fusionkit.testing.conformance import make_batch
from fusionkit.training import cuda_graph
from fusionkit.training.config import TrainConfig
from fusionkit.training.cuda_graph import DeviceRates, bucket, check_cuda_graph, longest_steps
from fusionkit.training.settings import Settings, build_config

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

QUIET: dict[str, Any] = {"hidden_size": 4, "encoder_dropout": 0.0}
SPEC = fk.DataSpec(
    {"text": 6, "audio": 4, "vision": 3}, "classification", 3, context={"speaker": 4, "turn": 2}
)


def train(folder: Path, method: str = "late_fusion", **options: Any) -> Any:
    options = {"model": QUIET, "data_options": {"samples": 90}, **options}
    common = {"epochs": 3, "batch_size": 24, "patience": None}
    options["train"] = {**common, **options.get("train", {})}
    return fk.train(method, "synthetic", out=folder, **options)


class Direct:
    """In place of a capture: a replay runs the step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.captures = self.replays = 0
        monkeypatch.setattr(cuda_graph, "capture_step", self.capture)
        monkeypatch.setattr(cuda_graph, "WARM_UP", 1)
        monkeypatch.setattr("fusionkit.training.run.check_cuda_graph", lambda *arguments: None)

    def capture(self, step: Callable[[], Tensor], pool: Any) -> tuple[Callable[[], None], Tensor]:
        self.captures += 1
        written = torch.zeros(())

        def replay() -> None:
            self.replays += 1
            written.copy_(step())

        return replay, written


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> Direct:
    return Direct(monkeypatch)


def losses(result: Any) -> list[list[float]]:
    keys = ("train_loss", "validation_loss", "learning_rate")
    return [[record[key] for key in keys] for record in result.history]


def test_buckets_are_few_and_fit() -> None:
    for longest in (1, 2, 37, 64, 500):
        found = {bucket(steps, longest) for steps in range(1, longest + 1)}
        assert all(steps <= bucket(steps, longest) <= longest for steps in range(1, longest + 1))
        assert len(found) <= math.ceil(math.log2(longest)) + 1


def test_one_length_gives_the_uncaptured_run_to_the_bit(tmp_path: Path, direct: Direct) -> None:
    # The rate has a float32; the batches are 24, 24 and 15.
    options: dict[str, Any] = {
        "train": {"optimizer": "sgd", "learning_rate": 2.0**-6, "clip_norm": 0.5},
        "data_options": {"samples": 90, "min_length": 8, "max_length": 8},
    }
    plain = train(tmp_path / "plain", **options)
    graphed = train(tmp_path / "graphed", cuda_graph=True, **options)
    assert losses(graphed) == losses(plain)
    assert graphed.test == plain.test
    assert (direct.captures, direct.replays) == (2, 9 - 2)


@pytest.mark.parametrize("method", ["late_fusion", "lmf", "misa"])
def test_buckets_give_the_uncaptured_run_within_rounding(
    tmp_path: Path, direct: Direct, method: str
) -> None:
    # LMF has parameter groups, MISA a loss of its own.
    model: dict[str, Any] = {
        "late_fusion": QUIET,
        "lmf": {"hidden_size": 4, "encoder_dropout": 0.0},
        "misa": {"hidden_size": 4, "heads": 1, "dropout": 0.0, "transformer_dropout": 0.0},
    }[method]
    options: dict[str, Any] = {
        "model": model,
        "train": {"optimizer": "adamw", "scheduler": "onecycle", "clip_value": 0.5},
    }
    plain = train(tmp_path / "plain", method, **options)
    graphed = train(tmp_path / "graphed", method, cuda_graph=True, **options)
    for one, other in zip(losses(graphed), losses(plain), strict=True):
        assert one == pytest.approx(other, rel=2e-4)
    assert direct.replays > 0


def test_graphed_run_resumes(tmp_path: Path, direct: Direct) -> None:
    whole = train(tmp_path / "whole", cuda_graph=True, train={"scheduler": "cosine"})

    class Stop:
        def on_epoch_end(self, state: Any) -> None:
            if state.progress.epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", cuda_graph=True, train={"scheduler": "cosine"}, callbacks=[Stop()])
    resumed = fk.train(resume=tmp_path / "cut")
    assert losses(resumed) == losses(whole)


def test_a_loss_that_is_not_finite_is_an_error(tmp_path: Path, direct: Direct) -> None:
    with pytest.raises(FusionKitError, match=r"training loss is \w+ in epoch \d, batch \d"):
        train(
            tmp_path / "run", "unimodal", cuda_graph=True,
            train={"optimizer": "sgd", "learning_rate": 1e4, "epochs": 5},
        )  # fmt: skip


def test_a_step_that_cannot_be_captured_is_one_error(
    tmp_path: Path, direct: Direct, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(step: object, pool: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nlong trace")

    monkeypatch.setattr(cuda_graph, "capture_step", broken)
    with pytest.raises(ConfigError, match=r"not permitted when stream is capturing; leave --cuda"):
        train(tmp_path / "run", cuda_graph=True)


def test_rates_are_tensors_during_a_step_alone() -> None:
    groups = [{"params": [torch.zeros(1)], "lr": 0.5}, {"params": [torch.zeros(1)], "lr": 0.25}]
    optimizer = torch.optim.SGD(groups)
    rates = DeviceRates(optimizer, torch.device("cpu"))
    rates.load()
    with pytest.raises(ZeroDivisionError), rates.in_place():
        assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.25]
        assert all(isinstance(group["lr"], Tensor) for group in optimizer.param_groups)
        raise ZeroDivisionError
    assert [type(group["lr"]) for group in optimizer.param_groups] == [float, float]
    optimizer.param_groups[0]["lr"] = 0.125
    rates.load()
    assert rates.rates[0].item() == 0.125


def check(
    method: str | Method = "late_fusion",
    model: dict[str, Any] | None = None,
    train: dict[str, Any] | None = None,
    device: str = "cuda",
    data: MultimodalDataset | None = None,
) -> None:
    data = data or fk.load_data("synthetic", samples=40)
    found: Method = registry().get("method", method) if isinstance(method, str) else method
    options = build_config(found.config, {"hidden_size": 4, **(model or {})}, found.name)
    config = TrainConfig(cuda_graph=True, **(train or {}))
    source = registry().get("data set", "synthetic")
    settings = Settings(options, config, source.config())
    net = found.create(options, data.spec)
    check_cuda_graph(found, net, settings, data.train, torch.device(device))


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (r"--cuda-graph needs a CUDA device, and the run is on cpu", {"device": "cpu"}),
        (r"train\.precision=16-mixed", {"train": {"precision": "16-mixed"}}),
        (r"train\.accumulate=4", {"train": {"accumulate": 4}}),
        (r"mmmie has several optimizers", {"method": "mmmie", "model": {"num_heads": 1}}),
        (r"mmlatch with lengths=padded", {"method": "mmlatch", "model": {"lengths": "padded"}}),
        (
            r"mmlatch with padding_in_fuser=True depend",
            {"method": "mmlatch", "model": {"padding_in_fuser": True}},
        ),
        (r"tfn with lengths=padded", {"method": "tfn", "model": {"lengths": "padded"}}),
    ],
)
def test_refusals(message: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=message):
        check(**options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"memory": lambda model: None}, "remembers samples"),
        ({"traceable": False}, "depends on values"),
    ],
)
def test_memory_and_untraceable_methods_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(replace(registry().get("method", "late_fusion"), **change))


def test_what_can_be_captured_is_not_refused() -> None:
    data = fk.load_data("synthetic", samples=40, min_length=9, max_length=9)
    # Of one length there is no padding; seeds of released evaluation dropout do not matter.
    for method, model in (
        ("mmlatch", {"lengths": "padded"}),
        ("mmlatch", {"mask_dropout_at_eval": True}),
        ("misa", {"heads": 1}),
    ):
        check(method, model, data=data)
    check("mmlatch", {"mask_dropout_at_eval": True})
    check("late_fusion", train={"precision": "bf16-mixed", "clip_norm": 1.0, "optimizer": "sgd"})
    assert longest_steps(data.train) == dict.fromkeys(data.spec.modalities, 9)


def test_refusals_come_before_a_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--cuda-graph needs a CUDA device"):
        train(tmp_path / "run", cuda_graph=True, device="cpu")
    with pytest.raises(ConfigError, match="--cuda-graph needs a CUDA device"):
        fk.compare(
            ["late_fusion", "unimodal:text,train.cuda_graph=true"],
            "synthetic",
            data_options={"samples": 40},
            out=tmp_path / "comparison",
            device="cpu",
        )
    assert list(tmp_path.iterdir()) == []


def test_seeds_of_dropout_are_drawn_where_the_input_is() -> None:
    module = torch.nn.Identity()
    torch.manual_seed(3)
    p, seed = dropout_seed(module, 0.5, torch.device("cpu"))
    torch.manual_seed(3)
    assert p == 0.5 and seed is not None
    assert torch.equal(seed, torch.randint(2**62, ()))
    on_meta = dropout_seed(module, 0.5, torch.device("meta"))[1]
    assert on_meta is not None and on_meta.device.type == "meta"


class NoHost(TorchDispatchMode):
    """Refuses what moves values between devices; meta tensors refuse to be read themselves."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        copies = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
        if func in copies:
            devices = {x.device.type for x in tree_leaves((args, out)) if isinstance(x, Tensor)}
            assert len(devices) == 1, f"a copy between {sorted(devices)}"
        return out


CAPTURABLE: list[tuple[str, dict[str, Any]]] = [
    ("mmlatch", {"hidden_size": 4}),
    ("mmlatch", {"hidden_size": 4, "mask": "boom", "time_axis": "longest", "frontend_size": 3}),
    ("mult", {"width": 4, "num_heads": 2, "num_layers": 1, "attn_mask": True, "feedback": "lstm"}),
    ("msaf", {"hidden_size": 4, "block_size": 4, "num_segments": 2, "bidirectional": True}),
    ("mmtm", {"hidden_size": 4, "encoder": "conv"}),
    ("tfn", {"hidden_size": 4}),
    ("lmf", {"hidden_size": 4, "encoder": "conv_bilstm", "frontend_size": 4}),
    ("misa", {"hidden_size": 4, "heads": 1}),
    ("misa", {"hidden_size": 4, "heads": 1, "cell": "gru", "similarity": "adversarial"}),
    ("mag", {"hidden_size": 4}),
    ("early_fusion", {"hidden_size": 4}),
    ("late_fusion", {"hidden_size": 4}),
    ("unimodal", {"hidden_size": 4}),
]


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("method", "options"), CAPTURABLE, ids=[m for m, _ in CAPTURABLE])
def test_a_step_reads_nothing_on_the_host(
    method: str, options: dict[str, Any], aligned: bool
) -> None:
    spec = replace(SPEC, aligned=aligned)
    found: Method = registry().get("method", method)
    model = fk.create(method, spec, **options).to("meta").train()
    batch = make_batch(spec, [4, 2, 3]).to("meta")
    assert batch.targets is not None
    task_loss = torch.nn.functional.cross_entropy
    with NoHost():
        if found.training_step is not None:
            loss = found.training_step(model, batch, task_loss)
        else:
            loss = task_loss(model(batch), batch.targets)
        loss.backward()  # type: ignore[no-untyped-call]
    assert any(p.grad is not None for p in model.parameters())


@needs_cuda
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("method", ["late_fusion", "lmf"])
def test_captured_training_on_a_device(tmp_path: Path, method: str, optimizer: str) -> None:
    options: dict[str, Any] = {
        "model": {"hidden_size": 4, "encoder_dropout": 0.0},
        "train": {"optimizer": optimizer, "epochs": 6, "clip_norm": 1.0, "scheduler": "onecycle"},
        "device": "cuda",
    }
    plain = train(tmp_path / "plain", method, **options)
    graphed = train(tmp_path / "graphed", method, cuda_graph=True, **options)
    for one, other in zip(losses(graphed), losses(plain), strict=True):
        assert one == pytest.approx(other, rel=1e-2)


@needs_cuda
def test_replays_draw_new_seeds_on_a_device() -> None:
    module = torch.nn.Identity()
    replay, seed = cuda_graph.capture_step(lambda: _seed(module), torch.cuda.graph_pool_handle())
    drawn = set()
    for _ in range(4):
        replay()
        drawn.add(int(seed))
    assert len(drawn) == 4


@needs_cuda
@pytest.mark.parametrize(("method", "options"), CAPTURABLE, ids=[m for m, _ in CAPTURABLE])
def test_every_method_is_captured_on_a_device(
    tmp_path: Path, method: str, options: dict[str, Any]
) -> None:
    result = train(
        tmp_path / "run", method, model=options, cuda_graph=True, device="cuda",
        train={"epochs": 5, "input_noise": 0.1},
    )  # fmt: skip
    assert all(math.isfinite(record["train_loss"]) for record in result.history)


def _seed(module: torch.nn.Module) -> Tensor:
    seed = dropout_seed(module, 0.5, torch.device("cuda"))[1]
    assert seed is not None
    return seed
