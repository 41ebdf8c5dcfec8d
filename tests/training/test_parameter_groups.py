"""Parameters with a learning rate and a weight decay of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

import fusionkit as fk
from fusionkit import AuxiliaryObjective, Method, MethodConfig, ParameterGroup
from fusionkit.errors import PluginError
from fusionkit.registry import registry
from fusionkit.registry.manager import Registered
from fusionkit.training.auxiliary import Auxiliary
from fusionkit.training.checkpoint import load_checkpoint
from fusionkit.training.config import TrainConfig
from fusionkit.training.parameter_groups import main_parameters

wrong: Any = ParameterGroup
OPTIONS: dict[str, Any] = {"data": "synthetic", "data_options": {"samples": 120}}
Groups = Callable[["Toy"], Sequence[ParameterGroup]]


class Toy(nn.Module):
    """Outputs that ignore the data but for their number."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.rest, self.slow, self.stiff = (nn.Parameter(torch.ones(outputs)) for _ in range(3))
        self.inner = nn.Parameter(torch.tensor(0.0))
        self.frozen = nn.Parameter(torch.tensor(0.0), requires_grad=False)

    def forward(self, batch: fk.MultimodalBatch) -> Tensor:
        return (self.rest + self.slow + self.stiff + self.inner).expand(len(batch), -1)


def squares(model: nn.Module, batch: fk.MultimodalBatch, task_loss: Any) -> Tensor:
    toy = cast(Toy, model)
    return torch.stack([(p - 3).square().sum() for p in (toy.rest, toy.slow, toy.stiff)]).sum()


def two(toy: Toy) -> Sequence[ParameterGroup]:
    return (
        ParameterGroup("slow", iter([toy.slow, toy.slow, toy.frozen]), learning_rate=0.1),
        ParameterGroup("stiff", [toy.stiff], weight_decay=0.5),
    )


def method(groups: Groups | None, **options: Any) -> Method:
    return Method(
        name="toy", summary="", config=MethodConfig, build=lambda c, spec: Toy(spec.num_outputs),
        parameter_groups=None if groups is None else lambda model: groups(cast(Toy, model)),
        **options,
    )  # fmt: skip


def auxiliary() -> dict[str, Any]:
    inner = AuxiliaryObjective(
        "fit", lambda model: [cast(Toy, model).inner],
        lambda model, batch: (cast(Toy, model).inner - 3) ** 2, 0.1,
    )  # fmt: skip
    return {"auxiliary": lambda model: [inner]}


def resolve(groups: Groups | None, config: TrainConfig | None = None, **options: Any) -> Any:
    found, model = method(groups, **options), Toy(2)
    return model, main_parameters(found, model, Auxiliary(found, model), config or TrainConfig())


def test_the_rest_comes_first() -> None:
    toy, groups = resolve(two, TrainConfig(learning_rate=0.02, weight_decay=0.3))
    assert [len(group["params"]) for group in groups] == [2, 1, 1]
    rest, slow, stiff = (group["params"] for group in groups)
    assert rest[0] is toy.rest and rest[1] is toy.inner
    assert slow[0] is toy.slow and stiff[0] is toy.stiff
    assert [(g["lr"], g["weight_decay"]) for g in groups[1:]] == [(0.002, 0.3), (0.02, 0.5)]
    toy, groups = resolve(two, **auxiliary())
    assert [p is toy.rest for p in groups[0]["params"]] == [True]


@pytest.mark.parametrize("groups", [None, lambda toy: ()])
def test_without_groups_there_is_one_list(groups: Groups | None) -> None:
    toy, parameters = resolve(groups)
    assert [id(p) for p in parameters] == [
        id(p) for p in (toy.rest, toy.slow, toy.stiff, toy.inner)
    ]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (lambda t: [ParameterGroup("", [t.slow])], "the name is empty or taken"),
        (
            lambda t: [ParameterGroup("a", [t.slow]), ParameterGroup("a", [t.rest])],
            "group 'a': the name is empty or taken",
        ),
        (
            lambda t: [ParameterGroup("a", [t.slow]), ParameterGroup("b", [t.rest, t.slow])],
            "group 'b' shares 'slow' with group 'a'",
        ),
        (
            lambda t: [ParameterGroup("a", [t.slow, t.inner])],
            "group 'a' shares 'inner' with auxiliary 'fit'",
        ),
        (
            lambda t: [ParameterGroup("a", [nn.Parameter(torch.ones(4, 3))])],
            r"group 'a' has a parameter of shape \(4, 3\) that is not the model's",
        ),
        (lambda t: [ParameterGroup("a", [t.slow], 0.0)], "learning_rate is 0.0; it is a factor"),
        (lambda t: [ParameterGroup("a", [t.slow], -1.0)], "learning_rate is -1.0"),
        (lambda t: [ParameterGroup("a", [t.slow], math.nan)], "learning_rate is nan"),
        (lambda t: [ParameterGroup("a", [t.slow], math.inf)], "learning_rate is inf"),
        (lambda t: [ParameterGroup("a", [t.slow], 1.0, -0.1)], "weight_decay is -0.1"),
        (lambda t: [ParameterGroup("a", [t.slow], 1.0, math.nan)], "weight_decay is nan"),
    ],
)
def test_groups_that_cannot_be(groups: Groups, message: str) -> None:
    with pytest.raises(PluginError, match=f"method 'toy': parameter .*{message}"):
        resolve(groups, **auxiliary())


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (lambda t: None, "parameter_groups gives NoneType; it has to be a list"),
        (lambda t: ParameterGroup("a", [t.slow]), "it has to be a list of ParameterGroup"),
        (
            lambda t: [{"params": [t.slow]}],
            "gives a list of dict; it has to be a list of ParameterGroup",
        ),
        (lambda t: 1 / 0, "parameter_groups failed: ZeroDivisionError"),
        (lambda t: [wrong("a", ["slow"])], "group 'a' holds str in place of a parameter"),
        (lambda t: [ParameterGroup("a", t.slow)], "group 'a': parameters has to be a list"),
        (lambda t: [wrong("a", [t.slow], "0.1")], "learning_rate is '0.1'"),
        (lambda t: [ParameterGroup("a", [t.slow], 1e9)], r"above 0, at most 10000"),
    ],
)
def test_what_a_plugin_may_give_by_mistake(groups: Any, message: str) -> None:
    with pytest.raises(PluginError, match=f"method 'toy': .*{message}"):
        resolve(groups)


def use(monkeypatch: pytest.MonkeyPatch, groups: Groups | None) -> None:
    registry().names("method")
    entry = Registered(method(groups, training_step=squares, **auxiliary()), "a test 1.0")
    monkeypatch.setitem(registry()._tables["method"], "toy", [entry])


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_each_group_is_trained_at_its_rate_and_decay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    use(monkeypatch, two)
    train = {"epochs": 2, "batch_size": 16, "optimizer": optimizer, "learning_rate": 1e-2,
             "weight_decay": 0.1, "monitor": "last"}  # fmt: skip
    result = fk.train("toy", out=tmp_path / "run", train=train, **OPTIONS)
    assert [r["learning_rate"] for r in result.history] == [1e-2, 1e-2]
    weights = load_checkpoint(tmp_path / "run" / "checkpoints")[0]
    kinds: dict[str, Any] = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam,
                             "adamw": torch.optim.AdamW}  # fmt: skip
    momentum = {"momentum": 0.9} if optimizer == "sgd" else {}
    batches = -(-len(fk.load_data("synthetic", samples=120).train) // 16)
    for name, rate, decay in (("rest", 1e-2, 0.1), ("slow", 1e-3, 0.1), ("stiff", 1e-2, 0.5)):
        alone = nn.Parameter(torch.ones_like(weights[name]))
        by_hand = kinds[optimizer]([alone], lr=rate, weight_decay=decay, **momentum)
        for _ in range(2 * batches):
            by_hand.zero_grad()
            (alone - 3).square().sum().backward()
            by_hand.step()
        assert torch.allclose(weights[name], alone.detach(), rtol=1e-6, atol=0), name


@pytest.mark.parametrize("scheduler", ["none", "plateau", "onecycle", "cosine"])
def test_a_resumed_run_has_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str
) -> None:
    use(monkeypatch, two)
    train = {"epochs": 5, "batch_size": 16, "weight_decay": 0.1, "learning_rate": 0.05,
             "scheduler": scheduler, "clip_norm": 1.0, "monitor": "last"}  # fmt: skip
    fk.train("toy", out=tmp_path / "whole", train=train, **OPTIONS)

    class Stop:
        def on_epoch_end(self, state: Any) -> None:
            if state.progress.epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fk.train("toy", out=tmp_path / "cut", train=train, callbacks=[Stop()], **OPTIONS)
    assert fk.train(resume=tmp_path / "cut").epochs == 5
    whole, cut = (load_checkpoint(tmp_path / run / "checkpoints") for run in ("whole", "cut"))
    assert all(torch.equal(whole[0][name], cut[0][name]) for name in whole[0])
    groups = whole[1]["optimizer"]["param_groups"]
    assert groups == cut[1]["optimizer"]["param_groups"] and len(groups) == 3
    assert groups[1]["lr"] == pytest.approx(groups[0]["lr"] / 10)


def test_another_number_of_groups_does_not_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop:
        def on_epoch_end(self, state: Any) -> None:
            raise KeyboardInterrupt

    use(monkeypatch, two)
    with pytest.raises(KeyboardInterrupt):
        fk.train("toy", out=tmp_path / "run", callbacks=[Stop()], **OPTIONS)
    use(monkeypatch, None)
    with pytest.raises(fk.CheckpointError, match="training state is that of another run"):
        fk.train(resume=tmp_path / "run")
