"""CUDA graphs, with a direct call in place of a capture: buckets, refusals, equal runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._pytree import tree_leaves

import fusionkit as fk
from fusionkit.data.dataset import MultimodalDataset
from fusionkit.errors import ConfigError, FusionKitError
from fusionkit.nn.dropout import dropout_seed
from fusionkit.registry import Method, registry
from fusionkit.training import cuda_graph
from fusionkit.training.config import TrainConfig
from fusionkit.training.cuda_graph import bucket, check_cuda_graph, longest_steps
from fusionkit.training.settings import Settings, build_config

from graphed_runs import QUIET, losses, train


class Direct:
    """In place of a capture: a replay runs the step, and reads no number that is new to it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.captures = self.replays = 0
        self.seen: list[Any] = []
        monkeypatch.setattr(cuda_graph, "capture_step", self.capture)
        monkeypatch.setattr(cuda_graph, "WARM_UP", 1)
        monkeypatch.setattr("fusionkit.training.run.check_cuda_graph", lambda *arguments: None)

    def capture(
        self, step: Callable[[], Tensor], pool: Any, stream: Any
    ) -> tuple[Callable[[], None], Tensor]:
        self.captures += 1
        written = torch.zeros(())
        captured: list[Any] = []

        def replay() -> None:
            self.replays += 1
            self.seen.clear()
            written.copy_(step())
            captured[:] = captured or self.seen
            assert self.seen and captured == self.seen, "a graph would keep the first numbers"

        return replay, written

    def look(self, optimizer: torch.optim.Optimizer, *rest: Any) -> None:
        """Note the numbers that a step finds in the groups."""
        options = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
        self.seen += [x for x in tree_leaves(options) if not isinstance(x, Tensor)]


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> Iterator[Direct]:
    found = Direct(monkeypatch)
    hook = register_optimizer_step_pre_hook(found.look)
    yield found
    hook.remove()


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
    class Spoil:
        def on_epoch_start(self, state: Any) -> None:
            if state.progress.epoch == 1:
                next(state.model.parameters()).data.fill_(math.nan)

    with pytest.raises(FusionKitError, match=r"training loss is nan in epoch 2, batch 1"):
        train(tmp_path / "run", cuda_graph=True, callbacks=[Spoil()])


def test_a_step_that_cannot_be_captured_is_one_error(
    tmp_path: Path, direct: Direct, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(step: object, pool: object, stream: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nlong trace")

    monkeypatch.setattr(cuda_graph, "capture_step", broken)
    with pytest.raises(ConfigError, match=r"not permitted when stream is capturing; leave --cuda"):
        train(tmp_path / "run", cuda_graph=True)


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
    state = torch.get_rng_state()
    check_cuda_graph(found, net, settings, data.train, torch.device(device))
    assert torch.equal(torch.get_rng_state(), state) and net.training


@pytest.mark.parametrize(
    ("message", "options"),
    [
        (r"--cuda-graph needs a CUDA device, and the run is on cpu", {"device": "cpu"}),
        (r"train\.precision=16-mixed", {"train": {"precision": "16-mixed"}}),
        (r"train\.accumulate=4", {"train": {"accumulate": 4}}),
        (
            r"train\.scheduler=onecycle changes the momentum .* set train\.optimizer=adamw or",
            {"train": {"optimizer": "sgd", "scheduler": "onecycle"}},
        ),
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
    for optimizer, scheduler in (("sgd", "cosine"), ("adam", "onecycle"), ("adamw", "onecycle")):
        check("late_fusion", train={"optimizer": optimizer, "scheduler": scheduler})
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
