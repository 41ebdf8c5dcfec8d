"""Which loss moves which parameters, and what it is made of."""

from __future__ import annotations

import copy
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkit import DataSpec, MultimodalBatch
from fusionkit.nn.mutual_information import CLUB, InfoNCE, L1Out, VarUB
from fusionkit.testing import make_batch
from fusionkit_plugins.mmmie import bounds
from fusionkit_plugins.mmmie.config import LowerBound, MMMIEConfig, UpperBound
from fusionkit_plugins.mmmie.model import MMMIE
from fusionkit_plugins.mmmie.objective import auxiliary, fitting_loss, training_step

SPEC = DataSpec({"audio": 4, "depth": 2, "vision": 3}, "classification", 3)


def model(**options: Any) -> MMMIE:
    torch.manual_seed(0)
    small: dict[str, Any] = {"hidden_size": 8, "num_heads": 2, "estimator_size": 6}
    dropouts = dict.fromkeys(["encoder_dropout", "fusion_dropout", "classifier_dropout"], 0.0)
    return MMMIE(MMMIEConfig(**{**small, **dropouts, **options}), SPEC)


def batch(count: int = 12) -> MultimodalBatch:
    return make_batch(SPEC, {m: [3 + (k + n) % 4 for n in range(count)]
                             for k, m in enumerate(SPEC.modalities)})  # fmt: skip


def fit(mmmie: MMMIE, x: MultimodalBatch, steps: int = 100) -> float:
    """Train the variational networks alone; returns the last loss."""
    (objective,) = auxiliary(mmmie)
    optimizer = torch.optim.Adam(objective.parameters(mmmie), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = objective.loss(mmmie, x)
        loss.backward()
        optimizer.step()
    return loss.item()


def with_gradient(module: nn.Module) -> set[str]:
    return {
        name.split(".")[0]
        for name, p in module.named_parameters()
        if p.grad is not None and p.grad.any()
    }


def test_loss_is_the_sum_of_its_parts() -> None:
    mmmie, x = model(alpha=0.3, beta=0.7), batch()
    fit(mmmie, x)
    assert x.targets is not None
    loss = training_step(mmmie, x, F.cross_entropy)
    features, inputs = mmmie.encode(x).features(), mmmie.inputs(x)
    pairs = [("audio", "depth"), ("audio", "vision"), ("depth", "vision")]
    assert mmmie.maximised is not None and mmmie.minimised is not None
    lower = [mmmie.maximised.estimators[f"{a}_with_{b}"](features[a], features[b])
             for a, b in pairs]  # fmt: skip
    upper = [mmmie.minimised.estimators[m](inputs[m], features[m]) for m in SPEC.modalities]
    assert all(isinstance(e, InfoNCE) for e in mmmie.maximised.estimators.values())
    assert all(isinstance(e, CLUB) for e in mmmie.minimised.estimators.values())
    assert min(upper) > 0
    expected = F.cross_entropy(mmmie(x), x.targets) - 0.3 * sum(lower) / 3 + 0.7 * sum(upper) / 3
    torch.testing.assert_close(loss, expected)
    parts = training_step(model(maximise=None, minimise=None), x, F.cross_entropy)
    torch.testing.assert_close(
        parts, F.cross_entropy(model(maximise=None, minimise=None)(x), x.targets)
    )


def test_minimisation_moves_encoders_and_not_the_conditionals() -> None:
    mmmie, x = model(minimise="club"), batch()
    fit(mmmie, x)
    mmmie.zero_grad(set_to_none=True)
    assert mmmie.minimised is not None
    bound = mmmie.minimised(mmmie.inputs(x), mmmie.encode(x).features())
    assert bound > 0
    bound.backward()
    assert with_gradient(mmmie) == {"encoders"}
    assert all(p.grad is None for p in mmmie.minimised.parameters())
    reached = {n.split(".")[1] for n, p in mmmie.named_parameters() if p.grad is not None}
    assert reached == set(SPEC.modalities)


def test_fitting_moves_the_conditionals_alone() -> None:
    mmmie, x = model(), batch()
    fitting_loss(mmmie, x).backward()
    assert with_gradient(mmmie) == {"minimised"}
    assert all(p.grad is not None for p in mmmie.minimised.parameters())  # type: ignore[union-attr]
    (objective,) = auxiliary(mmmie)
    own = {id(p) for p in objective.parameters(mmmie)}
    assert own == {id(p) for n, p in mmmie.named_parameters() if n.startswith("minimised.")}
    assert objective.when == "step" and objective.learning_rate == 1e-3
    assert list(auxiliary(model(minimise=None))) == []


def test_maximisation_moves_both_encoders_and_the_critics() -> None:
    mmmie, x = model(), batch()
    assert mmmie.maximised is not None
    mmmie.maximised(mmmie.encode(x).features()).backward()
    assert with_gradient(mmmie) == {"encoders", "maximised"}


@pytest.mark.parametrize("maximise", get_args(LowerBound))
@pytest.mark.parametrize("minimise", get_args(UpperBound))
def test_every_pair_of_bounds(maximise: str, minimise: str) -> None:
    mmmie, x = model(maximise=maximise, minimise=minimise), batch()
    before = fitting_loss(mmmie, x).item()
    assert fit(mmmie, x) < before
    mmmie.zero_grad(set_to_none=True)
    loss = training_step(mmmie, x, F.cross_entropy)
    assert loss.isfinite()
    loss.backward()
    wanted = {"encoders", "identity", "fusion", "classifier", "maximised"}
    assert with_gradient(mmmie) == wanted
    assert mmmie.minimised is not None
    kind = {"l1out": L1Out, "vub": VarUB}.get(minimise, CLUB)
    assert all(isinstance(e, kind) for e in mmmie.minimised.estimators.values())


@pytest.mark.parametrize("minimise", get_args(UpperBound))
def test_every_minimised_bound_reaches_the_encoders(minimise: str) -> None:
    mmmie, x = model(minimise=minimise, maximise=None), batch()
    fit(mmmie, x, 300)
    mmmie.zero_grad(set_to_none=True)
    assert mmmie.minimised is not None
    mmmie.minimised(mmmie.inputs(x), mmmie.encode(x).features()).backward()
    assert with_gradient(mmmie) == {"encoders"}


def test_negative_upper_bounds_count_as_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    mmmie, x = model(), batch()
    monkeypatch.setattr(CLUB, "forward", lambda self, x, y: -y.square().sum())
    assert mmmie.minimised is not None
    features = {m: f.detach().requires_grad_() for m, f in mmmie.encode(x).features().items()}
    bound = mmmie.minimised(mmmie.inputs(x), features)
    bound.backward()
    assert bound == 0
    assert all(f.grad is not None and not f.grad.any() for f in features.values())


@pytest.mark.parametrize("maximise", get_args(LowerBound))
def test_a_batch_of_one_has_the_loss_of_the_task(maximise: str) -> None:
    mmmie, x = model(maximise=maximise, minimise="l1out"), batch(1)
    assert x.targets is not None
    loss = training_step(mmmie, x, F.cross_entropy)
    torch.testing.assert_close(loss, F.cross_entropy(mmmie(x), x.targets))
    assert fitting_loss(mmmie, x).isfinite()


def test_bounds_are_computed_in_float32_under_autocast() -> None:
    mmmie, x = model(), batch()
    with torch.autocast("cpu", torch.bfloat16):
        features = mmmie.encode(x).features()
        halves = {m: f.to(torch.bfloat16) for m, f in features.items()}
        assert mmmie.maximised is not None and mmmie.minimised is not None
        assert mmmie.maximised(halves).dtype == torch.float32
        assert mmmie.minimised(mmmie.inputs(x), halves).dtype == torch.float32
        assert training_step(mmmie, x, F.cross_entropy).isfinite()


def test_a_pair_with_more_in_common_has_more_information() -> None:
    """Trained on the bounds alone, features of equal inputs share more than those of others."""
    found = {}
    for same in (True, False):
        torch.manual_seed(0)
        spec = DataSpec({"one": 3, "two": 3}, "regression", 1)
        x = torch.randn(64, 1, 3)
        other = x if same else torch.randn(64, 1, 3)
        lengths = torch.ones(64, dtype=torch.int64)
        features = {"one": x, "two": other}
        data = MultimodalBatch(features, {"one": lengths, "two": lengths}, torch.zeros(64))
        config = MMMIEConfig(hidden_size=8, num_heads=2, estimator_size=16, encoder_dropout=0)
        mmmie = MMMIE(config, spec)
        assert mmmie.maximised is not None
        optimizer = torch.optim.Adam(mmmie.parameters(), lr=3e-3)
        for _ in range(60):
            optimizer.zero_grad()
            information = mmmie.maximised(mmmie.encode(data).features())
            (-information).backward()
            optimizer.step()
        found[same] = information.item()
    assert found[True] > found[False] + 0.3


def test_minimisation_takes_information_out_of_the_features() -> None:
    """A fresh CLUB finds less between input and feature after training with a large beta."""
    torch.manual_seed(0)
    x = batch(48)
    found = {}
    for beta in (0.0, 1.0):
        mmmie = model(beta=beta, maximise=None)
        (objective,) = auxiliary(mmmie)
        own = list(objective.parameters(mmmie))
        rest = [p for n, p in mmmie.named_parameters() if not n.startswith("minimised.")]
        fitter, main = torch.optim.Adam(own, lr=1e-2), torch.optim.Adam(rest, lr=3e-3)
        for _ in range(120):
            fitter.zero_grad()
            objective.loss(mmmie, x).backward()
            fitter.step()
            main.zero_grad()
            training_step(mmmie, x, F.cross_entropy).backward()
            main.step()
        found[beta] = _information(mmmie, x)
    assert found[1.0] < 0.75 * found[0.0]


def _information(mmmie: MMMIE, x: MultimodalBatch) -> float:
    fresh = copy.deepcopy(mmmie)
    torch.manual_seed(1)
    sizes = {m: fresh.inputs(x)[m].shape[1] for m in SPEC.modalities}
    fresh.minimised = bounds.InputInformation(sizes, 8, "club", 16)
    fit(fresh, x, 200)
    with torch.no_grad():
        value: Tensor = fresh.minimised(fresh.inputs(x), fresh.encode(x).features())
    return value.item()
